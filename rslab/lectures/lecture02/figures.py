"""Figures of notebook 02, randomized smoothing."""

from functools import cache

import numpy as np
import torch
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.text import Text
from scipy import ndimage
from scipy.stats import binom, norm
from torch import Tensor

from rslab.lectures.pictures import rounded_down
from rslab.lectures.style import (
    BLUE,
    GREEN,
    INK,
    PURPLE,
    REGION_COLORS,
    SKY,
    VERMILION,
    WINE,
    new_figure,
    show_image,
    styled,
)
from rslab.smoothing import bounds
from rslab.smoothing.classifier import ABSTAIN, Certificate

# -- images of two pixels: a base classifier that can be seen whole ------------------------

_CENTRES = torch.tensor([[0.30, 0.50], [0.85, 0.80], [0.80, 0.20], [0.15, -0.12]])
_POCKETS = ((0.47, 0.55, 0.028, 2), (0.33, 0.72, 0.022, 1), (0.86, 0.74, 0.030, 0))  # u, v, radius, class


def two_pixel_classifier(x: Tensor) -> Tensor:
    """A base classifier f of images with two pixels: `(B, …)` with 2 numbers each → logits `(B, 4)`.

    Four wavy regions, and three small pockets of another class inside them: what
    adversarial examples of f look like where one can see them.
    """
    u, v = x.flatten(1).unbind(1)
    warped = torch.stack((u + 0.05 * torch.sin(9 * v), v + 0.06 * torch.sin(8 * u)), dim=1)
    logits = -((warped[:, None] - _CENTRES.to(x)) ** 2).sum(2)  # (B, 4)
    for centre_u, centre_v, radius, label in _POCKETS:
        logits[:, label] += 100.0 * ((u - centre_u) ** 2 + (v - centre_v) ** 2 < radius**2)
    return logits


def plane_classes(axis: np.ndarray) -> np.ndarray:
    """f on the grid axis × axis: classes `(len(axis), len(axis))`, row = second pixel, column = first."""
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return two_pixel_classifier(torch.tensor(points)).argmax(1).numpy().reshape(len(axis), len(axis))


def plane_probabilities(axis: np.ndarray, sigma: float, spacing: float = 0.01) -> np.ndarray:
    """P(f(x + δ) = c) on the grid axis × axis by summing, not by sampling: `(N, N, 4)`.

    A Gaussian is a product over the pixels, so the integral is two products of
    matrices. The error is that of a grid with this spacing (below 0.01).
    """
    wide, classes = _wide_plane(spacing)
    weights = np.exp(-0.5 * ((axis[:, None] - wide) / sigma) ** 2)
    weights /= weights.sum(1, keepdims=True)
    one_hot = np.eye(4)[classes]  # (M, M, 4)
    return np.einsum("im,mnc,jn->ijc", weights, one_hot, weights, optimize=True)


