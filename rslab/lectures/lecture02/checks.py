"""Checks of notebook 02: votes, abstention, the certificate, and the audit of a certifier."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import binom, binomtest, norm
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


# -- exercise 3 ----------------------------------------------------------------------


def certificate(function: Callable) -> None:
    """Check `function(f, x, num_classes, sigma, n0, n, alpha, generator)` → (class or ABSTAIN, radius)."""
    sigma, alpha = 0.5, 0.001
    _check_certificate(function, [2, 95, 3], [30, 900, 70], alpha, sigma)
    _check_certificate(function, [60, 30, 10], [300, 690, 10], alpha, sigma)  # selected 0, then few votes
    _check_certificate(function, [40, 30, 30], [510, 245, 245], alpha, sigma)  # p̂ > ½, p̲ < ½
    _check_certificate(function, [2, 1, 0], [0, 1000, 0], alpha, sigma)  # not one vote for the selected class
    _check_certificate(function, [0, 0, 100], [0, 0, 10_000], 0.01, 0.25)  # unanimous
    passed("certificate: the selection votes choose, the fresh votes bound, and what cannot be shown is not claimed.")


def _scripted(selection: list[int], counts: list[int]) -> Callable[[Tensor], Tensor]:
    """A base classifier that gives these votes, first those of the selection, whatever the noise is."""
    votes = iter([c for part in (selection, counts) for c, number in enumerate(part) for _ in range(number)])
    total = sum(selection) + sum(counts)

    def f(images: Tensor) -> Tensor:
        answers = [next(votes, None) for _ in images]
        if None in answers:
            raise Wrong(f"f was asked about more than n0 + n = {total:,} noisy images: n0 votes choose, n bound.")
        return torch.eye(len(counts))[answers]

    return f


def _check_draws(spy: Spy, x: Tensor, sigma: float, n0: int, n: int) -> None:
    seen = spy.seen("f was never called: draw the votes with count_votes, first n0 of them and then n.")
    if len(seen) != n0 + n:
        raise Wrong(
            f"f saw {len(seen):,} noisy images, expected n0 + n = {n0 + n:,}: n0 votes choose the class, and n *fresh* "
            "ones bound it."
        )
    if n0 not in np.cumsum([len(batch) for batch in spy.batches]):
        raise Wrong("Draw the n0 votes that choose first, with a call of their own, and then the n fresh ones.")
    if torch.equal(seen[:n0], seen[n0 : 2 * n0]):
        raise Wrong("The fresh votes begin with the noise of the first ones: hand the same generator on, not its seed.")
    _check_noise(seen - x, seen, sigma, n0 + n)


def _check_certificate(function, selection, counts, alpha, sigma) -> None:
    case = f"selection {selection}, counts {counts}, α = {alpha}, σ = {sigma}"
    x, n0, n = torch.linspace(0, 1, 16).view(1, 4, 4), sum(selection), sum(counts)
    refusal = "f was called with shape {shape}: it wants a batch (B, C, H, W), here (B, 1, 4, 4)."
    spy = Spy(_scripted(selection, counts), (1, 4, 4), refusal)
    result = answer(function, spy, x, len(counts), sigma, n0, n, alpha, torch.Generator().manual_seed(1))
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Wrong(f"Return two things, (class or ABSTAIN, radius); for {case} came {result!r}.")
    label, radius = result
    if label is None or label is ... or radius is None or radius is ...:
        raise Wrong("A part of the answer is still missing: replace each ... of the stub by your code.")
    _check_draws(spy, x, sigma, n0, n)
    label, radius = int(label), float(radius)
    top = selection.index(max(selection))
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


# -- exercise 4 ----------------------------------------------------------------------


def false_rate(function: Callable) -> None:
    """Check `function(certify, p, n0, n, alpha, sigma)` → P(a false certificate), when f is a half-space.

    A vote goes to class 0 with probability p, else to class 1; `certify(selection, counts, alpha, sigma)` is any rule
    that returns (class or ABSTAIN, radius).
    """
    cases = (
        ("CERTIFY", _sound, 0.62, 4, 33, 0.1, 2.0),
        ("CERTIFY", _sound, 0.5, 5, 40, 0.05, 0.25),
        ("the plug-in", _plug_in, 0.9, 5, 31, 0.05, 0.5),
        ("the plug-in", _plug_in, 0.35, 5, 23, 0.05, 2.0),
        ("one that uses its votes twice", _twice, 0.52, 4, 39, 0.05, 0.5),
        ("one whose radius is always σ/10", _bold, 0.6, 5, 9, 0.05, 0.5),
        ("one whose radius is always σ/10", _bold, 0.45, 6, 9, 0.05, 2.0),
        ("one that always abstains", _silent, 0.7, 3, 8, 0.05, 0.5),
    )
    for name, rule, *numbers in cases:
        _check_false_rate(function, name, rule, *numbers)
    passed("false_rate: exact for rules that keep their promise and for rules that do not. Audit your own now.")


def _sound(selection, counts, alpha, sigma) -> tuple[int, float]:
    top = selection.index(max(selection))
    lower = bounds.lower_confidence_bound(counts[top], sum(counts), alpha)
    return (top, bounds.certified_radius(lower, sigma)) if lower > 0.5 else (ABSTAIN, 0.0)


def _plug_in(selection, counts, alpha, sigma) -> tuple[int, float]:
    top = counts.index(max(counts))
    share = counts[top] / sum(counts)
    return (top, sigma * float(norm.ppf(share))) if share > 0.5 else (ABSTAIN, 0.0)


def _twice(selection, counts, alpha, sigma) -> tuple[int, float]:
    return _sound(counts, counts, alpha, sigma)


def _bold(selection, counts, alpha, sigma) -> tuple[int, float]:
    return selection.index(max(selection)), sigma / 10


def _silent(selection, counts, alpha, sigma) -> tuple[int, float]:
    return ABSTAIN, 0.0


def _check_false_rate(function, name, rule, p, n0, n, alpha, sigma) -> None:
    case = f"{name}, p = {p}, n0 = {n0}, n = {n}, α = {alpha}, σ = {sigma}"

    def certify(selection, counts, alpha, sigma):
        for votes, size, word in ((selection, n0, "selection"), (counts, n, "counts")):
            if len(votes) != 2 or sum(votes) != size:
                raise Wrong(
                    f"certify was asked with {word} = {list(votes)}: two numbers that add to {size} belong there."
                )
        return rule([int(k) for k in selection], [int(k) for k in counts], alpha, sigma)

    given = float(answer(function, certify, p, n0, n, alpha, sigma))
    # Every outcome: class-0 votes of the selection (rows) and of the fresh votes (columns).
    outcomes = [[rule([i, n0 - i], [k, n - k], alpha, sigma) for k in range(n + 1)] for i in range(n0 + 1)]
    label, radius = (np.array([[pair[part] for pair in row] for row in outcomes]) for part in (0, 1))
    answers, truth, distance = label != ABSTAIN, int(p < 0.5), sigma * abs(float(norm.ppf(p)))
    other, far = answers & (label != truth), answers & (radius > distance)

    def chance(event, p=p) -> float:
        rows, columns = binom.pmf(range(n0 + 1), n0, p), binom.pmf(range(n + 1), n, p)
        return float(rows @ event @ columns)

    false = other | far
    chosen = false[0 if truth else n0].astype(float) @ binom.pmf(range(n + 1), n, p)
    faults = [
        (chance(false | ~answers), "Abstentions were counted: who abstains claims nothing, and nothing can be false."),
        (chance(answers & ~false), "This is the probability of a *true* certificate. Add up the false ones."),
        (1 - chance(false), "This is the probability that nothing false is claimed. Add up the false certificates."),
        (chance(false) / max(chance(answers), 1e-300), "You divided by the probability of an answer: α is per run."),
        (chance(far), "Only the radius was compared. A certificate for the other class is false, however short."),
        (chance(other), "Only the class was compared. A radius beyond the distance of the half-space is false, too."),
        (chosen, "The class was taken as known. The selection votes are random: add up over them, too."),
        (chance(other | (answers & (radius > distance / sigma))), "σ is missing: the distance is σ |Φ⁻¹(p)|."),
        (chance(answers & ((label != 0) | far)), "Class 0 is not always right: for p < ½ it is class 1."),
        (
            chance(other | (answers & (radius > sigma * float(norm.ppf(p))))),
            "The distance was negative: for p < ½ the point lies on the other side, at distance σ |Φ⁻¹(p)|.",
        ),
        (chance(false, 1 - p), "The classes are exchanged: p is the probability of a vote for class 0."),
        (float(false.mean()), "All pairs of counts were taken as equally likely: weigh each with its probability."),
        (float(false.sum()), "The outcomes were counted, not weighed: add up their probabilities."),
        (alpha, "This is α, what the rule *promises*. Whether it keeps the promise is the question."),
    ]
    otherwise = f"For {case} came {given:.6g}, expected {chance(false):.6g}."
    if abs(given - chance(false)) < 0.02:
        otherwise = f"For {case} came {given:.6g}: close, but the exact sum is asked for. Was it simulated or rounded?"
    compare(given, chance(false), faults, otherwise, case)
