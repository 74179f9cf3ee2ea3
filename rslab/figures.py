"""Every static figure of the course: a function that returns a `matplotlib.figure.Figure`.

No pyplot, so that nothing is global: a figure is drawn once, shown as the last
value of a cell, and freed. One palette and one style for all; the same colour for
the same method everywhere. Backgrounds are opaque and light, so that a figure
reads the same in a light and in a dark notebook.
"""

import io

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette (2008), told apart with any kind of colour vision; olive,
# wine and grey are Tol's. A line style or a label always says the same again.
BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
GREY, OLIVE, WINE, INK = "#6B6B6B", "#8A8A2B", "#882255", "#222222"

# One colour a method (the keys of `config.METHODS`), wherever it is drawn.
COLORS = {
    "standard": GREY,
    "gaussian": BLUE,
    "smoothed": SKY,
    "adversarial": ORANGE,
    "combine1": OLIVE,
    "combine2": PURPLE,
    "combine3": WINE,
    "naive": VERMILION,
    "smoothadv": GREEN,
}
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, WINE, OLIVE, GREY)
DASHES = ("-", "--", "-.", ":")
DPI = 100

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.fontsize": 9,
    "lines.linewidth": 2,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}


class LabFigure(Figure):
    """A `Figure` that a notebook shows by itself, although pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


def png_bytes(figure: Figure) -> bytes:
    """The figure as it is now, as a PNG. Low compression: a slider waits for it."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 3})
    return buffer.getvalue()


def new_figure(rows: int = 1, columns: int = 1, *, width: float = 9.0, height: float = 3.6, **options):
    """(figure, axes) in the course's style; width and height in inches at 100 dots each.

    `axes` as from `Figure.subplots`, which gets the `options`.
    """
    with matplotlib.rc_context(STYLE):
        figure = LabFigure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, **options)


def method_of(label: str) -> str | None:
    """The method that a label such as "smoothadv-0.25" or "Gaussian, σ = 0.5" names, if any."""
    names = [name for name in COLORS if name in label.lower()]
    return max(names, key=len, default=None)


# -- certified accuracy ------------------------------------------------------------------


def certified_accuracy_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """Certified accuracy (%) against the ℓ2 radius, one step curve a label.

    `curves`: label → (radii, accuracy), both `(N,)`, radii increasing, accuracy in
    percent. A label that names a method has its colour; more curves of one method
    differ in their dashes. Between two given radii the lower accuracy is drawn:
    the curve never claims more than was counted.
    """
    figure, axes = new_figure(width=7.0, height=4.2)
    colors = iter(CYCLE)
    drawn: dict[str, int] = {}
    for label, (radii, accuracy) in curves.items():
        method = method_of(label)
        color = COLORS[method] if method else next(colors)
        dashes = DASHES[drawn.get(color, 0) % len(DASHES)]
        drawn[color] = drawn.get(color, 0) + 1
        axes.step(radii, accuracy, where="pre", label=label, color=color, linestyle=dashes)
    axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)", title=title, ylim=(0, 101))
    axes.set_xlim(left=0)
    if curves:
        axes.legend(loc="upper right")
    return figure
