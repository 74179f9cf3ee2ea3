"""Figures of notebook 08: looking early, later methods, floating point, other norms, false certificates."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import binom, norm
from scipy.stats import t as student
from torch import Tensor

from rslab.lectures.lecture08 import breakit
from rslab.lectures.style import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    method_of,
    new_figure,
    show_image,
    styled,
)
from rslab.report import published
from rslab.report.tables import average_certified_radius, certified_accuracy, interval
from rslab.smoothing import bounds
from rslab.smoothing.sequential import SequentialPlan, boundary
from rslab.store.logs import read_log
from rslab.store.run_folder import RESULTS

# -- looking early ----------------------------------------------------------------------------


def passing(miss: float, taken: tuple[int, ...], limits) -> np.ndarray:
    """P(some look up to k sees at most c_k misses), for every k: (K,); summed exactly, history by history."""
    alive, passed, before, so_far = np.ones(1), 0.0, 0, []
    for votes, limit in zip(taken, limits, strict=True):
        new = votes - before
        before = votes
        alive = np.convolve(alive, binom.pmf(np.arange(new + 1), new, miss))  # alive[k]: k misses, not passed yet
        passed += alive[: limit + 1].sum()
        alive[: limit + 1] = 0.0
        so_far.append(passed)
    return np.array(so_far)


def rules(miss: float, taken: tuple[int, ...], alpha: float) -> dict[str, tuple[int, ...]]:
    """The largest number of misses with which each way of looking passes, at every look."""

    def once(level: float) -> tuple[int, ...]:
        return tuple(boundary(miss, (votes,), level)[0] for votes in taken)

    return {
        "the bound at level α, at every look": once(alpha),
        "the bound at level α / K, at every look": once(alpha / len(taken)),
        "exact spending": boundary(miss, taken, alpha),
    }


@styled
def peeking_figure(miss: float, taken: tuple[int, ...], alpha: float) -> Figure:
    """The probability of a false certificate so far, against the votes taken, for three ways of looking."""
    figure, axes = new_figure(width=8.6, height=4.0)
    for (name, limits), color, dash in zip(
        rules(miss, taken, alpha).items(), (VERMILION, PURPLE, GREEN), "- -- -.".split(), strict=True
    ):
        axes.plot(taken, passing(miss, taken, limits), dash, color=color, label=name)
    axes.axhline(alpha, color=INK, linestyle=":", linewidth=1.5)
    axes.annotate("α", (taken[0], alpha), (4, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="votes taken (log scale)", ylabel="P(false certificate so far)")
    axes.set_title(f"p_A exactly at the threshold, {len(taken)} looks")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    figure.alt = (
        f"Probability of a false certificate so far against the votes taken, log scale, at {len(taken)} looks, with a "
        f"dotted line at α = {alpha:g}. The bound at level α at every look crosses the dotted line at the second look "
        "and climbs to about ten times α at the last, still rising. The bound at level α / K ends below half of α. "
        "Exact spending runs between the two and reaches α at the last look."
    )
    return figure


@styled
def paths_figure(plan: SequentialPlan, p_a: tuple[float, ...], seed: int = 0) -> Figure:
    """Share of misses against votes: a few simulated runs, and where one radius passes or is given up."""
    figure, axes = new_figure(width=8.6, height=4.2)
    taken = np.array(plan.looks)
    reach, limits = plan.boundaries[0], np.minimum(plan.limits[0], taken)
    some = reach >= 0
    axes.plot(taken[some], reach[some] / taken[some], color=GREEN, linewidth=2.5, label="passes on or below")
    axes.plot(taken[:-1], limits[:-1] / taken[:-1], color=ORANGE, linewidth=2.5, label="given up on or above")
    axes.axhline(plan.miss_rates[0], color=INK, linestyle=":", label="miss rate at which the radius just fails")
    rng = np.random.default_rng(seed)
    for p, color in zip(p_a, (BLUE, SKY, GREY, PURPLE), strict=False):
        new = np.diff(taken, prepend=0)
        misses = rng.binomial(new, 1 - p).cumsum()
        stop = np.flatnonzero((misses <= reach) | (misses >= limits))
        last = int(stop[0]) + 1 if len(stop) else len(taken)
        axes.plot(taken[:last], (misses / taken)[:last], "o-", color=color, markersize=4, linewidth=1)
        axes.annotate(
            f"p_A = {p:g}", (taken[last - 1], (misses / taken)[last - 1]), (6, -3), textcoords="offset points"
        )
    axes.set(xscale="log", xlabel="votes taken (log scale)", ylabel="share of misses")
    axes.set_title(f"radius {plan.radii[0]:g} at σ = {plan.sigma:g}, α = {plan.alpha:g}, at most {plan.n:,} votes")
    axes.set_xlim(right=3 * plan.n)
    axes.legend(loc="upper right")
    figure.alt = (
        "Share of misses against votes taken, log scale. Two boundaries close in on each other, just below a dotted "
        f"line, the miss rate at which radius {plan.radii[0]:g} just fails: on or below the lower one the radius "
        "passes, on or above the upper one it is given up. A path of dots for each simulated image, "
        f"p_A = {', '.join(f'{p:g}' for p in p_a)}, ends where it meets a boundary: the further p_A is from the dotted "
        "line's, the sooner."
    )
    return figure


@styled
def votes_figure(rows: dict[str, dict], n: int) -> Figure:
    """Votes per image for each published model: sequential, and the floor; `rows` by `compare_votes`."""
    figure, axes = new_figure(width=8.6, height=3.8)
    places = np.arange(len(rows))
    for place, (name, row) in zip(places, rows.items(), strict=True):
        color = COLORS[method_of(name) or "gaussian"]
        axes.bar(place, row["votes"], color=color, width=0.6)
        axes.text(place, row["votes"] * 1.1, f"÷ {n / row['votes']:.1f}", ha="center", fontsize=9)
        axes.plot([place - 0.3, place + 0.3], [row["floor"]] * 2, color=INK, linewidth=2)
    axes.axhline(n, color=VERMILION, linestyle="--", label=f"fixed: {n:,} votes")
    axes.plot([], [], color=INK, label="floor of any method as sound and as strong")
    names = [f"{name.split('-')[0]}\nσ = {name.split('-')[1]}" for name in rows]
    axes.set_xticks(places, [name.replace("smoothadv", "SmoothAdv").replace("gaussian", "Gaussian") for name in names])
    axes.set(yscale="log", ylabel="votes per image (log scale)", ylim=(300, 6e5))
    axes.set_title("every radius of the table decided, published CIFAR-10 models")
    axes.legend(loc="upper left", ncols=2)
    times = [n / row["votes"] for row in rows.values()]
    figure.alt = (
        f"Bars of votes per image, log scale, one for each of {len(rows)} published models, all far below the dashed "
        f"line at {n:,} votes: between {min(times):.0f} and {max(times):.0f} times lower. A black mark in each bar, "
        "the floor, stands close below its top."
    )
    return figure


# -- later methods ------------------------------------------------------------------------------

# CIFAR-10, ResNet-110, σ = 0.5, all 10,000 test images, n = 100,000; ACR and certified accuracy at 0, 0.25 … 1.75 from
# per-image logs that the authors (or, for Gaussian, a later reproduction) published; seconds per epoch on one machine,
# as reported by CAT-RS. SmoothAdv: T = 2, m = 8, so m (2T + 3) = 56 of the 92 passes that took 579 s.
METHODS = (
    ("Gaussian (retrained)", 0.571, 22, (68.8, 58.2, 46.2, 34.5, 24.5, 16.3, 10.2, 5.3)),
    ("Consistency", 0.720, 43, (64.3, 57.5, 50.6, 43.2, 36.2, 29.5, 22.8, 16.1)),
    ("SmoothMix", 0.736, 184, (63.5, 57.2, 50.5, 43.4, 36.7, 30.6, 24.7, 19.1)),
    ("MACER", 0.691, 303, (64.2, 57.5, 49.9, 42.3, 34.8, 27.6, 20.2, 12.6)),
    ("CAT-RS", 0.757, 355, (62.3, 56.8, 50.5, 44.6, 38.5, 32.7, 27.1, 20.6)),
    ("SmoothAdv (best of grid)", 0.738, 352, (57.4, 52.6, 48.0, 43.2, 38.3, 33.1, 28.1, 22.1)),
)
_OWN_GAUSSIAN = {"SmoothAdv (best of grid)": 0.525}  # of the authors of SmoothAdv; the others: the retrained one


def published_table() -> pd.DataFrame:
    """A row a method of `METHODS`: seconds per epoch, ACR, its gain over its own source's Gaussian network, curve."""
    rows = {}
    for name, acr, seconds, curve in METHODS:
        row = {"seconds per epoch": seconds, "ACR": acr, "gain": acr - _OWN_GAUSSIAN.get(name, METHODS[0][1])}
        rows[name] = row | {f"r = {radius:g}": curve[int(4 * radius)] for radius in (0, 0.5, 1, 1.5)}
    return pd.DataFrame.from_dict(rows, orient="index")


