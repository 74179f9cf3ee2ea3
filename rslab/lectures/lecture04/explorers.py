"""Explorers of notebook 04: the three radii, and the worst half-space."""

import math

import ipywidgets as widgets
import numpy as np
from matplotlib.axis import Axis
from matplotlib.patches import Circle, Polygon
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm

from rslab.lectures.explorer import Explorer, continuous_slider, slider
from rslab.lectures.lecture04.regions import cell_masses, fill
from rslab.lectures.pictures import rounded_down
from rslab.lectures.style import BLUE, GREEN, GREY, INDIGO, INK, ORANGE, VERMILION, new_figure, styled
from rslab.smoothing import bounds

SIGMAS = tuple(round(0.05 * k, 2) for k in range(2, 21))


# -- p_A, p_B and σ against the radius ---------------------------------------------------------

P_A = (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999, 0.99999)
P_B = (0.00001, 0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
VOTES = tuple((f"{n:,}", n) for n in (100, 1000, 10_000, 100_000, 1_000_000))
ALPHAS = tuple((f"{alpha:g}", alpha) for alpha in (0.1, 0.01, 1e-3, 1e-4, 1e-6))
_ENDS = (0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0)  # where an axis may end


def _end_of_axis(reach: float) -> float:
    """The first place of _ENDS that leaves some room beyond `reach`: an axis that is filled, and does not jitter."""
    return next((end for end in _ENDS if end >= 1.1 * reach), _ENDS[-1])


def _ticks(axis: Axis, prune: str = "upper") -> Axis:
    """The axis with few ticks, none at its end: it is redrawn at every move, and its labels keep clear of others."""
    axis.set_major_locator(MaxNLocator(5, prune=prune))
    return axis


class RadiusExplorer(Explorer):
    """p_A, p_B, σ, n and α: what the two scores can still be at a distance (left), and the three radii (right).

    Curves and bars are for the exact p_A and p_B. The black marks say what is certified where these are shares of n
    votes: the one-sided radius spends α on p̲_A, the others α/2 on p̲_A and α/2 on p̄_B. After each move: `p_b` (p_B,
    at most 1 − p_A), `warm_up`, `one_sided`, `two_sided`, `from_votes` (the same three, certified), `lower` (p̲_A).
    """

    alt = (
        "Left, the least score that A can have and the greatest that B can have, against the distance from x: solid "
        "by the theorem, dashed straight lines by the warm-up. Dots mark where A meets B (green), where A falls to "
        "one half (purple), and where the dashed lines meet (grey). Right, the three radii as bars: two-sided, "
        "one-sided, warm-up; a black mark on each says what n votes certify."
    )

    @styled
    def __init__(self):
        self.p_A = slider("p_A, the top class", P_A, 0.9)
        self.p_B = slider("p_B, the runner-up", P_B, 0.05)
        self.sigma = slider("σ of the noise", SIGMAS, 0.5)
        self.n = slider("votes n", VOTES, 10_000)
        self.alpha = slider("α, chance of an error", ALPHAS, 0.001)
        figure, (left, right) = new_figure(1, 2, width=9.8, height=4.0, width_ratios=(1.25, 1))
        self._axes = (left, right)
        self._part = np.linspace(0, 1, 300)  # of the axis
        self._least_a = left.plot(self._part, self._part, color=BLUE, label="A, at least")[0]
        self._most_b = left.plot(self._part, self._part, color=ORANGE, label="B, at most")[0]
        self._linear = [
            left.plot(self._part, self._part, color=c, linestyle="--", linewidth=1.2)[0] for c in (BLUE, ORANGE)
        ]
        self._linear[0].set_label("dashed: by the warm-up")
        half = left.axhline(0.5, color=INK, linestyle=":", linewidth=1)
        self._dots = [
            left.plot([0], [0], "o", color=color, markeredgecolor=INK, markersize=8)[0]
            for color in (GREY, INDIGO, GREEN)
        ]
        left.set(ylim=(0, 1.2), yticks=np.arange(0, 1.1, 0.2), xlabel="distance from x, pixels in [0, 1]")
        left.set_ylabel("score in G")
        left.set_title("what the scores can still be")
        left.legend(loc="upper center", ncols=3, fontsize=8.5)
        self._bars = right.barh(range(3), [0] * 3, color=(GREY, INDIGO, GREEN), height=0.6)
        self._certified = [right.plot([0, 0], [y - 0.38, y + 0.38], color=INK, linewidth=3)[0] for y in range(3)]
        self._marks = [right.text(0, y, "", va="center", fontsize=10) for y in range(3)]
        right.set_yticks(range(3), ("warm-up\nσ√(π/2)·Δp", "one-sided\nσΦ⁻¹(p_A)", "two-sided\nσ/2·ΔΦ⁻¹"))
        right.set(
            ylim=(-0.6, 2.6), xlabel="radius, pixels in [0, 1]", title="three radii; black: certified from n votes"
        )
        moving = [
            self._least_a,
            self._most_b,
            *self._linear,
            half,
            *self._dots,
            *self._bars,
            *self._marks,
            *self._certified,
        ]
        moving += [_ticks(axes.xaxis) for axes in self._axes]
        super().__init__(figure, [self.p_A, self.p_B, self.sigma, self.n, self.alpha], moving)

    def update(self) -> str:
        p_a, sigma, n, alpha = self.p_A.value, self.sigma.value, self.n.value, self.alpha.value
        self.p_b = min(self.p_B.value, round(1 - p_a, 6))
        self.warm_up = bounds.lipschitz_radius(p_a, self.p_b, sigma)
        self.one_sided = bounds.certified_radius(p_a, sigma)
        self.two_sided = bounds.certified_radius_two_sided(p_a, self.p_b, sigma)
        count = round(p_a * n)
        both = bounds.two_class_bounds(count, min(round(self.p_b * n), n - count), n, alpha)
        self.lower = bounds.lower_confidence_bound(count, n, alpha)
        self.from_votes = (
            bounds.lipschitz_radius(*both, sigma),
            bounds.certified_radius(self.lower, sigma),
            bounds.certified_radius_two_sided(*both, sigma),
        )
        radii = (self.warm_up, self.one_sided, self.two_sided)
        end = _end_of_axis(max(*radii, 0.5 * sigma))
        step = end * self._part / sigma
        heights = (
            norm.cdf(norm.ppf(p_a) - step),
            norm.cdf(norm.ppf(self.p_b) + step),
            np.maximum(p_a - step / math.sqrt(2 * math.pi), 0),
            np.minimum(self.p_b + step / math.sqrt(2 * math.pi), 1),
        )
        for line, height in zip((self._least_a, self._most_b, *self._linear), heights, strict=True):
            line.set_data(end * self._part, height)
        middle = norm.cdf((norm.ppf(p_a) + norm.ppf(self.p_b)) / 2)
        for dot, radius, height in zip(self._dots, radii, ((p_a + self.p_b) / 2, 0.5, middle), strict=True):
            dot.set_data([radius], [height])
            dot.set_visible(radius > 0)
        for line, certified in zip(self._certified, self.from_votes, strict=True):
            line.set_xdata([certified] * 2)
        for bar, mark, radius in zip(self._bars, self._marks, radii, strict=True):
            bar.set_width(radius)
            mark.set_text(f"{radius:.4f}")
            mark.set_x(radius + 0.015 * end)
        self._axes[0].set_xlim(0, end)
        self._axes[1].set_xlim(0, 1.2 * end)  # room for the numbers
        note = " (p_B cannot exceed 1 − p_A)" if self.p_b < self.p_B.value else ""
        lead = "" if p_a > self.p_b else " A does not lead: nothing is certified."
        return (
            f"p_A = {p_a:g}, p_B = {self.p_b:g}{note}, σ = {sigma:g}: warm-up {self.warm_up:.4f}, "
            f"one-sided {self.one_sided:.4f}, two-sided {self.two_sided:.4f}.{lead} From n = {n:,} votes with "
            f"α = {alpha:g}: p̲_A = {rounded_down(self.lower, 5)}, "
            f"one-sided {rounded_down(self.from_votes[1], 4)}, two-sided {rounded_down(self.from_votes[2], 4)}."
        )


# -- the worst classifier turns with δ -----------------------------------------------------------

LONGEST = 3.0  # δ


class HalfspaceExplorer(Explorer):
    """δ's angle and length, p_A and σ: the worst classifier in the plane, along δ, and its P(A) at x + δ.

    δ is turned and lengthened by the sliders, or by dragging in the plane. After each move: `radius` σΦ⁻¹(p_A),
    `share` P(A) at x + δ.
    """

    alt = (
        "Left, the plane of two pixels, blue where the worst classifier says A. Its straight boundary is "
        "perpendicular to δ and touches the green circle of radius R around x; dotted rings show the noise around x "
        "and around x + δ. Middle, both noises along δ with the boundary; shaded is the part that is A. Right, P(A) at "
        "x + δ against the length of δ, which crosses one half at R."
    )

    @styled
    def __init__(self):
        self.angle = continuous_slider("angle of δ, in degrees", 30.0, 0.0, 359.0, 1.0)
        self.length = continuous_slider("length of δ", 0.3, 0.0, LONGEST, 0.01)
        self.p_A = continuous_slider("p_A at x", 0.8, 0.505, 0.999, 0.001)
        self.sigma = continuous_slider("σ of the noise", 0.5, 0.1, 1.0, 0.01)
        self._held_frame = False  # while δ is dragged
        figure, (plane, along, curve) = new_figure(1, 3, width=10.2, height=3.9)
        plane.set_facecolor("#FBE3C8")
        self._region = plane.add_patch(Polygon([(0, 0)] * 4, facecolor="#CFE3F2", edgecolor=INK, linewidth=1.5))
        rings = [
            [plane.add_patch(Circle((0, 0), 1, fill=False, color=c, linestyle=":", linewidth=1.5)) for _ in range(2)]
            for c in (BLUE, VERMILION)
        ]
        self._rings = rings
        self._disc = plane.add_patch(Circle((0, 0), 1, fill=False, color=GREEN, linewidth=2))
        self._arrow = plane.plot([0, 0], [0, 0], color=INK, linewidth=1.8)[0]
        self._ends = [plane.plot([0], [0], "o", color=c, markeredgecolor=INK)[0] for c in (BLUE, VERMILION)]
        plane.set(box_aspect=1, xlim=(-0.15, 0.15), ylim=(-0.15, 0.15), xlabel="pixel 1, x at 0")
        plane.set_ylabel("pixel 2, x at 0")
        plane.set_title("blue: A; green circle: R", fontsize=10)
        plane.grid(False)

        self._z = np.linspace(0, 1, 300)
        self._areas = [along.add_patch(Polygon([(0, 0)] * 3, color=c, alpha=0.3)) for c in (BLUE, VERMILION)]
        self._densities = [along.plot(self._z, self._z, color=c)[0] for c in (BLUE, VERMILION)]
        self._edge = along.axvline(0, color=INK, linewidth=1.5)
        along.set(ylim=(0, 1.08), yticks=(), xlabel="position along δ, x at 0")
        along.set_title("noise along δ (peaks drawn alike)", fontsize=10)

        self._t = np.linspace(0, 1, 200)
        self._share = curve.plot(self._t, self._t, color=VERMILION)[0]
        half = curve.axhline(0.5, color=INK, linestyle="--", linewidth=1.2)
        self._limit = curve.axvline(0, color=GREEN)
        self._dot = curve.plot([0], [0], "o", color=VERMILION, markeredgecolor=INK, markersize=9)[0]
        curve.set(ylim=(0, 1.02), xlabel="length of δ")
        curve.set_title("P(A) at x + δ; green: R", fontsize=10)
        moving = [self._region, *rings[0], *rings[1], self._disc, self._arrow, *self._ends]
        moving += [*self._areas, *self._densities, self._edge, self._share, half, self._limit, self._dot]
        self._axes = (plane, along, curve)
        moving += [_ticks(plane.xaxis, "both"), _ticks(plane.yaxis), _ticks(along.xaxis, "both"), _ticks(curve.xaxis)]
        super().__init__(figure, [self.angle, self.length, self.p_A, self.sigma], moving, drag=plane)

    def dragged(self, x: float, y: float) -> None:
        # The axes stay while δ follows the hand: they depend on its length, and would run away from it.
        self._held_frame = True
        self.length.value = round(min(math.hypot(x, y), LONGEST), 2)
        if self.length.value > 0:  # else no angle
            self.angle.value = round(math.degrees(math.atan2(y, x))) % 360

    def update(self) -> str:
        p_a, sigma, length = self.p_A.value, self.sigma.value, self.length.value
        turn = math.radians(self.angle.value)
        u, side = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
        self.radius = bounds.certified_radius(p_a, sigma)
        self.share = float(norm.cdf(norm.ppf(p_a) - length / sigma))
        if not self._held_frame:
            end = _end_of_axis(max(self.radius, length, sigma))
            self._axes[0].set(xlim=(-end, end), ylim=(-end, end))
        self._held_frame = False
        end = self._axes[0].get_xlim()[1]
        self._axes[1].set_xlim(-2.5 * sigma, max(length, self.radius) + 2.5 * sigma)
        self._axes[2].set_xlim(0, end)
        far = 3 * end
        corners = ((-far, -far), (self.radius, -far), (self.radius, far), (-far, far))
        self._region.set_xy([along * u + across * side for along, across in corners])
        self._disc.set_radius(self.radius)
        for centre, rings in zip(((0, 0), length * u), self._rings, strict=True):
            for multiple, ring in enumerate(rings, start=1):
                ring.set(center=centre, radius=multiple * sigma)
        self._arrow.set_data([0, length * u[0]], [0, length * u[1]])
        self._ends[1].set_data([length * u[0]], [length * u[1]])
        low, high = self._axes[1].get_xlim()
        z = low + (high - low) * self._z
        inside = np.append(z[z < self.radius], self.radius)
        for centre, line, area in zip((0, length), self._densities, self._areas, strict=True):
            line.set_data(z, np.exp(-(((z - centre) / sigma) ** 2) / 2))
            heights = np.exp(-(((inside - centre) / sigma) ** 2) / 2)
            area.set_xy([(inside[0], 0), *zip(inside, heights, strict=True), (inside[-1], 0)])
        self._edge.set_xdata([self.radius] * 2)
        self._share.set_data(end * self._t, norm.cdf(norm.ppf(p_a) - end * self._t / sigma))
        self._limit.set_xdata([self.radius] * 2)
        self._dot.set_data([length], [self.share])
        shown = 0.5 if abs(self.share - 0.5) < 1e-12 else self.share
        answer = "g still says A" if shown > 0.5 else "a tie" if shown == 0.5 else "g has changed"
        return (
            f"p_A = {p_a:g}, σ = {sigma:g}, δ of length {length:g} at {self.angle.value:g}°: "
            f"the boundary is at R = {self.radius:.4f}, P(A) at x + δ is {shown:.4f}: {answer}"
        )


# -- beat the theorem ----------------------------------------------------------------------------

FINE = np.round(np.linspace(-4, 4, 161), 2)  # the edges of the cells, in units of σ
STARTS = tuple(round(-3 + 0.25 * k, 2) for k in range(25))
AT = tuple(round(0.25 * k, 2) for k in range(1, 13))
LEVELS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DISTANCES = np.round(np.linspace(0, 3.5, 141), 3)


class BeatTheoremExplorer(Explorer):
    """Place up to three intervals of class A that hold exactly p_A at x; P(A) against the distance, and the floor.

    Two intervals are set by hand. What is missing to p_A is taken from `start` on to the right, then to the left;
    what is too much is cut off at the right. Lengths are in units of σ. After each move: `region` (share of each
    cell that is A), `share` (P(A) at `length`), `floor` (the half-space's), `curve` (P(A) at DISTANCES).
    """

    alt = (
        "Left, the bell curves of the noise around x and around x + δ; the reader's region A is shaded under the first "
        "and marked by a dark strip at the foot. Right, P(A) at x + δ against the length of δ for the reader's region "
        "(solid) and for the half-space (dashed); a vertical line marks the chosen length. The solid curve never falls "
        "below the dashed one."
    )

    @styled
    def __init__(self):
        self.first = continuous_slider("first interval", (-1.0, 1.0), -4.0, 4.0, 0.1)
        self.second = continuous_slider("second interval", (2.0, 2.0), -4.0, 4.0, 0.1)
        self.start = slider("the rest, from", STARTS, 1.5)
        self.length = slider("length of δ (in σ)", AT, 1.5)
        self.p_A = slider("p_A at x", LEVELS, 0.8)
        figure, (line, curve) = new_figure(1, 2, width=9.8, height=3.9, width_ratios=(1.2, 1))
        outer = np.concatenate(([-4.4], FINE, [4.4]))  # the tails are drawn as one more cell at each end
        self._centres = (outer[1:] + outer[:-1]) / 2
        self._at_x = cell_masses(FINE)
        self._masses = np.stack([cell_masses(FINE, distance) for distance in DISTANCES])  # (T, cells)
        z = np.linspace(-4.4, 4.4, 300)
        line.plot(z, norm.pdf(z), color=BLUE, label="noise around x")
        self._moved = line.plot(z, z, color=VERMILION, linestyle="--", label="noise around x + δ")[0]
        self._z = z
        self._region = line.stairs(np.zeros(len(outer) - 1), outer, fill=True, color=BLUE, alpha=0.3)
        self._bars = line.stairs(np.zeros(len(outer) - 1), outer, fill=True, color=INK)  # a strip below the axis
        line.set(xlim=(-4.4, 4.4), ylim=(-0.035, 0.5), yticks=(), xlabel="position along δ (in σ), x at 0")
        line.set_title("your A: shaded, and the strip at the foot")
        line.legend(loc="upper left", fontsize=8.5, ncols=2)
        self._floor = curve.plot(DISTANCES, DISTANCES, color=VERMILION, linestyle="--", label="the half-space")[0]
        self._curve = curve.plot(DISTANCES, DISTANCES, color=BLUE, label="your region")[0]
        half = curve.axhline(0.5, color=INK, linestyle=":", linewidth=1)
        self._at = curve.axvline(0, ymax=0.88, color=GREY, linewidth=1)
        self._dots = [curve.plot([0], [0], "o", color=c, markeredgecolor=INK)[0] for c in (VERMILION, BLUE)]
        curve.set(xlim=(0, 3.5), ylim=(0, 1.18), yticks=np.arange(0, 1.1, 0.2), xlabel="length of δ (in σ)")
        curve.set_title("P(A) at x + δ")
        curve.legend(loc="upper right", fontsize=8.5, ncols=2)
        self.counter = widgets.HTML()
        self._lowest: dict[tuple[float, float], float] = {}
        self._tried: set[bytes] = set()
        sliders = [self.first, self.second, self.start, self.length, self.p_A]
        moving = [self._moved, self._region, self._bars, self._floor, self._curve, half, self._at, *self._dots]
        super().__init__(figure, sliders, moving)
        self.children = (*self.children, self.counter)

    def order(self) -> np.ndarray:
        """The cells as they are taken: first interval, second interval, the rest; each once."""
        ranges = [(self._centres > low) & (self._centres < high) for low, high in (self.first.value, self.second.value)]
        right = self._centres > self.start.value
        rest = np.concatenate((np.flatnonzero(right), np.flatnonzero(~right)[::-1]))
        cells = np.concatenate((*map(np.flatnonzero, ranges), rest))
        _, first_time = np.unique(cells, return_index=True)
        return cells[np.sort(first_time)]

    def update(self) -> str:
        p_a, length = self.p_A.value, self.length.value
        self.region = fill(self.order(), self._at_x, p_a)
        self.curve = self._masses @ self.region
        self.share = float(cell_masses(FINE, length) @ self.region)
        self.floor = float(norm.cdf(norm.ppf(p_a) - length))
        self._moved.set_ydata(norm.pdf(self._z - length))
        self._region.set_data(self.region * norm.pdf(self._centres))
        self._bars.set_data(np.where(self.region > 0, -0.03, 0.0))
        self._floor.set_ydata(norm.cdf(norm.ppf(p_a) - DISTANCES))
        self._curve.set_ydata(self.curve)
        self._at.set_xdata([length] * 2)
        for dot, height in zip(self._dots, (self.floor, self.share), strict=True):
            dot.set_data([length], [height])
        self._count(p_a, length)
        pieces = ", ".join(f"{low} to {high}" for low, high in self.intervals())
        above = max(self.share - self.floor, 0.0)  # rounding aside
        return (
            f"A is {pieces} (in σ) and holds p_A = {p_a:g} at x. At δ = {length:g} σ it keeps {self.share:.4f}; "
            f"the half-space keeps {self.floor:.4f}: yours is {above:.4f} above"
        )

    def intervals(self) -> list[tuple[str, str]]:
        """Where A begins and ends, in σ, a cell taken in part included whole."""
        edges = np.concatenate(([-np.inf], FINE, [np.inf]))
        ends = np.flatnonzero(np.diff(np.pad((self.region > 0).astype(int), 1)))
        names = [f"{edges[end]:g}".replace("-", "−").replace("inf", "∞") for end in ends]
        return list(zip(names[::2], names[1::2], strict=True))

    def _count(self, p_a: float, length: float) -> None:
        self._tried.add(self.region.tobytes())
        lowest = self._lowest[p_a, length] = min(self.share, self._lowest.get((p_a, length), 1.0))
        regions = "1 region" if len(self._tried) == 1 else f"{len(self._tried)} regions"
        reached = "you have reached it" if lowest < self.floor + 5e-4 else "no one gets below"
        self.counter.value = (
            f"Tried so far: {regions}. Your lowest P(A) at δ = {length:g} σ with p_A = {p_a:g}: <b>{lowest:.4f}</b>. "
            f"The half-space: <b>{self.floor:.4f}</b>; {reached}."
        )


# -- filling by price ----------------------------------------------------------------------------

COARSE = np.round(np.linspace(-3, 3.5, 27), 2)
ORDERS = ("largest gain first", "lowest price first", "nearest to x first", "lowest price per gain first")


def order_of_cells(name: str, gain: np.ndarray, price: np.ndarray) -> np.ndarray:
    """The cells in the order of that name: gain is a cell's mass at x, price its mass at x + δ."""
    middle = np.concatenate(([COARSE[0] - 0.125], (COARSE[1:] + COARSE[:-1]) / 2, [COARSE[-1] + 0.125]))
    keys = dict(zip(ORDERS, (-gain, price, abs(middle), price / gain), strict=True))
    return np.argsort(keys[name], kind="stable")


class GreedyExplorer(Explorer):
    """A play button takes cell after cell, in an order of your choice, until A holds p_A at x; the bill at x + δ.

    After each move: `region` (share of each cell that is A), `gained` (mass at x), `paid` (mass at x + δ),
    `floor` (what the half-space pays for p_A).
    """

    alt = (
        "Left, the gain of each cell (solid steps, mass at x) and its price (dashed steps, mass at x + δ); the cells "
        "taken are shaded, and a triangle marks the next one. Middle, price per gain on a logarithmic axis: steps that "
        "rise from left to right. Right, the bill: what has been paid at x + δ against what has been gained at x, one "
        "dot per cell, up to the green line at p_A."
    )

    @styled
    def __init__(self):
        self.taken = slider("cells taken", range(len(COARSE) + 2), 0)
        self.order = slider("order", ORDERS, ORDERS[0])
        self.length = slider("length of δ (in σ)", (0.5, 1.0, 1.5, 2.0), 1.0)
        self.p_A = slider("p_A at x", (0.6, 0.8, 0.95), 0.8)
        figure, (line, ratio, bill) = new_figure(1, 3, width=10.4, height=3.8, width_ratios=(1.2, 1, 1))
        outer = np.concatenate(([-3.25], COARSE, [3.75]))  # the tails are drawn as one more cell at each end
        none = np.zeros(len(outer) - 1)
        self._gain = cell_masses(COARSE)
        line.stairs(self._gain, outer, color=BLUE, linewidth=1.5, label="gain: mass at x")
        self._prices = line.stairs(none, outer, color=VERMILION, linewidth=1.5, linestyle="--")
        self._prices.set_label("price: mass at x + δ")
        self._got = line.stairs(none, outer, fill=True, color=BLUE, alpha=0.35)
        self._places = (outer[1:] + outer[:-1]) / 2
        self._next = line.plot([], [], "v", color=INK, markersize=8, linestyle="none", label="the next cell")[0]
        line.set(xlim=(-3.25, 3.75), ylim=(0, 0.15), xlabel="position along δ (in σ), x at 0", ylabel="mass of a cell")
        line.set_title("shaded: the cells taken")
        line.legend(loc="upper left", fontsize=8.5)
        self._ratios = ratio.stairs(none + 1, outer, color=INDIGO, linewidth=1.5, baseline=None)
        self._cheap = ratio.stairs(none, outer, fill=True, color=BLUE, alpha=0.35, baseline=1e-5)
        ratio.set(yscale="log", xlim=(-3.25, 3.75), ylim=(1e-5, 1e3), xlabel="position along δ (in σ)")
        ratio.set_title("price per gain")
        self._path = bill.plot([0], [0], ".-", color=BLUE, markersize=5)[0]
        self._dot = bill.plot([0], [0], "o", color=BLUE, markeredgecolor=INK, markersize=9)[0]
        self._goal = bill.axvline(0, color=GREEN)
        half = bill.axhline(0.5, color=INK, linestyle=":", linewidth=1)
        bill.set(
            xlim=(-0.04, 1.02), ylim=(-0.04, 1.04), xlabel="gained: P(A) at x; green: p_A", title="paid: P(A) at x + δ"
        )
        moving = [
            self._prices,
            self._got,
            self._next,
            self._ratios,
            self._cheap,
            self._path,
            self._dot,
            self._goal,
            half,
        ]
        super().__init__(figure, [self.taken, self.order, self.length, self.p_A], moving)
        self.add_play(self.taken, "take cell after cell", interval=450)

    def update(self) -> str:
        p_a, length, taken = self.p_A.value, self.length.value, self.taken.value
        price = cell_masses(COARSE, length)
        order = order_of_cells(self.order.value, self._gain, price)
        whole = fill(order, self._gain, p_a)  # where it ends
        self.region = np.where(np.isin(np.arange(len(order)), order[:taken]), whole, 0.0)
        gained, paid = (np.append(0, np.cumsum((mass * whole)[order[:taken]])) for mass in (self._gain, price))
        self.gained, self.paid = float(gained[-1]), float(paid[-1])
        self.floor = float(norm.cdf(norm.ppf(p_a) - length))
        self._prices.set_data(price)
        self._got.set_data(self._gain * self.region)
        ahead = [cell for cell in order[taken : taken + 1] if whole[cell] > 0]
        self._next.set_data(self._places[ahead], np.maximum(self._gain, price)[ahead] + 0.006)
        self._ratios.set_data(price / self._gain)
        self._cheap.set_data(np.where(self.region > 0, price / self._gain, 1e-5))
        self._path.set_data(gained, paid)
        self._dot.set_data(gained[-1:], paid[-1:])
        self._goal.set_xdata([p_a] * 2)
        spent = f"p_A = {p_a:g} is reached" if self.gained > p_a - 1e-9 else f"p_A = {p_a:g} is not reached yet"
        cells = int((self.region > 0).sum())
        return (
            f"{self.order.value}, δ = {length:g} σ: {cells} cells, gained {self.gained:.4f} at x, "
            f"paid {self.paid:.4f} at x + δ; {spent}"
        )
