"""The explorers of notebook 00: σ against ε on a picture, and σ and p_A against the certified radius."""

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator
from scipy.stats import norm

from rslab.lectures import pictures
from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.lecture00.figures import distances, shown_digit
from rslab.lectures.style import BLUE, GREEN, GREY, INK, SKY, VERMILION, new_figure, show_image, styled
from rslab.smoothing import bounds

SIGMAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
SHARES = (0.3, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)


class PromiseExplorer(Explorer):
    """σ and p_A: a digit under that noise, R = σΦ⁻¹(p_A), and how far that is.

    After each move: `radius` (0 when p_A ≤ ½: nothing is promised).
    """

    alt = """Left, a handwritten digit under noise of the chosen σ. Middle, the radius R against p_A: 0 up to one half,
        then rising, steeply near 1; thin curves show σ = 0.25, 0.5 and 1 for comparison. Right, R as a bar below three
        distances: every pixel changed by one grey level of 16, one pixel changed from black to white, and the nearest
        test image of another class."""

    @styled
    def __init__(self):
        self.sigma = slider("σ of the noise", SIGMAS, 0.25)
        self.p_A = slider("p_A, share of votes", SHARES, 0.9)
        self._digit, _ = shown_digit()
        self._noise = torch.randn(self._digit.shape, generator=torch.Generator().manual_seed(0))
        figure, (copy, curve, ruler) = new_figure(1, 3, width=10.0, height=3.4, width_ratios=(0.9, 1.5, 1.5))
        show_image(copy, self._digit, "one noisy copy of the image")
        self._copy = copy.images[0]
        self._p = np.unique(np.concatenate((np.linspace(0.3, 0.99, 300), 1 - np.logspace(-2, -4.3, 60))))
        for sigma in (0.25, 0.5, 1.0):
            curve.plot(self._p, sigma * norm.ppf(self._p).clip(0), color=GREY, linewidth=0.9)
            curve.text(1.005, sigma * norm.ppf(0.9999) - 0.05, f"{sigma:g}", color=GREY, fontsize=8.5)
        self._curve = curve.plot(self._p, self._p, color=GREEN)[0]
        self._dot = curve.plot([0], [0], "o", color=GREEN, markeredgecolor=INK, markersize=10)[0]
        curve.axvspan(0.3, 0.5, color=SKY, alpha=0.2)
        curve.text(0.4, 2.2, "no\nmajority:\nno promise", ha="center", color=BLUE, fontsize=9)
        curve.set(
            xlim=(0.3, 1.0), ylim=(-0.08, 4.0), xlabel="p_A", ylabel="R = σ Φ⁻¹(p_A)", title="the radius promised"
        )
        self._bar = ruler.barh([0], [0], color=GREEN, height=0.5)[0]
        for row, (name, distance) in enumerate(distances().items(), start=1):
            ruler.plot([0, distance], [row, row], color=GREY, linewidth=3)
            ruler.plot(distance, row, "|", color=INK, markersize=14, markeredgewidth=2)
            ruler.text(0.04, row + 0.16, f"{name}: {distance:.2f}", fontsize=8.5)
        ruler.text(0.04, -0.55, "R: every change shorter than this is harmless", fontsize=8.5, color=GREEN)
        ruler.set(
            xlim=(0, 4), ylim=(-0.9, 3.7), yticks=(), xlabel="ℓ2 distance, pixels in [0, 1]", title="how far is that?"
        )
        super().__init__(figure, [self.sigma, self.p_A], [self._copy, self._curve, self._dot, self._bar])

    def update(self) -> str:
        sigma, p = self.sigma.value, self.p_A.value
        self.radius = float(bounds.certified_radius(p, sigma))
        self._copy.set_data((self._digit + sigma * self._noise).clamp(0, 1)[0].numpy())
        self._curve.set_ydata(sigma * norm.ppf(self._p).clip(0))
        self._dot.set_data([p], [self.radius])
        self._bar.set_width(self.radius)
        if self.radius == 0:
            return f"σ = {sigma:g}, p_A = {p:g}: no majority, nothing is promised (R = 0)"
        return (
            f"σ = {sigma:g}, p_A = {p:g}: R = {self.radius:.4f}; the answer of g is the same at every distance below R"
        )