@styled
def methods_figure() -> Figure:
    """The methods of `METHODS`: ACR against the cost of training, and the curve behind each ACR."""
    figure, (left, right) = new_figure(1, 2, width=10.4, height=4.2)
    dashes = ("-", "-.", "--", ":", "-", "--")
    for (name, acr, seconds, curve), dash in zip(METHODS, dashes, strict=True):
        color = COLORS.get(method_of(name) or "", {"MACER": ORANGE}.get(name, VERMILION))
        left.plot(seconds, acr, "o", color=color, markersize=9)
        aside = {"CAT-RS": (0, 9, "center"), "SmoothMix": (-9, 4, "right")}.get(name, (9, -11, "left"))
        left.annotate(name, (seconds, acr), aside[:2], textcoords="offset points", ha=aside[2], fontsize=9)
        right.plot(np.arange(8) / 4, curve, dash, color=color, linewidth=1.6, label=name)
    left.set(xscale="log", xlim=(15, 2500), ylim=(0.54, 0.79), ylabel="ACR", xlabel="seconds per epoch (log scale)")
    left.set_xticks((20, 50, 100, 200, 500), ("20", "50", "100", "200", "500"))
    left.minorticks_off()
    left.set_title("what training buys, and what it costs")
    right.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)", xlim=(0, 1.75), ylim=(0, 72))
    right.set_title("the curve behind each ACR")
    right.legend(loc="upper right", fontsize=8.5)
    figure.alt = (
        "Two panels, CIFAR-10 at σ = 0.5. Left: ACR against seconds per epoch, log scale. Gaussian training is "
        "cheapest and lowest; Consistency costs twice as much and lies near the top; SmoothMix, MACER, CAT-RS and "
        "SmoothAdv cost 8 to 16 times as much as Gaussian training, with CAT-RS highest. Right: certified accuracy "
        "against the radius. Gaussian training begins highest and ends far below the others; SmoothAdv begins lowest "
        "and ends highest; the rest begin and end between them."
    )
    return figure


