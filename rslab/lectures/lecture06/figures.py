"""Figures of notebook 06: the two objectives on a line, in the plane and on digits; the four combinations."""

import math
from functools import cache

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import t as student
from torch import Tensor

from rslab import attacks
from rslab.lectures.style import BLUE, COLORS, GREY, INK, ORANGE, PURPLE, SKY, new_figure, styled
from rslab.report import published
from rslab.report.tables import certified_accuracy
from rslab.smoothing.classifier import log_mean_probs, mean_log_probs
from rslab.smoothing.closed_forms import StepClassifier
from rslab.store.logs import read_log
from rslab.store.run_folder import RESULTS

NAIVE, SMOOTHADV = COLORS["naive"], COLORS["smoothadv"]
OBJECTIVES = {  # name → what it makes of m noisy copies, and how the loss is read from that
    "SmoothAdv": (log_mean_probs, attacks.cross_entropy),
    "naive": (mean_log_probs, attacks.negative_log_likelihood),
}

# -- one pixel: everything exact -----------------------------------------------------------------


def objectives(toy: StepClassifier, places: np.ndarray, sigma: float) -> dict[str, np.ndarray]:
    """G_y and the two losses at each place on the line, in closed form."""
    probability = np.array([toy.probability(x, sigma) for x in places])
    naive = np.array([toy.naive_loss(x, sigma) for x in places])
    return {"G": probability, "naive": naive, "SmoothAdv": -np.log(probability)}


def best_places(toy: StepClassifier, sigma: float, epsilon: float, points: int = 1501) -> dict[str, float]:
    """Where in [−ε, ε] either objective is largest, on a grid."""
    grid = np.linspace(-epsilon, epsilon, points)
    losses = objectives(toy, grid, sigma)
    return {name: float(grid[losses[name].argmax()]) for name in ("naive", "SmoothAdv")}


def _draw_step(axes, toy: StepClassifier, reach: float) -> None:
    edges = [-reach, *toy.edges, reach]
    axes.stairs(toy.values, edges, baseline=None, color=GREY, linewidth=1.8, label="F_y, the base classifier")


@styled
def toy_figure(toy: StepClassifier, sigma: float = 0.5, epsilon: float = 0.75, reach: float = 1.5) -> Figure:
    """F_y and G_y on a line (left); the naive and SmoothAdv's loss with their maxima in the ball (right)."""
    places = np.linspace(-reach, reach, 301)
    curves, best = objectives(toy, places, sigma), best_places(toy, sigma, epsilon)
    figure, (left, *right) = new_figure(1, 3, width=10.2, height=3.7, width_ratios=(1.3, 1, 1))
    _draw_step(left, toy, reach)
    left.plot(places, curves["G"], color=BLUE, label="G_y, its average under noise")
    left.axhline(0.5, color=INK, linestyle="--", linewidth=1)
    for name, color, marker in (("naive", NAIVE, "v"), ("SmoothAdv", SMOOTHADV, "*")):
        height = toy.probability(best[name], sigma)
        left.plot(best[name], height, marker, color=color, markeredgecolor=INK, markersize=12)
    left.set(ylim=(-0.03, 1.42), yticks=np.arange(0, 1.1, 0.25), ylabel="probability of y", title="the classifier")
    left.legend(loc="upper center", fontsize=8.5)
    for axes, name, color, marker in zip(right, ("naive", "SmoothAdv"), (NAIVE, SMOOTHADV), "v*", strict=True):
        axes.plot(places, curves[name], color=color)
        axes.plot(best[name], np.interp(best[name], places, curves[name]), marker, color=color)
        axes.lines[-1].set(markeredgecolor=INK, markersize=12, clip_on=False, zorder=5)
        axes.set_title("naive: E[−log F_y]" if name == "naive" else "SmoothAdv: −log E[F_y]")
        axes.set_ylabel("loss")
    for axes in (left, *right):
        axes.axvspan(-epsilon, epsilon, color=SKY, alpha=0.15)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(xlim=(-reach, reach), xlabel="pixel t; the image is 0")
    before, after = (toy.probability(x, sigma) for x in (0.0, best["SmoothAdv"]))
    figure.alt = (
        f"Three panels over one pixel t; the image is at 0, the ball of radius {epsilon:g} is shaded. Left: F_y is a "
        "step function, near 1 but almost 0 in a narrow region left of the image and small beyond 0.5. Its average "
        f"G_y under noise falls slowly from left to right and is {before:.2f} at the image. Middle: the naive loss has "
        f"its maximum in the ball at {best['naive']:.2f}, over the narrow region. Right: SmoothAdv's loss rises up to "
        f"the right edge of the ball, {best['SmoothAdv']:.2f}. In the left panel the triangle, where the naive attack "
        f"ends, lies higher on G_y than the image itself; the star of SmoothAdv lies at {after:.2f}, below one half."
    )
    return figure


