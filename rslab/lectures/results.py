"""Figures of results: certified accuracy against the radius, attacks against certificates."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rslab.lectures.style import COLORS, CYCLE, DASHES, INK, method_of, new_figure, styled
from rslab.report.tables import certified_accuracy, curve_grid, interval


@styled
def certified_accuracy_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """Certified accuracy (%) against the ℓ2 radius, one step curve a label.

    `curves`: label → (radii, accuracy), both `(N,)`, radii increasing, accuracy in
    percent. A label that names a method has its colour; more curves of one method
    differ in their dashes. Between two given radii the lower accuracy is drawn:
    the curve never claims more than was counted.
    """
    figure, axes = new_figure(width=7.0, height=4.2)
    colors = cycle(CYCLE)
    drawn: dict[str, int] = {}
    for label, (radii, accuracy) in curves.items():
        method = method_of(label)
        color = COLORS[method] if method else next(colors)
        dashes = DASHES[drawn.get(color, 0) % len(DASHES)]
        drawn[color] = drawn.get(color, 0) + 1
        axes.step(radii, accuracy, where="pre", label=label, color=color, linestyle=dashes)
    axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)", title=title, ylim=(0, 101))
    axes.set_xlim(left=0)
    axes.title.set_parse_math(False)  # names and titles are the caller's, $ and _ included
    if curves:
        legend = axes.legend(axes.lines, [""] * len(curves), loc="upper right")  # which leaves out a label "_…"
        for text, label in zip(legend.get_texts(), curves, strict=True):
            text.set(text=label, parse_math=False)
    return figure


@styled
def logs_figure(logs: dict[str, pd.DataFrame], title: str = "") -> Figure:
    """Certified accuracy of logs against the ℓ2 radius, with 95 % intervals for the choice of their images."""
    # where the curves fall, exactly; the grid beside it carries them on
    radii = np.unique(np.concatenate([curve_grid(logs), *(log.radius for log in logs.values())]))
    curves = {name: (radii, certified_accuracy(log, radii)) for name, log in logs.items()}
    figure = certified_accuracy_figure(curves, title)
    (axes,) = figure.axes
    for line, log, (_, accuracy) in zip(axes.lines, logs.values(), curves.values(), strict=True):
        low, high = interval(np.round(accuracy * len(log) / 100), len(log))
        axes.fill_between(radii, low, high, step="pre", color=line.get_color(), alpha=0.15, linewidth=0)
    return figure


@styled
def gap_figure(attacks: dict[str, pd.DataFrame]) -> Figure:
    """Distance of the nearest successful attack against the certified radius, an image a dot; by run."""
    figure, axes = new_figure(width=7.0, height=4.6)
    radii = np.concatenate([rows.radius for rows in attacks.values()])
    ends = radii.min(), radii.max()
    for number, (name, rows) in enumerate(attacks.items()):
        found = rows[np.isfinite(rows.nearest)]
        color, marker = CYCLE[number % len(CYCLE)], "os^vDP*"[number % 7]
        axes.plot(found.radius, found.nearest, marker, color=color, markersize=4, alpha=0.6, label=name)
    axes.plot(ends, ends, color=INK, label="a certificate would be broken below")
    axes.set(xlabel="certified radius (ℓ2)", ylabel="nearest successful attack (ℓ2)", xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_title("attacks succeed only beyond the certificate")
    axes.legend(loc="upper left")
    return figure
