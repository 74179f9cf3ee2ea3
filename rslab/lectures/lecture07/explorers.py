"""Explorers of notebook 07: the table and the whole published grid behind it, and what ACR rewards."""

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.patches import Polygon, Rectangle

from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.lecture07.figures import acr_with
from rslab.lectures.lecture07.models import Models, gaussian_models, own_models, smoothadv_models
from rslab.lectures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILION, new_figure, styled
from rslab.report import published
from rslab.report.tables import interval
from rslab.smoothing import bounds

# -- the table, and every model of the grid ------------------------------------------------------------------

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


RADII = (0.0, *published.CIFAR10_RADII, 3.5)  # the last one lies beyond the tables of both texts
PRINTED_IN = {500: "blog", 10_000: "lecture 14"}
ROW_NAMES = {
    (0, False): "SmoothAdv",
    (1, False): "+ pre-training",
    (0, True): "+ semi-supervision",
    (1, True): "+ both",
}
CHOICES = ("Gaussian training", "SmoothAdv", "our runs")
KNOBS = ("sigma", "epsilon", "samples", "steps", "attack")


class TableExplorer(Explorer):
    """The CIFAR-10 table: printed rows, the same rows recomputed, one model of the grid, and our own runs.

    Above, the table: choose a cell by dragging, or by the sliders r and row. Below on the left, the certified accuracy
    of the chosen model (green, with its 95 % band), of the model that wins the cell (dashed) and of the best model of
    the row at each radius (grey). On the right, the accuracy at r of the models that differ from the chosen
    one in one of the five sliders only. The line below names the winner, gives the interval of the cell, and counts
    the images that one of the two models certifies and the other does not.

    After each move: `model` (the line of the model shown), `exact` (whether it is the one asked for), `acr`;
    `accuracy` of the model and `envelope` of the row (%, at `RADII`); `winner` (its name, "" for none), `count` and
    `images` of the cell; `only_winner` and `only_model` (numbers of images).
    """

    alt = (
        "A table above two panels. The table has eleven radii as columns and six rows: Gaussian training and "
        "SmoothAdv, each as printed and recomputed, the chosen model, and the best of our own runs; a frame marks the "
        "chosen cell. Below on the left, certified accuracy against the radius of the chosen model with its band, of "
        "the winner of the cell and of the best model of the row at each radius. On the right, certified accuracy at "
        "the chosen radius when one of σ, ε, m, T and attack is moved and the others stay, five short lines with the "
        "chosen model marked on each."
    )

    @styled
    def __init__(self):
        self.r = slider("r, radius", RADII, 1.0)
        self.row = slider("row", CHOICES, "SmoothAdv")
        self.sigma = slider("σ of the noise", SIGMAS, 0.5)
        self.epsilon = slider("ε of the attack", EPSILONS, 127)
        self.samples = slider("m, noises in the attack", SAMPLES, 1)
        self.steps = slider("T, steps of the attack", STEPS, 4)
        self.attack = slider("attack", ATTACKS, "PGD")
        self.extra = widgets.Dropdown(
            options=EXTRAS, value=(0, 0.0), description="extra data", style={"description_width": "190px"}
        )
        self.images = slider("test images", (("500", 500), ("10,000", 10_000)), 500)
        self.collapsed = slider("collapsed networks", (("left out", False), ("counted", True)), False)
        controls = [self.r, self.row, self.sigma, self.epsilon, self.samples, self.steps, self.attack]
        controls += [self.extra, self.images, self.collapsed]
        for control in controls:
            control.layout = widgets.Layout(width="410px", max_width="100%")
            control.style.description_width = "160px"
        self._read()
        figure, _ = new_figure(width=9.8, height=5.9)
        figure.clear()
        axes = figure.subplot_mosaic([["table"] * 2, ["curves", "knobs"]], height_ratios=(1, 1.35))
        moving = [*self._draw_table(axes["table"]), *self._draw_curves(axes["curves"])]
        moving += self._draw_knobs(axes["knobs"])
        super().__init__(figure, controls, moving, drag={"table": axes["table"]})
        self.layout.flex_flow = "row wrap"  # two sliders beside each other: ten below each other fill a screen
        self.layout.max_width = "1000px"

    def _read(self) -> None:
        self._sets = {images: smoothadv_models(images) for images in PRINTED_IN}
        self._bases = {images: gaussian_models(images) for images in PRINTED_IN}
        self._own = {500: own_models()}
        self._own[10_000] = Models(self._own[500].table[:0], np.zeros((0, 10_000), np.int16), np.arange(10_000))
        self._radii = np.arange(0, 3.876, published.STEP)
        ladders = self._ladders()
        self._places, self._curves, self._broken = {}, {}, {}
        for images, models in self._sets.items():
            columns = [models.table[name].map(list(values).index) for name, values in ladders.items()]
            self._places[images] = np.stack(columns, axis=1)
            self._curves[images] = published.accuracies(models.table, self._radii).to_numpy()
            self._broken[images] = published.collapsed(models.table).to_numpy()
        self._own_curves = np.array([100 * self._own[500].certified(radius).mean(1) for radius in self._radii]).T
        self._own_curves = self._own_curves.reshape(-1, len(self._radii))

    @staticmethod
    def _ladders() -> dict[str, tuple]:
        epsilons = tuple(value for _, value in EPSILONS)
        return {"sigma": SIGMAS, "epsilon": epsilons, "samples": SAMPLES, "steps": STEPS, "attack": ATTACKS}

    # -- what is drawn

    def _draw_table(self, axes) -> list:
        last = len(RADII) - 0.5
        axes.set(xlim=(-4.4, last + 0.35), ylim=(6.5, -0.6), xticks=(), yticks=())
        axes.grid(False)
        axes.spines[:].set_visible(False)
        self._column = axes.add_patch(Rectangle((0, -0.5), 1, 7, color=GREY, alpha=0.13, linewidth=0))
        self._cell = axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=VERMILION, linewidth=2.2))
        for place, radius in enumerate(RADII):
            axes.text(self._across(place), 0, f"{radius:g}", ha="center", va="center", fontweight="bold")
        axes.text(-4.3, 0, "certified accuracy (%) at r", va="center", fontweight="bold")
        for height in (0.5, 2.5, 4.5, 5.5):
            axes.plot([-4.4, last + 0.3], [height, height], color=GREY, linewidth=0.6)
        colors = (BLUE, BLUE, INK, INK, GREEN, PURPLE)
        self._labels = [axes.text(-4.3, row + 1, "", va="center", color=c) for row, c in enumerate(colors)]
        self._cells = [
            [
                axes.text(self._across(place), row + 1, "", ha="center", va="center", color=c)
                for place in range(len(RADII))
            ]
            for row, c in enumerate(colors)
        ]
        return [self._column, self._cell, *self._labels, *(cell for row in self._cells for cell in row)]

    @staticmethod
    def _across(place: int) -> float:
        """Where a column stands; the last one apart."""
        return place + 0.3 * (place == len(RADII) - 1)

    def _draw_curves(self, axes) -> list:
        def stairs(label: str, **style):
            return axes.step(self._radii, 0 * self._radii, where="pre", label=label, **style)[0]

        self._band = axes.add_patch(Polygon([(0, 0)] * 3, color=GREEN, alpha=0.2, linewidth=0))
        self._envelope = stairs("best model of the row at each radius", color=GREY, linewidth=1.4)
        self._best = stairs("winner of the cell", color=VERMILION, linestyle="--")
        self._curve = stairs("the model you chose, 95 % interval", color=GREEN, linewidth=2.4)
        self._here = axes.axvline(0, color=INK, linewidth=1, linestyle=":")
        axes.set(xlim=(0, 3.75), ylim=(0, 92), xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)")
        axes.legend(loc="upper right")
        return [self._band, self._envelope, self._best, self._curve, self._here]

    def _draw_knobs(self, axes) -> list:
        ticks: list[int] = []
        labels: list[str] = []
        self._starts: dict[str, int] = {}
        colors, place = dict(zip(KNOBS, (BLUE, VERMILION, PURPLE, ORANGE, INK), strict=True)), 0
        for name, label in zip(KNOBS, ("σ", "ε × 255", "m", "T", "attack"), strict=True):
            values = self._ladders()[name]
            self._starts[name] = place
            ticks += range(place, place + len(values))
            labels += [f"{value:g}".removeprefix("0") if name == "sigma" else str(value) for value in values]
            axes.text(place + (len(values) - 1) / 2, 0.985, label, transform=axes.get_xaxis_transform(),
                      ha="center", va="top", color=colors[name], fontweight="bold")  # fmt: skip
            place += len(values) + 1
        axes.set_xticks(ticks, labels, fontsize=7)
        for tick in axes.get_xticklabels():
            tick.set_rotation(90 if len(tick.get_text()) > 2 else 0)
        axes.set(xlim=(-0.8, place - 0.6), ylim=(0, 92), ylabel="certified accuracy at r (%)")
        axes.set_xlabel("one of the five sliders moved, the others as chosen")
        self._lines = {
            name: axes.plot([], [], "o-", color=colors[name], markersize=4.5, linewidth=1.3)[0] for name in KNOBS
        }
        self._dots = axes.plot([], [], "o", color=GREEN, markeredgecolor=INK, markersize=9)[0]
        return [*self._lines.values(), self._dots]

    # -- what happens

    def dragged(self, x: float, y: float) -> None:
        place = min(range(len(RADII)), key=lambda place: abs(self._across(place) - x))
        self.r.value = RADII[place]
        if (row := round(y)) != 5:  # the chosen model's own row: the row above stays the one compared
            self.row.value = CHOICES[0 if row <= 2 else 1 if row <= 4 else 2]

    def update(self) -> str:
        images = self.images.value
        models, curves, broken = self._sets[images], self._curves[images], self._broken[images]
        pretrained, weight = self.extra.value
        asked = [list(values).index(getattr(self, name).value) for name, values in self._ladders().items()]
        data = models.table[["pretrained", "weight"]].to_numpy()
        alike = (data == self.extra.value).all(1)
        # Nearest: other data or another σ only if nothing else is left, then as few rungs of the other sliders.
        distance = np.abs(self._places[images] - asked) @ (100, 3, 2, 1, 2) + 1000 * ~alike
        place = int(distance.argmin())
        self.exact, self.model = bool(distance[place] == 0), models.table.iloc[place]
        family = (data[:, 0] == pretrained) & ((data[:, 1] > 0) == (weight > 0))
        family &= ~broken | self.collapsed.value
        at = (np.array(RADII) / published.STEP).round().astype(int)
        self.acr, self.accuracy = float(self.model.ACR), curves[place][at]
        self._choose_row(images, family)
        self.envelope = self._row_curves[:, at].max(0) if len(self._row_curves) else np.full(len(RADII), np.nan)
        self._compare_cell(models.radii[place])
        self._fill_table(images, curves[family][:, at], self._own_curves[:, at] if images == 500 else [])
        self._move_curves(curves[place], images)
        self._move_knobs(place, alike & (~broken | self.collapsed.value), images)
        return self._sentence(bool(broken[place]))

    def _choose_row(self, images: int, family: np.ndarray) -> None:
        """`_row` and `_row_curves`: the models that compete in the chosen row."""
        if self.row.value == "SmoothAdv":
            self._row, self._row_curves = self._sets[images].part(family), self._curves[images][family]
        elif self.row.value == "our runs":
            self._row = self._own[images]
            self._row_curves = self._own_curves if images == 500 else self._own_curves[:0]
        else:
            self._row = self._bases[images]
            self._row_curves = published.accuracies(self._row.table, self._radii).to_numpy()

    def _compare_cell(self, radii: np.ndarray) -> None:
        """The winner of the cell, and image by image the model of these `radii` (images,) beside it."""
        certified, numbers = self._row.certified(self.r.value), self._row.numbers
        counts = certified.sum(1)
        self._place = int(counts.argmax()) if len(counts) and counts.max() else None
        here = radii >= round(1000 * self.r.value)
        winner = certified[self._place] if self._place is not None else np.zeros(len(here), bool)
        self.winner = "" if self._place is None else str(self._row.table.index[self._place])
        self.count, self.shown = int(winner.sum()), len(winner)
        self.only_winner, self.only_model = numbers[winner & ~here].tolist(), numbers[here & ~winner].tolist()
        gain = winner.astype(int) - here
        self.gain, self._half = 100 * gain.mean(), 196 * gain.std() / len(gain) ** 0.5

    def _fill_table(self, images: int, family: np.ndarray, own) -> None:
        pretrained, weight = self.extra.value
        name = ROW_NAMES[pretrained, weight > 0]
        printed = published.PRINTED[PRINTED_IN[images]]
        base = published.accuracies(self._bases[images].table, RADII).max().to_numpy()
        digits = 1 if images == 500 else 2  # exact
        none = "–"
        cells = [
            (f"Gaussian, printed ({PRINTED_IN[images]})", printed["Cohen et al."]),
            (f"   recomputed, best of {len(self._bases[images].table)}", base),
            (f"{name}, printed" + (f" ({PRINTED_IN[images]})" if name in printed else ": no"), printed.get(name, ())),
            (f"   recomputed, best of {len(family)}", family.max(0)),
            ("the model you chose", self.accuracy),
            (f"our runs, best of {len(own)}", np.max(own, 0) if len(own) else ()),
        ]
        for row, (label, values) in enumerate(cells):
            self._labels[row].set_text(label)
            if row in (0, 2):  # printed from 0.25 to 2.25
                shown = [none, *(f"{value}" for value in values or [none] * 9), none]
            else:
                shown = [f"{value:.{digits}f}" for value in values] or [none] * len(RADII)
            for text, value in zip(self._cells[row], shown, strict=True):
                text.set_text(value)
        across = self._across(RADII.index(self.r.value)) - 0.5
        self._column.set_xy((across, -0.5))
        self._cell.set_xy((across, (2, 4, 6)[CHOICES.index(self.row.value)] - 0.5))

    def _move_curves(self, curve: np.ndarray, images: int) -> None:
        low, high = interval((curve * images / 100).round(), images)
        self._band.set_xy(np.concatenate([self._stairs(low), self._stairs(high)[::-1]]))
        self._curve.set_ydata(curve)
        nothing = np.full(len(self._radii), np.nan)
        self._envelope.set_ydata(self._row_curves.max(0) if len(self._row_curves) else nothing)
        self._best.set_ydata(nothing if self._place is None else self._row_curves[self._place])
        self._here.set_xdata([self.r.value] * 2)

    def _move_knobs(self, place: int, kept: np.ndarray, images: int) -> None:
        places, chosen = self._places[images], self._places[images][place]
        accuracy = self._curves[images][:, round(self.r.value / published.STEP)]
        for number, name in enumerate(KNOBS):
            others = np.delete(places == chosen, number, axis=1).all(1) & kept
            order = np.flatnonzero(others)[places[others, number].argsort()]
            self._lines[name].set_data(self._starts[name] + places[order, number], accuracy[order])
        starts = np.array([self._starts[name] for name in KNOBS])
        self._dots.set_data(starts + chosen, [accuracy[place]] * len(KNOBS))

    def _stairs(self, values: np.ndarray) -> np.ndarray:
        """The corners of a step curve that takes the lower of two neighbouring values: (2N − 1, 2)."""
        return np.stack([self._radii.repeat(2)[:-1], values.repeat(2)[1:]], axis=1)

    # -- in words

    @staticmethod
    def _named(model: pd.Series) -> str:
        if "attack" not in model:  # a run of ours
            return f"our run {model.name}"
        if model.attack == "-":
            return f"Gaussian training, σ = {model.sigma:g}"
        extra = next(text for text, value in EXTRAS if value == (model.pretrained, model.weight))
        name = f"{model.attack}, T = {model.steps}, m = {model.samples}, ε = {model.epsilon}/255, σ = {model.sigma:g}"
        return name + ("" if extra == "neither" else f", {extra}")

    def _sentence(self, broken: bool) -> str:
        lead = "" if self.exact else "Not in these logs; the nearest model is shown. "
        lead += f"Your model: {self._named(self.model)}; ACR {self.acr:.3f}"
        lead += ", collapsed: one answer to every image. " if broken else ". "
        cell = f"Cell r = {self.r.value:g} of {self.row.value}: "
        if not len(self._row.table):
            return f"{lead}{cell}our runs were certified on the 500 images only."
        low, high = (float(end) for end in interval(self.count, self.shown))
        cell += f"{self.count} of {self.shown:,} images, 95 % interval {low:.1f} to {high:.1f} %. "
        if self._place is None:
            return f"{lead}{cell}None of its {len(self._row.table)} models certifies any."
        cell += f"Winner of {len(self._row.table)}: {self._named(self._row.table.iloc[self._place])}. "
        ends = f"{self.gain - self._half:+.1f} to {self.gain + self._half:+.1f}"
        return (
            f"{lead}{cell}Certified by the winner only: {self._first(self.only_winner)}; by your model only: "
            f"{self._first(self.only_model)}. Difference {self.gain:+.1f} points ({ends}, image by image)."
        )

    @staticmethod
    def _first(numbers: list[int], shown: int = 5) -> str:
        if not numbers:
            return "none"
        more = ", …" if len(numbers) > shown else ""
        return f"{len(numbers)} (images {', '.join(map(str, numbers[:shown]))}{more})"


