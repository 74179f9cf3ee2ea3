"""Figures of notebook 07: the published tables, their envelopes, and ACR."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from rslab.lectures.style import (
    BLUE,
    COLORS,
    CYCLE,
    DASHES,
    GREEN,
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
    return figure


@styled
def subset_figure(few: pd.Series, all_images: pd.Series, radii=bounds.RADII) -> Figure:
    """One model on every 20th image, with 95 % intervals, beside the same model on all images."""
    figure, axes = new_figure(width=8.6, height=3.8)
    names = pd.DataFrame([few, all_images])
    names.index = ["few", "all"]
    shares = published.accuracies(names, radii)
    counts = (shares.loc["few"] * few.images / 100).round()
    low, high = interval(counts, int(few.images))
    error = np.array([shares.loc["few"] - low, high - shares.loc["few"]])
    label = f"every 20th image ({few.images}), 95 % interval"
    axes.errorbar(radii, shares.loc["few"], error.clip(0), fmt="o", color=VERMILION, capsize=4, label=label)
    axes.plot(radii, shares.loc["all"], "s", color=BLUE, markersize=7, fillstyle="none", markeredgewidth=1.8)
    axes.plot([], [], "s", color=BLUE, fillstyle="none", markeredgewidth=1.8, label=f"all {all_images.images:,} images")
    _finish(axes, "Gaussian training, σ = 1: the same network, two sets of images", 2.4, 60)
    axes.set_xlim(-0.1, 2.4)
    axes.legend(loc="upper right")
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
    arch = {}
    for name, log in runs.items():
        config, _ = run_folder.read_run(run_folder.RESULTS / name)
        sigmas.setdefault(config.sigma, {})[name], arch[name] = log, config.arch
    figure, panels = new_figure(1, len(sigmas), width=9.4, height=4.2, squeeze=False, sharey=True)
    for axes, sigma in zip(panels[0], sorted(sigmas), strict=True):
        xmax = 1.1 * max(float(log.radius.max()) for log in sigmas[sigma].values())
        _draw_runs(axes, sigmas[sigma], arch, xmax)
        if all(name.startswith("cifar10") and len(log) == 500 for name, log in sigmas[sigma].items()):
            _draw_published(axes, sigma)
        _finish(axes, f"σ = {sigma:g}, with 95 % intervals", xmax)
        axes.legend(loc="upper right", fontsize=7.5)
    return figure


def _draw_runs(axes, runs: dict[str, pd.DataFrame], arch: dict[str, str], xmax: float) -> None:
    for number, (name, log) in enumerate(runs.items()):
        radii = np.unique(np.r_[0, log.radius, np.linspace(0, xmax, 120)])
        color = COLORS.get(method_of(name) or "", CYCLE[number % len(CYCLE)])
        accuracy = tables.certified_accuracy(log, radii)
        low, high = interval((accuracy * len(log) / 100).round(), len(log))
        label = f"{name.rsplit('/')[-1]}, {arch[name]}"
        axes.step(radii, accuracy, where="pre", color=color, linestyle=DASHES[number % len(DASHES)], label=label)
        axes.fill_between(radii, low, high, step="pre", color=color, alpha=0.15, linewidth=0)
        decided = np.unique(log.radius)
        if len(decided) < 20:  # a sequential log knows these radii only; between them the stair is a lower bound
            axes.plot(decided, tables.certified_accuracy(log, decided), "o", color=color, markersize=5)


def _draw_published(axes, sigma: float) -> None:
    """The published models of this σ, ResNet-110, n = 100,000: the one of highest ACR of each method."""
    best = published.load("cifar10-best")
    for row, method in (("Cohen et al.", "gaussian"), ("SmoothAdv", "smoothadv")):
        models = published.group(best[(best.every == 20) & (best.sigma == sigma)], row)
        if len(models):
            radii, accuracy = published.curve(models.loc[models.ACR.idxmax()])
            label = f"published {method}, ResNet-110"
            axes.step(radii, accuracy, ":", where="pre", color=COLORS[method], linewidth=1.4, label=label)
