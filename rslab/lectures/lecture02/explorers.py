"""Explorers of notebook 02: f and g on images of two pixels, and the bound."""

from functools import cache

import numpy as np
import torch
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.text import Text
from scipy.stats import binom, norm

from rslab.data.datasets import load_dataset
from rslab.lectures.explorer import Explorer, set_nearest, slider
from rslab.lectures.lecture02.figures import (
    draw_regions,
    name_regions,
    plane_classes,
    plane_probabilities,
    plane_probabilities_at,
    region_marks,
    two_pixel_classifier,
)
from rslab.lectures.pictures import rounded_down
from rslab.lectures.style import BLUE, GREEN, GREY, INK, REGION_COLORS, VERMILION, new_figure, styled
from rslab.networks.inference import fold_batchnorm
from rslab.smoothing import bounds
from rslab.store.run_folder import RESULTS, load_run

REGION_NAMES = ("0 (blue)", "1 (orange)", "2 (green)", "3 (pink)")

# -- f, the votes and g on images of two pixels --------------------------------------------

SIGMAS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
PLACES = tuple(round(0.01 * k, 2) for k in range(101))
N0, N, ALPHA = 100, 1000, 0.001


@cache
def _fixed_noise() -> torch.Tensor:
    return torch.randn(N0 + N, 2, generator=torch.Generator().manual_seed(0))  # for every σ and every x the same


@cache
def votes_at(sigma: float, x: tuple[float, float]) -> tuple[int, np.ndarray]:
    """(selected, counts) at x: the class that N0 votes chose, and N fresh votes `(4,)`. One fixed noise for all x."""
    votes = two_pixel_classifier(torch.tensor(x) + sigma * _fixed_noise()).argmax(1)
    return int(votes[:N0].bincount(minlength=4).argmax()), votes[N0:].bincount(minlength=4).numpy()


@cache
def smoothed_plane(sigma: float) -> np.ndarray:
    """P(f(x + δ) = c) on the grid PLACES × PLACES: `(101, 101, 4)`, row = second pixel, by quadrature."""
    return plane_probabilities(np.array(PLACES), sigma, spacing=0.005 if sigma < 0.05 else 0.01)


@cache
def _f_plane() -> np.ndarray:
    return plane_classes(np.linspace(0, 1, 201))


@cache
def _g_plane(sigma: float) -> tuple[np.ndarray, list]:
    classes = smoothed_plane(sigma).argmax(2)
    return classes, region_marks(classes)


def _two_maps(left, right) -> tuple[AxesImage, list[Text]]:
    """Paint f's regions (left) and g's (right), named by digits; returns what changes with σ: g's image and names."""
    for sigma in SIGMAS:
        _g_plane(sigma)  # now, so that no slider waits
    draw_regions(left, _f_plane(), " ")
    name_regions(left, region_marks(_f_plane()))
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1))
    return draw_regions(right, _f_plane(), " "), name_regions(right, [])


def _star(axes, marker: str = "*", size: float = 13):
    look = dict(marker=marker, color="white", markeredgecolor=INK, markersize=size, clip_on=False, zorder=5)
    return axes.plot([0], [0], **look)[0]


class _MapExplorer(Explorer):
    """Two maps of images of two pixels; a drag on either moves the point (pixel 1, pixel 2)."""

    def dragged(self, x: float, y: float) -> None:
        set_nearest(self.pixel_1, x)
        set_nearest(self.pixel_2, y)

    def _point(self) -> tuple[float, float]:
        return self.pixel_1.value, self.pixel_2.value

    def _answers(self) -> tuple[int, int]:
        """f and g at the point."""
        x = self._point()
        f_says = int(two_pixel_classifier(torch.tensor([x], dtype=torch.float64)).argmax())
        return f_says, int(_g_plane(self.sigma.value)[0][PLACES.index(x[1]), PLACES.index(x[0])])

    def _show_g(self) -> None:
        classes, marks = _g_plane(self.sigma.value)
        self._smoothed.set_data(classes)
        name_regions(None, marks, self._names)