EQUAL_WORK = {"gaussian": "Gaussian", "consistency": "Consistency", "smoothmix": "SmoothMix", "smoothadv": "SmoothAdv"}


def equal_work_logs() -> dict[str, list[pd.DataFrame]]:
    """method → the certification logs of its seeds, from the shipped runs of `equal-work`."""
    root = RESULTS / "equal-work"
    return {name: [read_log(path) for path in sorted(root.glob(f"{name}-[0-9]/certify.tsv"))] for name in EQUAL_WORK}


def seeds_interval(values) -> tuple[float, float]:
    """(mean, half of Student's 95 % interval) over the seeds: luck in training, not the choice of images."""
    values = np.asarray(values, float)
    return float(values.mean()), float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def equal_work_table(radii=(0, 0.25, 0.5, 0.75)) -> pd.DataFrame:
    """A row a method: ACR with half of its interval over the seeds, and certified accuracy (%), their mean."""
    rows = {}
    for name, logs in equal_work_logs().items():
        acr, half = seeds_interval([average_certified_radius(log) for log in logs])
        accuracy = np.mean([certified_accuracy(log, radii) for log in logs], axis=0)
        row = {"ACR": acr, "± (seeds, 95 %)": half}
        rows[EQUAL_WORK[name]] = row | {f"r = {r:g}": share for r, share in zip(radii, accuracy, strict=True)}
    return pd.DataFrame.from_dict(rows, orient="index")


