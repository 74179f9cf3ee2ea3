"""The picture of an explorer, and what stands guard over the widgets around it.

ipywidgets' own image has no alt text and cannot be dragged, and a slider without a
kernel moves as if nothing were wrong. These two components mend that; what they do in
the browser stands in `picture.js`.
"""

import struct
import zlib
from pathlib import Path

import anywidget
import numpy as np
from matplotlib.axes import Axes
from traitlets import Bytes, Float, Int, List, Tuple, Unicode

_HERE = Path(__file__).parent
BOX = "rslab-box"  # the class of the box that is guarded


class Guard(anywidget.AnyWidget):
    """An invisible member of a box of widgets whose class is `BOX`.

    Keys pressed in the box do not reach JupyterLab ("d d" would delete the cell).
    Where a widget is moved and no kernel answers, a line says to run the cell again.
    Sliders get a name and a value that a screen reader speaks.
    """

    _esm = _HERE / "picture.js"
    _css = _HERE / "picture.css"
    value = Bytes(b"").tag(sync=True)

    def __init__(self, **traits):
        super().__init__(**traits)
        self.on_msg(self._hear)

    def _hear(self, _, message: dict, buffers) -> None:
        if "ask" in message:
            self.send({"here": True})


class Picture(Guard):
    """A PNG, shown at half of its pixels a side, with alt text; parts of it can be dragged.

    Traits: `value` (bytes of the PNG), `width` and `height` (in CSS pixels), `alt`. After
    `allow_drag(axes)`, each drag sets `place`: (name of the axes, x, y) in their data coordinates.
    """

    width = Int().tag(sync=True)
    height = Int().tag(sync=True)
    alt = Unicode().tag(sync=True)
    grips: List = List().tag(sync=True)  # per draggable axes: left, top, width, height as shares of the picture
    place = Tuple(Unicode(), Float(), Float(), default_value=("", 0.0, 0.0))

    def allow_drag(self, axes: dict[str, Axes]) -> None:
        """Let these axes be dragged. Their figure must have been drawn, so that it is known where they stand."""
        self._axes = axes
        self.grips = [_shares(part) for part in axes.values()]

    def _hear(self, _, message: dict, buffers) -> None:
        super()._hear(_, message, buffers)
        if "drag" in message:
            index, across, down = message["drag"]
            if index < len(self.grips):  # a late message after dragging was forbidden
                name, axes = list(self._axes.items())[index]
                self.place = (name, *_data_coordinates(axes, across, down))
            self.send({"dragged": index})


def _shares(axes: Axes) -> list[float]:
    """Left, top, width and height of the axes, as shares of the whole figure."""
    inner, whole = axes.get_window_extent(), axes.figure.bbox
    shares = inner.x0 / whole.width, 1 - inner.y1 / whole.height, inner.width / whole.width, inner.height / whole.height
    return [round(float(share), 5) for share in shares]


def _data_coordinates(axes: Axes, across: float, down: float) -> tuple[float, float]:
    """The point at these shares of the figure's width and height; beyond the axes, the nearest within."""
    whole = axes.figure.bbox
    x, y = axes.transData.inverted().transform((across * whole.width, (1 - down) * whole.height))
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    return float(np.clip(x, left, right)), float(np.clip(y, low, high))


def png(pixels: np.ndarray) -> bytes:
    """The PNG of `(height, width, 4)` bytes: red, green, blue, opacity. Nothing is lost.

    Three times as fast as Pillow, which tries five filters per row. Here each row is
    stored as its difference from the row above, which suits axes and areas; the opacity
    is kept, because to leave it out costs more time than it saves bytes.
    """
    height, width, _ = pixels.shape
    flat = pixels.reshape(height, 4 * width)
    rows = np.empty((height, 1 + 4 * width), np.uint8)
    rows[:, 0] = 2  # the filter "up"
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 2)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
