"""What a figure shows, as numbers, to be compared with numbers that were computed in another way."""

import numpy as np


def panels(figure) -> list:
    """The figure's axes, after it was drawn once: what cannot be drawn fails here."""
    figure.canvas.draw()
    return figure.axes


def line(axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of the one line whose label begins with `label`."""
    (found,) = (drawn for drawn in axes.lines if str(drawn.get_label()).startswith(label))
    return xy(found)


def xy(drawn) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of a line."""
    return np.asarray(drawn.get_xdata(), float), np.asarray(drawn.get_ydata(), float)


def at(axes, label: str, x) -> np.ndarray:
    """The height of a labelled line at x, straight between its points."""
    places, values = line(axes, label)
    order = np.argsort(places)
    return np.interp(x, places[order], values[order])


def heights(axes) -> np.ndarray:
    """Of all bars, in the order in which they were drawn."""
    return np.array([bar.get_height() for bar in axes.patches])


def picture(axes) -> np.ndarray:
    """The numbers of the one image in these axes."""
    (image,) = axes.images
    return np.asarray(image.get_array(), float)


def dots(axes) -> np.ndarray:
    """(N, 2): the places of the one cloud of dots in these axes."""
    (cloud,) = axes.collections
    return np.asarray(cloud.get_offsets(), float)
