"""Checks of notebook 02: votes, abstention, the certificate, the sample size."""

import math
import operator
from collections.abc import Callable

import torch
from scipy.stats import binomtest, norm
from torch import Tensor

from rslab.lectures.answers import Wrong, answer, close, compare, passed, within
from rslab.lectures.spies import Spy
from rslab.smoothing import bounds
from rslab.smoothing.classifier import ABSTAIN

# -- exercise 1 ----------------------------------------------------------------------


def _scores(images: Tensor) -> Tensor:
    """A base classifier of 3 classes."""
    mean = images.flatten(1).mean(1)
    return torch.stack((-mean, torch.full_like(mean, -0.48), mean - 1), dim=1)


def vote_counts(function: Callable) -> None:
    """Check `function(f, x, num_classes, sigma, n, generator)` → votes a class, int64 `(num_classes,)`."""
    x, sigma, n = torch.linspace(0, 1, 16).view(1, 4, 4), 0.4, 4000
    refusal = "f was called with shape {shape}: it wants a batch (B, C, H, W), here (B, 1, 4, 4)."
    spy = Spy(_scores, (1, 4, 4), refusal)
    counts = answer(function, spy, x, 3, sigma, n, torch.Generator().manual_seed(1))
    seen = spy.seen("f was never called: the votes are f's answers on noisy copies of x.")
    _check_noise(seen - x, seen, sigma, n)
    _check_counts(torch.as_tensor(counts), _scores(seen).argmax(1), n)
    passed(f"vote_counts: {n} fresh noisy copies, σ in [0, 1] units, nothing clipped, every vote counted.")


def _check_noise(noise: Tensor, seen: Tensor, sigma: float, n: int) -> None:
    if len(seen) != n:
        raise Wrong(f"f saw {len(seen)} noisy images, expected n = {n}: one fresh noise a vote.")
    if torch.equal(seen, seen[:1].expand_as(seen)):
        raise Wrong("All copies carry the same noise: it was drawn once. Draw n of them, shape (n, C, H, W).")
    if seen.min() >= 0 and seen.max() <= 1:
        raise Wrong("The noisy images were clipped to [0, 1]: another base classifier's votes; f's own are wanted.")
    spread = float(noise.std())
    if float(noise.mean((0, 1)).abs().max()) > 6 * spread / math.sqrt(n):
        raise Wrong("The noisy copies are not centred at x: the noise is added to x, and has mean 0.")
    faults = (
        (255 * sigma, "σ was multiplied by 255: images are in [0, 1] here, and so is σ."),
        (sigma / 255, "σ was divided by 255: images are in [0, 1] here, and so is σ."),
        (1.0, "The noise has standard deviation 1: multiply it by σ."),
        (sigma**2, "The noise has standard deviation σ²: σ itself is the standard deviation, σ² the variance."),
        (math.sqrt(sigma), "The noise has standard deviation √σ: σ is the standard deviation, not the variance."),
    )
    otherwise = f"The noise has standard deviation {spread:.3g}, expected σ = {sigma:g}."
    compare(spread, sigma, faults, otherwise, same=within(0.03))
    if abs(float((noise.abs() < sigma).float().mean()) - 0.6827) > 0.01:
        raise Wrong("The noise has the right σ but is not Gaussian: use torch.randn.")
    if float(noise.flatten(1).std(1).mean()) < 0.8 * sigma:
        raise Wrong("All pixels of a copy share one number: draw independent noise for every pixel.")


def _check_counts(counts: Tensor, votes: Tensor, n: int) -> None:
    if counts.shape != (3,):
        raise Wrong(f"The counts have shape {tuple(counts.shape)}, expected one number a class, (num_classes,) = (3,).")
    total = float(counts.sum())
    if close(total, 1.0):
        raise Wrong("These are shares that add to 1. Return counts: the bound needs the number of votes.")
    if torch.is_floating_point(counts) and bool((counts != counts.round()).any()):
        raise Wrong("The counts are no whole numbers: soft scores were added. A vote is f's argmax, for one class.")
    if total != n:
        raise Wrong(f"The counts add to {total:g}, expected n = {n}: every copy has one vote.")
    if not torch.equal(counts.long(), torch.bincount(votes, minlength=3)):
        raise Wrong("The counts add to n but are not the argmax votes: is a class shifted, or argmin taken?")


# -- exercise 2 ----------------------------------------------------------------------


