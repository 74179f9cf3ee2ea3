"""Explorers of notebook 04: the three radii, and the worst half-space."""

import math

import numpy as np
from matplotlib.patches import Circle, Polygon
from scipy.stats import norm

from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILION, new_figure, styled
from rslab.smoothing import bounds

SIGMAS = tuple(round(0.05 * k, 2) for k in range(2, 21))

# -- p_A, p_B and σ against the radius ---------------------------------------------------------

P_A = (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999)
P_B = (0.001, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


class RadiusExplorer(Explorer):
    """p_A, p_B and σ: what the two scores can still be at a distance (left), and the three radii (right).

    After each move: `p_b` (p_B, at most 1 − p_A), `warm_up`, `one_sided`, `two_sided`.
    """

    @styled
    def __init__(self):
        self.p_A = slider("p_A, the top class", P_A, 0.8)
        self.p_B = slider("p_B, the runner-up", P_B, 0.1)
        self.sigma = slider("σ of the noise", SIGMAS, 0.5)
        figure, (left, right) = new_figure(1, 2, width=9.8, height=4.0, width_ratios=(1.25, 1))
        self._t = np.linspace(0, 3.3, 400)
        self._least_a = left.plot(self._t, self._t, color=BLUE, label="A, at least")[0]
        self._most_b = left.plot(self._t, self._t, color=ORANGE, label="B, at most")[0]
        self._linear = [left.plot(self._t, self._t, color=c, linestyle="--", linewidth=1.2)[0] for c in (BLUE, ORANGE)]
        self._linear[0].set_label("dashed: by the warm-up")
        half = left.axhline(0.5, color=INK, linestyle=":", linewidth=1)
        self._dots = [
            left.plot([0], [0], "o", color=color, markeredgecolor=INK, markersize=8)[0]
            for color in (GREY, PURPLE, GREEN)
        ]
        left.set(
            xlim=(0, 3.3), ylim=(0, 1.3), yticks=np.arange(0, 1.1, 0.2), xlabel="distance from x, pixels in [0, 1]"
        )
        left.set_ylabel("score in G")
        left.set_title("what the scores can still be")
        left.legend(loc="upper center", ncols=3)
        self._bars = right.barh(range(3), [0] * 3, color=(GREY, PURPLE, GREEN), height=0.6)
        self._marks = [right.text(0, y, "", va="center", fontsize=10) for y in range(3)]
        right.set_yticks(range(3), ("warm-up\nσ√(π/2)·Δp", "one-sided\nσΦ⁻¹(p_A)", "two-sided\nσ/2·ΔΦ⁻¹"))
        right.set(xlim=(0, 3.9), ylim=(-0.6, 2.6), xlabel="radius, pixels in [0, 1]", title="three certified radii")
        moving = [self._least_a, self._most_b, *self._linear, half, *self._dots, *self._bars, *self._marks]
        super().__init__(figure, [self.p_A, self.p_B, self.sigma], moving)

    def update(self) -> str:
        p_a, sigma = self.p_A.value, self.sigma.value
        self.p_b = min(self.p_B.value, round(1 - p_a, 6))
        self.warm_up = bounds.lipschitz_radius(p_a, self.p_b, sigma)
        self.one_sided = bounds.certified_radius(p_a, sigma)
        self.two_sided = bounds.certified_radius_two_sided(p_a, self.p_b, sigma)
        step = self._t / sigma
        self._least_a.set_ydata(norm.cdf(norm.ppf(p_a) - step))
        self._most_b.set_ydata(norm.cdf(norm.ppf(self.p_b) + step))
        self._linear[0].set_ydata(np.maximum(p_a - step / math.sqrt(2 * math.pi), 0))
        self._linear[1].set_ydata(np.minimum(self.p_b + step / math.sqrt(2 * math.pi), 1))
        radii = (self.warm_up, self.one_sided, self.two_sided)
        middle = norm.cdf((norm.ppf(p_a) + norm.ppf(self.p_b)) / 2)
        for dot, radius, height in zip(self._dots, radii, ((p_a + self.p_b) / 2, 0.5, middle), strict=True):
            dot.set_data([radius], [height])
            dot.set_visible(radius > 0)
        for bar, mark, radius in zip(self._bars, self._marks, radii, strict=True):
            bar.set_width(radius)
            mark.set_text(f"{radius:.4f}")
            mark.set_x(radius + 0.06)
        note = " (p_B cannot exceed 1 − p_A)" if self.p_b < self.p_B.value else ""
        lead = "" if p_a > self.p_b else " A does not lead: nothing is certified."
        return (
            f"p_A = {p_a:g}, p_B = {self.p_b:g}{note}, σ = {sigma:g}: warm-up {self.warm_up:.4f}, "
            f"one-sided {self.one_sided:.4f}, two-sided {self.two_sided:.4f}.{lead}"
        )


# -- the worst classifier turns with δ -----------------------------------------------------------

SHARES = (0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
ANGLES = tuple((f"{degrees}°", degrees) for degrees in range(0, 360, 15))
LENGTHS = tuple(round(0.1 * k, 1) for k in range(21))


class HalfspaceExplorer(Explorer):
    """δ's angle and length, p_A and σ: the worst classifier in the plane, along δ, and its P(A) at x + δ.

    After each move: `radius` σΦ⁻¹(p_A), `share` P(A) at x + δ.
    """

    @styled
    def __init__(self):
        self.angle = slider("angle of δ", ANGLES, 30)
        self.length = slider("length of δ", LENGTHS, 0.3)
        self.p_A = slider("p_A at x", SHARES, 0.8)
        self.sigma = slider("σ of the noise", SIGMAS, 0.5)
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
        plane.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", xlabel="pixel 1", ylabel="pixel 2")
        plane.set_title("blue: A; green circle: R", fontsize=10)
        plane.grid(False)

        self._z = np.linspace(-2.5, 4, 300)
        self._areas = [along.add_patch(Polygon([(0, 0)] * 3, color=c, alpha=0.3)) for c in (BLUE, VERMILION)]
        self._densities = [along.plot(self._z, self._z, color=c)[0] for c in (BLUE, VERMILION)]
        self._edge = along.axvline(0, color=INK, linewidth=1.5)
        along.set(xlim=(-2.5, 4), ylim=(0, 1.08), yticks=(), xlabel="position along δ, x at 0")
        along.set_title("noise along δ (peaks drawn alike)", fontsize=10)

        self._t = np.linspace(0, 2, 200)
        self._share = curve.plot(self._t, self._t, color=VERMILION)[0]
        half = curve.axhline(0.5, color=INK, linestyle="--", linewidth=1.2)
        self._limit = curve.axvline(0, color=GREEN)
        self._dot = curve.plot([0], [0], "o", color=VERMILION, markeredgecolor=INK, markersize=9)[0]
        curve.set(xlim=(0, 2), ylim=(0, 1.02), xlabel="length of δ")
        curve.set_title("P(A) at x + δ; green: R", fontsize=10)
        moving = [self._region, *rings[0], *rings[1], self._disc, self._arrow, *self._ends]
        moving += [*self._areas, *self._densities, self._edge, self._share, half, self._limit, self._dot]
        super().__init__(figure, [self.angle, self.length, self.p_A, self.sigma], moving)

    def update(self) -> str:
        p_a, sigma, length = self.p_A.value, self.sigma.value, self.length.value
        turn = math.radians(self.angle.value)
        u, side = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
        self.radius = bounds.certified_radius(p_a, sigma)
        self.share = float(norm.cdf(norm.ppf(p_a) - length / sigma))
        far = 9.0
        corners = ((-far, -far), (self.radius, -far), (self.radius, far), (-far, far))
        self._region.set_xy([along * u + across * side for along, across in corners])
        self._disc.set_radius(self.radius)
        for centre, rings in zip(((0, 0), length * u), self._rings, strict=True):
            for multiple, ring in enumerate(rings, start=1):
                ring.set(center=centre, radius=multiple * sigma)
        self._arrow.set_data([0, length * u[0]], [0, length * u[1]])
        self._ends[1].set_data([length * u[0]], [length * u[1]])
        inside = np.append(self._z[self._z < self.radius], self.radius)
        for centre, line, area in zip((0, length), self._densities, self._areas, strict=True):
            line.set_ydata(np.exp(-(((self._z - centre) / sigma) ** 2) / 2))
            heights = np.exp(-(((inside - centre) / sigma) ** 2) / 2)
            area.set_xy([(inside[0], 0), *zip(inside, heights, strict=True), (inside[-1], 0)])
        self._edge.set_xdata([self.radius] * 2)
        self._share.set_ydata(norm.cdf(norm.ppf(p_a) - self._t / sigma))
        self._limit.set_xdata([self.radius] * 2)
        self._dot.set_data([length], [self.share])
        shown = 0.5 if abs(self.share - 0.5) < 1e-12 else self.share
        answer = "g still says A" if shown > 0.5 else "a tie" if shown == 0.5 else "g has changed"
        return (
            f"p_A = {p_a:g}, σ = {sigma:g}, δ of length {length:g} at {self.angle.value}°: "
            f"the boundary is at R = {self.radius:.4f}, P(A) at x + δ is {shown:.4f}: {answer}"
        )
