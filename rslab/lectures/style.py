"""What every figure of the course shares: palette, style, size.

A figure is a function that returns a `matplotlib.figure.Figure`. No pyplot, so that
nothing is global: a figure is drawn once, shown as the last value of a cell, and
freed. The same colour for the same method everywhere. Backgrounds are opaque and
light, so that a figure reads the same in a light and in a dark notebook.
"""

import base64
import io

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

# Okabe and Ito's palette (2008), told apart with any kind of colour vision; olive,
# wine and grey are Tol's. A line style or a label always says the same again.
BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
GREY, OLIVE, WINE, INDIGO, INK = "#6B6B6B", "#8A8A2B", "#882255", "#332288", "#222222"
BROWN = "#8C510A"  # of ColorBrewer

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
    "consistency": INDIGO,
    "smoothmix": BROWN,
    "smoothadv": GREEN,
}
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, WINE, OLIVE, GREY)
DASHES = ("-", "--", "-.", ":")
REGION_COLORS = (BLUE, ORANGE, GREEN, PURPLE)  # classes 0 … 3 of the two-pixel example
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


# Matplotlib's own values for the rest: an account's matplotlibrc (LaTeX for all text, another font, cut margins)
# would change pictures that the lectures describe. The backend is not asked: no figure here is pyplot's.
_DEFAULTS: dict[str, object] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}

styled = matplotlib.rc_context(_DEFAULTS | STYLE)  # type: ignore[arg-type]  # decorates every function that draws


class LabFigure(Figure):
    """A `Figure` that a notebook shows by itself, although pyplot was never imported.

    `encoding` keeps the notebook small: 128 colours are plenty for lines and areas
    ("palette"), not for pictures ("png"), and noise does not compress ("jpeg"). `alt` says
    what is to be seen, for those who do not see it: it goes into the notebook beside the picture.
    """

    encoding = "palette"
    alt = ""

    @styled
    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        buffer = io.BytesIO()
        if self.encoding == "jpeg":
            self.savefig(buffer, format="jpeg", pil_kwargs={"quality": 80})
        else:
            self.savefig(buffer, format="png")
        picture = reduced(buffer.getvalue()) if self.encoding == "palette" else buffer.getvalue()
        kind = "image/jpeg" if self.encoding == "jpeg" else "image/png"
        return {kind: base64.b64encode(picture).decode()}, {kind: {"alt": " ".join(self.alt.split())}}


def reduced(png: bytes) -> bytes:
    """A PNG with 128 colours: a quarter of the size."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


@styled
def new_figure(rows: int = 1, columns: int = 1, *, width: float = 9.0, height: float = 3.6, **options):
    """(figure, axes) in the course's style; width and height in inches at 100 dots each.

    `axes` as from `Figure.subplots`, which gets the `options`.
    """
    figure = LabFigure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def method_of(label: str) -> str | None:
    """The method that a label such as "smoothadv-0.25" or "Gaussian, σ = 0.5" names, if any."""
    names = [name for name in COLORS if name in label.lower()]
    return max(names, key=len, default=None)


def show_image(axes, image: Tensor, title: str = "") -> None:
    """Draw `(C, H, W)`; values outside [0, 1] are clipped for the eye only, the network gets them all."""
    pixels = image.clamp(0, 1).movedim(0, -1).numpy()
    axes.imshow(pixels[..., 0] if len(image) == 1 else pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=(), yticks=())
    axes.grid(False)
    axes.set_title(title, fontsize=9.5)
