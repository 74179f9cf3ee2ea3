"""Figures of notebook 00, the front door: how large a radius is, what σ costs, and the map of the course."""

from functools import cache

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from rslab.data.datasets import load_dataset
from rslab.lectures.pictures import EPSILONS, SIGMAS, N, read_study, rounded_down
from rslab.lectures.style import BLUE, GREEN, GREY, INK, ORANGE, SKY, VERMILION, new_figure, show_image, styled
from rslab.networks.inference import fold_batchnorm
from rslab.smoothing import bounds
from rslab.smoothing.classifier import SmoothedClassifier
from rslab.store.run_folder import RESULTS, load_run


def shown_digit() -> tuple[Tensor, int]:
    """The digit that notebook 00 shows throughout, `(1, 8, 8)`, and its class."""
    digits = load_dataset("digits", "test")
    return digits.images[2], int(digits.labels[2])


@cache
def distances() -> dict[str, float]:
    """ℓ2 distances that a reader can picture, from the digit shown."""
    digits, (x, label) = load_dataset("digits", "test"), shown_digit()
    apart = (digits.images - x).flatten(1).norm(dim=1)
    return {
        "every pixel by one grey level of 16": x.numel() ** 0.5 / 16,
        "one pixel from black to white": 1.0,
        "the nearest test image of another class": float(apart[digits.labels != label].min()),
    }


# -- a photograph with a certificate ----------------------------------------------------------


@styled
def coffee_figure() -> Figure:
    """The coffee; the same, changed until f errs; that change enlarged; and under noise, with what g promises of it."""
    alone, smoothed = read_study("coffee", 0.0), read_study("coffee", 0.25)
    epsilon = next(epsilon for epsilon in EPSILONS if epsilon >= alone.nearest)
    top, _, _, radius = smoothed.certify(N, 0.001)
    change, factor = alone.moved(epsilon) - alone.image, 100
    panels = (
        (alone.image, f"f: {alone.classes[int(alone.votes[0])]}"),
        (alone.moved(epsilon), f"changed by {epsilon:g}, f: {alone.classes[alone.leader(epsilon)]}"),
        (0.5 + factor * change, f"that change, enlarged {factor} times"),
        (
            smoothed.noisy(),
            f"under noise, g: {alone.classes[top]}\nat every distance below {rounded_down(radius, 2)}",
        ),
    )
    figure, axes = new_figure(1, 4, width=10.0, height=3.0)
    for panel, (image, title) in zip(axes, panels, strict=True):
        show_image(panel, image, title)
    figure.encoding = "jpeg"
    said = [title.replace("\n", " ") for _, title in panels]
    figure.alt = f"""Four pictures of the same cup of coffee on a red saucer. First the photograph ({said[0]}).
        Second the photograph after a small change, which looks the same ({said[1]}). Third the change alone
        ({said[2]}): fine specks on grey, strongest in the coffee and along the rim of the cup. Fourth the
        photograph under strong coloured noise ({said[3]})."""
    return figure


def study_table(*names: str) -> pd.DataFrame:
    """For each picture and σ: the answer, its votes of N, R at α = 0.001 (down to 3 digits), the nearest attack."""
    rows = []
    for name in names:
        for sigma in SIGMAS:
            study = read_study(name, sigma)
            top, count, _, radius = study.certify(N, 0.001)
            proven = rounded_down(radius, 3) if radius else "nothing proven"
            rows.append({
                "picture": study.title,
                "σ": f"{sigma:g}" if sigma else "0 (f itself)",
                "answer": study.classes[top],
                f"votes of {N:,}": f"{count:,}" if sigma else "–",
                "R": proven if sigma else "–",
                "nearest attack found": f"{study.nearest:.2f}" if study.nearest < np.inf else "none",
            })  # fmt: skip
    return pd.DataFrame(rows).set_index(["picture", "σ"])


# -- what a larger σ costs --------------------------------------------------------------------


def vote_shares(sigmas, n: int = 1000, alpha: float = 0.001, seed: int = 0) -> list[tuple[float, float, float]]:
    """For each σ: share of n noisy copies on which the shipped network is right, its lower bound, the radius."""
    model, _ = load_run(RESULTS / "digits" / "gaussian-0.25")
    f, (x, label) = fold_batchnorm(model), shown_digit()
    rows = []
    for sigma in sigmas:
        smoothed = SmoothedClassifier(f, num_classes=10, sigma=sigma)
        votes = smoothed.sample_under_noise(x, n, generator=torch.Generator().manual_seed(seed))
        lower = bounds.lower_confidence_bound(int(votes[label]), n, alpha)
        rows.append((int(votes[label]) / n, lower, float(bounds.certified_radius(lower, sigma))))
    return rows


