"""Explorers: sliders on top of a figure.

An explorer is a `VBox` of sliders, one picture and one line of numbers. Its
observers change the artists of one figure and write the PNG; nothing is sampled or
trained there. Votes are drawn once, with fixed noise, when the explorer is made.
"""

import base64
import io

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from rslab.lectures.style import reduced, styled


class Explorer(widgets.VBox):
    """What every explorer shares: sliders move, the picture and the line of numbers follow.

    A subclass draws its figure, then calls `super().__init__` with it, its sliders
    and the artists that move, and defines `update`, which changes these artists and
    returns the line. Everything else in the figure (axes, ticks, titles) is painted
    once and kept: a redraw then takes 20 ms in place of 150.
    """

    @styled
    def __init__(self, figure: Figure, sliders: list[widgets.Widget], moving: list[Artist]):
        width, height = (round(float(side * figure.dpi)) for side in figure.get_size_inches())
        self.figure = figure
        self._moving = sorted(moving, key=lambda artist: artist.get_zorder())
        for artist in self._moving:
            artist.set_animated(True)  # left out of the background
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        self.image = widgets.Image(format="png", width=width, height=height)
        self.image.layout = widgets.Layout(max_width="100%", object_fit="contain")
        self.text = widgets.HTML()
        super().__init__([*sliders, self.image, self.text])
        for slider in sliders:
            slider.observe(self._redraw, "value")
        self._redraw()

    def update(self) -> str:
        """Move the artists to the sliders' values; return the numbers shown, as plain text."""
        raise NotImplementedError

    def move(self, **values) -> "Explorer":
        """Set sliders by name, as a hand would: `explorer.move(sigma=0.25).radius`."""
        for name, value in values.items():
            getattr(self, name).value = value
        return self

    @styled
    def _redraw(self, change=None) -> None:
        self.text.value = self.update()
        self._canvas.restore_region(self._background)
        for artist in self._moving:
            artist.draw(self._canvas.get_renderer())
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())[..., :3]).save(buffer, format="png", compress_level=2)
        self.image.value = buffer.getvalue()

    def _repr_mimebundle_(self, **kwargs):
        # The picture beside the widget: a saved notebook shows it where no kernel runs.
        bundle = super()._repr_mimebundle_(**kwargs)
        return {
            **bundle,
            "text/plain": self.text.value,
            "image/png": base64.b64encode(reduced(self.image.value)).decode(),
        }


def slider(label: str, options, value) -> widgets.SelectionSlider:
    """A slider over `options`: numbers, or (text, number) pairs. Wide enough for its label."""
    return widgets.SelectionSlider(
        options=options,
        value=value,
        description=label,
        style={"description_width": "190px"},
        layout=widgets.Layout(width="560px", max_width="100%"),
    )
