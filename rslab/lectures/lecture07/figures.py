"""Figures of notebook 07: the published tables, their envelopes, and ACR."""

from itertools import zip_longest

import numpy as np
import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from rslab.lectures.style import (
    BLUE,
    COLORS,
    CYCLE,
    DASHES,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    method_of,
    new_figure,
    styled,
)
from rslab.report import published, tables
from rslab.report.tables import interval
from rslab.smoothing import bounds
from rslab.smoothing.classifier import Certificate
from rslab.store import logs, run_folder

ROW_COLORS = {
    "Cohen et al.": BLUE,
    "SmoothAdv": GREEN,
    "+ pre-training": ORANGE,
    "+ semi-supervision": PURPLE,
    "+ both": VERMILION,
}


def _finish(axes, title: str, xmax: float, ymax: float = 101) -> None:
    axes.set(xlim=(0, xmax), ylim=(0, ymax), title=title)
    axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)")


@styled
def envelope_figure(rows: dict[str, pd.DataFrame], title: str = "", xmax: float = 3.6) -> Figure:
    """All models of each row as thin curves, and the row's upper envelope as a thick one; `rows`: name → models."""
    figure, axes = new_figure(width=8.6, height=4.4)
    for number, (name, models) in enumerate(rows.items()):
        color = ROW_COLORS.get(name, CYCLE[number])
        radii = np.arange(0, xmax + published.STEP, published.STEP)
        every = published.accuracies(models, radii)
        for accuracy in every.to_numpy():
            axes.step(radii, accuracy, where="pre", color=color, linewidth=0.7, alpha=0.35)
        label = f"{name}: envelope of {len(models)} models"
        axes.step(radii, every.max(), where="pre", color=color, linestyle=DASHES[number], linewidth=2.6, label=label)
    _finish(axes, title, xmax)
    axes.legend(loc="upper right")
    names = " and of ".join(f"{name} ({len(models)} models)" for name, models in rows.items())
    figure.alt = (
        f"Certified accuracy against the radius, of {names}. Every model is a thin stair: those trained with a small σ "
        "begin high and stop early, those with a large σ begin low and reach far. A thick stair over each family "
        f"is its upper envelope, at each radius the best model there. That of {list(rows)[-1]} lies above the other."
    )
    return figure


def subset_rows(radii: pd.DataFrame, at=published.CIFAR10_RADII, every: int = 20) -> pd.DataFrame:
    """The row of a table (upper envelope of the models, in %) on each subset "every 20th image": (20, radii).

    `radii` as from `published.radii`: a row a model, all 10,000 images. Subset k holds the images k, k + 20 …
    """
    values = radii.to_numpy()
    rows = [[100 * (values[:, k::every] >= 1000 * r).mean(1).max() for r in at] for k in range(every)]
    return pd.DataFrame(rows, columns=list(at))


@styled
def subsets_figure(rows: dict[str, pd.DataFrame]) -> Figure:
    """For each row of the table its 20 versions on the subsets "every 20th", in points above that on all 10,000 images.

    `rows`: name → radii of its models, as for `subset_rows`.
    """
    figure, panels = new_figure(1, len(rows), width=9.4, height=3.9, sharey=True, squeeze=False)
    aside = np.random.default_rng(0).uniform(-0.045, 0.045, 20)
    for axes, (name, radii) in zip(panels[0], rows.items(), strict=True):
        subsets, whole = subset_rows(radii), subset_rows(radii, every=1)
        above = subsets - whole.iloc[0]
        for k in range(1, 20):
            label = "the other 19 subsets of 500" if k == 1 else None
            axes.plot(above.columns + aside[k], above.iloc[k], "o", color=GREY, markersize=4, alpha=0.7, label=label)
        axes.plot(
            above.columns, above.iloc[0], "D", color=VERMILION, markersize=7, label="images 0, 20, 40 … (published)"
        )
        axes.axhline(0, color=BLUE, linewidth=1.4, label="all 10,000 images")
        axes.set(xlim=(0.1, 2.4), ylim=(-6, 9.5), xticks=published.CIFAR10_RADII)
        axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", title=f"the row {name}")
        axes.tick_params(axis="x", labelsize=8.5)
    panels[0][0].set_ylabel("points above all images")
    panels[0][0].legend(loc="upper right", fontsize=8.5)
    figure.alt = (
        "For each of the nine radii of the table, 20 dots: the row counted on one of the 20 subsets of 500 images, in "
        "points above the same row on all 10,000 images. The dots spread over several points on either side of zero. "
        "The published subset is marked. In the row of Cohen et al. it is near zero up to radius 1.5 and the "
        "highest of all at 2 and 2.25; in the row SmoothAdv it lies among the others at every radius."
    )
    return figure


