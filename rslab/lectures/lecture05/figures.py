"""Figures of notebook 05: log and mean, the plug-in estimator, and networks trained with noise."""

import math

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import binom, norm
from torch import Tensor

from rslab.lectures.style import (
    COLORS,
    CYCLE,
    DASHES,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILION,
    new_figure,
    show_image,
    styled,
)
from rslab.report import published

MARKERS = {"gaussian": "o", "smoothed": "D", "standard": "v"}  # two of the three colours are blues

# -- log and mean ----------------------------------------------------------------------------------


@styled
def jensen_figure(first: float = 0.9, second: float = 0.1) -> Figure:
    """−log p with two noisy copies on it: the mean of the two losses lies above the loss of the mean."""
    p = np.linspace(0.03, 1, 300)
    mean = (first + second) / 2
    outside, inside = -math.log(mean), -(math.log(first) + math.log(second)) / 2
    figure, axes = new_figure(width=7.6, height=3.9)
    axes.plot(p, -np.log(p), color=INK, label="−log p")
    axes.plot([first, second], [-math.log(first), -math.log(second)], "o-", color=GREY, linewidth=1.2, markersize=8)
    axes.lines[-1].set_label("two noisy copies of one image")
    axes.plot(mean, inside, "s", color=COLORS["gaussian"], markersize=10, markeredgecolor=INK)
    axes.lines[-1].set_label(f"mean of the losses: {inside:.3f}")
    axes.plot(mean, outside, "*", color=COLORS["smoothed"], markersize=15, markeredgecolor=INK)
    axes.lines[-1].set_label(f"loss of the mean: {outside:.3f}")
    axes.annotate("", (mean, inside - 0.05), (mean, outside + 0.07), arrowprops=dict(arrowstyle="<->", color=VERMILION))
    axes.text(mean - 0.03, 0.45, "Jensen's gap", color=VERMILION, va="center", ha="right")
    axes.set(xlabel="F_y of a noisy copy", ylabel="loss", xlim=(0, 1.02), ylim=(0, 3.5))
    axes.legend(loc="upper right")
    figure.alt = (
        f"The falling convex curve −log p. Two noisy copies of an image sit on it at p = {first:g} and {second:g}, "
        f"joined by a straight line. Half-way, at p = {mean:g}, the line passes {inside:.3f}, the mean of the two "
        f"losses (a square). The curve below it passes {outside:.3f}, the loss of the mean probability (a star). The "
        "distance between them is marked as Jensen's gap."
    )
    return figure


# -- the plug-in estimator on a two-valued F ----------------------------------------------------------

HIGH, LOW, WALL = 0.9, 0.1, 0.25  # F_y is HIGH up to a wall at distance WALL from the image, LOW beyond


def share_high(sigma: float) -> float:
    """P(F_y(x + δ) = HIGH) = Φ(WALL / σ)."""
    return float(norm.cdf(WALL / sigma))


def plug_in(q: float, m: int, high: float = HIGH, low: float = LOW) -> tuple[np.ndarray, np.ndarray]:
    """The plug-in estimate of −log G_y and its probability, for each number 0 … m of copies on the high side."""
    count = np.arange(m + 1)
    return -np.log((high * count + low * (m - count)) / m), binom.pmf(count, m, q)


def plug_in_moments(q: float, m: int, high: float = HIGH, low: float = LOW) -> tuple[float, float, float]:
    """(bias, standard deviation, second-order bias Var/(2mG²)) of the plug-in estimate of −log G_y, exactly."""
    values, weights = plug_in(q, m, high, low)
    mean = float(values @ weights)
    truth = q * high + (1 - q) * low
    variance = q * (1 - q) * (high - low) ** 2
    return mean + math.log(truth), float(np.sqrt((values - mean) ** 2 @ weights)), variance / (2 * m * truth**2)


@torch.no_grad()
def label_log_probs(f, x: Tensor, y: Tensor, sigma: float, n: int, seed: int = 0) -> Tensor:
    """log F(x + δᵢ)_y of each of n noisy copies of each image: (n, B), in chunks of 50."""
    noise = torch.randn(n, 1, *x.shape[1:], generator=torch.Generator().manual_seed(seed)) * sigma
    chunks = []
    for part in noise.split(50):
        log_probs = f((x + part).flatten(0, 1)).log_softmax(1).unflatten(0, (len(part), len(x)))
        chunks.append(log_probs.gather(2, y.expand(len(part), -1)[..., None])[..., 0])
    return torch.cat(chunks)


