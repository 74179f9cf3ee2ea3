"""Figures of notebook 04, the proof of the radius.

Much here is one-dimensional, and loses nothing: moving from x to x + δ only changes
the coordinate along δ, and the noise along it is N(0, σ²) whatever the dimension.
"""

import math

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import ncx2, norm

from rslab.lectures.pictures import rounded_down
from rslab.lectures.style import BLUE, GREEN, GREY, INDIGO, INK, ORANGE, SKY, VERMILION, new_figure, styled
from rslab.smoothing import bounds
from rslab.smoothing.closed_forms import Ball

# -- many classifiers with the same p_A ------------------------------------------------------


def random_regions(p_a: float, count: int, seed: int = 0, pieces: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """`count` regions of class A on the line, each with probability exactly `p_a` under N(0, 1).

    A region is `pieces` intervals; returns their lower and upper ends, each `(count, pieces)`.
    """
    rng = np.random.default_rng(seed)
    inside = p_a * rng.dirichlet(np.full(pieces, 0.6), size=count)  # (count, pieces)
    outside = (1 - p_a) * rng.dirichlet(np.full(pieces + 1, 0.6), size=count)  # the gaps around them
    upper = np.cumsum(inside + outside[:, :-1], axis=1)
    ends = np.clip(np.stack((upper - inside, upper)), 1e-15, 1 - 1e-15)
    return norm.ppf(ends[0]), norm.ppf(ends[1])


def share_along(lower: np.ndarray, upper: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """P(A) when the noise is centred at each of `steps` (in units of σ): `(count, len(steps))`."""
    below = norm.cdf(lower[:, :, None] - steps)
    return (norm.cdf(upper[:, :, None] - steps) - below).sum(1)


@styled
def envelope_figure(p_a: float, sigma: float, count: int = 60, seed: int = 0) -> Figure:
    """P(A) along a line through x for many classifiers that agree at x; none falls below the half-space's."""
    distance = np.linspace(0, 3 * sigma, 200)
    lower, upper = random_regions(p_a, count, seed)
    radius = bounds.certified_radius(p_a, sigma)
    figure, axes = new_figure(width=8.4, height=4.0)
    curves = axes.plot(distance, share_along(lower, upper, distance / sigma).T, color=SKY, linewidth=1)
    curves[0].set_label(f"{count} random classifiers with p_A = {p_a:g} at x")
    worst = norm.cdf(norm.ppf(p_a) - distance / sigma)
    axes.plot(distance, worst, color=VERMILION, linewidth=3, label="the half-space with the same p_A")
    axes.fill_between(distance, 0, worst, color=VERMILION, alpha=0.08)
    axes.axhline(0.5, color=INK, linestyle="--", linewidth=1.2)
    axes.axvline(radius, color=GREEN, linewidth=2, label=f"R = σΦ⁻¹(p_A) = {radius:.3f}")
    axes.text(0.07 * sigma, 0.16, "no classifier\ncomes here", color=VERMILION, fontsize=10)
    axes.set(xlabel="distance from x, pixels in [0, 1]", ylabel="P(A) there", xlim=(0, 3 * sigma), ylim=(0, 1.02))
    axes.set_title(f"σ = {sigma:g}: how fast can the votes for A be lost?")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.alt = (
        f"The probability of class A under noise against the distance from x, for {count} random classifiers that all "
        f"have p_A = {p_a:g} at x. Some curves rise at first, most fall, all at different speeds. None falls below the "
        f"curve of the half-space with the same p_A, which crosses one half at R = {radius:.3f}."
    )
    return figure


# -- Lipschitz implies robust ----------------------------------------------------------------


@styled
def cones_figure(p_a: float, p_b: float, sigma: float, quantile: bool = False) -> Figure:
    """How far the two best scores can move: straight cones that meet at the radius.

    On the scale of probabilities with L = 1/(σ√2π), or (`quantile`) on that of Φ⁻¹ with L = 1/σ.
    """
    scale = norm.ppf if quantile else (lambda p: p)
    limit = 1 / sigma if quantile else 1 / (sigma * math.sqrt(2 * math.pi))
    radius = float((scale(p_a) - scale(p_b)) / (2 * limit))
    distance, certified = np.linspace(0, 1.5 * radius, 201), np.linspace(0, radius, 201)
    figure, axes = new_figure(width=8.4, height=3.6)
    # Before R the cones are apart, and filled; beyond it only the edges that have crossed are drawn.
    for p, color, name, side in ((p_a, BLUE, "A", -1), (p_b, ORANGE, "B, the runner-up", 1)):
        middle, extreme = scale(p), "least" if side < 0 else "greatest"
        edges = middle - limit * certified, middle + limit * certified
        axes.fill_between(certified, *edges, color=color, alpha=0.22, linewidth=0)
        axes.plot(certified, middle - side * limit * certified, color=color, linewidth=0.8)
        axes.plot(distance, middle + side * limit * distance, color=color, label=f"{name}: {extreme} score possible")
        axes.plot([0], [middle], "o", color=color, markeredgecolor=INK, clip_on=False, zorder=5)
        said = f"{'A' if side < 0 else 'B'}: {middle:.3g}".replace("-", "−")
        axes.annotate(said, (0, middle), (12, 0), textcoords="offset points", va="center", fontsize=9.5)
    axes.axvline(radius, color=GREEN, label=f"they meet at {radius:.3f}")
    axes.axvspan(radius, distance[-1], color=GREY, alpha=0.12, label="B may lead")
    centre, height = (scale(p_a) + scale(p_b)) / 2, scale(p_a) - scale(p_b)
    axes.text(0.3 * radius, centre, "the gap: A must lead", va="center", fontsize=9.5)
    axes.set(xlim=(0, distance[-1]), xlabel="distance from x")
    axes.set_ylim((centre - height, centre + height) if quantile else (0, 1))
    axes.set_ylabel("Φ⁻¹(score)" if quantile else "score")
    axes.grid(False)
    axes.set_title(f"slope at most {'1/σ' if quantile else '1/(σ√2π)'} = {limit:.3g}, σ = {sigma:g}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    below = f"{scale(p_b):.3g}".replace("-", "−")
    figure.alt = (
        f"{'Φ⁻¹ of the score' if quantile else 'The score'} against the distance from x. A starts at "
        f"{scale(p_a):.3g}, the runner-up B at {below}. Each may move within a cone of slope {limit:.3g}. The "
        f"lower edge of A's cone meets the upper edge of B's at the distance {radius:.3f}. Before it there is a gap "
        "between the cones, and A must lead; beyond it B may lead."
    )
    return figure


# -- the ceiling of the slope, level by level --------------------------------------------------


def random_steps(count: int, sigma: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(H(0), H′(0)) in closed form for random h into [0, 1] with five steps; every second one is 0 or 1 only."""
    rng = np.random.default_rng(seed)
    edges = np.sort(1.5 * rng.normal(size=(count, 5)), axis=1)  # in units of σ
    values = rng.random((count, 6))
    values[::2] = values[::2].round()
    below = np.pad(norm.cdf(edges), ((0, 0), (1, 1)), constant_values=(0, 1))
    level = (values * np.diff(below, axis=1)).sum(1)
    return level, (norm.pdf(edges) * np.diff(values, axis=1)).sum(1) / sigma


@styled
def ceiling_figure(sigma: float = 0.5, count: int = 5000, seed: int = 0) -> Figure:
    """Level and steepness of many smoothed functions: on the scale of H (left) and of Φ⁻¹(H) (right)."""
    level, slope = random_steps(count, sigma, seed)
    some = (level > 1e-4) & (level < 1 - 1e-4)
    level, slope = level[some], abs(slope[some])
    p = np.linspace(1e-4, 1 - 1e-4, 400)
    figure, (left, right) = new_figure(1, 2, width=9.8, height=3.9)
    dots = dict(s=2, color=SKY, linewidths=0, rasterized=True)
    left.scatter(level, sigma * slope, **dots)
    left.plot(p, norm.pdf(norm.ppf(p)), color=VERMILION, linewidth=2.5, label="ceiling φ(Φ⁻¹(p)): half-spaces")
    left.axhline(norm.pdf(0), color=GREY, linestyle="--", label="warm-up: 1/√(2π) at every level")
    left.set(xlabel="level p = H(x)", ylabel="σ · |H′(x)|", ylim=(0, 0.55), title="on the scale of H")
    right.scatter(level, sigma * slope / norm.pdf(norm.ppf(level)), **dots)
    right.axhline(1, color=VERMILION, linewidth=2.5, label="ceiling 1, at every level")
    right.set(xlabel="level p = H(x)", ylabel="σ · |(Φ⁻¹∘H)′(x)|", ylim=(0, 1.38), title="on the scale of Φ⁻¹(H)")
    for axes in (left, right):
        axes.legend(loc="upper center")
    figure.alt = (
        f"Left, {count:,} dots under a dome: level p = H(x) across, slope times σ up. The dome φ(Φ⁻¹(p)) is 0 at the "
        "levels 0 and 1 and touches the warm-up's horizontal line, 1/√(2π), only at level one half. Right, the same "
        "functions on the scale of Φ⁻¹(H): the dots lie under a horizontal ceiling at 1, which is reached at every "
        "level."
    )
    return figure


# -- radii, old and new ----------------------------------------------------------------------


def renyi_radius(p_a: float, p_b: float, sigma: float = 1.0) -> float:
    """The radius of Li et al. 2018: R²/σ² = sup over a > 1 of −(2/a) ln(1 − p_a − p_b + 2 M), M a power mean.

    M = (½ (p_a^(1−a) + p_b^(1−a)))^(1/(1−a)) comes from a Rényi divergence of order a. Here on a grid of orders.
    """
    order = np.linspace(1.001, 60, 20_000)
    powers = np.logaddexp((1 - order) * math.log(p_a), (1 - order) * math.log(p_b))
    mean = np.exp((powers - math.log(2)) / (1 - order))
    return sigma * float(np.sqrt(np.max(-2 / order * np.log(1 - p_a - p_b + 2 * mean))))


@styled
def radii_figure() -> Figure:
    """Radius in units of σ against p_A, with p_B = 1 − p_A: linear bounds, Rényi's, and Φ⁻¹."""
    failure = np.logspace(math.log10(0.5), -6, 200)[1:]  # 1 − p_A
    p = 1 - failure
    figure, axes = new_figure(width=8.6, height=3.9)
    axes.plot(failure, norm.isf(failure), color=GREEN, linewidth=2.6, label="Theorem 1.1: Φ⁻¹(p_A)")
    renyi = [renyi_radius(1 - q, q) for q in failure]
    axes.plot(failure, renyi, color=INDIGO, linestyle="-.", label="Rényi (Li et al. 2018)")
    for sharp, color, dashes, name in (
        (True, GREY, "--", "warm-up, sharp constant"),
        (False, INK, ":", "warm-up, lecture's constant"),
    ):
        linear = bounds.lipschitz_radius(p, failure, 1.0, sharp=sharp)
        axes.plot(failure, linear, color=color, linestyle=dashes, label=name)
    axes.set(xscale="log", xlabel="1 − p_A, the chance of another class (p_B = 1 − p_A)", ylabel="radius (in σ)")
    axes.invert_xaxis()
    axes.set_title("a linear bound stops; Φ⁻¹ goes on")
    axes.legend(loc="upper left")
    figure.alt = (
        "Radius in units of σ against 1 − p_A on a logarithmic axis that runs to ever rarer errors. The theorem's "
        "curve is highest and keeps rising. Rényi's runs below it and keeps rising too. The sharp warm-up levels off "
        f"at {math.sqrt(math.pi / 2):.2f}, and the lecture's warm-up at half of that."
    )
    return figure


# -- Neyman and Pearson --------------------------------------------------------------------


@styled
def likelihood_figure(p_a: float, sigma: float, length: float) -> Figure:
    """Noise around x and around x + δ along δ: densities with the worst region (left), their ratio (right)."""
    z = np.linspace(-3.2 * sigma, length + 3.2 * sigma, 400)
    edge = sigma * norm.ppf(p_a)
    figure, (left, right) = new_figure(1, 2, width=9.4, height=3.6)
    for centre, color, name in ((0, BLUE, "x"), (length, VERMILION, "x + δ")):
        density = norm.pdf(z, centre, sigma)
        share = norm.cdf((edge - centre) / sigma)
        left.plot(z, density, color=color, label=f"noise around {name}: P(A) = {share:.3f}")
        left.fill_between(z, density, where=z <= edge, color=color, alpha=0.25)
    for axes in (left, right):
        axes.axvline(edge, color=INK, linestyle="--")
        axes.set_xlabel("position along δ, x at 0")
    height = 1.1 * norm.pdf(0) / sigma  # above the densities
    left.text(edge, height, "  not A", fontsize=9.5)
    left.text(edge, height, "A  ", fontsize=9.5, ha="right")
    left.set(ylabel="density", ylim=(0, 1.5 * norm.pdf(0) / sigma), title="the region A that gives least to x + δ")
    left.legend(loc="upper left", fontsize=8.5)
    right.plot(z, np.exp((length * z - length**2 / 2) / sigma**2), color=INDIGO)
    right.set(yscale="log", ylabel="density at x + δ / density at x")
    right.set_title("the ratio only increases: cheap points lie on the left")
    figure.alt = (
        "Left, two Gaussian densities along δ, one around x and one around x + δ, with a vertical line; the region "
        f"left of it is A. It holds {p_a:.3g} of the first density and {norm.cdf((edge - length) / sigma):.2f} of the "
        "second. Right, the ratio of the second density to the first on a logarithmic axis: a straight rising line, "
        "so that the cheapest points lie on the left."
    )
    return figure


# -- the price of knowing only p_A -------------------------------------------------------------


@styled
def gap_figure(p: float = 0.99, sigma: float = 1.0) -> Figure:
    """Certified and true radius at the centre of a ball with P(inside) = p, against the dimension."""
    dimensions = np.unique(np.logspace(0, math.log10(3072), 24).round().astype(int))
    true = [Ball(sigma * math.sqrt(ncx2.ppf(p, int(d), 0)), int(d)).true_radius(sigma) for d in dimensions]
    certified = bounds.certified_radius(p, sigma)
    figure, axes = new_figure(width=7.6, height=3.5)
    axes.plot(dimensions, true, "o-", color=BLUE, markersize=4, label="ball: where its g really changes")
    axes.axhline(certified, color=GREEN, label=f"certified: σΦ⁻¹({p:g}) = {certified:.3f}")
    axes.plot(dimensions, [certified] * len(dimensions), ".", color=VERMILION, label="half-space: where its g changes")
    axes.set(xscale="log", xlabel="dimension d", ylabel=f"radius (σ = {sigma:g})", ylim=(0, 15))
    axes.set_title(f"two classifiers, both with p_A = {p:g} at x")
    axes.legend(loc="upper left")
    figure.alt = (
        f"Radius against the dimension from 1 to {dimensions[-1]} for p_A = {p:g} and σ = {sigma:g}. The certificate "
        f"is a horizontal line at {certified:.3f}, on which the half-space's true radius lies; the true radius of a "
        f"ball rises from {true[0]:.1f} to {true[-1]:.1f}."
    )
    return figure


# -- a network -------------------------------------------------------------------------------


@styled
def walk_figure(distance, shares: dict[str, np.ndarray], p_lower: float, sigma: float) -> Figure:
    """Share of votes for A along walks away from a digit, above the curve that no classifier can cross."""
    radius = bounds.certified_radius(p_lower, sigma)
    fine = np.linspace(0, max(distance), 200)
    figure, axes = new_figure(width=8.4, height=3.9)
    for (name, values), color, marker in zip(shares.items(), (SKY, BLUE, INDIGO), "osD", strict=False):
        axes.plot(distance, values, color=color, marker=marker, markersize=5, label=name)
    worst = norm.cdf(norm.ppf(p_lower) - fine / sigma)
    axes.plot(fine, worst, color=VERMILION, linewidth=2.6, label="least possible, from the bound on p_A")
    axes.axvline(radius, color=GREEN, label=f"certified R = {rounded_down(radius, 3)}")
    axes.axhline(0.5, color=INK, linestyle="--", linewidth=1.2)
    axes.set(xlabel="distance from the digit, pixels in [0, 1]", ylabel="share of votes for A", ylim=(0, 1.03))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.alt = (
        "The share of votes for the digit's class against the distance walked, one curve each for "
        f"{', '.join(shares)}, and below them the least possible share, the curve of the worst half-space, which "
        f"crosses one half at the certified radius {rounded_down(radius, 3)}. No walk comes below that curve."
    )
    return figure
