"""Explorers of notebook 03: a staircase and its slope, an h drawn by hand, and the price of the dimension."""

import math
from functools import cache

import ipywidgets as widgets
import numpy as np
from matplotlib.patches import Polygon
from scipy.stats import norm

from rslab.lectures.explorer import Explorer, continuous_slider, set_nearest, slider
from rslab.lectures.lecture03.figures import (
    COLORS,
    ESTIMATORS,
    plug_in_variance,
    smoothed,
    smoothed_slope,
    staircase,
    total_variance,
    variance_parts,
)
from rslab.lectures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILION, new_figure, styled

PLACES, SIGMAS = (-2.8, 2.4), (0.05, 1.0)  # least and largest; a hundredth is less than a pixel of the picture
STEP = 0.01


class StepExplorer(Explorer):
    """x and σ: the staircase, the noise around x and H with its tangent (left); Stein's integrand (right).

    x follows the slider or the picture, dragged on its left half. After each move: `level` H(x), `slope` H′(x),
    `integral` the net area of the integrand (by quadrature).
    """

    alt = """Left, a staircase h, the bell of the noise around x, the smoothed curve H and at x its tangent, whose slope
        was found by Stein's identity. Right, the function whose net area is σ times the slope: δ/σ times h times the
        density, green to the right of 0 and pink to the left; dashed, what it would be if h were 1 everywhere, with two
        areas that cancel."""

    @styled
    def __init__(self):
        self.x = continuous_slider("x", -0.3, *PLACES, STEP)
        self.sigma = continuous_slider("σ of the noise", 0.3, *SIGMAS, STEP)
        figure, (left, right) = new_figure(1, 2, width=9.8, height=3.9, width_ratios=(1.25, 1))
        self._t = np.linspace(-3, 2.6, 700)
        self._window = left.add_patch(Polygon([(0, 0)] * 3, color=ORANGE, alpha=0.25, label="the noise around x"))
        step = left.plot(self._t, staircase(self._t), color=INK, linewidth=1.2, label="h")[0]
        self._curve = left.plot(self._t, self._t, color=BLUE, label="H")[0]
        self._tangent = left.plot([0, 0], [0, 0], color=VERMILION, linewidth=2.5, label="slope by Stein")[0]
        self._dot = left.plot([0], [0], "o", color=VERMILION, markeredgecolor=INK, markersize=8)[0]
        left.set(xlim=(-3, 2.6), ylim=(-0.05, 1.32), yticks=np.arange(0, 1.1, 0.2), xlabel="place", ylabel="value")
        left.set_title("a staircase and its smoothing")
        left.legend(loc="upper center", ncols=4, fontsize=8.5)
        self._z = np.linspace(-4, 4, 1601)
        self._positive = right.add_patch(Polygon([(0, 0)] * 3, color=GREEN, alpha=0.45, label="adds to the slope"))
        self._negative = right.add_patch(Polygon([(0, 0)] * 3, color=PURPLE, alpha=0.45, label="takes from it"))
        self._weight = right.plot(self._z, self._z * norm.pdf(self._z), color=GREY, linewidth=1, linestyle="--")[0]
        self._weight.set_label("if h were 1 everywhere")
        right.set(xlim=(-4, 4), ylim=(-0.3, 0.47), xlabel="δ/σ", title="Stein's integrand: its net area is σ · slope")
        right.legend(loc="upper center", ncols=2, fontsize=8.5)
        moving = [self._window, step, self._curve, self._tangent, self._dot]
        moving += [self._positive, self._negative, self._weight]
        super().__init__(figure, [self.x, self.sigma], moving, drag=left)

    def dragged(self, x: float, y: float) -> None:
        set_nearest(self.x, x)

    def update(self) -> str:
        # A browser sends −0.29999999999999982 for −0.3, which is on the other side of an edge.
        x, sigma = round(self.x.value, 2), self.sigma.value
        self.level, self.slope = float(smoothed(x, sigma)), float(smoothed_slope(x, sigma))
        self._curve.set_ydata(smoothed(self._t, sigma))
        window = 0.5 * np.exp(-(((self._t - x) / sigma) ** 2) / 2)
        self._window.set_xy([(self._t[0], 0), *zip(self._t, window, strict=True), (self._t[-1], 0)])
        reach = 0.35 / math.hypot(1, self.slope)
        self._tangent.set_data(
            [x - reach, x + reach], [self.level - reach * self.slope, self.level + reach * self.slope]
        )
        self._dot.set_data([x], [self.level])
        integrand = self._z * staircase(x + sigma * self._z) * norm.pdf(self._z)
        self.integral = float(np.trapezoid(integrand, self._z)) / sigma
        for area, part in ((self._positive, integrand.clip(0)), (self._negative, integrand.clip(max=0))):
            area.set_xy([(-4, 0), *zip(self._z, part, strict=True), (4, 0)])
        limit = 1 / (sigma * math.sqrt(2 * math.pi))
        return (
            f"x = {x:g}, σ = {sigma:g}: h(x) = {float(staircase(x)):g}, H(x) = {self.level:.4f}, "
            f"H′(x) = {self.slope:+.4f}; no h into [0, 1] has a slope beyond ±{limit:.4f}"
        )