@styled
def price_figure(sigmas, rows: list[tuple[float, float, float]]) -> Figure:
    """Share of right votes (left) and certified radius (right) against σ, for one digit and one network."""
    share, lower, radius = np.array(rows).T
    figure, (left, right) = new_figure(1, 2, width=9.0, height=3.5)
    left.plot(sigmas, share, "o-", color=BLUE, markersize=4, label="share of votes for its class")
    left.plot(sigmas, lower, "--", color=SKY, label="what may be claimed of p_A")
    left.axhline(0.5, color=INK, linestyle=":", linewidth=1.2)
    left.set(xlabel="σ of the noise", ylabel="probability", ylim=(0, 1.04), title="more noise, fewer right votes")
    left.legend(loc="lower left")
    right.plot(sigmas, radius, "o-", color=GREEN, markersize=4)
    best = int(radius.argmax())
    right.plot(sigmas[best], radius[best], "*", color=VERMILION, markeredgecolor=INK, markersize=15)
    right.annotate(f"σ = {sigmas[best]:g}: R = {radius[best]:.3f}", (sigmas[best], radius[best]), (10, 6),
                   textcoords="offset points")  # fmt: skip
    right.set(xlabel="σ of the noise", ylabel="certified radius", title="so there is a best σ")
    right.set_ylim(0, 1.25 * radius.max())
    lost = ", ".join(f"{sigma:g}" for sigma, r in zip(sigmas, radius, strict=True) if r == 0)
    figure.alt = f"""Left, the share of right votes against σ: from {share[0]:.2f} at σ = {sigmas[0]:g} it falls to
        {share[-1]:.2f} at σ = {sigmas[-1]:g}; a dashed line just below it is what may be claimed of p_A, a dotted one
        marks one half. Right, the certified radius: it rises, is largest at σ = {sigmas[best]:g}, marked by a star, and
        falls again{f"; it is 0 at σ = {lost}" if lost else ""}."""
    return figure


# -- the map ----------------------------------------------------------------------------------

LECTURES = {  # number: (title, column, row)
    "01": ("adversarial\nexamples", 0, 2),
    "02": ("randomized\nsmoothing", 1, 1),
    "03": ("Stein's\nidentity", 2, 0),
    "04": ("the radius,\nproved", 3, 0),
    "05": ("training", 2, 2),
    "06": ("SmoothAdv", 3, 2),
    "07": ("the CIFAR-10\ntable", 4, 1),
    "08": ("beyond", 5, 1),
}
NEEDS = [("01", "02", 0), ("02", "03", 1), ("03", "04", 0), ("02", "05", 1), ("05", "06", 1), ("01", "06", 1)]
NEEDS += [("06", "07", 1), ("02", "04", 1), ("07", "08", 0), ("04", "08", 0), ("03", "06", 0)]


@styled
def map_figure() -> Figure:
    """The lectures as boxes; a solid arrow is needed, a dashed one helps."""
    figure, axes = new_figure(width=9.6, height=3.3)
    colors = {"01": ORANGE, "02": BLUE, "03": GREEN, "04": GREEN, "05": VERMILION, "06": VERMILION}
    boxes = {}
    for number, (title, column, row) in LECTURES.items():
        color, corner = colors.get(number, GREY), (1.5 * column - 0.5, row - 0.32)
        box = FancyBboxPatch(corner, 1.0, 0.64, boxstyle="round,pad=0.04")
        box.set(facecolor="white", edgecolor=color, linewidth=2.5)
        boxes[number] = axes.add_patch(box)
        axes.text(1.5 * column, row + 0.17, number, ha="center", va="center", fontsize=11, weight="bold", color=color)
        axes.text(1.5 * column, row - 0.1, title, ha="center", va="center", fontsize=9)
    for start, end, strong in NEEDS:
        (_, x0, y0), (_, x1, y1) = LECTURES[start], LECTURES[end]
        bend = {"01-06": -0.25, "02-04": -0.25, "04-08": 0.25}.get(f"{start}-{end}", 0.0)
        look = dict(arrowstyle="-|>", color=INK if strong else GREY, linestyle="-" if strong else "--", linewidth=1.4)
        ends = dict(patchA=boxes[start], patchB=boxes[end], shrinkA=2, shrinkB=3, mutation_scale=14)
        arrow = {**look, **ends, "connectionstyle": f"arc3,rad={bend}"}
        axes.annotate("", (1.5 * x1, y1), (1.5 * x0, y0), arrowprops=arrow)
    axes.set(xlim=(-0.7, 8.2), ylim=(-0.55, 2.65))
    axes.axis("off")
    solid, dashed = (
        ", ".join(f"{start} to {end}" for start, end, strong in NEEDS if strong == kind) for kind in (1, 0)
    )
    figure.alt = f"""Eight boxes, one per lecture from 01 to 08, joined by arrows. Solid, the first is needed for the
        second: {solid}. Dashed, the first helps with the second: {dashed}."""
    return figure