@styled
def equal_work_figure() -> Figure:
    """Own runs at equal work: certified accuracy, mean and range of the seeds, and ACR with its interval."""
    figure, (left, right) = new_figure(1, 2, width=10.4, height=4.2, width_ratios=(1.6, 1))
    logs = equal_work_logs()
    radii = np.linspace(0, 1.02 * max(log.radius.max() for runs in logs.values() for log in runs), 150)
    for place, ((name, runs), dash) in enumerate(zip(logs.items(), ("-", "-.", "--", ":"), strict=True)):
        curves = np.stack([certified_accuracy(log, radii) for log in runs])
        left.fill_between(radii, curves.min(0), curves.max(0), color=COLORS[name], alpha=0.15, linewidth=0)
        left.plot(radii, curves.mean(0), dash, color=COLORS[name], label=EQUAL_WORK[name])
        acr = [average_certified_radius(log) for log in runs]
        mean, half = seeds_interval(acr)
        right.errorbar(mean, place, xerr=half, fmt="D", color=COLORS[name], capsize=4, markersize=7)
        right.plot(acr, [place - 0.22] * len(acr), "o", color=COLORS[name], markersize=4, alpha=0.7)
    left.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylabel="certified accuracy (%)", ylim=(0, 101), xlim=(0, radii[-1]))
    left.set_title("mean of three seeds; band: lowest to highest")
    left.legend(loc="lower left")
    right.set_yticks(range(len(logs)), [EQUAL_WORK[name] for name in logs])
    right.set(xlabel="ACR", ylim=(len(logs) - 0.5, -0.6))
    right.set_title("ACR: seeds (dots), 95 % interval")
    figure.alt = (
        "Two panels, digits at σ = 0.25, four methods trained with equal work. Left: certified accuracy against the "
        "radius, the mean of three seeds with a narrow band from the lowest to the highest. Right: ACR of each method, "
        "with the seeds as dots and a 95 % interval over them: "
        + ", ".join(
            f"{EQUAL_WORK[name]} {np.mean([average_certified_radius(log) for log in runs]):.3f}"
            for name, runs in logs.items()
        )
        + "."
    )
    return figure


# -- denoised smoothing -------------------------------------------------------------------------

# label of a method → colour, dashes; the labels begin with these
DENOISED_STYLES = {
    "standard alone": (GREY, ":"),
    "standard behind a denoiser (MSE)": (ORANGE, "--"),
    "standard behind a denoiser (stability)": (VERMILION, "-"),
    "Gaussian training": (BLUE, "-."),
    "SmoothAdv": (GREEN, (0, (4, 1, 1, 1, 1, 1))),
}


@styled
def denoisers_figure(rows: dict[str, Tensor], names: tuple[str, ...]) -> Figure:
    """Images, a row of `rows` each: label → (B, 1, H, W); `names` (B,) stand above the columns."""
    columns = len(names)
    figure, panels = new_figure(len(rows), columns, width=8.6, height=1.05 * len(rows) + 0.2)
    for number, (label, images) in enumerate(rows.items()):
        line = panels[number]
        for axes, image, name in zip(line, images, names, strict=True):
            show_image(axes, image, name if number == 0 else "")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.alt = (
        f"{columns} digits in {len(rows)} rows: {', '.join(rows)}. The noisy digits can hardly be read. Behind the "
        "denoiser of the squared error blurred strokes stand on a black ground, some of them of another digit. Behind "
        "the denoiser of the stability objective the images are as speckled as before and hardly show a digit."
    )
    return figure