# -- an h drawn by hand -------------------------------------------------------------------------

CELLS = np.linspace(-3, 3, 61)  # edges; h is constant in between
SHAPES = {
    "a hill around 0": lambda t: abs(t) < 0.8,
    "a spike beside 0": lambda t: (t > 0.3) & (t < 0.6),
    "a fast comb": lambda t: np.floor(t / 0.2) % 2 == 0,
    "a ramp": lambda t: (0.5 + t / 2).clip(0, 1),
    "a step at 0": lambda t: t > 0,
}


class DrawExplorer(Explorer):
    """h is drawn by hand (or a shape is chosen): H with its tangent at 0 (left), the slope beside its limit (right).

    After each move: `heights` of h in each of the 60 cells, `level` H(0), `slope` H′(0), both exact. Beyond the
    picture h goes on as at its ends.
    """

    alt = """Left, a function h between 0 and 1, drawn by hand or chosen, the bell of the noise around 0, the smoothed
        curve H, and its tangent at 0. Right, the slope of H at 0, times σ, as a bar between two dashed lines, the
        limits that no h into [0, 1] passes."""

    @styled
    def __init__(self):
        self.shape = widgets.Dropdown(
            options=list(SHAPES),
            description="begin with",
            style={"description_width": "190px"},
            layout=widgets.Layout(width="560px", max_width="100%"),
        )
        self.sigma = continuous_slider("σ of the noise", 0.5, *SIGMAS, STEP)
        self._drawn: str | None = None  # the shape that `heights` began with
        self._last: tuple[int, float] | None = None
        self._middles = (CELLS[1:] + CELLS[:-1]) / 2
        figure, (left, right) = new_figure(1, 2, width=9.8, height=3.7, width_ratios=(2.6, 1))
        self._t = np.linspace(-3, 3, 400)
        self._bell = left.plot(self._t, self._t, color=ORANGE, linewidth=1.5, label="the noise around 0")[0]
        self._h = left.stairs(np.zeros(len(self._middles)), CELLS, baseline=None, color=INK, linewidth=1.3, label="h")
        self._curve = left.plot(self._t, self._t, color=BLUE, label="H")[0]
        self._tangent = left.plot([0, 0], [0, 0], color=VERMILION, linewidth=2.5, label="slope at 0")[0]
        left.set(xlim=(-3, 3), ylim=(-0.05, 1.3), yticks=np.arange(0, 1.1, 0.2), xlabel="place", ylabel="value")
        left.set_title("draw h here, with the mouse or a finger")
        left.legend(loc="upper center", ncols=4, fontsize=8.5)
        limit = float(norm.pdf(0))
        self._bar = right.barh([0], [0], color=VERMILION, height=0.5)[0]
        for side in (-limit, limit):
            right.axvline(side, color=INK, linestyle="--", linewidth=1.5)
        right.axvline(0, color=GREY, linewidth=1)
        right.set(xlim=(-0.5, 0.5), ylim=(-1, 1), yticks=(), xlabel="σ · H′(0)", title="how steep, and the limits")
        moving = [self._bell, self._h, self._curve, self._tangent, self._bar]
        super().__init__(figure, [self.shape, self.sigma], moving, drag=left)

    def draw(self, function) -> "DrawExplorer":
        """Set h to `function(middles of the cells)`, within [0, 1]."""
        with self._one_redraw():
            self.heights = np.clip(np.asarray(function(self._middles), float), 0, 1)
        return self

    def dragged(self, x: float, y: float) -> None:
        here, y = int(np.clip(np.searchsorted(CELLS, x) - 1, 0, len(self._middles) - 1)), min(max(y, 0.0), 1.0)
        # Cells that the hand passed between two messages lie on the line between them; a new stroke begins anew.
        start, height = self._last if self._last and abs(self._last[0] - here) < 15 else (here, y)
        step = 1 if here >= start else -1
        passed = np.arange(start, here + step, step)
        self.heights[passed] = np.linspace(height, y, len(passed)) if here != start else y
        self._last = here, y

    def reset(self) -> "DrawExplorer":
        """Back to the shape that was chosen, and the sliders to where they began."""
        self._drawn = None
        return super().reset()

    def update(self) -> str:
        if self._drawn != self.shape.value:
            self._drawn, self._last = self.shape.value, None
            self.heights = np.asarray(SHAPES[self.shape.value](self._middles), float)
        sigma = self.sigma.value
        edges = np.concatenate(([-np.inf], CELLS[1:-1], [np.inf]))
        self._h.set_data(self.heights)
        self._curve.set_ydata(np.diff(norm.cdf((edges - self._t[:, None]) / sigma), axis=1) @ self.heights)
        self._bell.set_ydata(0.5 * np.exp(-((self._t / sigma) ** 2) / 2))
        self.level = float(np.diff(norm.cdf(edges / sigma)) @ self.heights)
        scaled = float(-np.diff(norm.pdf(edges / sigma)) @ self.heights)  # E[z h(σz)]
        self.slope = scaled / sigma
        reach = 0.6 / math.hypot(1, self.slope)
        self._tangent.set_data([-reach, reach], [self.level - reach * self.slope, self.level + reach * self.slope])
        self._bar.set_width(scaled)
        return (
            f"σ = {sigma:g}: H(0) = {self.level:.4f}, H′(0) = {self.slope:+.4f}, "
            f"times σ {scaled:+.4f}; no h into [0, 1] gets beyond ±{norm.pdf(0):.4f}"
        )