# -- σ against ε --------------------------------------------------------------------------------------

ALPHAS = (0.1, 0.01, 0.001, 1e-4, 1e-6)
COUNTS = (10, 30, 100, 300, 1000, pictures.N)
FARTHEST = 12.0
VERDICTS = {"proven safe": GREEN, "unknown": GREY, "broken": VERMILION}
BARS = 4


class SigmaEpsilonExplorer(Explorer):
    """Five controls: picture, noise σ, distance ε, votes n and α; proven safe, unknown or broken.

    Left to right: a noisy copy, the attacked picture, its change enlarged, and the votes. Below, every distance from
    0 to 12 is coloured: proven safe up to R, broken from the nearest attack that was found, unknown between them.

    After each move: `radius` (0 where nothing is proven), `nearest` (inf where no attack was found), `verdict` at ε.
    Votes and attacks were computed once (`rslab.experiments.pictures`); here they are looked up.
    """

    alt = """Above, the picture under noise, the attacked picture, the change alone, enlarged, and bars of votes per
        class, blue for the picture and red for the attacked one. Below, a line of distances from 0 to 12: green up to
        the certified radius, grey up to the nearest attack that was found, red beyond it; a marker stands at ε."""

    @styled
    def __init__(self, names: tuple[str, ...] | None = None):
        names = names or pictures.available()
        self.picture = widgets.Dropdown(
            options=[(pictures.read_study(name, 0.25).title, name) for name in names],
            value=names[0],
            description="picture",
            style={"description_width": "190px"},
            layout=widgets.Layout(width="560px", max_width="100%"),
        )
        self.sigma = slider("σ of the noise", pictures.SIGMAS, 0.25)
        self.epsilon = slider("ε, distance of the attacker", pictures.EPSILONS, 0.0)
        self.n = slider("n, votes counted", [(f"{n:,}", n) for n in COUNTS], 100)
        self.alpha = slider("α, chance of a wrong proof", [(f"{a:g}", a) for a in ALPHAS], 0.001)
        figure, axes = new_figure(1, 4, width=10.0, height=4.2, width_ratios=(1, 1, 1, 1.4))
        self._images, self._titles = [], []
        for panel in axes[:3]:
            show_image(panel, torch.zeros(3, 8, 8), " ")
            panel.images[0].set_extent((0, 1, 1, 0))
            panel.set(xlim=(0, 1), ylim=(1, 0))
            self._images.append(panel.images[0])
            self._titles.append(panel.title)
        votes = self._draw_bars(axes[3])
        line = self._draw_line(figure)
        controls = [self.picture, self.sigma, self.epsilon, self.n, self.alpha]
        super().__init__(figure, controls, [*self._images, *self._titles, *votes, *line])

    def _draw_bars(self, panel) -> list:
        rows = np.arange(BARS)
        self._clean = panel.barh(rows, np.zeros(BARS), 0.26, color=BLUE)
        self._attacked = panel.barh(rows + 0.27, np.zeros(BARS), 0.26, color=VERMILION)
        self._names = [panel.text(0.01, row - 0.15, "", fontsize=9.5, va="bottom") for row in rows]
        self._lower = panel.plot([0, 0], [-0.18, 0.18], color=INK, linewidth=2.5)[0]
        panel.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
        panel.set(xlim=(0, 1), ylim=(BARS - 0.5, -0.55), yticks=(), xlabel="share of the votes")
        panel.set_title("votes: picture (blue), attacked (red)", fontsize=9.5)
        return [*self._clean, *self._attacked, *self._names, self._lower]

    def _draw_line(self, figure) -> list:
        figure.get_layout_engine().set(rect=(0, 0.27, 1, 0.73))
        panel = figure.add_axes((0.03, 0.115, 0.94, 0.085))
        # A square root: distances from 0.05 to 12 are all to be seen.
        panel.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        self._bands = [panel.add_patch(Rectangle((0, 0), 0, 1, color=color)) for color in VERDICTS.values()]
        words = dict(color="white", ha="center", va="center", weight="bold", fontsize=9.5)
        self._marks = [panel.text(0, 0.46, name, **words) for name in VERDICTS]
        self._pointer = panel.plot([0], [1.25], "v", color=INK, markersize=11, clip_on=False)[0]
        self._pointed = panel.text(0, 1.55, "", ha="center", va="bottom", fontsize=9.5, weight="bold")
        panel.set(xlim=(0, FARTHEST), ylim=(0, 1), yticks=(), xlabel="ℓ2 distance from the picture, pixels in [0, 1]")
        panel.set_xticks((0, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(False)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        return [*self._bands, *self._marks, self._pointer, self._pointed]

    def update(self) -> str:
        study = pictures.read_study(self.picture.value, self.sigma.value)
        epsilon, n = self.epsilon.value, self.n.value
        top, count, lower, self.radius = study.certify(n, self.alpha.value)
        self.nearest = study.nearest
        self.verdict = "proven safe" if epsilon < self.radius else "broken" if epsilon >= self.nearest else "unknown"
        under_attack = study.attacked[pictures.EPSILONS.index(epsilon)]
        self._show_images(study, epsilon)
        self._show_votes(study, study.shares(n), under_attack, lower)
        self._show_line(epsilon)
        answer = study.classes[top]
        if study.sigma == 0:
            proof = f"without noise there is no vote: f says {answer}, and nothing is proven"
        elif self.radius == 0:
            proof = f"{count:,} of {n:,} votes for {answer}: ABSTAIN, nothing is proven"
        else:
            bound, radius = pictures.rounded_down(lower, 4), pictures.rounded_down(self.radius, 3)
            proof = f"{count:,} of {n:,} votes for {answer}, p_A ≥ {bound}, R = {radius}"
        found = "no attack was found" if self.nearest == np.inf else f"nearest attack found: {self.nearest:.2f}"
        leader = study.leader(epsilon)
        share = f"{under_attack[leader]:.0%} of the votes there" if study.sigma else "f there"
        again = " again (the attack lies nearer on this line)" if self.verdict == "broken" and leader == top else ""
        return (
            f"σ = {study.sigma:g}: {proof}; {found}. At ε = {epsilon:g}: {self.verdict}; "
            f"{share}: {study.classes[leader]}{again}"
        )

    def _show_images(self, study, epsilon: float) -> None:
        attacked = study.moved(epsilon)
        change = attacked - study.image
        largest = float(change.abs().max())
        factor = next((k for k in (100, 50, 20, 10, 5, 2) if k * largest <= 0.5), 1)
        shown = (study.noisy(), attacked, 0.5 + factor * change)
        for panel, picture in zip(self._images, shown, strict=True):
            panel.set_data(picture.clamp(0, 1).mul(255).round().byte().expand(3, -1, -1).movedim(0, -1).numpy())
        titles = (f"under noise, σ = {study.sigma:g}", f"attacked, ε = {epsilon:g}", f"the change, ×{factor}")
        for title, text in zip(self._titles, titles, strict=True):
            title.set_text(text)

    def _show_votes(self, study, clean: dict[int, float], attacked: dict[int, float], lower: float) -> None:
        chosen = sorted(clean, key=lambda c: clean[c], reverse=True)
        chosen = chosen[: BARS - 1] + [c for c in attacked if c not in chosen[: BARS - 1]]
        for row in range(BARS):
            c = chosen[row] if row < len(chosen) else -1  # no class
            self._clean[row].set_width(clean.get(c, 0.0))
            self._attacked[row].set_width(attacked.get(c, 0.0))
            self._names[row].set_text(study.classes[c] if c >= 0 else "")
        self._lower.set_xdata([lower, lower])
        self._lower.set_visible(lower > 0)

    def _show_line(self, epsilon: float) -> None:
        ends = (0.0, min(self.radius, FARTHEST), min(max(self.nearest, self.radius), FARTHEST), FARTHEST)
        for band, mark, left, right in zip(self._bands, self._marks, ends[:-1], ends[1:], strict=True):
            band.set(x=left, width=right - left)
            mark.set_x(((left**0.5 + right**0.5) / 2) ** 2)
            mark.set_visible(right**0.5 - left**0.5 > 0.32)
        self._pointer.set_xdata([epsilon])
        self._pointed.set(x=epsilon, text=f"ε = {epsilon:g}: {self.verdict}", color=VERDICTS[self.verdict])
        self._pointed.set_ha("left" if epsilon < 0.15 else "center")