def p_a_of(radii: np.ndarray, sigma: float) -> np.ndarray:
    """The lower bound of p_A behind each certified radius (in thousandths): (images,), ½ where nothing is certified."""
    return norm.cdf(np.maximum(radii, 0) / 1000 / sigma)


@styled
def ecdf_figure(models: dict[str, tuple[np.ndarray, float]]) -> Figure:
    """Left: the share of images whose p_A is at most p. Right: the share of the ACR that these images earn.

    `models`: name → (radii of all images in thousandths, σ).
    """
    figure, (left, right) = new_figure(1, 2, width=9.4, height=3.8)
    for (name, (radii, sigma)), dash in zip(models.items(), DASHES, strict=False):
        p, color = np.sort(p_a_of(radii, sigma)), COLORS.get(method_of(name) or "", ORANGE)
        earned = np.cumsum(np.sort(np.maximum(radii, 0)))
        left.step(p, 100 * np.arange(1, len(p) + 1) / len(p), where="post", color=color, linestyle=dash, label=name)
        right.step(p, 100 * earned / earned[-1], where="post", color=color, linestyle=dash, label=name)
    left.set(xlim=(0.5, 1.003), ylim=(0, 101), xlabel="p, lower bound of p_A", ylabel="images with p_A ≤ p (%)")
    right.set(xlim=(0.5, 1.003), ylim=(0, 101), xlabel="p, lower bound of p_A", ylabel="of the ACR, earned by them (%)")
    left.set_title("where the images are")
    right.set_title("where the ACR comes from")
    right.legend(loc="upper left")
    figure.alt = (
        f"Two panels with a curve for each of {len(models)} models of the same σ. Left, the share of images whose p_A "
        "is at most p: it begins at the share without a certificate, rises slowly, and jumps at the right end, where "
        "the images lie whose votes are almost all for the class. Right, the share of the ACR that these images "
        "earn: it stays near zero over most of the axis and rises steeply just before 1."
    )
    return figure


def hard_images_logs() -> dict[str, list[pd.DataFrame]]:
    """Digits networks trained on all images and on the easy ones, a log a seed: `rslab.experiments.hard_images`."""
    folder = run_folder.RESULTS / "hard-images"
    return {name: [logs.read_log(file) for file in sorted(folder.glob(f"{name}-*.tsv"))] for name in ("all", "easy")}


