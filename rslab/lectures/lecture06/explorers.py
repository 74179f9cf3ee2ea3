"""Explorers of notebook 06: the toy that parts the two objectives, and both attacks on one digit."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.lecture06.figures import NAIVE, OBJECTIVES, SMOOTHADV, attack_smoothed, best_places, objectives
from rslab.lectures.style import BLUE, GREY, INK, SKY, new_figure, styled
from rslab.smoothing.closed_forms import STEP_TOY

# -- the toy ------------------------------------------------------------------------------------

SIGMAS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
EPSILONS = (0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
DEPTHS = tuple((f"1e-{k}" if k > 1 else "0.1", 10.0**-k) for k in range(1, 13))


class ToyExplorer(Explorer):
    """σ, ε and how confidently wrong the narrow region is: where each objective sends the attack, and G there.

    After each move: `naive` and `smoothadv`, the two places; `g_naive`, `g_smoothadv`, `g_clean`, G_y there and at 0.
    """

    alt = (
        "Three panels over one pixel t with the ball around the image shaded. Left, the step function F_y, its "
        "average G_y under noise, and on G_y the places where the two attacks end: a triangle for the naive one, a "
        "star for SmoothAdv. Middle, the naive objective, right SmoothAdv's, each scaled to its range. Sliders: F_y "
        "in the narrow region, σ and ε."
    )

    @styled
    def __init__(self):
        self.depth = slider("F_y in narrow region", DEPTHS, 1e-9)
        self.sigma = slider("σ of the noise", SIGMAS, 0.5)
        self.epsilon = slider("ε of the attack", EPSILONS, 0.75)
        figure, (left, *right) = new_figure(1, 3, width=10.2, height=3.8, width_ratios=(1.3, 1, 1))
        self._places = np.linspace(-1.5, 1.5, 151)
        step = left.stairs(STEP_TOY.values, [-1.5, *STEP_TOY.edges, 1.5], baseline=None, color=GREY, linewidth=1.8)
        step.set_label("F_y, the base classifier")
        self._probability = left.plot(self._places, self._places, color=BLUE, label="G_y under noise")[0]
        half = left.axhline(0.5, color=INK, linestyle="--", linewidth=1)
        left.set(ylim=(-0.03, 1.42), yticks=np.arange(0, 1.1, 0.25), ylabel="probability of y", title="the classifier")
        self._balls, self._curves, self._stars = [], [], []
        for axes in (left, *right):
            self._balls.append(axes.axvspan(-1, 1, color=SKY, alpha=0.15))
            axes.set(xlim=(-1.5, 1.5), xlabel="pixel t; the image is 0")
        for axes, name, color, marker in zip(right, ("naive", "SmoothAdv"), (NAIVE, SMOOTHADV), "v*", strict=True):
            self._curves.append(axes.plot(self._places, self._places, color=color)[0])
            for cell in (left, axes):
                style = dict(color=color, markeredgecolor=INK, markersize=12, clip_on=False, zorder=5)
                self._stars.append(cell.plot([0], [0], marker, **style)[0])
            axes.set(ylim=(-0.05, 1.05), yticks=(0, 1), ylabel="loss, scaled to 0 … 1")
            axes.set_yticks((0, 1), ("min", "max"))
            axes.set_title("naive: E[−log F_y]" if name == "naive" else "SmoothAdv: −log E[F_y]")
        left.legend(loc="upper center", fontsize=8.5)
        moving = [*self._balls, self._probability, half, *self._curves, *self._stars]
        super().__init__(figure, [self.depth, self.sigma, self.epsilon], moving)

    def update(self) -> str:
        sigma, epsilon, depth = self.sigma.value, self.epsilon.value, self.depth.value
        toy = replace(STEP_TOY, values=(0.99, depth, 0.99, 0.05))
        losses = objectives(toy, self._places, sigma)
        best = best_places(toy, sigma, epsilon, points=151)
        self.naive, self.smoothadv = best["naive"], best["SmoothAdv"]
        self.g_clean, self.g_naive, self.g_smoothadv = (
            toy.probability(x, sigma) for x in (0.0, self.naive, self.smoothadv)
        )
        self._probability.set_ydata(losses["G"])
        for ball in self._balls:
            ball.set_x(-epsilon)
            ball.set_width(2 * epsilon)
        for index, name in enumerate(("naive", "SmoothAdv")):
            low, high = losses[name].min(), losses[name].max()
            scaled = (losses[name] - low) / (high - low)
            self._curves[index].set_ydata(scaled)
            on_g, on_loss = self._stars[2 * index : 2 * index + 2]
            on_g.set_data([best[name]], [toy.probability(best[name], sigma)])
            on_loss.set_data([best[name]], [np.interp(best[name], self._places, scaled)])

        def fate(g: float) -> str:
            return f"G = {g:.4f} ({'flipped' if g < 0.5 else 'not flipped'})"

        return (
            f"F_y = {depth:g} in the narrow region, σ = {sigma:g}, ε = {epsilon:g}: G(0) = {self.g_clean:.4f}; "
            f"naive goes to {self.naive:+.3f}, {fate(self.g_naive)}; "
            f"SmoothAdv to {self.smoothadv:+.3f}, {fate(self.g_smoothadv)}"
        )


# -- one digit ----------------------------------------------------------------------------------

DIGIT_EPSILONS = (0.0, 0.25, 0.5, 0.75, 1.0)
SAMPLES = (1, 4, 16, 64)
STEPS = (1, 3, 10)
VOTES = 400


class AttackExplorer(Explorer):
    """ε, m and T on one image: both attacks' images, and f's votes under noise before and after.

    Everything is computed once, when it is made: PGD for each setting, then VOTES fresh noisy copies
    of each result. After each move: `votes`, one list of counts each for clean, naive and SmoothAdv;
    `wins`, the class that leads.
    """

    alt = (
        "Above, a handwritten digit of 8 by 8 pixels, the same after the SmoothAdv and after the naive attack, and "
        "beside each attacked one its change, brighter pixels in red, darker ones in blue. Below, for each the votes "
        "of noisy copies over the ten classes, with the leading class and its share above. Sliders: ε, m and the "
        "steps T."
    )

    @styled
    def __init__(self, f, image: Tensor, label: int, sigma: float, seed: int = 0):
        self.epsilon = slider("ε of the attack", DIGIT_EPSILONS, 0.75)
        self.samples = slider("m, noise samples", SAMPLES, 16)
        self.steps = slider("T, steps of PGD", STEPS, 10)
        self.label, self.sigma = label, sigma
        self._results = self._attack_all(f, image, label, sigma, seed)
        figure, _ = new_figure(width=9.8, height=4.6)
        figure.clear()
        top = ["clean", *(f"{kind} {name}" for name in OBJECTIVES for kind in ("image", "change"))]
        bottom = ["votes clean", *(f"votes {name}" for name in OBJECTIVES for _ in range(2))]
        axes = figure.subplot_mosaic([top, bottom], height_ratios=(1, 1))
        self._pictures, self._changes, self._titles, self._bars = [], [], [], []
        for name, color in zip(("clean", *OBJECTIVES), (BLUE, SMOOTHADV, NAIVE), strict=True):
            above, below = axes["clean" if name == "clean" else f"image {name}"], axes[f"votes {name}"]
            self._pictures.append(above.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"))
            above.set_title("the image" if name == "clean" else f"{name} attack")
            cells = [above]
            if name != "clean":
                cells.append(axes[f"change {name}"])
                self._changes.append(cells[1].imshow(0 * image[0].numpy(), cmap="RdBu_r", vmin=-0.4, vmax=0.4))
                cells[1].set_title("its change, ±0.4")
            for cell in cells:
                cell.set(xticks=(), yticks=())
                cell.grid(False)
            self._bars.append(below.bar(range(10), [0] * 10, color=color))
            below.set(ylim=(0, 1.22), yticks=(0, 0.5, 1), xticks=range(10), xlabel="class")
            self._titles.append(below.text(4.5, 1.1, "", ha="center", va="center", fontsize=10))
            below.axhline(0.5, color=INK, linestyle="--", linewidth=1)
        axes["votes clean"].set_ylabel("share of votes")
        moving = [*self._pictures, *self._changes, *self._titles, *(bar for bars in self._bars for bar in bars)]
        super().__init__(figure, [self.epsilon, self.samples, self.steps], moving)

    def _attack_all(self, f, image: Tensor, label: int, sigma: float, seed: int) -> dict:
        """(name, ε, m, T) → (adversarial image, votes a class)."""
        x, y = image[None], torch.tensor([label])
        noise = torch.randn(VOTES, *image.shape, generator=torch.Generator().manual_seed(1)) * sigma

        @torch.no_grad()
        def judged(adversarial: Tensor) -> tuple[np.ndarray, list[int]]:
            votes = torch.bincount(f(adversarial + noise).argmax(1), minlength=10)
            return adversarial[0, 0].numpy(), votes.tolist()

        results: dict = {"clean": judged(x)}
        for name in OBJECTIVES:
            for m in SAMPLES:
                for steps in STEPS:
                    results[name, 0.0, m, steps] = results["clean"]
                    for epsilon in DIGIT_EPSILONS[1:]:
                        adversarial = attack_smoothed(f, x, y, name, m, epsilon, steps, sigma, seed)
                        results[name, epsilon, m, steps] = judged(adversarial)
        return results

    def update(self) -> str:
        where = (self.epsilon.value, self.samples.value, self.steps.value)
        shown = [self._results["clean"], *(self._results[(name, *where)] for name in OBJECTIVES)]
        self.votes = dict(zip(("clean", *OBJECTIVES), (votes for _, votes in shown), strict=True))
        self.wins = {name: int(np.argmax(votes)) for name, votes in self.votes.items()}
        for picture, title, bars, (pixels, votes) in zip(self._pictures, self._titles, self._bars, shown, strict=True):
            picture.set_data(pixels)
            for bar, count in zip(bars, votes, strict=True):
                bar.set_height(count / VOTES)
            title.set_text(f"leads: {int(np.argmax(votes))} ({max(votes) / VOTES:.0%})")
        clean = shown[0][0]
        for change, (pixels, _) in zip(self._changes, shown[1:], strict=True):
            change.set_data(pixels - clean)
        kept = ", ".join(f"{name} {votes[self.label] / VOTES:.3f}" for name, votes in self.votes.items())
        epsilon, m, steps = where
        return (
            f"ε = {epsilon:g}, m = {m}, T = {steps}, {VOTES} votes each: share of the true class {self.label}: {kept}"
        )
