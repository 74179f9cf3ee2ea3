"""What a figure shows, as numbers, to be compared with numbers that were computed in another way."""

from itertools import pairwise

import numpy as np


def panels(figure) -> list:
    """The figure's axes, after it was drawn once: what cannot be drawn, or not be read, fails here."""
    figure.canvas.draw()
    assert not (faults := unreadable(figure)), faults
    return figure.axes


def unreadable(figure) -> list[str]:
    """Of a drawn figure: ticks over each other, legends over a panel, and these, titles or axis labels outside it."""
    found, edge = [], figure.bbox.padded(1)

    def outside(drawn) -> bool:
        box = drawn.get_window_extent()
        return not (edge.contains(*box.min) and edge.contains(*box.max))

    legends = [(None, legend) for legend in figure.legends]
    legends += [(axes, axes.get_legend()) for axes in figure.axes if axes.get_legend() is not None]
    for owner, legend in legends:
        name, box = f"legend {[text.get_text() for text in legend.get_texts()]}", legend.get_window_extent()
        if outside(legend):
            found.append(f"{name}: outside the picture")
        others = [axes for axes in figure.axes if axes is not owner and axes.get_window_extent().overlaps(box)]
        found += [f"{name}: over the panel {axes.get_title()!r}" for axes in others]
    for axes in figure.axes:
        words = [axes.title]
        if axes.name != "3d":
            words += [axes.xaxis.label, axes.yaxis.label]
            for axis, low, high in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
                ticks = _ticks(axis)
                boxes = sorted((tick.get_window_extent() for tick in ticks), key=lambda box, low=low: getattr(box, low))
                if any(getattr(one, high) > getattr(following, low) + 1 for one, following in pairwise(boxes)):
                    found.append(f"ticks {[tick.get_text() for tick in ticks]} over each other")
                words += ticks
        words = [word for word in words if word.get_text() and word.get_visible()]
        found += [f"{word.get_text()!r}: outside the picture" for word in words if outside(word)]
    return found


def _ticks(axis) -> list:
    """The labels of the major ticks that the axis shows."""
    place = axis.get_transform().transform  # of a logarithmic axis, its logarithm
    first, last = sorted(place(axis.get_view_interval()))
    margin = 1e-9 * (last - first)
    shown = [tick for tick in axis.get_major_ticks() if first - margin <= place(tick.get_loc()) <= last + margin]
    return [tick.label1 for tick in shown if tick.label1.get_visible() and tick.label1.get_text()]


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