@styled
def hard_images_figure(found: dict[str, list[pd.DataFrame]]) -> Figure:
    """Left: certified accuracy of the networks trained on all images and on the easy ones. Right: the difference."""
    figure, (left, right) = new_figure(1, 2, width=9.4, height=3.8)
    radii, curves = np.arange(0, 1.26, 0.01), {}
    for (name, runs), color, dash in zip(found.items(), (BLUE, ORANGE), DASHES, strict=False):
        curves[name] = np.array([tables.certified_accuracy(log, radii) for log in runs])
        acr = np.mean([tables.average_certified_radius(log) for log in runs])
        for curve in curves[name]:
            left.plot(radii, curve, color=color, linewidth=0.7, alpha=0.6)
        trained = "all training images" if name == "all" else "the easy ones only"
        label = f"{trained}: mean ACR {acr:.3f}"
        left.plot(radii, curves[name].mean(0), color=color, linestyle=dash, label=label)
    _finish(left, "test digits, σ = 0.5", 1.25)
    left.legend(loc="upper right")
    gains = curves["easy"] - curves["all"]
    for seed, gain in enumerate(gains):
        right.plot(radii, gain, color=GREY, linewidth=0.9, linestyle=DASHES[1 + seed % 3], label=f"seed {seed}")
    right.plot(radii, gains.mean(0), color=ORANGE, label="mean")
    right.axhline(0, color=INK, linewidth=1)
    right.set(xlim=(0, 1.25), xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="points gained")
    right.set_title("without the hard images, minus with them")
    right.legend(loc="lower right", fontsize=8.5)
    figure.alt = (
        "Left, certified accuracy of digits networks against the radius, thin for each seed and thick for the mean: "
        "trained on all images, and without the hard ones. Without them the curve begins lower, crosses the other and "
        "ends higher. Right, the difference in points, for each seed and the mean: negative at small radii, "
        "positive at large ones."
    )
    return figure


@styled
def acr_figure(curves: dict[str, pd.Series]) -> Figure:
    """Certified accuracy of models with nearly the same ACR; the area under a curve is its ACR."""
    figure, axes = new_figure(width=8.6, height=4.0)
    for (name, row), color, dash in zip(curves.items(), (BLUE, GREEN, PURPLE), DASHES, strict=False):
        radii, accuracy = published.curve(row)
        axes.step(radii, accuracy, where="pre", color=color, linestyle=dash, label=f"{name}: ACR {row.ACR:.3f}")
        axes.fill_between(radii, accuracy, step="pre", color=color, alpha=0.15, linewidth=0)
    _finish(axes, "the same area under two curves that cross", 3.9, 85)
    axes.legend(loc="upper right")
    first, second = curves
    figure.alt = (
        f"Two curves of certified accuracy with almost the same area, {first} and {second}. The second begins higher "
        "and drops to zero just below radius 1; the first begins lower, crosses it there and still certifies a few "
        "images at 2.5. The area under each is shaded."
    )
    return figure


@styled
def weight_figure(alpha: float = 0.001) -> Figure:
    """Left: the radius against p_A, capped by n. Right: how much radius one more vote in a hundred buys."""
    figure, (left, right) = new_figure(1, 2, width=9.4, height=3.7)
    p = 1 - np.geomspace(0.5, 1e-7, 500)
    left.plot(1 - p, norm.ppf(p), color=INK, label="exact p_A")
    for n, color, dash in ((1000, ORANGE, ":"), (100_000, GREEN, "--"), (10_000_000, PURPLE, "-.")):
        cap = bounds.max_certified_radius(n, alpha, 1.0)
        left.axhline(cap, color=color, linestyle=dash, label=f"cap, n = {n:,}")
    left.set(xscale="log", xlim=(0.5, 1e-7), ylim=(0, 5.4), xlabel="1 − p_A (log scale)", ylabel="radius / σ")
    left.set_title("radius an image can earn")
    left.legend(loc="lower right", fontsize=8)
    share = np.linspace(0.5, 0.989, 300)
    right.plot(100 * share, norm.ppf(share + 0.01) - norm.ppf(share), color=VERMILION)
    right.set(xlabel="share of votes for the class (%)", ylabel="gain in radius / σ", ylim=(0, None))
    right.set_title("what one more vote in a hundred adds")
    figure.alt = (
        "Left, the radius in units of σ against 1 − p_A on a logarithmic axis: it grows without bound as p_A "
        "approaches 1; horizontal lines show where n = 1,000, 100,000 and 10 million votes cap it. Right, what one "
        "more percentage point of votes adds to the radius: little between 50 and 90 %, and steeply more beyond 97 %."
    )
    return figure