class DecisionMapExplorer(_MapExplorer):
    """σ and the image x = (pixel 1, pixel 2): f's regions, the votes, g's regions with the certified disc.

    After each move: `lower` (p̲_A), `radius` (0 when abstaining), `prediction` (−1 when abstaining), `f_says` and
    `g_says`, the classes at x.
    """

    alt = """Two maps of the unit square with a bar chart between them; digits 0 to 3 name the classes. Left, f's
        regions with dotted circles at σ, 2σ and 3σ around x and the certified disc. Middle, the share of 1,000
        votes for each class, a mark at the lower bound on the winner and a dashed line at one half. Right, g's
        regions with the certified disc, which crosses no border."""

    @styled
    def __init__(self):
        self.sigma = slider("σ of the noise", SIGMAS, 0.12)
        self.pixel_1 = slider("x: pixel 1", PLACES, 0.4)
        self.pixel_2 = slider("x: pixel 2", PLACES, 0.5)
        figure, (left, middle, right) = new_figure(1, 3, width=9.8, height=3.5, width_ratios=(1, 0.8, 1))
        self._smoothed, self._names = _two_maps(left, right)
        left.set_title("f, level curves of the noise")
        right.set_title("g, certified disc")
        self._rings = [left.add_patch(Circle((0, 0), 1, fill=False, color=INK, linestyle=":")) for _ in range(3)]
        self._discs = [a.add_patch(Circle((0, 0), 1, fill=False, color=INK, linewidth=2)) for a in (left, right)]
        self._stars = [_star(axes) for axes in (left, right)]
        self._bars = middle.bar(range(4), [0] * 4, color=REGION_COLORS)
        self._bound = middle.plot([0, 0], [0, 0], color=INK, linewidth=2)[0]
        half = middle.axhline(0.5, color=INK, linestyle="--", linewidth=1)
        middle.set(ylim=(0, 1.02), xlim=(-0.6, 3.6), ylabel="share of votes", title=f"{N:,} votes, lower bound")
        middle.set_xticks(range(4), [name.replace(" (", "\n").rstrip(")") for name in REGION_NAMES], fontsize=9)
        moving = [
            self._smoothed,
            *self._names,
            *self._rings,
            *self._discs,
            *self._stars,
            *self._bars,
            half,
            self._bound,
        ]
        controls = [self.sigma, self.pixel_1, self.pixel_2]
        super().__init__(figure, controls, moving, drag={"f": left, "g": right})

    def update(self) -> str:
        sigma, x = self.sigma.value, self._point()
        selected, counts = votes_at(sigma, x)
        self.count = int(counts[selected])
        self.lower = bounds.lower_confidence_bound(self.count, N, ALPHA)
        self.radius = bounds.certified_radius(self.lower, sigma)
        self.prediction = selected if self.radius > 0 else -1
        self.f_says, self.g_says = self._answers()
        for bar, count in zip(self._bars, counts, strict=True):
            bar.set_height(count / N)
        self._bound.set_data([selected - 0.45, selected + 0.45], [self.lower] * 2)
        self._show_g()
        for multiple, ring in enumerate(self._rings, start=1):
            ring.set(center=x, radius=multiple * sigma)
        for disc in self._discs:
            disc.set(center=x, radius=self.radius)
        for star in self._stars:
            star.set_data([x[0]], [x[1]])
        answer = f"R = {rounded_down(self.radius, 4)}" if self.radius > 0 else "p̲_A ≤ ½: ABSTAIN"
        return (
            f"σ = {sigma:g}, x = ({x[0]:g}, {x[1]:g}): f(x) is {REGION_NAMES[self.f_says]}; "
            f"{self.count} of {N:,} votes for {REGION_NAMES[selected]}, p̲_A = {rounded_down(self.lower, 4)} "
            f"(α = {ALPHA:g}); {answer}"
        )

    def disc_is_constant(self) -> bool:
        """Whether g's map has a single class inside the certified disc, as the theorem says."""
        axis = np.array(PLACES)
        inside = np.hypot(axis[None] - self.pixel_1.value, axis[:, None] - self.pixel_2.value) < self.radius
        return bool(np.all(_g_plane(self.sigma.value)[0][inside] == self.prediction))


