"""Explorers: sliders on top of a figure.

An explorer is a `VBox` of sliders, one picture and one line of numbers. Its
observers change the artists of one figure and write the PNG; nothing is sampled or
trained there. Votes are drawn once, with fixed noise, when the explorer is made.
"""

import base64
import inspect
import io
import math
from contextlib import contextmanager

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from rslab.lectures.picture import BOX, Picture, png
from rslab.lectures.style import reduced, styled

SHARPNESS = 2  # pixels drawn per CSS pixel and side: sharp on dense screens and when a page is enlarged
RUN_ME = "▶ A saved picture. In JupyterLab, Shift + Enter in its cell brings the sliders."


class Explorer(widgets.VBox):
    """What every explorer shares: sliders move, the picture and the line of numbers follow.

    A subclass draws its figure, then calls `super().__init__` with it, its sliders
    and the artists that move, and defines `update`, which changes these artists and
    returns the line. Everything else in the figure (axes, ticks, titles) is painted
    once and kept: a redraw then takes 20 ms in place of 150.

    With `drag=axes` (or a dict of named axes) the picture can be dragged there; the
    subclass defines `dragged`. `alt` describes the picture to those who do not see it; the
    numbers follow it. Without one, the first paragraph of the subclass's docstring stands in.
    """

    alt = ""
    play: widgets.Play | None = None

    @styled
    def __init__(
        self,
        figure: Figure,
        sliders: list[widgets.Widget],
        moving: list[Artist],
        drag: Axes | dict[str, Axes] | None = None,
    ):
        width, height = (round(float(side * figure.dpi)) for side in figure.get_size_inches())
        figure.set_dpi(SHARPNESS * figure.dpi)
        self.figure = figure
        self._moving = sorted(moving, key=lambda artist: artist.get_zorder())
        for artist in self._moving:
            artist.set_animated(True)  # left out of the background
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()
        figure.set_layout_engine("none")  # another drawing must not move the axes away from what is painted
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        self._drag = {"": drag} if isinstance(drag, Axes) else drag or {}
        self._sliders, self._start = list(sliders), [control.value for control in sliders]
        self._held = 0  # inside `_one_redraw`
        self.image = Picture(width=width, height=height)
        self.image.allow_drag(self._drag)
        self.image.observe(self._follow_drag, "place")
        self.text = widgets.HTML(layout=widgets.Layout(flex="1 1 0", min_width="0"))
        self.reset_button = widgets.Button(
            description="↺ reset",
            tooltip="Put the sliders back to where they began",
            layout=widgets.Layout(width="auto", height="24px", flex="0 0 auto"),
            style={"font_size": "12px"},
        )
        self.reset_button.on_click(lambda _: self.reset())
        below = widgets.HBox([self.text, self.reset_button])
        below.layout = widgets.Layout(width=f"{width}px", max_width="100%", align_items="flex-start")
        self._below = [self.image, below]
        super().__init__([*sliders, *self._below])
        self.add_class(BOX)
        for control in sliders:
            control.observe(self._redraw, "value")
        self._redraw()

    def update(self) -> str:
        """Move the artists to the sliders' values; return the numbers shown, as plain text."""
        raise NotImplementedError

    def dragged(self, x: float, y: float) -> None:
        """Set the sliders to a point of the axes that are dragged, for instance by `set_nearest`.

        With several draggable axes, `self.image.place[0]` is the name of those in hand.
        """
        raise NotImplementedError

    def move(self, **values) -> "Explorer":
        """Set sliders by name, as a hand would: `explorer.move(sigma=0.25).radius`."""
        for name, value in values.items():
            getattr(self, name).value = value
        return self

    def drag(self, x: float, y: float, axes: str = "") -> "Explorer":
        """Drag the picture to (x, y) in data coordinates of the axes of that name, as a hand would."""
        self.image.place = (axes, float(x), float(y))
        return self

    def reset(self) -> "Explorer":
        """Put the sliders back to where they began, and stop the play."""
        if self.play is not None:
            self.play.playing = False
        with self._one_redraw():
            for control, value in zip(self._sliders, self._start, strict=True):
                control.value = value
        return self

    def lock(self, locked: bool = True) -> "Explorer":
        """Hold the sliders, the picture and the reset button until `lock(False)`: first comes a prediction."""
        for control in (*self._sliders, self.reset_button, *([self.play] if self.play is not None else [])):
            control.disabled = locked
        self.image.allow_drag({} if locked else self._drag)
        return self

    def add_play(self, control: widgets.SelectionSlider, description: str, interval: int) -> None:
        """Put a play button on top that walks `control` through its options, one every `interval` ms."""
        self.play = widgets.Play(min=0, max=len(control.options) - 1, interval=interval, description=description)
        self.play.style.description_width = "190px"
        widgets.link((self.play, "value"), (control, "index"))
        self.children = [self.play, *self._sliders, *self._below]

    def _follow_drag(self, change) -> None:
        with self._one_redraw():
            self.dragged(*change.new[1:])

    @contextmanager
    def _one_redraw(self):
        """Several sliders are set, the picture is drawn once."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._redraw()

    @styled
    def _redraw(self, change=None) -> None:
        if self._held or (change is not None and _rounding_apart(change.old, change.new)):
            return
        self.text.value = self.update()
        self._canvas.restore_region(self._background)
        for artist in self._moving:
            artist.draw(self._canvas.get_renderer())
        with self.image.hold_sync():  # one message
            self.image.value = png(np.asarray(self._canvas.buffer_rgba()))
            self.image.alt = f"{self._description()} {self.text.value}".strip()

    def _description(self) -> str:
        # Of the subclass alone: what all explorers are says nothing about this one.
        text = self.alt or ("" if type(self) is Explorer else type(self).__doc__ or "")
        return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())

    def _repr_mimebundle_(self, **kwargs):
        # The picture beside the widget: a saved notebook shows it where no kernel runs.
        bundle = super()._repr_mimebundle_(**kwargs)
        picture = base64.b64encode(reduced(self._saved_picture())).decode()
        bundle = {**bundle, "text/plain": self.text.value, "image/png": picture}
        return bundle, {"image/png": {"alt": self.image.alt}}

    def _saved_picture(self) -> bytes:
        """The PNG at its size on screen, which keeps notebooks small, above a line that says how to get the sliders."""
        shown = Image.open(io.BytesIO(self.image.value)).convert("RGB").reduce(SHARPNESS)
        page = Image.new("RGB", (shown.width, shown.height + 24), "white")
        page.paste(shown)
        font = ImageFont.truetype(findfont("DejaVu Sans"), 12)
        ImageDraw.Draw(page).text((8, shown.height + 4), RUN_ME, fill="#444444", font=font)
        buffer = io.BytesIO()
        page.save(buffer, format="png")
        return buffer.getvalue()


def _rounding_apart(old, new) -> bool:
    """Whether two values of a slider are one number: a browser sends what it is sent back with other last bits."""
    pairs = list(zip(old, new, strict=True)) if isinstance(new, tuple) else [(old, new)]
    return all(isinstance(b, float) and math.isclose(a, b, rel_tol=1e-12) for a, b in pairs)


def set_nearest(control: widgets.SelectionSlider | widgets.FloatSlider, value: float) -> None:
    """Set a slider to its option, or its step, nearest to `value`: for `Explorer.dragged`."""
    if isinstance(control, widgets.FloatSlider):
        steps = round((min(max(value, control.min), control.max) - control.min) / control.step)
        control.value = round(control.min + steps * control.step, 9)
        return
    options = [option[1] if isinstance(option, tuple) else option for option in control.options]
    control.value = min(options, key=lambda option: abs(option - value))


def slider(label: str, options, value) -> widgets.SelectionSlider:
    """A slider over `options`: numbers, or (text, number) pairs. Wide enough for its label."""
    return widgets.SelectionSlider(
        options=options,
        value=value,
        description=label,
        style={"description_width": "190px"},
        layout=widgets.Layout(width="560px", max_width="100%"),
    )


def continuous_slider(label: str, value, low: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider that a hand can move finely, for closed formulas; with two grips where `value` is a pair.

    A browser may send a value that is a rounding error off its step: round where a side of an edge depends on it.
    """
    kind = widgets.FloatRangeSlider if isinstance(value, tuple) else widgets.FloatSlider
    return kind(
        value=value,
        min=low,
        max=high,
        step=step,
        description=label,
        readout_format=f".{max(0, -math.floor(math.log10(step)))}f",
        style={"description_width": "190px"},
        layout=widgets.Layout(width="560px", max_width="100%"),
    )