# -- dimension, noise and budget against the error ----------------------------------------------

DIMENSIONS = (1, 2, 5, 10, 30, 64, 100, 300, 784, 3072, 150_528)
BUDGETS = tuple(10**k for k in range(1, 8))
NOISES = (0.12, 0.25, 0.5, 1.0)


@cache
def parts_at_zero(sigma: float):
    """Variances and slope for h = Φ(x₁) at 0, and the plug-in's variance."""
    return *variance_parts(norm.cdf, 0.0, sigma), plug_in_variance(0.0, sigma)


class DimensionExplorer(Explorer):
    """d, the number of values and σ: variance against d (left), relative error of the gradient (right).

    h = Φ(x₁) at x = 0. After each move: `errors`, {estimator: √(E‖estimate − ∇H‖²) / ‖∇H‖}.
    """

    alt = """Left, on logarithmic axes, the variance of the estimate with the chosen number of values against the
        dimension: three rising lines for plain, centred and antithetic Stein, a horizontal one for the plug-in, the
        squared length of the gradient dotted, and the chosen d as a vertical line. Right, the relative error of the
        gradient as a bar for each of the four; a dotted line at 1, where the error is as large as the gradient."""

    @styled
    def __init__(self):
        self.d = slider("dimension d", [(f"{d:,}", d) for d in DIMENSIONS], 64)
        self.n = slider("values of h (or of ∇h)", [(f"{n:,}", n) for n in BUDGETS], 1000)
        self.sigma = slider("σ of the noise", NOISES, 0.5)
        figure, (left, right) = new_figure(1, 2, width=9.8, height=3.8)
        self._axis = np.logspace(0, math.log10(DIMENSIONS[-1]), 60)
        names = (*ESTIMATORS, "plug-in")
        colors = (*(COLORS[name] for name in ESTIMATORS), PURPLE)
        dashes = ("-", "--", "-.", "-")
        self._lines = [
            left.plot(self._axis, self._axis, color=color, linestyle=dash, label=name)[0]
            for name, color, dash in zip(names, colors, dashes, strict=True)
        ]
        self._signal = left.axhline(1, color=INK, linestyle=":", label="‖∇H‖²")
        self._place = left.axvline(1, color=INK, linewidth=1)
        left.set(xscale="log", yscale="log", ylim=(1e-6, 1e9), xlabel="dimension d", ylabel="variance of the estimate")
        legend = left.legend(loc="upper left", ncols=2, fontsize=8.5, framealpha=1)
        left.set_title("variance with this budget")
        self._bars = right.barh(range(4), [1] * 4, left=1e-6, color=colors, height=0.6)
        plate = dict(facecolor="white", edgecolor="none", pad=1)
        self._marks = [right.text(1, y, "", va="center", fontsize=9.5, bbox=plate) for y in range(4)]
        one = right.axvline(1, color=INK, linestyle=":")
        right.set_yticks(range(4), names)
        right.set(xscale="log", xlim=(1e-6, 3e6), ylim=(-0.6, 3.6), xlabel="error / ‖∇H‖ (1: as large as ∇H)")
        right.set_title("relative error of the gradient")
        moving = [*self._lines, self._signal, self._place, *self._bars, one, *self._marks, legend]
        super().__init__(figure, [self.d, self.n, self.sigma], moving)

    def update(self) -> str:
        d, n, sigma = self.d.value, self.n.value, self.sigma.value
        parts, slope, plug_in = parts_at_zero(sigma)
        self.errors = {name: math.sqrt(total_variance(parts[name], d) / n) / slope for name in ESTIMATORS}
        self.errors["plug-in"] = math.sqrt(plug_in / n) / slope
        for line, name in zip(self._lines, ESTIMATORS, strict=False):
            line.set_ydata(total_variance(parts[name], self._axis) / n)
        self._lines[-1].set_ydata(np.full(len(self._axis), plug_in / n))
        self._signal.set_ydata([slope**2] * 2)
        self._place.set_xdata([d] * 2)
        for bar, mark, error in zip(self._bars, self._marks, self.errors.values(), strict=True):
            bar.set_width(error - 1e-6)
            mark.set_text(f"{error:.3g}")
            mark.set_x(1.25 * error)
        listed = ", ".join(f"{name} {error:.3g}" for name, error in self.errors.items())
        return f"d = {d:,}, {n:,} values, σ = {sigma:g}, h = Φ(x₁) at 0: relative error {listed}"