@styled
def denoised_figure(logs: dict[float, dict[str, list[pd.DataFrame]]]) -> Figure:
    """Certified accuracy against the radius, a panel a σ: the mean of the seeds, and a band from low to high.

    logs: σ → label → the logs of the seeds.
    """
    figure, panels = new_figure(1, len(logs), width=10.2, height=4.2)
    at_sigma = []
    for axes, (sigma, methods) in zip(np.atleast_1d(panels), logs.items(), strict=True):
        radii = np.linspace(0, 1.02 * max(log.radius.max() for runs in methods.values() for log in runs), 150)
        for label, runs in methods.items():
            color, dashes = DENOISED_STYLES[label]
            curves = np.stack([certified_accuracy(log, radii) for log in runs])
            axes.fill_between(radii, curves.min(0), curves.max(0), color=color, alpha=0.15, linewidth=0)
            axes.plot(radii, curves.mean(0), color=color, linestyle=dashes, label=label, linewidth=1.8)
        axes.set(xlabel="ℓ2 radius (pixels in [0, 1])", title=f"digits, σ = {sigma:g}", ylim=(0, 101))
        axes.set_xlim(0, radii[-1])
        means = {
            label: np.mean([certified_accuracy(log, [sigma])[0] for log in runs]) for label, runs in methods.items()
        }
        order = ", ".join(f"{label} {means[label]:.1f}" for label in sorted(means, key=lambda label: -means[label]))
        at_sigma.append(f"At σ = {sigma:g} and radius {sigma:g}, in percent: {order}.")
    panels[0].set_ylabel("certified accuracy (%)")
    panels[-1].legend(loc="upper right", fontsize=8.5)
    figure.alt = (
        "Certified accuracy against the radius, one panel per σ, one curve per method with a band from the lowest to "
        f"the highest seed. {' '.join(at_sigma)}"
    )
    return figure


PHOTOGRAPHS_ALT = (
    "Eight pictures in two rows. Above: a cup of coffee, a photographer at a tripod, a cat's face and a rocket at "
    "night, each under coarse coloured noise. Below: the same without the noise, smooth as water colours; "
    "the outlines are there, the fur and the details of the camera are blurred."
)


# Certified accuracy in %, by ℓ2 radius, as far as it stands in a source that we could read:
# "… 2020": tables of the repository that H. Salman et al. published with "Denoised smoothing" (microsoft/denoised-
# smoothing, commit 9500d0e of 2021-04-02, analysis/latex: "no_denoisers", "fullAccess", "whitebox"); best σ at each
# radius, n = 10,000; ResNet-110 and ResNet-50. "DDS": N. Carlini et al., ICLR 2023; 71 at 0.5 is in their abstract.
# The other numbers of DDS and DensePure (C. Xiao et al., ICLR 2023): the leaderboard of "SoK: Certified Robustness"
# (sokcertifiedrobustness.github.io, commit 15afd15 of 2024-06-12).
_SIX = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
PUBLISHED_DENOISERS: dict[str, dict[str, dict[float, float]]] = {
    "CIFAR-10": {
        "standard alone, 2020": dict(zip(_SIX, (7, 3, 0, 0, 0, 0), strict=True)),
        "behind a trained denoiser, 2020": dict(zip(_SIX, (56, 41, 28, 19, 16, 13), strict=True)),
        "Gaussian training, 2020": dict(zip(_SIX, (59, 45, 31, 21, 18, 13), strict=True)),
        "behind a diffusion model (DDS), 2023": {0.25: 79.3, 1.0: 35.5},
        "the same, many passes (DensePure), 2023": {0.25: 76.6, 1.0: 37.4},
    },
    "ImageNet": {
        "standard alone, 2020": dict(zip(_SIX, (32, 4, 2, 0, 0, 0), strict=True)),
        "behind a trained denoiser, 2020": dict(zip(_SIX, (50, 33, 20, 14, 11, 6), strict=True)),
        "Gaussian training, 2020": dict(zip(_SIX, (62, 52, 45, 39, 34, 29), strict=True)),
        "behind a diffusion model (DDS), 2023": {0.5: 71.0, 1.0: 54.3, 2.0: 29.5},
        "the same, many passes (DensePure), 2023": {1.0: 67.0, 2.0: 42.2},
    },
}