def certificate(function: Callable) -> None:
    """Check `function(selection, counts, alpha, sigma)` → (class or ABSTAIN, radius).

    `selection` and `counts` are lists of votes a class, from different noise.
    """
    sigma, alpha = 0.5, 0.001
    _check_certificate(function, [2, 95, 3], [30, 900, 70], alpha, sigma)
    _check_certificate(function, [60, 30, 10], [300, 690, 10], alpha, sigma)  # selected 0, then few votes
    _check_certificate(function, [40, 30, 30], [510, 245, 245], alpha, sigma)  # p̂ > ½, p̲ < ½
    _check_certificate(function, [2, 1, 0], [0, 1000, 0], alpha, sigma)  # not one vote for the selected class
    _check_certificate(function, [0, 0, 100], [0, 0, 10_000], 0.01, 0.25)  # unanimous
    passed("certificate: the selection votes choose, the fresh votes bound, and what cannot be shown is not claimed.")


def _check_certificate(function, selection, counts, alpha, sigma) -> None:
    case = f"selection {selection}, counts {counts}, α = {alpha}, σ = {sigma}"
    result = answer(function, list(selection), list(counts), alpha, sigma)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Wrong(f"Return two things, (class or ABSTAIN, radius); for {case} came {result!r}.")
    label, radius = result
    if label is None or label is ... or radius is None or radius is ...:
        raise Wrong("A part of the answer is still missing: replace each ... of the stub by your code.")
    label, radius = int(label), float(radius)
    top, n = selection.index(max(selection)), sum(counts)
    lower = bounds.lower_confidence_bound(counts[top], n, alpha)
    right = (top, bounds.certified_radius(lower, sigma)) if lower > 0.5 else (ABSTAIN, 0.0)
    if label == right[0] and close(radius, right[1]):
        return
    if math.isnan(radius):
        raise Wrong(f"The radius is NaN for {case}: a class without a vote has p̲ = 0, so abstain.")
    if radius == math.inf:
        raise Wrong(
            f"The radius is infinite for {case}: p̂ = 1 after {n} votes does not show p = 1. Use the lower bound."
        )

    def from_p(p: float) -> float:
        return sigma * float(norm.ppf(p))

    top_now = counts.index(max(counts))
    if top_now != top and label == top_now:
        raise Wrong(
            f"The class was chosen from the votes that also bound it ({case}): a winner's count is inflated. "
            "Choose by `selection`, bound by `counts`."
        )
    bound, chosen = bounds.lower_confidence_bound, (selection[top], sum(selection))
    faults = [
        (from_p(counts[top] / n), "p̂ was used as if it were p_A: about half of such radii are too large. Bound it."),
        (
            from_p(bound(*chosen, alpha)),
            "The selection votes were used to bound: they chose the class, so they favour it. Bound with `counts`.",
        ),
        (
            from_p(bound(chosen[0] + counts[top], chosen[1] + n, alpha)),
            "Selection votes and fresh votes were added: only the fresh ones, `counts`, may bound.",
        ),
        (
            from_p(bounds.upper_confidence_bound(counts[top], n, alpha)),
            "An upper bound was used: p_A may be smaller than that. A certificate needs the lower one.",
        ),
        (
            from_p(bound(counts[top], n, alpha / 2)),
            "α was halved as for a two-sided interval: only one side is needed here, the whole α may go there.",
        ),
        (
            from_p(bound(counts[top], n, 1 - alpha)),
            "α and 1 − α are exchanged: `lower_confidence_bound` wants the small one, the chance of an error.",
        ),
    ]
    if lower > 0.5 and label == top:
        faults += [
            (right[1] / sigma, "σ is missing: the radius is σ Φ⁻¹(p̲)."),
            (right[1] / 2, "The radius is half of what it should be: with p̄_B = 1 − p̲ the two halves add up."),
            (sigma * float(norm.cdf(lower)), "Φ was used in place of its inverse: norm.ppf, not norm.cdf."),
        ]
    otherwise = f"For {case} expected ({right[0]}, {right[1]:.4f}), came ({label}, {radius:.4f})."
    if right[0] == ABSTAIN:
        claim = f"expected ({ABSTAIN}, 0.0), came ({label}, {radius:.4f})"
        otherwise = f"Abstain when p̲ ≤ ½: for {case} p̲ = {lower:.4f}, {claim}."
    # The class is wrong or the radius is: `right` was met above, so here no radius is the right one.
    compare(radius, math.nan, faults, otherwise, case)


# -- exercise 3 ----------------------------------------------------------------------


