"""Figures of notebook 03, Stein's identity."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from rslab.lectures.style import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, new_figure, show_image, styled

# -- a staircase, its smoothing and its slope, in closed form ------------------------------------

EDGES = (-1.6, -0.7, -0.3, 0.8)
LEVELS = (0.1, 0.9, 0.3, 1.0, 0.0)  # one more than the edges


def staircase(t: np.ndarray) -> np.ndarray:
    """h: LEVELS[i] between EDGES[i − 1] and EDGES[i]; no derivative at the edges, zero derivative elsewhere."""
    return np.asarray(LEVELS)[np.searchsorted(EDGES, t)]


def smoothed(x, sigma: float) -> np.ndarray:
    """H(x) = E h(x + δ), a sum of Φ's: the level at the far left plus each jump times the mass beyond it."""
    beyond = norm.cdf((np.asarray(x)[..., None] - np.asarray(EDGES)) / sigma)
    return LEVELS[0] + beyond @ np.diff(LEVELS)


def smoothed_slope(x, sigma: float) -> np.ndarray:
    """H′(x), a sum of Gaussian bumps, one an edge."""
    density = norm.pdf((np.asarray(x)[..., None] - np.asarray(EDGES)) / sigma) / sigma
    return density @ np.diff(LEVELS)


@styled
def step_figure(sigmas: tuple[float, ...] = (0.1, 0.3, 1.0)) -> Figure:
    """The staircase h, and H for several σ."""
    t = np.linspace(-3, 2.5, 1101)
    figure, axes = new_figure(width=8.4, height=3.5)
    axes.plot(t, staircase(t), color=INK, linewidth=1.3, label="h: a staircase")
    for sigma, color, dashes in zip(sigmas, (BLUE, GREEN, VERMILION), ("-", "--", "-."), strict=False):
        axes.plot(t, smoothed(t, sigma), color=color, linestyle=dashes, label=f"H, σ = {sigma:g}")
    axes.set(xlabel="x", ylabel="value", ylim=(-0.03, 1.05), xlim=(-3, 2.5))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.alt = f"""A staircase h with {len(LEVELS)} levels between 0 and 1 that goes up, down, up and down again,
        and its smoothing H for σ = {", ".join(f"{sigma:g}" for sigma in sigmas)}. With little noise only the corners
        are rounded; with more, the steps become two hills with a valley between; with most, one broad hill is left."""
    return figure


@styled
def wave_figure(sigma: float = 0.5) -> Figure:
    """h = ½ + ½ sin kx: three waves and their smoothing (left), the steepest slope against k (right)."""
    t = np.linspace(0, 2 * math.pi, 600)
    figure, (left, right) = new_figure(1, 2, width=9.6, height=3.6)
    for k, color in ((1, BLUE), (2, GREEN), (6, VERMILION)):
        amplitude = math.exp(-((k * sigma) ** 2) / 2)
        left.plot(t, 0.5 + 0.5 * np.sin(k * t), color=color, linewidth=0.9, alpha=0.55)
        left.plot(t, 0.5 + 0.5 * amplitude * np.sin(k * t), color=color, label=f"k = {k}: × {amplitude:.3f}")
    left.set(xlabel="x", ylabel="h (thin) and H (thick)", ylim=(-0.02, 1.3), yticks=(0, 0.5, 1))
    left.set_title(f"σ = {sigma:g}: what smoothing leaves of a wave")
    left.legend(loc="upper center", ncols=3, fontsize=8.5, handlelength=1.4, columnspacing=1.2)
    product = np.linspace(0, 4, 400)  # kσ
    right.plot(product, 0.5 * product * np.exp(-(product**2) / 2), color=PURPLE, label="steepest slope of H × σ")
    right.plot(product, 0.5 * product, color=INK, linestyle=":", label="steepest slope of h × σ")
    right.axhline(1 / math.sqrt(2 * math.pi), color=ORANGE, linestyle="--", label="1/√(2π): for any h into [0, 1]")
    right.set(xlabel="kσ, frequency × width of the noise", ylim=(0, 0.6), title="fast waves become flat")
    right.legend(loc="upper right")
    figure.alt = f"""Left, waves with k = 1, 2 and 6 and their smoothing with σ = {sigma:g}: the slow one is nearly
        unchanged, the fast one nearly flat. Right, against kσ, the steepest slope of H times σ: it rises, peaks at
        {0.5 * math.exp(-0.5):.3f} where kσ is 1, and falls to 0. It stays below a dashed line at
        {1 / math.sqrt(2 * math.pi):.3f}, while the slope of h, dotted, crosses that line and goes on."""
    return figure


# -- the estimators ---------------------------------------------------------------------------

