"""Explorers of notebook 07: the whole published grid, and what ACR rewards."""

import ipywidgets as widgets
import numpy as np
from matplotlib.patches import Polygon

from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.style import BLUE, GREEN, GREY, INK, ORANGE, new_figure, styled
from rslab.report import published
from rslab.report.tables import interval
from rslab.smoothing import bounds

# -- every model of the grid ------------------------------------------------------------------

SIGMAS = (0.12, 0.25, 0.5, 1.0)
EPSILONS = tuple((f"{e}/255", e) for e in (64, 127, 255, 512, 1024))
SAMPLES = (1, 2, 4, 8, 16)
STEPS = (2, 4, 6, 8, 10)
ATTACKS = ("PGD", "DDN")
EXTRAS = (
    ("neither", (0, 0.0)),
    ("pre-training", (1, 0.0)),
    *((f"semi-supervision, weight {w:g}", (0, w)) for w in (0.1, 0.5, 1.0)),
    *((f"both, weight {w:g}", (1, w)) for w in (0.1, 0.5, 1.0)),
)


class GridExplorer(Explorer):
    """σ, ε, m, T, the attack and the extra data: one model of the 1,300, and where it stands.

    Left: its certified accuracy with 95 % intervals, Gaussian training with the same σ, and the envelope of all
    shown models. Right: the ACR of every model with this σ and these data, the chosen one marked.
    After each move: `row` (the model shown), `exact` (whether it is the one asked for), `acr`, `accuracy` (%),
    `envelope` (%), at the radii `published.CIFAR10_RADII`.
    """

    @styled
    def __init__(self):
        self.sigma = slider("σ of the noise", SIGMAS, 0.25)
        self.epsilon = slider("ε of the attack", EPSILONS, 127)
        self.samples = slider("m, noises in the attack", SAMPLES, 1)
        self.steps = slider("T, steps of the attack", STEPS, 4)
        self.attack = slider("attack", ATTACKS, "PGD")
        self.extra = widgets.Dropdown(
            options=EXTRAS,
            value=(0, 0.0),
            description="pre-training, unlabelled data",
            style={"description_width": "190px"},
            layout=widgets.Layout(width="470px", max_width="100%"),
        )
        self._read()
        figure, (left, right) = new_figure(1, 2, width=9.8, height=4.2, width_ratios=(1.6, 1))
        self._radii = np.arange(0, 3.876, published.STEP)
        self._band = left.add_patch(Polygon([(0, 0)] * 3, color=GREEN, alpha=0.2, linewidth=0))
        self._gaussian = left.step(self._radii, 0 * self._radii, where="pre", color=BLUE, linestyle="--")[0]
        self._envelope = left.step(self._radii, 0 * self._radii, where="pre", color=GREY, linewidth=1.4)[0]
        self._curve = left.step(self._radii, 0 * self._radii, where="pre", color=GREEN, linewidth=2.4)[0]
        for line, label in (
            (self._curve, "this model, 95 % interval"),
            (self._gaussian, "Gaussian training, same σ"),
            (self._envelope, "envelope of all with this data"),
        ):
            line.set_label(label)
        left.set(xlim=(0, 3.6), ylim=(0, 101), xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)")
        left.set_title("CIFAR-10, every 20th test image")
        left.legend(loc="upper right")
        self._others = right.plot([], [], "o", color=GREY, markersize=4, alpha=0.6)[0]
        self._dot = right.plot([0], [0], "o", color=GREEN, markeredgecolor=INK, markersize=11)[0]
        places = range(len(EPSILONS))
        right.set_xticks(places, [text.removesuffix("/255") for text, _ in EPSILONS])
        right.set(xlim=(-0.5, 4.5), ylim=(0, 0.95), xlabel="ε × 255", ylabel="ACR")
        right.set_title("all models with this σ and data")
        moving = [self._band, self._gaussian, self._envelope, self._curve, self._others, self._dot]
        controls = [self.sigma, self.epsilon, self.samples, self.steps, self.attack, self.extra]
        super().__init__(figure, controls, moving)

    def _read(self) -> None:
        grid, self._short = published.most_images(published.load("cifar10-grid"))
        self._grid = grid[grid.method == "smoothadv"]
        best = published.load("cifar10-best")
        gaussian = published.group(best[best.every == 20], "Cohen et al.")
        radii = np.arange(0, 3.876, published.STEP)
        self._curves = published.accuracies(self._grid, radii).to_numpy()
        self._base = dict(zip(gaussian.sigma, published.accuracies(gaussian, radii).to_numpy(), strict=True))
        places = {name: list(values) for name, values in self._ladders().items()}
        self._places = np.stack([self._grid[name].map(values.index) for name, values in places.items()], axis=1)
        self._data = self._grid[["pretrained", "weight"]].to_numpy()
        self._jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(self._grid))

    @staticmethod
    def _ladders() -> dict[str, tuple]:
        epsilons = tuple(value for _, value in EPSILONS)
        return {"sigma": SIGMAS, "epsilon": epsilons, "samples": SAMPLES, "steps": STEPS, "attack": ATTACKS}

    def update(self) -> str:
        asked = [list(values).index(getattr(self, name).value) for name, values in self._ladders().items()]
        pretrained, weight = self.extra.value
        alike = (self._data == self.extra.value).all(1)
        # Nearest: other data or another σ only if nothing else is left, then as few rungs of the other sliders.
        distance = np.abs(self._places - asked) @ (100, 3, 2, 1, 2) + 1000 * ~alike
        place = int(distance.argmin())
        self.exact = bool(distance[place] == 0)
        self.row = self._grid.iloc[place]
        curve = self._curves[place]
        low, high = interval((curve * self.row.images / 100).round(), int(self.row.images))
        self._band.set_xy(np.concatenate([self._stairs(low), self._stairs(high)[::-1]]))
        self._curve.set_ydata(curve)
        self._gaussian.set_ydata(self._base[self.row.sigma])
        envelope = self._curves[alike].max(0)
        self._envelope.set_ydata(envelope)
        beside = alike & (self._places[:, 0] == asked[0])
        self._others.set_data((self._places[:, 1] + self._jitter)[beside], self._grid.ACR[beside])
        self._dot.set_data([self._places[place, 1]], [self.row.ACR])
        at = (np.array(published.CIFAR10_RADII) / published.STEP).astype(int)
        self.acr, self.accuracy, self.envelope = float(self.row.ACR), curve[at], envelope[at]
        return self._sentence()

    def _stairs(self, values: np.ndarray) -> np.ndarray:
        """The corners of a step curve that takes the lower of two neighbouring values: (2N − 1, 2)."""
        return np.stack([self._radii.repeat(2)[:-1], values.repeat(2)[1:]], axis=1)

    def _sentence(self) -> str:
        row = self.row
        extra = next(text for text, value in EXTRAS if value == (row.pretrained, row.weight))
        name = f"{row.attack}, T = {row.steps}, m = {row.samples}, ε = {row.epsilon}/255, σ = {row.sigma:g}"
        name += "" if extra == "neither" else f", {extra}"
        cells = " ".join(f"{value:.0f}" for value in self.accuracy)
        lead = "" if self.exact else "Not in the published grid (or on fewer images). Shown is the nearest model: "
        return f"{lead}{name}: ACR {self.acr:.3f}; at 0.25, 0.5 … 2.25: {cells} % (of {row.images} images)"