class InsideDiscExplorer(_MapExplorer):
    """σ and an attacked image x′ near x = (0.42, 0.52): f(x′), g(x′) and the votes that g counts at x and at x′.

    The votes are probabilities, found by summing: as if n were infinite. After each move: `radius` (of x, exact),
    `distance` of x′ from x, `inside` (whether it is below the radius), `f_says` and `g_says` at x′.
    """

    alt = """Two maps of the unit square with a bar chart between them; digits 0 to 3 name the classes. A star marks
        x, a diamond the attacked image x′, and a circle the certified disc around x; left on f's regions, right on
        g's. Middle, for each class its share of the votes at x (outlined bars) and at x′ (filled bars)."""
    X = (0.42, 0.52)

    @styled
    def __init__(self):
        self.sigma = slider("σ of the noise", SIGMAS, 0.12)
        self.pixel_1 = slider("x′: pixel 1", PLACES, self.X[0])
        self.pixel_2 = slider("x′: pixel 2", PLACES, self.X[1])
        figure, (left, middle, right) = new_figure(1, 3, width=9.8, height=3.5, width_ratios=(1, 0.8, 1))
        self._smoothed, self._names = _two_maps(left, right)
        left.set_title("f: certified disc of x, and x′")
        right.set_title("g: certified disc of x, and x′")
        self._discs = [a.add_patch(Circle(self.X, 1, fill=False, color=INK, linewidth=2)) for a in (left, right)]
        stars = [_star(axes) for axes in (left, right)]
        for star in stars:
            star.set_data([self.X[0]], [self.X[1]])
        self._diamonds = [_star(axes, "D", 7) for axes in (left, right)]
        self._bars = middle.bar(range(4), [0] * 4, color=REGION_COLORS)
        self._before = middle.bar(range(4), [0] * 4, fill=False, edgecolor=INK, linewidth=1.3)
        middle.set(ylim=(0, 1.02), xlim=(-0.6, 3.6), ylabel="share of votes", title="votes at x′ (outline: at x)")
        middle.set_xticks(range(4), [name.replace(" (", "\n").rstrip(")") for name in REGION_NAMES], fontsize=9)
        moving = [self._smoothed, *self._names, *self._discs, *stars, *self._diamonds, *self._bars, *self._before]
        controls = [self.sigma, self.pixel_1, self.pixel_2]
        super().__init__(figure, controls, moving, drag={"f": left, "g": right})

    def update(self) -> str:
        sigma, moved = self.sigma.value, self._point()
        at_x, at_moved = (smoothed_plane(sigma)[PLACES.index(y), PLACES.index(x)] for x, y in (self.X, moved))
        self.radius = _exact_radius(sigma)
        self.distance = float(np.hypot(moved[0] - self.X[0], moved[1] - self.X[1]))
        self.inside = self.distance < self.radius
        self.f_says, self.g_says = self._answers()
        self._show_g()
        for bars, shares in ((self._before, at_x), (self._bars, at_moved)):
            for bar, share in zip(bars, shares, strict=True):
                bar.set_height(share)
        for disc in self._discs:
            disc.set_radius(self.radius)
        for diamond in self._diamonds:
            diamond.set_data([moved[0]], [moved[1]])
        where = "below" if self.inside else "not below"
        return (
            f"σ = {sigma:g}, R = {rounded_down(self.radius, 4)}. x′ = ({moved[0]:g}, {moved[1]:g}) lies at distance "
            f"{self.distance:.4f}, {where} R: f(x′) is {REGION_NAMES[self.f_says]}, g(x′) is "
            f"{REGION_NAMES[self.g_says]} with {at_moved[self.g_says]:.3f} of the votes"
        )


@cache
def _exact_radius(sigma: float) -> float:
    shares = plane_probabilities_at(InsideDiscExplorer.X, sigma)
    # At small σ the share is 1 up to rounding; beyond 1 − 1e-9 the sum says nothing.
    return bounds.certified_radius(min(float(shares.max()), 1 - 1e-9), sigma)


# -- the votes fall, one by one ----------------------------------------------------------------

FALLING_SIGMAS = (0.12, 0.25, 0.5, 1.0)
PICTURES = (("easy: a 3", 7), ("harder: a 4", 0), ("hardest: a 3", 3))  # places in the digits' test set
STEPS = (*range(11), *(int(float(f"{10 ** (k / 20):.2g}")) for k in range(21, 81)))  # 0, 1, … 10, 11, 13, … 10,000