def abstention(function: Callable) -> None:
    """Check `function(counts, alpha)` → the class that PREDICT answers, or ABSTAIN; `counts` a list."""
    cases = (
        ([51, 49], 0.001),
        ([600, 400, 0], 0.001),
        ([66, 34], 0.001),  # one-sided p = .0009, two-sided .0018
        ([500, 250, 250], 0.001),  # against all n votes the top class looks like a tie
        ([2, 9, 950], 0.05),
        ([520, 480], 0.25),
        ([1, 0], 0.001),
    )
    for counts, alpha in cases:
        label = answer(function, list(counts), alpha)
        if not isinstance(label, (int, float)) and not hasattr(label, "__index__"):
            raise Wrong(f"Return a class number or ABSTAIN; for counts {counts} came {label!r}.")
        _check_abstention(int(label), counts, alpha)
    passed("abstention: the binomial test decides, and doubt means silence.")


def _check_abstention(label: int, counts: list[int], alpha: float) -> None:
    second, first = sorted(counts)[-2:]
    winner = counts.index(first)
    p_value = bounds.top_class_p_value(first, second)
    right = winner if p_value <= alpha else ABSTAIN
    if label == right:
        return
    case = f"counts {counts}, α = {alpha}"
    if label not in (winner, ABSTAIN):
        raise Wrong(f"For {case} came class {label}: the candidate is the class with most votes, {winner}.")
    if right == ABSTAIN:
        if binomtest(first, first + second, 0.5, alternative="greater").pvalue <= alpha:
            raise Wrong(
                f"The test is one-sided: for {case} the p-value is {p_value:.4f} from both sides. Which class leads "
                "was seen in the same votes, so either lead would have counted."
            )
        raise Wrong(
            f"For {case} you answer, but the p-value is {p_value:.3f}. A lead n_A − n_B is a number of votes, α a "
            "probability: `n_A - n_B < α`, the tempting rule, only catches ties. Compare the test's p-value with α."
        )
    if binomtest(first, sum(counts), 0.5).pvalue > alpha:
        raise Wrong(
            f"For {case} you abstain: was the winner tested against all votes? PREDICT asks only whether A and B "
            "could be equally likely, so the number of trials is n_A + n_B."
        )
    raise Wrong(
        f"For {case} you abstain, but the p-value is {p_value:.2g} ≤ α: is the comparison the wrong way round? "
        "Abstain when the p-value is above α."
    )


# -- exercise 4 ----------------------------------------------------------------------


def smallest_n(function: Callable) -> None:
    """Check `function(radius, sigma, alpha)` → the least n of unanimous votes that certifies the radius."""
    for radius, sigma, alpha in ((1.0, 0.5, 0.001), (0.5, 0.25, 0.01), (1.0, 1.0, 0.001), (1.0, 0.25, 0.001)):
        n = answer(function, radius, sigma, alpha)
        case = f"radius {radius}, σ = {sigma}, α = {alpha}"
        if float(n) != int(n):
            raise Wrong(f"For {case} came {n}: votes are whole; round up.")
        _check_smallest(int(n), radius, sigma, alpha, case)
    passed("smallest_n: with one vote fewer even unanimity could not certify the radius.")


def _check_smallest(n: int, radius: float, sigma: float, alpha: float, case: str) -> None:
    def needed(p: float, error: float = alpha) -> int:
        return math.ceil(math.log(error) / math.log(p)) if 0 < p < 1 else 0

    share = float(norm.cdf(radius / sigma))
    right = needed(share)
    faults = (
        (right - 1, "One too few: rounded down, and then the cap is just below the radius. Round up."),
        (needed(float(norm.cdf(radius))), "σ is missing: the bound must reach Φ(radius / σ)."),
        (
            needed(float(norm.cdf(radius * sigma))),
            "The radius was multiplied by σ; it is divided: p̲ must reach Φ(radius / σ).",
        ),
        (needed(share, alpha / 2), "α was halved: the bound is one-sided, the whole α may go there."),
        (needed(share, 1 - alpha), "1 − α was used for α: the cap is α^(1/n)."),
    )
    cap = bounds.max_certified_radius(max(n, 1), alpha, sigma)
    reach = "does not reach the radius" if cap < radius else "reaches it, but fewer votes do too"
    otherwise = f"For {case} came n = {n:,}: unanimous votes then certify {cap:.4f}, which {reach}."
    compare(n, right, faults, otherwise, f"{case}: came {n}.", same=operator.eq)