# -- what ACR rewards -------------------------------------------------------------------------

SHARES = tuple((f"{share} %", share) for share in range(1, 51))
VOTES = tuple((f"{n:,}", n) for n in (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000))


class AcrExplorer(Explorer):
    """A classifier that is certain on a share of the images and wrong on the rest, beside a published model, σ = 1.

    After each move: `radius` (the cap that n allows), `acr`, `reference` (the published model's ACR).
    """

    @styled
    def __init__(self):
        self.share = slider("share it is certain of", SHARES, 10)
        self.n = slider("n, votes an image", VOTES, 100_000)
        best = published.load("cifar10-best")
        ours = published.group(best[(best.every == 1) & (best.sigma == 1.0)], "SmoothAdv")
        model = ours.loc[ours.ACR.idxmax()]
        self.reference = float(model.ACR)
        figure, axes = new_figure(width=8.6, height=3.9)
        radii, accuracy = published.curve(model, 5.4)
        axes.step(radii, accuracy, where="pre", color=GREEN, label=f"SmoothAdv, n = 100,000: ACR {self.reference:.3f}")
        axes.fill_between(radii, accuracy, step="pre", color=GREEN, alpha=0.12, linewidth=0)
        self._line = axes.plot([0, 1, 1], [0, 0, 0], color=ORANGE, linestyle="--", label="certain or wrong")[0]
        self._area = axes.add_patch(Polygon([(0, 0)] * 4, color=ORANGE, alpha=0.25, linewidth=0))
        axes.set(xlim=(0, 5.4), ylim=(0, 70), xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)")
        axes.set_title("ACR is the area under the curve; σ = 1, α = 0.001")
        axes.legend(loc="upper right")
        super().__init__(figure, [self.share, self.n], [self._area, self._line])

    def update(self) -> str:
        share, n = self.share.value, self.n.value
        self.radius = bounds.max_certified_radius(n, 0.001, 1.0)
        self.acr = share / 100 * self.radius
        self._line.set_data([0, self.radius, self.radius], [share, share, 0])
        self._area.set_xy([(0, 0), (0, share), (self.radius, share), (self.radius, 0)])
        verdict = "more" if self.acr > self.reference else "less"
        return (
            f"certain of {share} % of the images, n = {n:,}: each has the radius {self.radius:.3f}, "
            f"ACR {self.acr:.3f}, {verdict} than SmoothAdv's {self.reference:.3f}"
        )