@cache
def falling_votes() -> dict[tuple[int, float], tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """(picture, σ) → (class that N0 votes chose, counts `(S, 10)` after each of STEPS, the copies and votes there).

    The copies are `(S, 8, 8)` and their votes `(S,)`; at step 0 stand the picture without noise and −1. One fixed
    noise for all; the network is the one that the lecture certifies.
    """
    network = fold_batchnorm(load_run(RESULTS / "digits" / "gaussian-0.25")[0])
    images = load_dataset("digits", "test").images
    noise = torch.randn(N0 + STEPS[-1], *images[0].shape, generator=torch.Generator().manual_seed(0))
    last = torch.tensor(STEPS[1:]) - 1  # the newest of the fresh votes at each step
    found = {}
    for _, picture in PICTURES:
        for sigma in FALLING_SIGMAS:
            with torch.inference_mode():
                noisy = images[picture] + sigma * noise
                votes = torch.cat([network(part).argmax(1) for part in noisy.split(1000)])
            selected = int(votes[:N0].bincount(minlength=10).argmax())
            fresh = votes[N0:]
            counts = torch.nn.functional.one_hot(fresh, 10).cumsum(0)[last]  # (S − 1, 10)
            copies = torch.cat((images[picture], noisy[N0:][last].squeeze(1)))  # (S, 8, 8)
            found[picture, sigma] = (
                selected,
                np.concatenate((np.zeros((1, 10), int), counts.numpy())),
                copies.numpy(),
                np.concatenate(([-1], fresh[last].numpy())),
            )
    return found


class FallingVotesExplorer(Explorer):
    """A play button for n: noisy copies vote one by one, p̲_A climbs, and the certified disc opens.

    N0 votes that are not shown chose class A; the n votes that fall are fresh. After each move: `selected` (A),
    `count`, `lower` (p̲_A, 0 without votes), `radius` (0 when abstaining), `prediction` (−1 when abstaining).
    """

    alt = """From left to right: the newest noisy copy of a digit with the class that the network names; the share
        of votes for each of the ten classes, class A in blue with a black mark at its lower bound and a dashed line
        at one half; the share of votes for A (dotted) and the lower bound (solid) against n on a logarithmic axis,
        drawn up to the present n; the certified disc around x, and below it its radius, or ABSTAIN."""

    @styled
    def __init__(self):
        self.n = slider("votes n", [(f"{step:,}", step) for step in STEPS], 0)
        self.sigma = slider("σ of the noise", FALLING_SIGMAS, 0.25)
        self.picture = slider("picture", PICTURES, PICTURES[0][1])
        figure, (copy, bars, climb, disc) = new_figure(1, 4, width=10.4, height=3.5, width_ratios=(0.75, 1, 1.15, 1))
        self._copy = copy.imshow(np.zeros((8, 8)), cmap="gray", vmin=0, vmax=1)
        copy.set(xticks=(), yticks=(), title="the newest noisy copy")
        copy.grid(False)
        self._vote = copy.text(0.5, -0.06, "", transform=copy.transAxes, ha="center", va="top", fontsize=11)
        self._bars = bars.bar(range(10), [0] * 10, color=GREY)
        self._bound = bars.plot([0, 0], [0, 0], color=INK, linewidth=2.5)[0]
        halves = [axes.axhline(0.5, color=INK, linestyle="--", linewidth=1) for axes in (bars, climb)]
        bars.set(
            ylim=(0, 1.04), xticks=range(10), xlabel="class", ylabel="share of votes", title="votes so far, lower bound"
        )
        self._share = climb.plot([], [], color=GREY, linestyle=":", label="share of votes for A")[0]
        self._lower = climb.plot([], [], color=BLUE, label="lower bound on p_A")[0]
        self._dot = climb.plot([], [], "o", color=BLUE, markeredgecolor=INK, markersize=8)[0]
        climb.set(xscale="log", xlim=(0.9, 14_000), ylim=(0, 1.04), xlabel="votes n", title="what n votes show")
        climb.set_xticks([1, 10, 100, 1000, 10_000], ["1", "10", "100", "1,000", "10,000"])
        climb.legend(loc="lower right", fontsize=8.5)
        self._disc = disc.add_patch(Circle((0, 0), 0, facecolor="#CFE3F2", edgecolor=BLUE, linewidth=2))
        self._ring = disc.add_patch(Circle((0, 0), 0, fill=False, edgecolor=INK, linestyle=":"))
        star = disc.plot([0], [0], "*", color="white", markeredgecolor=INK, markersize=13)[0]
        self._said = disc.text(0, -1.25, "", ha="center", va="center", fontsize=12)
        disc.set(xlim=(-1.1, 1.1), ylim=(-1.45, 1.1), aspect="equal", xticks=(-1, -0.5, 0, 0.5, 1), yticks=(-1, 0, 1))
        disc.set(xlabel="ℓ2 distance from x", title="certified disc; dotted: σ")
        moving = [self._copy, self._vote, *self._bars, self._bound, *halves, self._share, self._lower, self._dot]
        super().__init__(
            figure, [self.n, self.sigma, self.picture], [*moving, self._disc, self._ring, star, self._said]
        )
        self.add_play(self.n, "the votes fall", interval=280)

    def update(self) -> str:
        n, sigma, step = self.n.value, self.sigma.value, self.n.index
        self.selected, counts, copies, votes = falling_votes()[self.picture.value, sigma]
        seen = np.array(STEPS[1 : step + 1])
        of_a = counts[1 : step + 1, self.selected]
        lowers = _lower_bounds(self.picture.value, sigma)[:step]
        self.count, self.lower = int(counts[step, self.selected]), float(lowers[-1]) if n else 0.0
        self.radius = bounds.certified_radius(self.lower, sigma)
        self.prediction = self.selected if self.radius > 0 else -1
        self._copy.set_data(copies[step])
        self._vote.set_text(f"vote {n:,} is for {votes[step]}" if n else "x, before any vote")
        for label, (bar, count) in enumerate(zip(self._bars, counts[step], strict=True)):
            bar.set_height(count / max(n, 1))
            bar.set_color(BLUE if label == self.selected else GREY)
        self._bound.set_data([self.selected - 0.5, self.selected + 0.5], [self.lower] * 2)
        self._share.set_data(seen, of_a / np.maximum(seen, 1))
        self._lower.set_data(seen, lowers)
        self._dot.set_data(seen[-1:], lowers[-1:])
        self._disc.set_radius(self.radius)
        self._ring.set_radius(sigma)
        answer = f"R = {rounded_down(self.radius, 4)}" if self.radius > 0 else "ABSTAIN"
        self._said.set(text=answer, color=INK if self.radius > 0 else VERMILION)
        name = f"σ = {sigma:g}: {N0} earlier votes chose class A = {self.selected}. "
        if not n:
            return f"{name}No vote has fallen yet, and nothing is known of p_A: ABSTAIN"
        reason, lower = "" if self.radius > 0 else ", which is not above ½", rounded_down(self.lower, 4)
        return f"{name}{self.count:,} of {n:,} votes for A: p̲_A = {lower} (α = {ALPHA:g}){reason}: {answer}"


@cache
def _lower_bounds(picture: int, sigma: float) -> np.ndarray:
    """p̲_A after each of STEPS but the first, 0."""
    selected, counts, _, _ = falling_votes()[picture, sigma]
    pairs = zip(counts[1:, selected].tolist(), STEPS[1:], strict=True)
    return np.array([bounds.lower_confidence_bound(count, n, ALPHA) for count, n in pairs])


# -- from votes to a radius ------------------------------------------------------------------

SHARES = (0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
SIZES = tuple(int(round(10 ** (k / 4))) for k in range(4, 25))
ALPHAS = tuple((f"{alpha:g}", alpha) for alpha in (0.1, 0.05, 0.01, 1e-3, 1e-4, 1e-5, 1e-6))


@cache
def bound_radii() -> np.ndarray:
    """R in units of σ for all ALPHAS × SIZES × SHARES; the last share is 1, which is the cap."""
    lower = [
        [bounds.lower_confidence_bound(np.round(np.array(SHARES) * size), size, alpha) for size in SIZES]
        for _, alpha in ALPHAS
    ]
    return bounds.certified_radius(np.array(lower), 1.0)


class BoundExplorer(Explorer):
    """Share of votes, n and α: Clopper–Pearson's bound (left) and the radius in units of σ (right).

    After each move: `count`, `lower` (p̲_A), `radius` (R/σ), `cap` (R/σ if all n votes agreed).
    """

    alt = """Left, the probability of so many votes or more as a function of p, on a logarithmic scale: a curve that
        rises to 1 near the share of votes; where it crosses the dashed line at α stands the lower bound. Right, the
        radius in units of σ against n for the chosen share: it climbs towards the dotted line of the plug-in and
        never reaches it; the dashed line above is the cap for unanimous votes."""

    @styled
    def __init__(self):
        self.share = slider("share of votes for A", SHARES, 0.9)
        self.n = slider("votes n", [(f"{size:,}", size) for size in SIZES], 1000)
        self.alpha = slider("α, chance of an error", ALPHAS, 0.001)
        figure, (left, right) = new_figure(1, 2, width=9.4, height=3.7)
        self._p = np.unique(np.concatenate((np.linspace(0.4, 1, 400), 1 - np.logspace(-1, -7, 100))))
        self._tail = left.plot(self._p, self._p, color=BLUE, label="P(so many votes or more) at p")[0]
        self._alpha_line = left.axhline(0.5, color=VERMILION, linestyle="--", label="α")
        self._lower = left.axvline(0.5, ymax=0.68, color=GREEN, label="lower bound: where they cross")
        self._plug = left.axvline(0.5, ymax=0.68, color=GREY, linestyle=":", label="p̂ = share of votes")
        left.set(
            yscale="log",
            ylim=(1e-8, 3e4),
            yticks=[10.0**k for k in range(-8, 1, 2)],
            xlim=(0.4, 1.005),
            xlabel="p, a candidate for p_A",
        )
        left.set(ylabel="probability", title="the smallest p that explains the votes")
        self._cap = right.plot(SIZES, SIZES, color=INK, linestyle="--", linewidth=1.2, label="cap: all votes for A")[0]
        self._plug_radius = right.axhline(1, color=GREY, linestyle=":", label="plug-in Φ⁻¹(p̂): no guarantee")
        self._radius = right.plot(SIZES, SIZES, color=GREEN, label="R with this share of votes")[0]
        self._dot = right.plot([0], [0], "o", color=GREEN, markeredgecolor=INK, markersize=9)[0]
        right.set(xscale="log", ylim=(-0.1, 5.4), xlabel="votes n", ylabel="radius (in σ)", title="the radius")
        left.legend(loc="upper left", fontsize=8.5)
        right.legend(loc="upper left", fontsize=8.5)
        lines = [self._tail, self._alpha_line, self._lower, self._plug]
        moving = [*lines, self._cap, self._plug_radius, self._radius, self._dot]
        super().__init__(figure, [self.share, self.n, self.alpha], moving)

    def update(self) -> str:
        share, n, alpha = self.share.value, self.n.value, self.alpha.value
        self.count = round(share * n)
        self.lower = bounds.lower_confidence_bound(self.count, n, alpha)
        self.radius = bounds.certified_radius(self.lower, 1.0)
        self.cap = bounds.max_certified_radius(n, alpha, 1.0)
        self._tail.set_ydata(np.maximum(binom.sf(self.count - 1, n, self._p), 1e-12))
        self._alpha_line.set_ydata([alpha] * 2)
        self._lower.set_xdata([self.lower] * 2)
        self._plug.set_xdata([self.count / n] * 2)
        self._radius.set_ydata(bound_radii()[self.alpha.index, :, SHARES.index(share)])
        self._cap.set_ydata(bound_radii()[self.alpha.index, :, -1])
        plug_in = float(norm.ppf(self.count / n))
        self._plug_radius.set_ydata([min(plug_in, 99.0)] * 2)
        self._dot.set_data([n], [self.radius])
        answer = f"R = {rounded_down(self.radius, 4)} σ" if self.radius > 0 else "p̲_A ≤ ½: ABSTAIN"
        return (
            f"{self.count:,} of {n:,} votes, α = {alpha:g}: p̂ = {self.count / n:.6g}, "
            f"p̲_A = {rounded_down(self.lower, 6)}; {answer} "
            f"(plug-in {plug_in:.4f} σ, cap {rounded_down(self.cap, 4)} σ)"
        )