def acr_with(row: pd.Series, n: int, alpha: float = 0.001, taken: int = 100_000) -> float:
    """The ACR that `row` would have with n ≤ 100,000 votes an image, from its certified counts.

    Each image is given the middle of the ⅛ in which its radius lies (the cap, where that is smaller); from it the
    share of votes that gave this radius with `taken` votes; and from that share the radius with n.
    """
    counts = np.append(row.certified, 0)
    images = counts[:-1] - counts[1:]
    middles = (np.arange(len(images)) + 0.5) * published.STEP
    middles[-1] = ((len(images) - 1) * published.STEP + bounds.max_certified_radius(taken, alpha, row.sigma)) / 2
    votes = np.arange(taken // 2, taken + 1)
    lower = bounds.lower_confidence_bound(votes, taken, alpha)
    share = np.interp(norm.cdf(middles / row.sigma), lower, votes / taken)
    radius = norm.ppf(bounds.lower_confidence_bound(np.round(share * n), n, alpha)) * row.sigma
    return float(np.sum(images * radius.clip(0)) / row.images)


@styled
def budget_figure(sizes, values: dict[str, list[float]], alpha: float = 0.001) -> Figure:
    """ACR of the same models against the number of votes n."""
    figure, axes = new_figure(width=7.6, height=3.7)
    for (name, acr), dash in zip(values.items(), DASHES, strict=False):
        axes.plot(sizes, acr, "o" + dash, color=COLORS[method_of(name) or "gaussian"], label=name)
    axes.set(xscale="log", xlabel="n, votes an image (log scale)", ylabel="ACR", ylim=(0, None))
    axes.set_title(f"the same networks, σ = 0.5, α = {alpha:g}: ACR against n")
    axes.legend(loc="lower right")
    figure.alt = (
        f"ACR of the same networks, {' and '.join(values)}, against the number of votes from {min(sizes):,} to "
        f"{max(sizes):,}: the curves climb all the way, the SmoothAdv curve above the other."
    )
    return figure


@styled
def rows_figure(rows: pd.DataFrame, base: str = "SmoothAdv") -> Figure:
    """What each row adds to the row `base`, in points, at each radius; `rows` as from `report.published.table_rows`."""
    figure, axes = new_figure(width=8.6, height=3.8)
    marks = dict(zip(ROW_COLORS, "sovD^", strict=True))
    for name in rows.index.drop(base):
        gain = rows.loc[name] - rows.loc[base]
        axes.plot(rows.columns, gain, marks[name] + "-", color=ROW_COLORS[name], label=name, linewidth=1.5)
    axes.axhline(0, color=INK, linewidth=1)
    axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylabel=f"points above {base}", title="the rows, compared")
    axes.legend(loc="center right", ncols=2)
    figure.alt = (
        f"Points above the row {base} at nine radii. Cohen et al. lie far below throughout. The three rows with extra "
        "data gain several points up to radius 0.75 and about one point beyond; “both” dips below zero at radius 1."
    )
    return figure


def own_runs() -> dict[str, pd.DataFrame]:
    """Finished runs to draw: those on CIFAR-10 if this copy ships any, else the digits': name → log."""
    for place in ("cifar10*", "digits"):
        found = {}
        for file in sorted(run_folder.RESULTS.glob(f"{place}/**/certify*.tsv")):
            if (file.parent / "config.json").is_file() and len(log := logs.read_log(file)):
                found[str(file.parent.relative_to(run_folder.RESULTS))] = log
        if found:
            return found
    return {}