def network_bias(log_f: Tensor, samples) -> tuple[np.ndarray, np.ndarray]:
    """(bias, second-order bias) of the plug-in loss for each m, mean over images; log_f: (n, B), n ≫ m."""
    n = len(log_f)
    truth = np.log(n) - log_f.logsumexp(0)  # (B,)
    groups = [log_f[: n // m * m].unflatten(0, (n // m, m)) for m in samples]
    estimates = [np.log(m) - group.logsumexp(1) for m, group in zip(samples, groups, strict=True)]
    bias = np.array([float((estimate.mean(0) - truth).mean()) for estimate in estimates])
    probs = log_f.exp()
    relative = float((probs.var(0) / probs.mean(0) ** 2).mean())
    return bias, relative / (2 * np.array(samples))


@styled
def network_bias_figure(samples, bias: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Bias of the plug-in loss against m on a log scale, a colour a network; dashed: Var/(2mG²)."""
    figure, axes = new_figure(width=7.2, height=3.7)
    for name, (exact, second) in bias.items():
        axes.plot(samples, exact, color=COLORS[name], marker=MARKERS.get(name, "o"), label=name)
        axes.plot(samples, second, "--", color=COLORS[name], linewidth=1.2)
    axes.plot([], [], "--", color=INK, linewidth=1.2, label="second order: Var / (2mG²)")
    axes.set_xscale("log", base=2)
    axes.set_xticks(samples, [str(m) for m in samples])
    axes.set(yscale="log", xlabel="noise samples m", ylabel="bias of the loss (nats)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.alt = (
        "Bias of the plug-in loss against the number m of noise samples, on logarithmic axes, one curve each for "
        f"{', '.join(bias)}, with the line Var/(2mG²) dashed in the same colour. All curves fall. Standard training "
        "has by far the largest bias, Gaussian training the smallest. At small m each curve lies above its dashed "
        "line, and joins it as m grows."
    )
    return figure


SIGMA_STYLES = dict(zip((0.12, 0.25, 0.5, 1.0), zip(CYCLE, (":", "-", "--", "-."), strict=False), strict=True))

# -- networks under noise ---------------------------------------------------------------------------


@torch.no_grad()
def accuracy_under_noise(f, x: Tensor, y: Tensor, sigmas, copies: int = 20, seed: int = 0) -> list[float]:
    """Share (%) of noisy copies that f itself classifies correctly, for each σ; one noise for all."""
    noise = torch.randn(copies, *x.shape, generator=torch.Generator().manual_seed(seed))
    labels = y.repeat(copies)
    return [100 * float((f((x + s * noise).flatten(0, 1)).argmax(1) == labels).float().mean()) for s in sigmas]


UNDER_NOISE = {"fgsm": ORANGE, "l2-pgd": VERMILION}  # two attacks, both of adversarial training
TITLES = {"fgsm": "FGSM", "l2-pgd": "ℓ2 PGD", "gaussian": "Gaussian"}


def attacked_without_noise(sigma: float = 0.25) -> pd.Series:
    """ACR by ε (in 255ths) of the published CIFAR-10 networks that were attacked, ℓ2, and never saw noise."""
    grid = published.load("cifar10-grid")
    return grid[(grid.train_sigma == 0) & (grid.sigma == sigma)].set_index("epsilon").ACR.sort_index()


@styled
def under_noise_figure(sigmas, accuracies: dict[str, list[float]], images: Tensor, sigma: float) -> Figure:
    """Accuracy of f on noisy digits against σ, a curve a training method; right, digits without and with noise."""
    figure, axes = new_figure(1, 2, width=9.6, height=3.6, width_ratios=(1.8, 1))
    for (name, values), line in zip(accuracies.items(), DASHES, strict=False):
        color = (COLORS | UNDER_NOISE)[name]
        axes[0].plot(
            sigmas, values, linestyle=line, marker="o", markersize=4, color=color, label=TITLES.get(name, name)
        )
    axes[0].axvline(sigma, color=GREEN, linewidth=1, label=f"σ = {sigma:g}, at the right")
    axes[0].axhline(10, color=INK, linewidth=1, linestyle=":", label="guessing")
    axes[0].set(xlabel="σ of the noise (pixels in [0, 1])", ylabel="accuracy of f (%)", ylim=(0, 103))
    axes[0].set_yticks(range(0, 101, 25))
    axes[0].legend(loc="lower left", ncols=2)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * sigma
    show_image(axes[1], _mosaic(images, images + noise), f"above σ = 0, below σ = {sigma:g}")
    figure.alt = (
        f"Left, accuracy of f on noisy digits against σ from {min(sigmas):g} to {max(sigmas):g}, one curve per "
        "training. All begin near 100 percent. Standard training falls fastest, then FGSM; Gaussian training and ℓ2 "
        f"PGD run close together and highest. Right, {len(images)} digits without noise and, below, the same with σ = "
        f"{sigma:g}: hardly readable at 8 by 8 pixels."
    )
    return figure


def _mosaic(*rows: Tensor) -> Tensor:
    """Rows of images (B, C, H, W) beside and below each other, a white line of one pixel between two."""
    framed = [torch.nn.functional.pad(row, (0, 1, 0, 1), value=1.0) for row in rows]
    return torch.cat([torch.cat(tuple(row), 2) for row in framed], 1)[:, :-1, :-1]


@styled
def three_methods_figure(radii, curves: dict[str, np.ndarray], sigma: float) -> Figure:
    """Certified accuracy against the radius for standard, Gaussian and direct training."""
    figure, axes = new_figure(width=7.2, height=4.0)
    for (name, curve), line in zip(curves.items(), (":", "-", "--"), strict=False):
        marker = MARKERS.get(name, "o")
        axes.plot(radii, curve, color=COLORS[name], linestyle=line, marker=marker, markevery=10, label=name)
    axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy of the vote (%)")
    axes.set(ylim=(0, 101), xlim=(0, radii[-1]), title=f"digits, σ = {sigma:g}")
    axes.legend(loc="upper right")
    figure.alt = (
        f"Certified accuracy of the vote against the radius at σ = {sigma:g}: {', '.join(curves)}. Standard training "
        "falls steeply from the start. Gaussian training lies highest; direct training (smoothed) runs somewhat below "
        "it."
    )
    return figure


@styled
def certainty_figure(shares: dict[str, Tensor]) -> Figure:
    """How F_y of the noisy copies is distributed, a histogram a method: probabilities (% of copies) in ten bins."""
    figure, axes = new_figure(width=7.6, height=3.5)
    edges = np.linspace(0, 1, 11)
    width = 0.09 / len(shares)
    for index, (name, values) in enumerate(shares.items()):
        counts = np.histogram(values.flatten().numpy(), edges)[0] / values.numel()
        places = edges[:-1] + 0.05 + (index - (len(shares) - 1) / 2) * width
        bars = axes.bar(places, 100 * counts, width, color=COLORS[name], edgecolor=INK, linewidth=0.6, label=name)
        if name == "smoothed":  # another blue
            for bar in bars:
                bar.set_hatch("///")
    axes.set(xlabel="F_y of a noisy copy", ylabel="share of copies (%)", xlim=(0, 1))
    axes.legend(loc="upper center")
    figure.alt = (
        f"How F_y is distributed over the noisy copies, in ten bins, for two trainings: {', '.join(shares)}. Direct "
        "training (hatched) has many more copies in the last bin, near 1, and more in the first, near 0; Gaussian "
        "training fills the bins between."
    )
    return figure


@styled
def trade_off_figure(curves: dict[float, tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """Certified accuracy against the radius for networks trained and certified with one σ each; their envelope."""
    figure, axes = new_figure(1, 2, width=10.0, height=4.0)
    for cell, group in zip(axes, (curves, published_curves()), strict=True):
        for sigma, (radii, accuracy) in group.items():
            color, line = SIGMA_STYLES[sigma]
            cell.step(radii, accuracy, where="pre", color=color, linestyle=line, label=f"σ = {sigma:g}")
    axes[0].set(title=title or "digits")
    axes[1].set(title="CIFAR-10, published ResNet-110")
    for cell in axes:
        cell.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylim=(0, 101), ylabel="certified accuracy (%)")
        cell.set_xlim(left=0)
        cell.legend(loc="upper right")
    figure.alt = (
        "Two panels of certified accuracy against the radius, one curve per σ from 0.12 to 1; left digits, right the "
        "published ResNet-110 on CIFAR-10. On CIFAR-10 the smallest σ starts highest and ends first, at its cap; a "
        "larger σ starts lower and reaches further, so that the curves cross. On digits σ = 0.12 starts level with "
        "0.25 and ends first, 0.5 starts lower and reaches further, and σ = 1 starts far below and never catches up."
    )
    return figure


def published_gaussian() -> pd.DataFrame:
    """The published Gaussian ResNet-110s, trained and certified with one σ each, on all 10,000 CIFAR-10 test images."""
    table = published.load("cifar10-best")
    gaussian = table[(table.method == "gaussian") & (table.every == 1) & (table.train_sigma == table.sigma)]
    return gaussian.drop_duplicates("sigma").sort_values("sigma")


def published_curves() -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """σ → (radii, certified accuracy in %) of `published_gaussian`."""
    return {float(row.sigma): published.curve(row) for _, row in published_gaussian().iterrows()}