def published_denoisers() -> pd.DataFrame:
    """`PUBLISHED_DENOISERS` and the rows of SmoothAdv: (data set, method) × radius, in %; NaN: not read anywhere."""
    rows = {(data, name): row for data, methods in PUBLISHED_DENOISERS.items() for name, row in methods.items()}
    for data, radii in (("CIFAR-10", published.CIFAR10_RADII), ("ImageNet", published.IMAGENET_RADII)):
        tables: Any = published.PRINTED
        printed = tables["lecture 14" if data == "CIFAR-10" else data]["SmoothAdv"]
        rows[data, "SmoothAdv, 2019"] = {float(radius): share for radius, share in zip(radii, printed, strict=True)}
    return pd.DataFrame.from_dict(rows, orient="index").sort_index(axis=1).loc[:, 0.25:2.0]


@styled
def published_denoisers_figure() -> Figure:
    """Published certified accuracy of classifiers behind denoisers, beside Gaussian training and SmoothAdv."""
    figure, panels = new_figure(1, 2, width=10.2, height=4.4, sharey=True)
    styles = ((GREY, "s:"), (ORANGE, "o--"), (BLUE, "^-."), (VERMILION, "D-"), (PURPLE, "v-"), (GREEN, "*:"))
    table = published_denoisers()
    for axes, data in zip(panels, PUBLISHED_DENOISERS, strict=True):
        for (name, row), (color, style) in zip(table.loc[data].iterrows(), styles, strict=True):
            known = row.dropna()
            axes.plot(known.index, known, style, color=color, label=name, linewidth=1.6, markersize=6)
        axes.set(title=data, xlabel="ℓ2 radius (pixels in [0, 1])", xlim=(0.15, 2.1), ylim=(0, 90))
    panels[0].set_ylabel("certified accuracy (%)")
    panels[0].legend(loc="upper right", fontsize=8.5)
    figure.alt = (
        "Published certified accuracy against the radius, left CIFAR-10, right ImageNet. In both panels a standard "
        "network alone falls to zero at once, and the denoiser of 2020 lifts it to just below Gaussian training on "
        "CIFAR-10, well below it on ImageNet. On ImageNet the points behind diffusion models lie above SmoothAdv at "
        "every radius at which both are known. On CIFAR-10 they lie above it at radius 0.25 and below it at radius 1."
    )
    return figure


# -- floating point -----------------------------------------------------------------------------


class LowBits:
    """A base classifier that reads the last bits: class 1 if every pixel is a multiple of 2^−24 `step`, else class 0.

    A measurable function of the image, so the theorem speaks about it. In float32, fl(step + noise) is always such
    a multiple; fl(0 + noise) is not where the noise is small.
    """

    def __init__(self, step: float):
        self.step = step

    def __call__(self, images: Tensor) -> Tensor:
        units = images.double() / self.step * 2.0**24  # exact: a change of exponent, if step is a power of 2
        multiple = (units == units.round()).flatten(1).all(1)
        return torch.stack([(~multiple).float(), multiple.float()], dim=1)