@styled
def own_figure(runs: dict[str, pd.DataFrame]) -> Figure:
    """Certified accuracy of the given runs with 95 % intervals over images, a panel a σ.

    Dotted: published models of the same σ on the same 500 images, where the runs are on CIFAR-10's every 20th.
    """
    sigmas: dict[float, dict[str, pd.DataFrame]] = {}
    for name, log in runs.items():
        sigmas.setdefault(_config(name).sigma, {})[name] = log
    rows = -(-len(sigmas) // 2)
    figure, panels = new_figure(
        rows, min(2, len(sigmas)), width=9.8, height=0.9 + 3.3 * rows, squeeze=False, sharey=True
    )
    legend: dict[str, Artist] = {}
    for axes, sigma in zip_longest(panels.flat, sorted(sigmas)):
        if sigma is None:
            axes.remove()
            continue
        if all(name.startswith("cifar10") and len(log) == 500 for name, log in sigmas[sigma].items()):
            _draw_published(axes, sigma)
        _draw_runs(axes, sigmas[sigma])
        largest = max(float(log.radius.max()) for log in sigmas[sigma].values())
        _finish(axes, f"σ = {sigma:g}", largest + 0.1)
        axes.set(xlim=(-0.1, largest + 0.1), xticks=np.arange(0, largest + 0.1, 0.25))
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            legend.setdefault(label, handle)
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=3)
    shown = ", ".join(f"{sigma:g}" for sigma in sorted(sigmas))
    figure.alt = (
        f"A panel for each σ ({shown}): certified accuracy at the table's radii for our {len(runs)} runs, dots beside "
        "each other with 95 % intervals. Dotted, the published ResNet-110 models of the same σ on the same images. "
        "Where the small network was trained by SmoothAdv, it begins below Gaussian training of the same network and "
        "ends above it."
    )
    return figure


@styled
def row_figure(runs: dict[str, pd.DataFrame]) -> Figure:
    """Our row of the table beside the two published ones: at each radius the best of the given runs, with its interval.

    Gaussian training, which the table has as a row of its own, does not count. The mark says which σ is best there.
    """
    runs = {name: log for name, log in runs.items() if _config(name).method != "gaussian"}
    radii = np.array(published.CIFAR10_RADII)
    row = pd.DataFrame({name: tables.certified_accuracy(log, radii) for name, log in runs.items()}, index=radii)
    best, winner = row.max(axis=1), row.idxmax(axis=1)
    figure, axes = new_figure(width=8.6, height=4.4)
    rows = (("SmoothAdv", "SmoothAdv", "hundreds of", GREEN), ("Cohen et al.", "Gaussian", "four", BLUE))
    for name, label, how_many, color in rows:
        axes.plot(radii, published.PRINTED["blog"][name], ":", color=color, linewidth=1.4)
        axes.plot(radii, published.PRINTED["blog"][name], "_", color=color, markersize=14, markeredgewidth=2.2,
                  label=f"{label}, published: {how_many} ResNet-110")  # fmt: skip
    sigmas = {name: _config(name).sigma for name in row}
    marks = dict(zip(sorted(set(sigmas.values())), "osD^", strict=False))
    for sigma, mark in marks.items():
        here = [radius for radius in radii if best[radius] > 0 and sigmas[winner[radius]] == sigma]
        if not here:
            continue
        sizes = [len(runs[winner[radius]]) for radius in here]
        ends = [interval(round(best[radius] * n / 100), n) for radius, n in zip(here, sizes, strict=True)]
        bars = np.abs(np.array(ends).T - best[here].to_numpy())
        axes.errorbar(here, best[here], bars, fmt=mark, color=INK, capsize=3,
                      markersize=6, label=f"ours, σ = {sigma:g}, with 95 % intervals")  # fmt: skip
    _finish(axes, "CIFAR-10: 500 test images, at each radius the best model of each row", 2.4, 82)
    axes.set(xlim=(0.1, 2.4), xticks=radii)
    axes.legend(loc="upper right")
    cells = ", ".join(f"{radius:g}: {best[radius]:.1f}" for radius in radii)
    figure.alt = (
        "Certified accuracy at the nine radii of the table. Two rows of dashes fall from left to right, SmoothAdv as "
        "published above Gaussian training as published. Our row is drawn as dots with 95 % intervals, a mark for each "
        f"σ. Ours in percent: {cells}."
    )
    return figure