@styled
def price_figure() -> Figure:
    """What one copy adds to either loss when its F_y falls towards 0 and the other 99 copies keep 0.9."""
    falling = np.logspace(0, -12, 200)
    figure, axes = new_figure(width=7.4, height=3.4)
    naive = -(99 * math.log(0.9) + np.log(falling)) / 100
    smoothadv = -np.log((99 * 0.9 + falling) / 100)
    axes.plot(falling, naive, color=NAIVE, linestyle="--", label="naive: mean of −log F_y")
    axes.plot(falling, smoothadv, color=SMOOTHADV, label="SmoothAdv: −log of the mean of F_y")
    axes.set(xscale="log", xlabel="F_y of one copy in a hundred; the others have 0.9", ylabel="loss", ylim=(0, 0.45))
    axes.invert_xaxis()
    axes.set_title("the price of one lost copy")
    axes.legend(loc="upper left")
    figure.alt = (
        "The loss of a hundred noisy copies when F_y of one of them falls from 1 to 10⁻¹² and the others keep 0.9. "
        f"The naive loss, dashed, grows steadily from {naive[0]:.2f} to {naive[-1]:.2f}. SmoothAdv's loss rises from "
        f"{smoothadv[0]:.2f} to {smoothadv[-1]:.2f} and then stays there."
    )
    return figure


# -- two pixels: PGD with m samples ----------------------------------------------------------------