@cache
def _wide_plane(spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """An axis `(M,)` so long that no noise leaves it, and f on its grid `(M, M)`."""
    wide = np.arange(-1.5, 2.5, spacing)
    return wide, plane_classes(wide)


def draw_regions(axes, classes: np.ndarray, title: str):
    """Paint classes `(N, N)` over the unit square; returns the image, whose data can be replaced."""
    tints = ListedColormap([tuple(0.45 + 0.55 * part for part in to_rgb(color)) for color in REGION_COLORS])
    image = axes.imshow(classes, cmap=tints, vmin=-0.5, vmax=3.5, origin="lower", extent=(0, 1, 0, 1))
    axes.set(xlabel="pixel 1", ylabel="pixel 2", title=title, xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.grid(False)
    return image


def region_marks(classes: np.ndarray) -> list[tuple[int, float, float, float]]:
    """(class, first pixel, second pixel, depth) of each region of a map `(N, N)` over the unit square, for its name.

    `depth` is the largest distance of a point from the region's edge and the map's. The name stands almost so deep,
    and as far from the middle of the map as that allows: there the lectures put x.
    """
    step, found = 1 / (len(classes) - 1), []
    across = np.linspace(-0.5, 0.5, len(classes))
    outward = np.pad(np.hypot(across[None], across[:, None]), 1)
    for value in np.unique(classes):
        regions, count = ndimage.label(np.pad(classes == value, 1))
        for number in range(1, count + 1):
            depth = ndimage.distance_transform_edt(regions == number)
            place = np.where(depth >= 0.7 * depth.max(), outward, -1) if depth.max() * step > 0.05 else depth
            row, column = np.unravel_index(place.argmax(), depth.shape)
            found.append((int(value), (column - 1) * step, (row - 1) * step, float(depth.max()) * step))
    return found


def name_regions(axes, marks: list[tuple[int, float, float, float]], texts: list[Text] | None = None) -> list[Text]:
    """Write its class 0 … 3 at each of the `region_marks`, so that no one needs the colours; old `texts` are moved."""
    if texts is None:
        look = dict(color=INK, ha="center", va="center_baseline", zorder=1.5, weight="bold", clip_on=True)
        texts = [axes.text(0, 0, "", **look) for _ in range(12)]
    named = [mark for mark in marks if mark[3] > 0.012]  # smaller regions hold no digit
    for text, mark in zip(texts, named, strict=False):
        text.set(text=str(mark[0]), position=mark[1:3], fontsize=13 if mark[3] > 0.05 else 7)
    for text in texts[len(named) :]:
        text.set_text("")
    return texts


@styled
def smoothing_figure(x: tuple[float, float], sigma: float, votes: int = 300, seed: int = 0) -> Figure:
    """Left: f's regions with `votes` noisy copies of x. Right: g's regions with the certified disc around x.

    The disc has the exact radius σΦ⁻¹(p_A), p_A by quadrature.
    """
    axis = np.linspace(0, 1, 201)
    probabilities = plane_probabilities(axis, sigma)
    top = plane_probabilities_at(x, sigma)
    radius = bounds.certified_radius(min(float(top.max()), 1 - 1e-9), sigma)
    shown = rounded_down(radius, 3)
    figure, (left, right) = new_figure(1, 2, width=9.0, height=4.3)
    sides = (left, plane_classes(axis)), (right, probabilities.argmax(2))
    heard = "base classifier f, and noisy copies of x", f"smoothed classifier g, σ = {sigma:g}"
    held = "the circle holds points that f calls otherwise", f"in the circle g never changes: R = {shown}"
    for (axes, classes), first, second in zip(sides, heard, held, strict=True):
        draw_regions(axes, classes, f"{first}\n{second}")
        name_regions(axes, region_marks(classes))
    noise = torch.randn(votes, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noisy = torch.tensor(x, dtype=torch.float64) + sigma * noise
    labels = two_pixel_classifier(noisy).argmax(1).numpy()
    left.scatter(*noisy.T.numpy(), s=9, c=[REGION_COLORS[k] for k in labels], edgecolors=INK, linewidths=0.3)
    for axes in (left, right):
        axes.add_patch(Circle(x, radius, fill=False, color=INK, linewidth=1.8))
        axes.plot(*x, marker="*", color="white", markeredgecolor=INK, markersize=14)
        axes.set(xlim=(0, 1), ylim=(0, 1))
    figure.alt = f"""Two maps of the unit square, whose points are images of two pixels; digits 0 to 3 name the
        classes of the regions. Left, the base classifier's four wavy regions with three small pockets of other
        classes inside; {votes} noisy copies of one image x lie around it, nearly all in the region of class
        {int(top.argmax())}. Right, the smoothed classifier's regions at σ = {sigma:g}, smoother and without the
        pockets. A circle of radius {shown} around x holds a pocket of class 2 on the left and nothing but class
        {int(top.argmax())} on the right."""
    return figure


def plane_probabilities_at(x: tuple[float, float], sigma: float) -> np.ndarray:
    """P(f(x + δ) = c) at one point: `(4,)`, by the same sums as `plane_probabilities`."""
    wide, classes = _wide_plane(0.005)
    weights = [np.exp(-0.5 * ((wide - coordinate) / sigma) ** 2) for coordinate in x]
    mass = np.outer(weights[1], weights[0])  # rows are the second pixel
    return np.bincount(classes.ravel(), mass.ravel(), minlength=4) / mass.sum()


# -- noise -------------------------------------------------------------------------------


def photograph() -> Tensor:
    """A real photograph that comes with scikit-learn, `(3, 224, 224)` in [0, 1]: a temple in China."""
    from sklearn.datasets import load_sample_image

    pixels = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1).float() / 255  # (3, 427, 640)
    square = pixels[None, :, :, 40:467]
    small = torch.nn.functional.interpolate(square, size=(224, 224), mode="bilinear", antialias=True)
    return small[0].clamp(0, 1)


@styled
def noise_strip_figure(images: list[Tensor], sigmas: tuple[float, ...], seed: int = 0) -> Figure:
    """Each image `(C, H, W)` in a row, under Gaussian noise of each σ in a column; the same δ along a row."""
    figure, axes = new_figure(len(images), len(sigmas), width=7.6, height=0.3 + 1.32 * len(images), squeeze=False)
    generator = torch.Generator().manual_seed(seed)
    for row, image in enumerate(images):
        noise = torch.randn(image.shape, generator=generator)
        for cell, sigma in zip(axes[row], sigmas, strict=True):
            show_image(cell, image + sigma * noise, f"σ = {sigma:g}" if row == 0 else "")
    large = max(image.shape[-1] for image in images) > 100
    figure.encoding = "jpeg" if large else "png"
    sizes = " and ".join(f"{image.shape[-2]} × {image.shape[-1]}" for image in images)
    levels = ", ".join(f"{sigma:g}" for sigma in sigmas)
    figure.alt = f"""One image per row, of {sizes} pixels; from left to right with Gaussian noise of σ = {levels}.
        Mild noise leaves all plain. At σ = 0.5 the digit can hardly be made out, and at 1 almost nothing is left of
        it. An image of 224 × 224 pixels, a cup of coffee, is still recognised there. For the eye, values outside
        [0, 1] are drawn as black or white."""
    return figure


@styled
def noise_resolution_figure(photo: Tensor, sigma: float = 0.5, seed: int = 0) -> tuple[Figure, float]:
    """One σ at two resolutions, and the noisy large image averaged 4×4; also the σ measured in that average.

    `photo` is `(3, 224, 224)`. Returns (figure, standard deviation of the averaged noise).
    """
    small = torch.nn.functional.avg_pool2d(photo[None], 4)[0]  # (3, 56, 56)
    generator = torch.Generator().manual_seed(seed)
    noisy_large = photo + sigma * torch.randn(photo.shape, generator=generator)
    noisy_small = small + sigma * torch.randn(small.shape, generator=generator)
    pooled = torch.nn.functional.avg_pool2d(noisy_large[None], 4)[0]
    measured = float((pooled - small).std())
    figure, axes = new_figure(2, 3, width=8.4, height=5.6)
    show_image(axes[0, 0], small, "56 × 56, clean")
    show_image(axes[1, 0], noisy_small, f"56 × 56, σ = {sigma:g}")
    show_image(axes[0, 1], photo, "224 × 224, clean")
    show_image(axes[1, 1], noisy_large, f"224 × 224, σ = {sigma:g}")
    show_image(axes[1, 2], pooled, f"the noisy 224 × 224, averaged 4 × 4:\nnoise of σ = {measured:.3f} is left")
    axes[0, 2].axis("off")
    axes[0, 2].text(0.5, 0.5, "averaging 16 pixels\ndivides σ by √16 = 4", ha="center", va="center", fontsize=11)
    figure.encoding = "jpeg"
    figure.alt = f"""A temple at 56 × 56 and at 224 × 224 pixels, clean above and with noise of σ = {sigma:g} below.
        The small noisy image is unreadable, the large one is clear. To the right of it, the large noisy image
        averaged over blocks of 4 × 4 pixels: a 56 × 56 image with mild noise of σ = {measured:.3f}."""
    return figure, measured


# -- how certification fails, and how it does not -------------------------------------------


@styled
def plug_in_figure(n: int = 10_000, alpha: float = 0.001, p: float = 0.9, runs: int = 4000, seed: int = 0) -> Figure:
    """Three faults of the tempting certificate: radius too large, radius ∞, one sample used twice.

    Left: simulated claims at a true `p`, plug-in against Clopper–Pearson. Middle: the exact
    probability of claiming too much, for every p. Right: two equally likely classes, where
    any certificate is false: selecting and bounding on the same votes against fresh ones.
    """
    figure, (left, middle, right) = new_figure(1, 3, width=10.0, height=3.9)
    counts = np.random.default_rng(seed).binomial(n, p, runs)
    honest = bounds.certified_radius(bounds.lower_confidence_bound(counts, n, alpha), 1.0)
    bins = dict(bins=60, histtype="stepfilled", alpha=0.75)
    left.hist(norm.ppf(counts / n), color=VERMILION, label="plug-in p̂", **bins)
    left.hist(honest, color=GREEN, label="Clopper–Pearson", **bins)
    left.axvline(norm.ppf(p), ymax=0.69, color=INK, linestyle="--", label="the true radius")  # below the legend
    left.set(xlabel="claimed radius (in σ)", ylabel=f"of {runs} simulated runs", title=f"p = {p:g}, n = {n:,} votes")
    left.set_ylim(0, left.get_ylim()[1] * 1.45)
    left.legend(loc="upper left", fontsize=8.5)

    failure = np.logspace(np.log10(0.4), -6, 500)  # 1 − p
    plug_in = binom.sf(np.floor(n * (1 - failure) + 1e-9), n, 1 - failure)
    middle.plot(failure, plug_in, color=VERMILION, linewidth=1, label="plug-in")
    middle.plot(failure, np.exp(n * np.log1p(-failure)), color=INK, linestyle=":", label="plug-in claims ∞")
    sound = too_large_probability(1 - failure, n, alpha)  # 0 beyond the cap: no curve there on a log axis
    sound = np.where(sound > 0, sound, np.nan)
    middle.plot(failure, sound, color=GREEN, linewidth=1, label="Clopper–Pearson")
    middle.axhline(alpha, color=INK, linestyle="--", linewidth=1, label=f"α = {alpha:g}")
    middle.set(xscale="log", yscale="log", ylim=(1e-5, 5), xlabel="1 − p, the chance of another class")
    middle.set(title="P(claim > truth), exact")
    middle.invert_xaxis()
    words = dict(fontsize=9, va="center")
    middle.text(0.4, 1.6, "plug-in p̂", color=VERMILION, **words)
    middle.text(2.5e-4, 0.02, "plug-in\nclaims ∞", color=INK, **words)
    middle.text(0.4, 2e-4, "Clopper–\nPearson", color=GREEN, **words)
    middle.text(1e-6, 1.4 * alpha, f"α = {alpha:g}", color=INK, ha="right", **words)

    sizes = (100, 1000, 10_000, 100_000)
    fresh = np.array([too_large_probability(0.5, size, alpha) for size in sizes])
    place = np.arange(len(sizes))
    right.bar(place - 0.2, fresh, 0.4, color=GREEN, label="fresh votes")
    right.bar(place + 0.2, 2 * fresh, 0.4, color=VERMILION, hatch="//", label="the same votes twice")
    right.axhline(alpha, color=INK, linestyle="--", linewidth=1, label=f"α = {alpha:g}")
    right.set_xticks(place, [f"{size:,}" for size in sizes], fontsize=8.5)
    right.set(xlabel="votes n", title="P(false certificate), p = ½", ylim=(0, 3.4 * alpha))
    right.legend(loc="upper left", fontsize=8.5)
    figure.alt = f"""Three plots of failure. Left, radii claimed in {runs:,} simulated runs at p = {p:g}: the
        plug-in's histogram straddles the true radius, Clopper–Pearson's lies below it. Middle, the exact
        probability of claiming too much, for every p: about one half for the plug-in, rising to one where p is so
        near 1 that all votes agree and the claim is infinite; never above α = {alpha:g} for Clopper–Pearson. Right,
        two equally likely classes: choosing and bounding on the same votes (hatched) fails nearly twice as often as
        α allows, fresh votes less often than α."""
    return figure


def too_large_probability(p, n: int, alpha: float):
    """P(p̲ > p) for Clopper–Pearson's p̲ from n votes: exact, below α for every p."""
    # p̲ > p exactly when the count is so high that P(count or more) < α.
    return binom.sf(binom.isf(alpha, n, p), n, p)


@styled
def abstention_figure(p_a: float = 0.52, alpha: float = 0.001) -> Figure:
    """PREDICT with two classes, p_A given: how often it answers wrongly (left) and at all (right), against n.

    The tempting rule answers whenever n_A − n_B ≥ α, the correct one when the binomial test's p-value is ≤ α.
    """
    sizes = np.unique(np.logspace(1, 5, 60).astype(int))
    half = sizes // 2
    need = np.array([least_top_count(int(n), alpha) for n in sizes])  # votes of the winner
    wrong_rule, wrong_test = binom.cdf(np.ceil(sizes / 2) - 1, sizes, p_a), binom.cdf(sizes - need, sizes, p_a)
    figure, (left, right) = new_figure(1, 2, width=9.0, height=3.6)
    left.plot(sizes, np.maximum(wrong_rule, 1e-12), color=VERMILION, linestyle="--", label="tempting: n_A − n_B ≥ α")
    left.plot(sizes, np.maximum(wrong_test, 1e-12), color=GREEN, label="binomial test: p-value ≤ α")
    left.axhline(alpha, color=INK, linestyle=":", label=f"α = {alpha:g}")
    left.set(xscale="log", yscale="log", ylim=(1e-8, 2), xlabel="votes n", ylabel="P(wrong answer)")
    left.set_title(f"two classes, p_A = {p_a:g}")
    ties = np.where(sizes % 2 == 0, binom.pmf(half, sizes, p_a), 0.0)
    right.plot(sizes, 1 - ties, color=VERMILION, linestyle="--")
    right.plot(sizes, wrong_test + binom.sf(need - 1, sizes, p_a), color=GREEN)
    right.set(xscale="log", ylim=(0, 1.05), xlabel="votes n", ylabel="P(any answer)", title="the price: abstentions")
    right.legend(handles=left.get_lines(), loc="center left", bbox_to_anchor=(0, 0.35))  # on the left it hid a curve
    figure.alt = f"""Left, the probability of a wrong answer against the votes n, for two classes with p_A =
        {p_a:g}. The tempting rule starts near one half and is below α = {alpha:g} only after several thousand
        votes; the binomial test is below α at every n. Right, the price: the test hardly ever answers below a
        thousand votes and almost always above twenty thousand, while the tempting rule always answers except at
        ties."""
    return figure


def least_top_count(n: int, alpha: float) -> int:
    """The least votes, of n cast for two classes, with which PREDICT answers; n + 1 if none suffice.

    >>> [least_top_count(n, 0.001) for n in (100, 1000, 10_000)]
    [67, 553, 5166]
    """
    low = int(binom.ppf(alpha / 2, n, 0.5))  # the first count of the loser that is not rare enough, or the last that is
    return n - low + int(binom.cdf(low, n, 0.5) > alpha / 2)


@styled
def radius_limit_figure(alphas: tuple[float, ...] = (0.05, 0.001, 1e-6)) -> Figure:
    """What n votes can show. Left: the cap σΦ⁻¹(α^(1/n)), all votes agreeing. Right: R against n at a true p_A."""
    sizes = np.unique(np.logspace(1, 6, 80).astype(int))
    figure, (left, right) = new_figure(1, 2, width=9.0, height=3.7, sharey=True)
    for alpha, color, dashes in zip(alphas, (SKY, BLUE, WINE), ("--", "-", "-."), strict=True):
        caps = [bounds.max_certified_radius(int(n), alpha, 1.0) for n in sizes]
        left.plot(sizes, caps, color=color, linestyle=dashes, label=f"α = {alpha:g}")
    left.set(
        xscale="log", xlabel="votes n, all for one class", ylabel="radius (in σ)", title="the cap: unanimous votes"
    )
    left.legend(loc="upper left")
    for p, color in zip((0.999, 0.99, 0.9, 0.6), (GREEN, BLUE, PURPLE, VERMILION), strict=True):
        lower = [bounds.lower_confidence_bound(round(p * n), int(n), 0.001) for n in sizes]
        right.plot(sizes, bounds.certified_radius(np.array(lower), 1.0), color=color)
        right.axhline(norm.ppf(p), color=color, linestyle=":", linewidth=1.2)
        right.text(1e6, norm.ppf(p) + 0.07, f"p = {p:g}: true radius", color=color, fontsize=8.5, ha="right")
    right.set(
        xscale="log", xlabel="votes n, a share p for the class", title="R (solid) climbs to the true radius (dotted)"
    )
    levels = ", ".join(f"{alpha:g}" for alpha in alphas)
    figure.alt = f"""Left, the cap in units of σ against n for α = {levels}: three curves close together, which rise
        ever more slowly on the logarithmic axis of n. Right, the certified radius against n for p = 0.6, 0.9, 0.99
        and 0.999, each climbing to its true radius, a dotted line: p = 0.6 has no radius below a few hundred votes,
        p = 0.9 is nearly there at ten thousand, p = 0.999 only at a million."""
    return figure


@styled
def halfspace_figure(sizes, radii: dict[float, list[float]], distance: float) -> Figure:
    """Certified radii `{σ: [R at each n]}` of a point at a known `distance` from a half-space, against n."""
    figure, axes = new_figure(width=6.6, height=3.8)
    for (sigma, values), color, marker in zip(sorted(radii.items()), (VERMILION, BLUE, GREEN), "osD", strict=False):
        axes.plot(sizes, values, color=color, marker=marker, label=f"certified with σ = {sigma:g}")
    axes.axhline(distance, color=INK, linestyle="--", label=f"true distance {distance:g}")
    axes.set(xscale="log", xlabel="votes n", ylabel="ℓ2 radius (pixels in [0, 1])", ylim=(0, 1.12 * distance))
    axes.legend(loc="lower right")
    ends = ", ".join(f"{rounded_down(values[-1], 2)} with σ = {sigma:g}" for sigma, values in sorted(radii.items()))
    figure.alt = f"""The certified radius of a point at distance {distance:g} from a half-space against n, one curve
        per σ, below a dashed line at the true distance. At the largest n they reach {ends}."""
    return figure


@styled
def certificates_figure(images: Tensor, labels: list[int], certificates: list[Certificate]) -> Figure:
    """Images `(B, C, H, W)` above their votes (bars, share of n), with the class and radius that CERTIFY gave."""
    figure, axes = new_figure(2, len(images), width=1.12 * len(images), height=2.9, height_ratios=(1.5, 1))
    said = []
    for column, (image, label, certificate) in enumerate(zip(images, labels, certificates, strict=True)):
        radius = f"R = {rounded_down(certificate.radius, 3)}"
        abstains = certificate.prediction == ABSTAIN
        verdict = "abstains" if abstains else f"says {certificate.prediction}\n{radius}"
        said.append(f"a {label} " + ("abstains" if abstains else f"says {certificate.prediction}, {radius}"))
        show_image(axes[0, column], image, f"a {label}\n{verdict}")
        shares = np.array(certificate.counts) / certificate.n
        colors = [GREEN if k == label else VERMILION for k in range(len(shares))]
        axes[1, column].bar(range(len(shares)), shares, color=colors)
        axes[1, column].axhline(0.5, color=INK, linewidth=0.8, linestyle="--")
        axes[1, column].set(ylim=(0, 1.02), xticks=range(0, len(shares), 3), yticks=(0, 0.5, 1) if column == 0 else ())
    axes[1, 0].set_ylabel("share of votes")
    figure.encoding = "png"
    figure.supxlabel("class (green: the label)", fontsize=9.5)
    figure.alt = f"""Handwritten digits, each with the class and the radius that CERTIFY returned, or that it
        abstains, above a bar chart of its votes with a dashed line at one half; the bar of the label is green.
        {"; ".join(said)}."""
    return figure