# -- what ACR rewards -------------------------------------------------------------------------

SHARES = tuple((f"{share} %", share) for share in range(1, 51))
VOTES = tuple((f"{n:,}", n) for n in (100, 1000, 10_000, 100_000))


class AcrExplorer(Explorer):
    """A classifier that is certain on a share of the images and wrong on the rest, beside a published model, σ = 1.

    After each move: `radius` (the cap that n allows), `acr`, `reference` (the published model's ACR with as many
    votes: ACR is not to be compared across n).
    """

    alt = (
        "The certified-accuracy curve of SmoothAdv's best network at σ = 1, and over it a rectangle: a classifier that "
        "is certain of a share of the images and wrong on the rest. Its height is that share, its width the cap that n "
        "votes allow."
    )

    @styled
    def __init__(self):
        self.share = slider("share it is certain of", SHARES, 10)
        self.n = slider("n, votes an image", VOTES, 100_000)
        best = published.load("cifar10-best")
        ours = published.group(best[(best.every == 1) & (best.sigma == 1.0)], "SmoothAdv")
        model = ours.loc[ours.ACR.idxmax()]
        self._references = {n: acr_with(model, n) for _, n in VOTES[:-1]} | {100_000: float(model.ACR)}  # the log's own
        figure, axes = new_figure(width=8.6, height=3.9)
        radii, accuracy = published.curve(model, 4.3)
        axes.step(radii, accuracy, where="pre", color=GREEN, label="SmoothAdv's best network, n = 100,000")
        axes.fill_between(radii, accuracy, step="pre", color=GREEN, alpha=0.12, linewidth=0)
        self._line = axes.plot([0, 1, 1], [0, 0, 0], color=ORANGE, linestyle="--", label="certain or wrong")[0]
        self._area = axes.add_patch(Polygon([(0, 0)] * 4, color=ORANGE, alpha=0.25, linewidth=0))
        axes.set(xlim=(0, 4.3), ylim=(0, 60), xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)")
        axes.set_title("ACR is the area under the curve; σ = 1, α = 0.001")
        axes.legend(loc="upper right")
        super().__init__(figure, [self.share, self.n], [self._area, self._line])

    def update(self) -> str:
        share, n = self.share.value, self.n.value
        self.radius = bounds.max_certified_radius(n, 0.001, 1.0)
        self.acr, self.reference = share / 100 * self.radius, self.reference_at(n)
        self._line.set_data([0, self.radius, self.radius], [share, share, 0])
        self._area.set_xy([(0, 0), (0, share), (self.radius, share), (self.radius, 0)])
        verdict = "more" if self.acr > self.reference else "less"
        return (
            f"certain of {share} % of the images, n = {n:,}: each has the radius {self.radius:.3f}, "
            f"ACR {self.acr:.3f}, {verdict} than SmoothAdv's {self.reference:.3f} with as many votes"
        )

    def reference_at(self, n: int) -> float:
        """The published model's ACR with n votes an image: recovered from its log as in `figures.acr_with`."""
        return self._references[n]