@cache
def _plane_grid(sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points of N(0, σ²I) on ±5.5σ, fine across the narrow dip, and the weights of either axis."""
    axes = [torch.linspace(-5.5, 5.5, count, dtype=torch.float64) for count in (301, 81)]
    weights = [torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum() for z in axes]
    return torch.cartesian_prod(*axes) * sigma, weights[0], weights[1]


def plane_probability(toy, x: Tensor, sigma: float = 0.5) -> float:
    """G_y at a point (2,) of the plane, by quadrature."""
    points, first, second = _plane_grid(sigma)
    inside = toy(x + points).softmax(1)[:, 1].view(len(first), len(second))
    return float(first @ inside @ second)


def plane_attack(
    toy, name: str, m: int, seeds: int = 50, sigma: float = 0.5, epsilon: float = 0.75, path: list[Tensor] | None = None
) -> Tensor:
    """Where PGD (T = 20, step 2ε/T, fixed noise) ends from the origin, for `seeds` draws of m samples: (seeds, 2).

    An image is ½ + x/2, so that the ball fits into [0, 1]. `path`, where given, gets every iterate, (seeds, 2) each.
    """
    estimate, objective = OBJECTIVES[name]
    generator = torch.Generator().manual_seed(m)
    noise = torch.randn(m, seeds, 2, 1, 1, dtype=torch.float64, generator=generator) * sigma
    start, labels = torch.full((seeds, 2, 1, 1), 0.5, dtype=torch.float64), torch.ones(seeds, dtype=torch.long)

    def scores(image: Tensor) -> Tensor:
        if path is not None:
            path.append((2 * image.detach() - 1).flatten(1))
        return estimate(toy, 2 * image - 1, noise)

    ends = attacks.pgd(
        scores,
        start,
        labels,
        epsilon / 2,
        steps=20,
        step_size=epsilon / 20,
        objective=objective,
    )
    return (2 * ends - 1).flatten(1)


@styled
def plane_figure(toy, ms=(1, 256), seeds: int = 6, sigma: float = 0.5, epsilon: float = 0.75) -> Figure:
    """The paths of PGD on either objective over contours of the exact G, a panel a number m of samples."""
    ticks = torch.linspace(-1, 1, 37, dtype=torch.float64)
    z = [torch.linspace(-5, 5, count, dtype=torch.float64) for count in (181, 31)]
    first, second = (torch.exp(-row * row / 2) / torch.exp(-row * row / 2).sum() for row in z)
    noise = torch.cartesian_prod(*z) * sigma
    rows = [toy(noise + torch.stack((a, b))).softmax(1)[:, 1].view(181, 31) for b in ticks for a in ticks]
    exact = np.array([float(first @ row @ second) for row in rows]).reshape(37, 37)
    figure, panels = new_figure(1, len(ms), width=9.6, height=4.5, sharey=True)
    for axes, m in zip(panels, ms, strict=True):
        levels = np.arange(0.1, 1.0, 0.1)
        lines = axes.contour(ticks, ticks, exact, levels, colors=GREY, linewidths=0.9)
        axes.clabel(lines, fmt="%.1f", fontsize=8)
        axes.contour(ticks, ticks, exact, [0.5], colors=INK, linewidths=2, linestyles="--")
        angle = np.linspace(0, 2 * np.pi, 100)
        axes.fill(epsilon * np.cos(angle), epsilon * np.sin(angle), color=SKY, alpha=0.15)
        for name, color, marker in (("naive", NAIVE, "v"), ("SmoothAdv", SMOOTHADV, "*")):
            path: list[Tensor] = []
            ends = plane_attack(toy, name, m, seeds, sigma, epsilon, path)
            for seed, way in enumerate(torch.stack(path, 1).numpy()):
                axes.plot(*way.T, color=color, linewidth=1, alpha=0.7)
                axes.plot(*ends[seed], marker, color=color, markeredgecolor=INK, markersize=9, linestyle="none")
            axes.lines[-1].set_label(name)
        axes.plot(0, 0, "o", color=INK, markersize=5)
        axes.set(xlabel="first pixel; the image is 0", title=f"m = {m}", aspect="equal")
        axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1), yticks=(-1, -0.5, 0, 0.5, 1))
        axes.grid(False)
    panels[0].set_ylabel("second pixel")
    panels[-1].legend(loc="lower right")
    figure.alt = (
        f"Contours of the exact G over two pixels, one half dashed, the ball of radius {epsilon:g} shaded, and the "
        f"paths of PGD from the image in the middle for {seeds} draws of the noise; left m = {ms[0]}, right m = "
        f"{ms[-1]}. With one sample the paths of the two objectives coincide: some run straight to the upper right, "
        "across the dashed line, others hardly leave the image. With many samples all of SmoothAdv's paths run to the "
        "upper right and across the dashed line; the naive ones zigzag, most of them close to the image or to the "
        "left, where G is larger."
    )
    return figure


def _line(axes, samples, values, name: str, label: str = "", **options) -> None:
    style = {"naive": dict(color=NAIVE, marker="v", linestyle="--"), "SmoothAdv": dict(color=SMOOTHADV, marker="o")}
    axes.plot(samples, values, label=label or name, **style[name], **options)
    axes.set_xscale("log", base=2)
    axes.set_xticks(samples, [str(m) for m in samples], minor=False)


@styled
def success_figure(samples, success: dict[str, list[float]]) -> Figure:
    """Share of attacks that flip G on the two-pixel toy, against the number m of noise samples."""
    figure, axes = new_figure(width=7.0, height=3.5)
    for name, share in success.items():
        _line(axes, samples, 100 * np.array(share), name)
    axes.set(xlabel="noise samples m", ylabel="attacks that flip G (%)", ylim=(-3, 103), yticks=range(0, 101, 25))
    axes.legend(loc="center right")
    ends = "; ".join(
        f"{name} from {100 * share[0]:.0f} to {100 * share[-1]:.0f} percent" for name, share in success.items()
    )
    figure.alt = (
        f"Share of attacks that flip G against the number of noise samples, {samples[0]} to {samples[-1]}: {ends}. "
        "Both objectives start at the same height with one sample. SmoothAdv climbs to the top and stays there; the "
        "naive attack falls, not steadily."
    )
    return figure


# -- digits -----------------------------------------------------------------------------------


def attack_smoothed(f, x: Tensor, y: Tensor, name: str, m: int, epsilon: float, steps: int, sigma: float, seed=0):
    """PGD on either objective with m fixed noise samples: the adversarial images (B, C, H, W)."""
    estimate, objective = OBJECTIVES[name]
    noise = torch.randn(m, *x.shape, generator=torch.Generator().manual_seed(seed)) * sigma
    return attacks.pgd(lambda z: estimate(f, z, noise), x, y, epsilon, steps=steps, objective=objective)


@torch.no_grad()
def smoothed_probability(f, x: Tensor, y: Tensor, sigma: float, n: int = 400, seed: int = 1000) -> Tensor:
    """G(x)_y of each image (B,) from n fresh noise samples, the same for every call with one seed."""
    noise = torch.randn(n, 1, *x.shape[1:], generator=torch.Generator().manual_seed(seed)) * sigma
    return log_mean_probs(f, x, noise.expand(n, *x.shape)).exp().gather(1, y[:, None])[:, 0]


@styled
def digits_attack_figure(samples, left: dict[str, dict[str, Tensor]], epsilon: float) -> Figure:
    """Above, mean G_y after each attack against m, a column a model; below, naive minus SmoothAdv, image by image.

    left: model → attack ("clean", "base": (1, B); either objective: (number of m, B)) → G_y that is left. The bars
    are 95 % intervals for the mean of the differences.
    """
    figure, panels = new_figure(2, len(left), width=9.6, height=5.6, sharey="row", height_ratios=(1.5, 1))
    for (axes, below), (model, values) in zip(panels.T, left.items(), strict=True):
        axes.axhline(float(values["clean"].mean()), color=INK, linestyle=":", label="no attack")
        axes.axhline(float(values["base"].mean()), color=ORANGE, linestyle="-.", label="attack on f, no noise")
        for name in OBJECTIVES:
            _line(axes, samples, values[name].mean(1).numpy(), name, f"{name} attack on G")
        axes.set(title=f"{model}, ε = {epsilon:g}", ylim=(0.38, 1.02))
        difference = values["naive"] - values["SmoothAdv"]  # (number of m, B)
        half = student.ppf(0.975, difference.shape[1] - 1) * difference.std(1) / difference.shape[1] ** 0.5
        below.axhline(0, color=INK, linewidth=1)
        below.errorbar(samples, difference.mean(1), half, fmt="D", color=INK, markersize=5, capsize=4, linewidth=1.5)
        below.set_xscale("log", base=2)
        below.set_xticks(samples, [str(m) for m in samples], minor=False)
        below.set(xlabel="noise samples m of the attack")
    panels[0, 0].set_ylabel("mean G_y after the attack")
    panels[1, 0].set_ylabel("naive − SmoothAdv")
    panels[0, 0].legend(loc="center left", bbox_to_anchor=(0.02, 0.62), fontsize=8.5)
    figure.alt = (
        f"Two columns: {' and '.join(left)}. Above, the mean of G_y after the attack against m. Without attack G_y is "
        "highest; the attack on f alone, with no noise, is a horizontal line far below. With m = 1 the two attacks on "
        "G coincide and are weaker than the attack on f; both improve with m and end a little below it. SmoothAdv and "
        "the naive attack can hardly be told apart. Below, their difference image by image with 95 percent intervals: "
        "0 at m = 1, at most one hundredth above 0 at m = 4 and 16, and near 0 again at m = 64."
    )
    return figure


@styled
def ddn_figure(certified: list[float], found: list[float], of: int) -> Figure:
    """Certified radius and distance of the adversarial example that DDN found, a dot an image; `of` were tried."""
    figure, axes = new_figure(width=6.2, height=4.0)
    top = 1.08 * max(found)
    axes.plot([0, top], [0, top], color=INK, linestyle="--", label="distance = certified radius")
    axes.fill_between([0, top], 0, [0, top], color=GREY, alpha=0.15)
    axes.plot(certified, found, "o", color=SMOOTHADV, markersize=5, markeredgecolor=INK, label="one digit")
    axes.text(0.97 * top, 0.06 * top, "no attack can land here", ha="right", color=GREY)
    axes.set(xlim=(0, top), ylim=(0, 1.35 * top), xlabel="certified radius", ylabel="distance found by DDN")
    axes.set_title(f"the truth lies between ({len(found)} of {of} digits)")
    axes.legend(loc="upper left")
    figure.alt = (
        f"One dot per digit, {len(found)} in all: the certified radius across, the distance at which DDN found an "
        "adversarial example upwards. All dots lie above the diagonal, most within twice the certified radius; the "
        "area below the diagonal is grey."
    )
    return figure


@styled
def stein_figure(samples, cosine: dict[str, np.ndarray]) -> Figure:
    """Cosine between a gradient estimate with m samples and the plug-in gradient with very many: mean and spread."""
    figure, axes = new_figure(width=7.2, height=3.6)
    marks = (("o", "-", SMOOTHADV), ("s", "--", PURPLE), ("v", ":", GREY))
    for (name, values), (marker, line, color) in zip(cosine.items(), marks, strict=False):
        mean, spread = values.mean(1), values.std(1)
        axes.plot(samples, mean, marker=marker, linestyle=line, color=color, label=name)
        axes.fill_between(samples, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(samples, [str(m) for m in samples])
    axes.set(xlabel="network evaluations", ylabel="cosine with the true direction", ylim=(-0.1, 1.05))
    axes.set_yticks(np.arange(0, 1.1, 0.25))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    ends = "; ".join(f"{name} from {row[0].mean():.2f} to {row[-1].mean():.2f}" for name, row in cosine.items())
    figure.alt = (
        "Cosine between an estimated gradient and the true direction against the number of network evaluations, "
        f"{samples[0]} to {samples[-1]}, at one digit: {ends}."
    )
    return figure


# -- published attacks -------------------------------------------------------------------------


def published_attacks() -> pd.DataFrame:
    """Accuracy of g in % by (attack, samples) and ε: attacks of Salman et al. on Cohen et al.'s ResNet-110."""
    table = pd.read_csv(RESULTS / "published" / "attacks.tsv", sep="\t", comment="#", index_col=["attack", "samples"])
    return table.rename(columns=float)


@styled
def published_attacks_figure(table: pd.DataFrame, shown=(0.25, 0.5, 1.0, 2.0)) -> Figure:
    """Accuracy of the published Gaussian ResNet-110 under attack against m: SmoothAdv, base (flat), gradient-free."""
    figure, axes = new_figure(1, len(shown), width=10.2, height=3.6, sharey=True)
    for cell, epsilon in zip(axes, shown, strict=True):
        column = table[epsilon]
        cell.axhline(column["base"].iloc[0], color=ORANGE, linestyle="-.", label="attack on f")
        for attack, color, line, marker in (
            ("smoothadv", SMOOTHADV, "-", "o"),
            ("gradient-free", PURPLE, "--", "s"),
        ):
            cell.plot(column[attack].index, column[attack], color=color, linestyle=line, marker=marker, markersize=4)
            cell.lines[-1].set_label({"smoothadv": "SmoothAdv"}.get(attack, "gradient-free"))
        cell.set_xscale("log", base=2)
        cell.set_xticks((1, 8, 64, 512), ("1", "8", "64", "512"))
        cell.set(xlabel="noise samples m", title=f"ε = {epsilon:g}", ylim=(0, 100))
    axes[0].set_ylabel("accuracy of g (%)")
    axes[-1].legend(loc="upper right", fontsize=8.5)
    figure.alt = (
        "Accuracy of g under attack against the number of noise samples, in panels for ε = "
        f"{', '.join(f'{epsilon:g}' for epsilon in shown)}. SmoothAdv's curve starts above the horizontal line of the "
        "attack on f at m = 1, crosses it between m = 1 and m = 4 and flattens out below it. The gradient-free attack "
        "stays far above, falling slowly up to m = 512."
    )
    return figure


# -- the four combinations ---------------------------------------------------------------------

WAYS = {
    "gaussian": "no attack: Gaussian",
    "1-combine1": "(1) robust f, and noise",
    "2-combine2": "(2) attack f, then noise",
    "3-combine3": "(3) noise, then attack f",
    "4-smoothadv": "(4) attack G",
    "4-smoothadv-log-mean": "(4), updates by log-mean",
}


def combination_logs(folder: str) -> dict[str, list[pd.DataFrame]]:
    """way → the certification logs of its seeds, of the shipped runs of `combinations-…`; only ways with a run."""
    root = RESULTS / folder
    logs = {way: [read_log(path) for path in sorted(root.glob(f"{way}-[0-9]/certify.tsv"))] for way in WAYS}
    return {way: runs for way, runs in logs.items() if runs}


@styled
def combinations_figure(folders: dict[str, str]) -> Figure:
    """Certified accuracy against the radius for the ways of `WAYS`: mean over seeds, band from lowest to highest."""
    figure, panels = new_figure(1, len(folders), width=10.2, height=4.2)
    for axes, (folder, title) in zip(panels, folders.items(), strict=True):
        logs = combination_logs(folder)
        radii = np.linspace(0, 1.02 * max(log.radius.max() for runs in logs.values() for log in runs), 120)
        for (way, runs), line in zip(logs.items(), ("-", ":", "--", "-.", "-", (0, (1, 1))), strict=False):
            color = INK if way.endswith("log-mean") else COLORS[way.split("-")[-1]]
            curves = np.stack([certified_accuracy(log, radii) for log in runs])
            axes.fill_between(radii, curves.min(0), curves.max(0), color=color, alpha=0.15, linewidth=0)
            axes.plot(radii, curves.mean(0), color=color, linestyle=line, label=WAYS[way], linewidth=1.8)
        axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", title=title, ylim=(0, 101), xlim=(0, radii[-1]))
    panels[0].set_ylabel("certified accuracy (%)")
    panels[0].legend(loc="upper right", fontsize=8.5)
    figure.alt = (
        f"Certified accuracy against the radius, {' and '.join(folders.values())}, one curve per method with a band "
        "from the lowest to the highest seed. On digits Gaussian training and way 1 begin above 90 percent and fall "
        "fastest; ways 2, 3 and 4 begin near 80 percent and lie highest from radius 0.45 on, with 3 and both versions "
        "of 4 above 2. On MNIST all curves run close together, 2 and 4 highest, Gaussian and way 1 lowest at large "
        "radii."
    )
    return figure


def ways_on_cifar10() -> pd.DataFrame:
    """ACR of the published ResNet-110s of ways (2) to (4): a row a σ and ε (in 255ths), a column a way; NaN: collapsed.

    All by PGD with T = 2, every network certified with the σ of its training on 500 images. Which way a network is
    was inferred from the names of the logs: `baseAttackExp` attacks f, `without_noise` at the clean image.
    """
    grid = published.load("cifar10-grid")
    grid = grid[(grid.attack == "PGD") & (grid.steps == 2) & (grid.train_sigma == grid.sigma) & (grid.images == 500)]
    grid = grid[(grid.pretrained == 0) & (grid.weight == 0)]
    way = {"base, without noise": "(2)", "base, with noise": "(3)", "smoothadv": "(4)"}
    names = grid.method.map(way) + np.where(grid.method == "smoothadv", ", m = " + grid.samples.astype(str), "")
    acr = grid.ACR.mask(published.collapsed(grid))
    return grid.assign(way=names, ACR=acr).pivot(index=["sigma", "epsilon"], columns="way", values="ACR")


def compare_ways(table: pd.DataFrame, better: str, worse: str) -> tuple[float, float, int, int]:
    """(mean difference of ACR, half of its 95 % interval, settings where `better` is ahead, settings compared).

    The interval is Student's, over the settings (σ, ε): a network each, so that luck in training counts too.
    """
    difference = (table[better] - table[worse]).dropna()
    half = student.ppf(0.975, len(difference) - 1) * difference.sem()
    return difference.mean(), half, int((difference > 0).sum()), len(difference)


@styled
def ways_figure(table: pd.DataFrame) -> Figure:
    """ACR against ε, a panel per σ: ways (2), (3), (4); the horizontal line is Gaussian training, without an attack."""
    sigmas = table.index.unique("sigma")
    figure, panels = new_figure(1, len(sigmas), width=10.2, height=3.9)
    lines = {"(2)": (SKY, ":"), "(3)": (ORANGE, "--"), "(4), m = 2": (SMOOTHADV, "-."), "(4), m = 8": (SMOOTHADV, "-")}
    best = published.load("cifar10-best")
    gaussian = published.group(best[best.every == 20], "Cohen et al.").groupby("sigma").ACR.max()
    for axes, sigma in zip(panels, sigmas, strict=True):
        rows = table.loc[sigma]
        for name, (color, line) in lines.items():
            axes.plot(rows.index / 255, rows[name], "o", color=color, linestyle=line, markersize=4, label=name)
        axes.axhline(gaussian[sigma], color=COLORS["gaussian"], linewidth=1, label="Gaussian")
        axes.set(xlabel="ε of the attack", title=f"σ = {sigma:g}", xlim=(0, 2.1))
    panels[0].set_ylabel("ACR")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8.5)
    figure.alt = (
        f"Average certified radius against ε in panels for σ = {', '.join(f'{sigma:g}' for sigma in sigmas)}. Way 2, "
        "dotted, lies lowest at most ε from σ = 0.25 on. Way 3, dashed, and way 4 run close together and cross "
        "several times. With m = 8, way 4 is highest at large ε and falls below way 3 at small ε for σ = 0.5 and 1. "
        "The horizontal line of Gaussian training lies below nearly all points."
    )
    return figure