ESTIMATORS = ("plain", "centred", "antithetic")
COLORS = dict(zip(ESTIMATORS, (VERMILION, BLUE, GREEN), strict=True))
DASHES = dict(zip(ESTIMATORS, ("-", "--", "-."), strict=True))


def variance_parts(h: Callable, x: float, sigma: float) -> tuple[dict[str, tuple[float, float]], float]:
    """({estimator: (along, across)}, H′) for a function of the first coordinate only, by quadrature.

    The variance of one estimate, summed over the d coordinates, is along + (d − 1) · across, counted
    *for each value of h*: a pair costs two values, so an antithetic pair counts double.
    """
    z = np.linspace(-9, 9, 36_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    plus, minus = h(x + sigma * z), h(x - sigma * z)
    level, slope = weight @ plus, weight @ (z * plus) / sigma
    parts = {}
    for name, value, cost in (
        ("plain", plus, 1),
        ("centred", plus - level, 1),
        ("antithetic", (plus - minus) / 2, 2),
    ):
        along = weight @ (z * value) ** 2 / sigma**2 - slope**2
        parts[name] = (cost * float(along), cost * float(weight @ value**2) / sigma**2)
    return parts, float(slope)


def total_variance(parts: tuple[float, float], dimension):
    """Σ over coordinates of the variance of one estimate, per value of h."""
    along, across = parts
    return along + (dimension - 1) * across


# Functions of one number, and the place from which each is looked at.
EXAMPLES: dict[str, tuple[Callable, float]] = {
    "a step at 0, from 0.2": (lambda t: (t > 0).astype(float), 0.2),
    "a hill, |t| < 1, from 0.2": (lambda t: (abs(t) < 1).astype(float), 0.2),
    "the staircase, from 1.5": (staircase, 1.5),
}


@styled
def split_figure(sigma: float = 0.5) -> Figure:
    """The first two `EXAMPLES` seen from x: h(x + δ) as the sum of an even and an odd function of δ."""
    distance = np.linspace(-1.6, 1.6, 1601)
    figure, axes = new_figure(1, 2, width=9.6, height=3.6, sharey=True)
    for panel, (name, (h, x)) in zip(axes, EXAMPLES.items(), strict=False):
        plus, minus = h(x + distance), h(x - distance)
        bell = 0.35 * np.exp(-((distance / sigma) ** 2) / 2)
        panel.fill_between(distance, bell, color=ORANGE, alpha=0.25, linewidth=0, label="the noise")
        panel.plot(distance, plus, color=INK, linewidth=1.3, label="h(x + δ)")
        panel.plot(distance, (plus + minus) / 2, color=BLUE, linestyle="--", label="even part e(δ)")
        panel.plot(distance, (plus - minus) / 2, color=VERMILION, linestyle="-.", label="odd part o(δ)")
        panel.set(xlabel="δ", title=name, ylim=(-0.6, 1.08))
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.alt = f"""Two panels with δ across, the bell of the noise with σ = {sigma:g} behind the lines. Left, a step:
        the even part is one half, and 1 on a short piece in the middle; the odd part climbs from minus one half to plus
        one half. Right, a hill: the even part is 1 under the bell and falls to 0 at its sides; the odd part is 0 but
        for two short pieces at the sides, plus one half on the left and minus one half on the right."""
    return figure


def variance_table(sigma: float = 0.5) -> pd.DataFrame:
    """For each of the `EXAMPLES`, per value of h, in one dimension: what the odd and the even part add to the variance.

    The even part with c = 0 and with c = H(x); the three estimators are sums of these columns. Last, H(x) itself and
    the c with the least variance.
    """
    z = np.linspace(-9, 9, 36_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    rows = {}
    for name, (h, x) in EXAMPLES.items():
        parts, _ = variance_parts(h, x, sigma)
        plain, centred, pairs = (parts[key][0] for key in ESTIMATORS)
        odd = pairs / 2
        values = h(x + sigma * z)
        rows[name] = (odd, plain - odd, centred - odd, plain, centred, pairs, weight @ values, weight @ (z**2 * values))
    columns = ["V_odd", "V_even(0)", "V_even(H)", "plain", "centred", "antithetic", "H(x)", "best c"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).round(3)


@styled
def error_figure(x: float = 0.2, sigma: float = 0.5, runs: int = 300, seed: int = 0) -> Figure:
    """Simulated error of the three estimators of H′ for h = 1[t > 0], against the number of values of h."""
    rng = np.random.default_rng(seed)
    true = norm.pdf(x / sigma) / sigma
    budgets = np.array([10, 30, 100, 300, 1000, 3000])
    figure, axes = new_figure(width=8.0, height=3.6)
    parts, _ = variance_parts(lambda t: (t > 0).astype(float), x, sigma)
    for name in ESTIMATORS:
        errors = []
        for budget in budgets:
            noise = sigma * rng.normal(size=(runs, budget if name != "antithetic" else budget // 2))
            value = (x + noise > 0).astype(float)
            if name == "centred":
                value -= norm.cdf(x / sigma)
            if name == "antithetic":
                value = (value - (x - noise > 0)) / 2
            errors.append(np.sqrt(np.mean(((noise * value).mean(1) / sigma**2 - true) ** 2)))
        axes.plot(budgets, errors, "o", color=COLORS[name], markersize=5)
        exact = np.sqrt(parts[name][0] / budgets)
        axes.plot(budgets, exact, color=COLORS[name], linestyle=DASHES[name], label=f"{name}")
    axes.axhline(true, color=INK, linestyle=":", label=f"H′(x) itself, {true:.3f}")
    axes.set(xscale="log", yscale="log", xlabel="values of h used", ylabel="root mean squared error")
    # Few ticks, in plain numbers: the powers and their multiples that matplotlib writes run into one another.
    axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    axes.set_yticks((0.01, 0.03, 0.1, 0.3, 1), ("0.01", "0.03", "0.1", "0.3", "1"))
    axes.minorticks_off()
    axes.set_title("points: simulated; lines: exact")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    order = sorted(ESTIMATORS, key=lambda name: parts[name][0])
    figure.alt = f"""Root mean squared error of the slope of a step at x = {x:g}, against the number of values of h, on
        logarithmic axes: three parallel lines that fall like one over the square root. From the lowest to the highest:
        {", ".join(order)}. Simulated points lie on the exact lines; a dotted line above them is the slope itself."""
    return figure


def plug_in_variance(x: float, sigma: float) -> float:
    """Variance of φ(x₁ + δ₁), the gradient's only component, for h = Φ(x₁): the same in every dimension."""
    z = np.linspace(-9, 9, 36_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    slopes = norm.pdf(x + sigma * z)
    return float(weight @ slopes**2 - (weight @ slopes) ** 2)


@styled
def variance_figure(sigma: float = 0.5) -> Figure:
    """h = Φ(x₁) at 0: variance of one sample against d, for Stein's estimators and for the plug-in."""
    dimensions = np.unique(np.logspace(0, math.log10(150_528), 60).astype(int))
    parts, slope = variance_parts(norm.cdf, 0.0, sigma)
    figure, axes = new_figure(width=8.4, height=3.8)
    for name in ESTIMATORS:
        values = total_variance(parts[name], dimensions)
        axes.plot(dimensions, values, color=COLORS[name], linestyle=DASHES[name], label=f"Stein, {name}")
    axes.axhline(plug_in_variance(0.0, sigma), color=PURPLE, label="plug-in: averages ∇h")
    axes.axhline(slope**2, color=INK, linestyle=":", label="‖∇H‖², what is looked for")
    for d, name in ((64, "digits"), (3072, "CIFAR-10"), (150_528, "ImageNet")):
        axes.axvline(d, color=INK, linewidth=0.6)
        axes.text(d * 0.93, 2e-6, name, rotation=90, ha="right", va="bottom", fontsize=8.5)
    axes.set(xscale="log", yscale="log", xlabel="dimension d", ylabel="variance of one sample", ylim=(1e-6, 1e6))
    axes.set_title(f"h = Φ(x₁), σ = {sigma:g}, at x = 0")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    largest = total_variance(parts["plain"], dimensions[-1])
    figure.alt = f"""Variance of one sample against the dimension, on logarithmic axes. Stein's three estimators rise in
        proportion to d, the plain one to {largest:,.0f} at ImageNet's {dimensions[-1]:,} dimensions. The plug-in is a
        horizontal line at {plug_in_variance(0.0, sigma):.2g}, below the squared length of the gradient at
        {slope**2:.2g}, in every dimension. Vertical lines mark the digits, CIFAR-10 and ImageNet."""
    return figure


@styled
def gradient_images_figure(image: Tensor, gradients: dict[str, Tensor]) -> Figure:
    """An image `(1, H, W)` and gradients of its shape, each scaled by its largest entry: blue below 0, red above."""
    count = 1 + len(gradients)
    figure, axes = new_figure(1, count, width=1.75 * count, height=2.2)
    show_image(axes[0], image, "the digit")
    for cell, (name, gradient) in zip(axes[1:], gradients.items(), strict=True):
        limit = float(gradient.abs().max())
        cell.imshow(gradient[0].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        cell.set(xticks=(), yticks=())
        cell.grid(False)
        cell.set_title(name, fontsize=9.5)
    figure.encoding = "png"
    figure.alt = f"""The digit, and {len(gradients)} pictures of gradients of its size: red where more ink raises the
        probability of its class, blue where it lowers it. In order: {"; ".join(gradients)}. From left to right the
        speckles give way to one pattern, and the last ones look alike."""
    return figure
