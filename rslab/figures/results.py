"""Figures of results: certified accuracy against the radius."""

import numpy as np
from matplotlib.figure import Figure

from rslab.figures.style import COLORS, CYCLE, DASHES, method_of, new_figure, styled


@styled
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
