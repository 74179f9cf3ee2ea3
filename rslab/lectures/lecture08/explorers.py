"""Explorer of notebook 08: a target radius and α against the votes that it takes."""

from functools import lru_cache

import numpy as np
from scipy.stats import binom, norm

from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.style import BLUE, GREEN, INK, ORANGE, VERMILION, new_figure, styled
from rslab.smoothing.sequential import SequentialPlan, boundary, floor_votes, simulate

TARGETS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # in units of σ: nothing else about σ matters
ALPHAS = (("0.1", 0.1), ("0.001", 0.001), ("0.00001", 1e-5))
N, RUNS = 100_000, 200
TRUE = np.linspace(0, 4, 49)  # σΦ⁻¹(p_A) / σ: what exact votes would certify


@lru_cache(maxsize=32)
def cost(target: float, alpha: float) -> tuple[np.ndarray, ...]:
    """For each true radius of `TRUE`: mean votes, share certified, the same share with N votes, and the floor.

    Mean and share by `RUNS` simulated certifications each; the share with N votes is exact; the floor is NaN
    where N votes do not certify the target.
    """
    plan = SequentialPlan(1.0, (target,), N, alpha)
    p_a = norm.cdf(TRUE)
    votes, passed = simulate(plan, np.repeat(p_a, RUNS), np.random.default_rng(0))
    mean = votes.reshape(-1, RUNS).mean(1)
    share = (passed > 0).reshape(-1, RUNS).mean(1)
    floor = floor_votes(plan, p_a)
    least = N - boundary(float(norm.sf(target)), (N,), alpha)[0]  # CERTIFY's own decision with N votes
    return mean, share, binom.sf(least - 1, N, p_a), np.where(floor > 0, floor, np.nan)


class VotesExplorer(Explorer):
    """A target radius (in σ), α and an image's true radius: votes needed (left), chance of a certificate (right).

    After each move: `votes` (mean, sequential), `floor`, `share`, `share_fixed` (with 100,000 votes).
    """

    alt = (
        "Sliders for a target radius and the true radius, both in σ, and for α. Left: votes until decided against "
        "the true radius, log scale. A narrow peak stands at the target; far on either side 128 votes, the first "
        "look, decide. The floor, drawn to the right of the target only, lies close below the curve, and further where "
        "fewer than 128 would do; the fixed 100,000 lie above. Right: the chance that the target is certified jumps "
        "from 0 to 1 at the target, sequential and fixed practically on one line."
    )

    @styled
    def __init__(self):
        self.target = slider("target radius / σ", TARGETS, 1.0)
        self.alpha = slider("α, allowed error", ALPHAS, 0.001)
        self.truth = slider("true radius of the image / σ", tuple(np.round(TRUE[::4], 3).tolist()), 1.667)
        for target in TARGETS:  # once, so that a slider only looks up
            for _, alpha in ALPHAS:
                cost(target, alpha)
        figure, (left, right) = new_figure(1, 2, width=9.8, height=4.0, width_ratios=(1.3, 1))
        self._lines = [
            left.plot(TRUE, np.full(len(TRUE), 1000.0), style, color=color, label=label)[0]
            for style, color, label in (
                ("-", GREEN, "sequential, mean"),
                ("--", ORANGE, "floor (2)"),
            )
        ]
        fixed = left.axhline(N, color=VERMILION, linestyle=":", label=f"fixed, {N:,}")
        self._dot = left.plot([1], [1000], "o", color=GREEN, markeredgecolor=INK, markersize=9)[0]
        self._marks = [axes.axvline(1, color=INK, linewidth=1, linestyle="-.") for axes in (left, right)]
        left.set(yscale="log", ylim=(3, 1e6), xlim=(0, 4), xlabel="true radius / σ", ylabel="votes (log scale)")
        left.set_title("votes until decided; dash-dotted: the target", fontsize=10)
        left.legend(loc="upper right", ncols=3, fontsize=8)
        self._powers = [
            right.plot(TRUE, 0 * TRUE, style, color=color, label=label)[0]
            for style, color, label in (("-", GREEN, "sequential"), (":", BLUE, f"fixed, {N:,}"))
        ]
        right.set(xlim=(0, 4), ylim=(-0.02, 1.2), yticks=(0, 0.5, 1), xlabel="true radius / σ")
        right.set_title("chance that the target is certified", fontsize=10)
        right.legend(loc="upper left", ncols=2, fontsize=8)
        moving = [*self._lines, fixed, *self._marks, *self._powers, self._dot]
        super().__init__(figure, [self.target, self.alpha, self.truth], moving)

    def update(self) -> str:
        target, alpha = self.target.value, self.alpha.value
        mean, share, fixed, floor = cost(target, alpha)
        place = int(abs(TRUE - self.truth.value).argmin())
        self.votes, self.share, self.share_fixed = float(mean[place]), float(share[place]), float(fixed[place])
        self.floor = float(floor[place])
        self._lines[0].set_ydata(mean)
        self._lines[1].set_ydata(floor)
        for line, values in zip(self._powers, (share, fixed), strict=True):
            line.set_ydata(values)
        for mark in self._marks:
            mark.set_xdata([target] * 2)
        self._dot.set_data([TRUE[place]], [self.votes])
        least = f"{self.floor:,.0f}" if self.floor == self.floor else "no number would do"
        return (
            f"target {target:g}σ, α = {alpha:g}, an image whose true radius is {TRUE[place]:.2f}σ: sequential "
            f"{self.votes:,.0f} votes on average ({N / self.votes:,.0f} × fewer than {N:,}), floor {least}; "
            f"certified in {self.share:.0%} of runs (fixed: {self.share_fixed:.0%})"
        )