@styled
def live_figure(image: Tensor, certificate: Certificate, classes: tuple[str, ...]) -> Figure:
    """The image (C, H, W), a copy of it under the certificate's noise, and the votes for each class."""
    figure, (plain, noisy, votes) = new_figure(1, 3, width=9.8, height=3.2, width_ratios=(1, 1, 1.6))
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    copy = image + certificate.sigma * noise
    for axes, shown, title in ((plain, image, "the image"), (noisy, copy, f"under noise, σ = {certificate.sigma:g}")):
        axes.imshow(shown.clamp(0, 1).permute(1, 2, 0).numpy())
        axes.set(xticks=[], yticks=[], title=title)
        axes.grid(False)
    counts = np.array(certificate.counts)
    places = np.arange(len(classes))
    colors = [GREEN if place == certificate.selected else GREY for place in places]
    votes.barh(places, counts / counts.sum(), color=colors)
    votes.axvline(0.5, color=INK, linestyle="--", linewidth=1)
    votes.set_yticks(places, classes)
    votes.invert_yaxis()
    votes.set(xlim=(0, 1.02), xlabel="share of votes", title=f"{round(counts.sum()):,} votes")
    figure.alt = (
        f"A test image of 32 by 32 pixels, the same under Gaussian noise of σ = {certificate.sigma:g}, and a bar for "
        f"each of ten classes: the share of {round(counts.sum()):,} noisy copies that the network gives that class. "
        f"The longest bar is {classes[certificate.selected]}; a dashed line marks one half."
    )
    return figure


def _config(name: str):
    return run_folder.read_run(run_folder.RESULTS / name)[0]


def run_labels(names) -> dict[str, str]:
    """Short names of runs, "SmoothAdv, ResNet-8"; the folder's own where two would have the same."""
    methods = {"gaussian": "Gaussian", "smoothadv": "SmoothAdv", "smoothmix": "SmoothMix"}
    labels = {}
    for name in names:
        config = _config(name)
        network = config.arch.removesuffix("-half").replace("resnet", "ResNet-")
        labels[name] = f"{methods.get(config.method, config.method.capitalize())}, {network}"
    doubled = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    return {name: name if label in doubled else label for name, label in labels.items()}


def _draw_runs(axes, runs: dict[str, pd.DataFrame]) -> None:
    """Dots with intervals beside each other: a sequential log decides the radii of the table and none between."""
    labels, marks = run_labels(runs), {"gaussian": "D", "smoothadv": "^", "consistency": "s"}
    apart = 0.028 * max(float(log.radius.max()) for log in runs.values())
    for number, (name, log) in enumerate(runs.items()):
        radii = np.array([radius for radius in bounds.RADII if radius <= log.radius.max()])
        method = _config(name).method
        color = COLORS.get(method, CYCLE[number % len(CYCLE)])
        accuracy = tables.certified_accuracy(log, radii)
        low, high = interval((accuracy * len(log) / 100).round(), len(log))
        aside = (number - (len(runs) - 1) / 2) * apart
        axes.errorbar(radii + aside, accuracy, (accuracy - low, high - accuracy), fmt=marks.get(method, "o"),
                      color=color, markersize=5, capsize=2, elinewidth=1.2, label=labels[name],
                      fillstyle="none" if "small" in name else "full")  # fmt: skip


def _draw_published(axes, sigma: float) -> None:
    """The published models of this σ, ResNet-110, n = 100,000: the one of highest ACR of each method."""
    best = published.load("cifar10-best")
    for row, method in (("Cohen et al.", "gaussian"), ("SmoothAdv", "smoothadv")):
        models = published.group(best[(best.every == 20) & (best.sigma == sigma)], row)
        if len(models):
            radii, accuracy = published.curve(models.loc[models.ACR.idxmax()])
            label = f"{'Gaussian' if method == 'gaussian' else row}, published, ResNet-110"
            axes.step(radii, accuracy, ":", where="pre", color=COLORS[method], linewidth=1.4, label=label)