@styled
def precision_figure(rows: list[tuple[int, float, float]]) -> Figure:
    """`rows`: (k, distance to an image with another answer, radius certified in float32), a bar each."""
    figure, axes = new_figure(width=8.0, height=3.2)
    places = np.arange(len(rows))
    exponents, distance, radius = (np.array(column) for column in zip(*rows, strict=True))
    axes.barh(places, radius, height=0.55, color=GREEN, alpha=0.45, label="certified: class 0 at every distance below")
    axes.plot(distance, places, "X", color=VERMILION, markersize=11, label="an image of class 1, in all 200 votes")
    for place, far in zip(places, distance, strict=True):
        axes.annotate(f"{far:.3f}", (far, place), (9, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, [f"e = 2$^{{-{int(k)}}}$" for k in exponents])
    axes.set(xlabel="ℓ2 distance from the black image", xlim=(0, 1.05 * radius.max()), ylim=(-0.5, len(rows) + 0.4))
    axes.set_title("certificates computed in float32, and where each is false")
    axes.legend(loc="upper left", ncols=2)
    figure.alt = (
        f"{len(rows)} horizontal bars, one for each e, of the certified ℓ2 distance from the black image. A cross "
        "marks the distance of an image that the same program answers otherwise. Every cross stands inside "
        "its bar: near the black image for the smallest e, about two thirds out for the largest."
    )
    return figure


# -- other norms --------------------------------------------------------------------------------


@styled
def norms_figure(alpha: float = 0.001, n: int = 100_000) -> Figure:
    """The ℓ∞ radius that an ℓ2 certificate implies, against the number of pixels, for unanimous votes."""
    figure, axes = new_figure(width=8.6, height=4.0)
    d = np.geomspace(10, 3e5, 100)
    for sigma, color, dash in ((0.25, ORANGE, "-"), (0.5, PURPLE, "--"), (1.0, BLUE, "-.")):
        cap = bounds.max_certified_radius(n, alpha, sigma)
        axes.plot(d, 255 * cap / np.sqrt(d), dash, color=color, label=f"σ = {sigma:g}, all votes agree")
    for pixels, name in ((64, "digits"), (784, "MNIST"), (3072, "CIFAR-10"), (150_528, "ImageNet")):
        axes.axvline(pixels, color=GREY, linewidth=1)
        axes.annotate(name, (pixels, 0.17), (3, 0), textcoords="offset points", fontsize=9, color=GREY)
    axes.axhline(8, color=VERMILION, linestyle=":", label="the customary 8/255")
    axes.set(xscale="log", yscale="log", ylim=(0.13, 400), xlabel="d, pixels × channels (log scale)")
    axes.set(ylabel="ℓ∞ radius × 255", title="the ball inside the ball: R / √d")
    axes.legend(loc="upper right")
    figure.alt = (
        f"The largest ℓ∞ radius, times 255, that {n:,} unanimous votes certify, against the number of pixels, both "
        "axes logarithmic: three parallel falling lines for σ = 0.25, 0.5 and 1. A dotted line marks the customary "
        "8. The line of σ = 0.25 falls below it just beyond MNIST's size, that of σ = 0.5 just beyond CIFAR-10's; at "
        "ImageNet's size all three are far below it."
    )
    return figure


def halfspace_share(p_a: float, distance: float, sigma: float) -> float:
    """P(A) at x + δ for the worst classifier with p_A at x."""
    return float(norm.cdf(norm.ppf(p_a) - distance / sigma))


# -- false certificates ---------------------------------------------------------------------------


def suited_claims(f: breakit.Line, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`certify_suited` at many points (n,) at once: class, radius and σ, (n,) each."""
    shares = np.stack([f.probabilities(points, sigma) for sigma in breakit.SIGMAS])  # (σ, n, 2)
    sigmas = np.array(breakit.SIGMAS)
    radii = sigmas[:, None] * norm.ppf(np.minimum(shares.max(-1), 1 - 1e-16))
    best, every = radii.argmax(0), np.arange(len(points))
    return shares.argmax(-1)[best, every], radii[best, every], sigmas[best]


@styled
def suited_figure(f: breakit.Line, low: float = -1.5, high: float = 1.5) -> Figure:
    """What `certify_suited` claims at each x, and how far its own answer really stays; where it claims too much."""
    points, wide = np.linspace(low, high, 601), np.linspace(low - 2, high + 2, 1401)
    everywhere = suited_claims(f, wide)[0]
    own, claimed, sigmas = suited_claims(f, points)
    true = np.array([np.abs(wide[everywhere != c] - x).min(initial=2.0) for x, c in zip(points, own, strict=True)])
    figure, (upper, lower) = new_figure(2, 1, width=8.6, height=4.6, sharex=True, height_ratios=(3, 1))
    upper.plot(points, claimed, color=VERMILION, label="claimed, with the σ that suits x")
    upper.plot(points, true, "--", color=GREEN, label="true: distance to another answer")
    upper.fill_between(points, true, claimed, where=claimed > true, color=VERMILION, alpha=0.2, label="false")
    upper.set(ylabel="radius", ylim=(0, 1.35 * max(claimed.max(), true.max())))
    upper.legend(loc="upper center", ncols=3)
    upper.set_title(f"a σ for each image; f changes its class at {', '.join(f'{cut:g}' for cut in f.cuts)}")
    lower.step(points, sigmas, where="mid", color=BLUE)
    lower.set(xlabel="x", ylabel="σ taken", yscale="log", ylim=(0.07, 1.4), xlim=(low, high))
    lower.set_yticks(breakit.SIGMAS, [f"{sigma:g}" for sigma in breakit.SIGMAS])
    lower.minorticks_off()
    figure.alt = (
        f"Two panels against x from {low:g} to {high:g}. Above: the radius that is claimed with the σ that suits x, "
        "and the true distance to the nearest other answer. The claim exceeds the truth, shaded, on two stretches. "
        "Below: the σ that is taken; it jumps within each of the two stretches."
    )
    return figure


def looks_rates(numbers: tuple[int, ...], alpha: float = 0.05, runs: int = 20_000, seed: int = 0) -> np.ndarray:
    """How many of `runs` certificates are false, by number of looks, at level α and α / K each: (2, len(numbers)).

    `certify_soon`'s votes, simulated: at most 1,000 votes, looks at equal distances, p_A at the threshold of radius
    0.5 at σ = 0.5.
    """
    rng, miss, rows = np.random.default_rng(seed), float(norm.sf(1.0)), []
    for number in numbers:
        taken = np.array([round(1000 * (k + 1) / number) for k in range(number)])
        misses = rng.binomial(np.diff(taken, prepend=0), miss, size=(runs, number)).cumsum(1)
        levels = alpha, alpha / number
        limits = [[boundary(miss, (int(votes),), level)[0] for votes in taken] for level in levels]
        rows.append([int((misses <= np.array(limit)).any(1).sum()) for limit in limits])
    return np.array(rows).T


@styled
def looks_figure(numbers: tuple[int, ...], rates: np.ndarray, runs: int = 20_000) -> Figure:
    """Share of false certificates against the number of looks, with 95 % intervals for the `runs` simulated."""
    figure, axes = new_figure(width=8.6, height=3.8)
    for false, color, marker, label in zip(
        rates, (VERMILION, GREEN), "os", ("level α at every look", "level α / K at every look"), strict=True
    ):
        low, high = interval(false, runs)
        share = 100 * false / runs
        axes.errorbar(numbers, share, (share - low, high - share), color=color, marker=marker, capsize=3, label=label)
    axes.axhline(5, color=INK, linestyle=":", label="α = 5 %")
    axes.set(xscale="log", xlabel="looks at up to 1,000 votes (log scale)", ylabel="false certificates (%)")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_title(f"{runs:,} certifications per point, 95 % intervals; p_A at the threshold")
    axes.legend(loc="upper left")
    figure.alt = (
        f"Share of false certificates against the number of looks, {numbers[0]} to {numbers[-1]}, log scale, with "
        "short 95 % intervals. At level α at every look it climbs from the dotted line at 5 % to "
        f"{100 * rates[0][-1] / runs:.0f} %; at level α / K it falls to {100 * rates[1][-1] / runs:.1f} %."
    )
    return figure


@styled
def attacks_figure(rows: dict[str, int], n: int) -> Figure:
    """Images that are still classified correctly after each attack, with 95 % intervals for the choice of images."""
    figure, axes = new_figure(width=8.6, height=0.42 * len(rows) + 1.3)
    for place, right in enumerate(rows.values()):
        low, high = (float(end) for end in interval(right, n))
        axes.barh(place, 100 * right / n, color=ORANGE if place else GREY, height=0.6)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.5)
        axes.text(high + 1, place, f"{right} of {n}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set(xlim=(0, 118), xticks=range(0, 101, 20), xlabel="still classified correctly (%)")
    axes.set_title("one network, ever stronger attacks")
    figure.alt = (
        f"Horizontal bars of the digits that are still classified correctly after each attack, of {n}, with 95 % "
        f"intervals: {', '.join(f'{name} {right}' for name, right in rows.items())}."
    )
    return figure
