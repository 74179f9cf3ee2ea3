"""Answers to notebook 02, right and wrong: votes, abstention, the certificate, the audit of a certifier."""

import math

import numpy as np
import torch
from scipy.stats import binom, binomtest, norm

from lectures.exercise import Exercise
from rslab.lectures.lecture02 import checks
from rslab.smoothing import bounds
from rslab.smoothing.classifier import ABSTAIN

# -- exercise 1: votes -------------------------------------------------------------------


def count_votes(f, x, num_classes, sigma, n, generator):
    noise = sigma * torch.randn(n, *x.shape, generator=generator)
    return torch.bincount(f(x + noise).argmax(1), minlength=num_classes)


def in_batches(f, x, num_classes, sigma, n, generator):
    parts = [count_votes(f, x, num_classes, sigma, 1000, generator) for _ in range(n // 1000)]
    return torch.stack(parts).sum(0)


def votes_with(change=lambda noisy, x, sigma: noisy, scale=lambda sigma: sigma, draw=torch.randn, count=None):
    def answer(f, x, num_classes, sigma, n, generator):
        noisy = change(x + scale(sigma) * draw(n, *x.shape, generator=generator), x, sigma)
        scores = f(noisy)
        return count(scores) if count else torch.bincount(scores.argmax(1), minlength=num_classes)

    return answer


def drawn_once(f, x, num_classes, sigma, n, generator):
    noisy = x + sigma * torch.randn(x.shape, generator=generator)
    return torch.bincount(f(noisy.expand(n, *x.shape)).argmax(1), minlength=num_classes)


def one_copy(f, x, num_classes, sigma, n, generator):
    return count_votes(f, x, num_classes, sigma, 1, generator) * n


def uniform(*shape, generator):
    return (2 * torch.rand(*shape, generator=generator) - 1) * math.sqrt(3)


VOTES = {
    "stopped with ZeroDivisionError": lambda *arguments: 1 / 0,
    "never called": lambda f, x, num_classes, sigma, n, generator: torch.tensor([n, 0, 0]),
    "wants a batch": lambda f, x, num_classes, sigma, n, generator: f(x),
    "multiplied by 255": votes_with(scale=lambda sigma: 255 * sigma),
    "divided by 255": votes_with(scale=lambda sigma: sigma / 255),
    "multiply it by σ": votes_with(scale=lambda sigma: 1.0),
    "σ² the variance": votes_with(scale=lambda sigma: sigma**2),
    "not the variance": votes_with(scale=math.sqrt),
    "clipped": votes_with(change=lambda noisy, x, sigma: noisy.clamp(0, 1)),
    "drawn once": drawn_once,
    "f saw 1 noisy": one_copy,
    "not centred": votes_with(change=lambda noisy, x, sigma: noisy - x),
    "not Gaussian": votes_with(draw=uniform),
    "every pixel": votes_with(draw=lambda n, *shape, generator: torch.randn(n, 1, 1, 1, generator=generator)),
    "shares": votes_with(count=lambda s: torch.bincount(s.argmax(1), minlength=3) / len(s)),
    "soft scores": votes_with(count=lambda s: s.double().softmax(1).sum(0)),
    "argmin": votes_with(count=lambda s: torch.bincount(s.argmin(1), minlength=3)),
    "one number a class": votes_with(count=lambda s: s.argmax(1)),
}


# -- exercise 2: PREDICT's abstention ------------------------------------------------------


def abstain_if(doubtful):
    def answer(counts, alpha):
        second, first = sorted(counts)[-2:]
        return ABSTAIN if doubtful(first, second, sum(counts), alpha) else counts.index(first)

    return answer


abstention = abstain_if(lambda a, b, n, alpha: binomtest(a, a + b, 0.5).pvalue > alpha)

ABSTENTION = {
    "only catches ties": abstain_if(lambda a, b, n, alpha: a - b < alpha),
    "one-sided": abstain_if(lambda a, b, n, alpha: binomtest(a, a + b, 0.5, alternative="greater").pvalue > alpha),
    "against all votes": abstain_if(lambda a, b, n, alpha: binomtest(a, n, 0.5).pvalue > alpha),
    "most votes": lambda counts, alpha: counts.index(min(counts)),
    "class number": lambda counts, alpha: "blue",
}


# -- exercise 3: CERTIFY -------------------------------------------------------------------


def drawn(rule, first=1, second=1):
    """CERTIFY around a rule for counts: the votes are drawn by exercise 1."""

    def answer(f, x, num_classes, sigma, n0, n, alpha, generator):
        selection = count_votes(f, x, num_classes, sigma, first * n0, generator).tolist()
        counts = count_votes(f, x, num_classes, sigma, second * n, generator).tolist()
        return rule(selection, counts, alpha, sigma)

    return answer


def certificate_in_batches(f, x, num_classes, sigma, n0, n, alpha, generator):
    parts = [50] * (n0 // 50) + [n0 % 50] * (n0 % 50 > 0), [1000] * (n // 1000)
    selection, counts = (
        sum(count_votes(f, x, num_classes, sigma, size, generator) for size in part).tolist() for part in parts
    )
    return from_counts(selection, counts, alpha, sigma)


def from_counts(selection, counts, alpha, sigma):
    top = selection.index(max(selection))
    lower = bounds.lower_confidence_bound(counts[top], sum(counts), alpha)
    return (top, sigma * norm.ppf(lower)) if lower > 0.5 else (ABSTAIN, 0.0)


def certificate_with(p, choose=lambda selection, counts: selection, radius=lambda p, sigma: sigma * norm.ppf(p)):
    def answer(selection, counts, alpha, sigma):
        votes = choose(selection, counts)
        top = votes.index(max(votes))
        lower = p(top, selection, counts, alpha)
        return (top, radius(lower, sigma)) if lower > 0.5 else (ABSTAIN, 0.0)

    return answer


def fresh_bound(top, selection, counts, alpha):
    return bounds.lower_confidence_bound(counts[top], sum(counts), alpha)


def no_abstention(selection, counts, alpha, sigma):
    top = selection.index(max(selection))
    return top, sigma * norm.ppf(fresh_bound(top, selection, counts, alpha))


def not_a_number(selection, counts, alpha, sigma):
    top = selection.index(max(selection))
    if counts[top] == 0:
        return top, math.nan
    return from_counts(selection, counts, alpha, sigma)


def counts_first(f, x, num_classes, sigma, n0, n, alpha, generator):
    counts = count_votes(f, x, num_classes, sigma, n, generator).tolist()
    return from_counts(count_votes(f, x, num_classes, sigma, n0, generator).tolist(), counts, alpha, sigma)


def one_draw(f, x, num_classes, sigma, n0, n, alpha, generator):
    counts = count_votes(f, x, num_classes, sigma, n, generator).tolist()
    return from_counts(counts, counts, alpha, sigma)


def same_seed(f, x, num_classes, sigma, n0, n, alpha, generator):
    votes = [count_votes(f, x, num_classes, sigma, size, torch.Generator().manual_seed(0)).tolist() for size in (n0, n)]
    return from_counts(*votes, alpha, sigma)


def wrong_noise(f, x, num_classes, sigma, n0, n, alpha, generator):
    votes = [count_votes(f, x, num_classes, 255 * sigma, size, generator).tolist() for size in (n0, n)]
    return from_counts(*votes, alpha, sigma)


RULES = {  # for counts
    "still missing": lambda *arguments: (..., ...),
    "Return two things": lambda *arguments: 0.5,
    "p̂ was used as if it were p_A": certificate_with(lambda top, sel, counts, alpha: counts[top] / sum(counts)),
    "selection votes were used to bound": certificate_with(
        lambda top, sel, counts, alpha: bounds.lower_confidence_bound(sel[top], sum(sel), alpha)
    ),
    "were added": certificate_with(
        lambda top, sel, counts, alpha: bounds.lower_confidence_bound(
            sel[top] + counts[top], sum(sel) + sum(counts), alpha
        )
    ),
    "chosen from the votes that also bound it": certificate_with(fresh_bound, choose=lambda selection, counts: counts),
    "upper bound": certificate_with(
        lambda top, sel, counts, alpha: bounds.upper_confidence_bound(counts[top], sum(counts), alpha)
    ),
    "α was halved": certificate_with(
        lambda top, sel, counts, alpha: bounds.lower_confidence_bound(counts[top], sum(counts), alpha / 2)
    ),
    "exchanged": certificate_with(
        lambda top, sel, counts, alpha: bounds.lower_confidence_bound(counts[top], sum(counts), 1 - alpha)
    ),
    "σ is missing": certificate_with(fresh_bound, radius=lambda p, sigma: norm.ppf(p)),
    "the two halves": certificate_with(fresh_bound, radius=lambda p, sigma: sigma * norm.ppf(p) / 2),
    "place of its inverse": certificate_with(fresh_bound, radius=lambda p, sigma: sigma * norm.cdf(p)),
    "Abstain when p̲ ≤ ½": no_abstention,
    "NaN": not_a_number,
}
CERTIFICATE = {words: drawn(rule) for words, rule in RULES.items()} | {
    "was never called": lambda f, x, num_classes, sigma, n0, n, alpha, generator: (1, 0.5),
    "more than n0 + n": drawn(from_counts, second=2),
    "*fresh* ones bound": one_draw,
    "choose first": counts_first,
    "not its seed": same_seed,
    "multiplied by 255": wrong_noise,
}


# -- exercise 4: the audit -----------------------------------------------------------------


def false_rate(certify, p, n0, n, alpha, sigma):
    distance, right = sigma * abs(norm.ppf(p)), int(p < 0.5)
    of_selection, of_counts = binom.pmf(range(n0 + 1), n0, p), binom.pmf(range(n + 1), n, p)
    total = 0.0
    for i in range(n0 + 1):
        for k in range(n + 1):
            label, radius = certify([i, n0 - i], [k, n - k], alpha, sigma)
            if label != ABSTAIN and (label != right or radius > distance):
                total += of_selection[i] * of_counts[k]
    return total


def audit(
    is_false=lambda label, radius, right, distance: label != ABSTAIN and (label != right or radius > distance),
    distance_of=lambda p, sigma: sigma * abs(norm.ppf(p)),
    chance=lambda p: p,
    right_for=lambda p: int(p < 0.5),
    rows=lambda n0, p: range(n0 + 1),
    weigh=lambda rows, columns: (rows, columns),
    per_answer=False,
):
    def answer(certify, p, n0, n, alpha, sigma):
        of_selection = binom.pmf(range(n0 + 1), n0, chance(p)) if len(rows(n0, p)) > 1 else np.ones(n0 + 1)
        of_selection, of_counts = weigh(of_selection, binom.pmf(range(n + 1), n, chance(p)))
        total = answered = 0.0
        for i in rows(n0, p):
            for k in range(n + 1):
                label, radius = certify((i, n0 - i), (k, n - k), alpha, sigma)
                total += of_selection[i] * of_counts[k] * is_false(label, radius, right_for(p), distance_of(p, sigma))
                answered += of_selection[i] * of_counts[k] * (label != ABSTAIN)
        return total / max(answered, 1e-300) if per_answer else total

    return answer


def simulated(certify, p, n0, n, alpha, sigma):
    rng, false = np.random.default_rng(0), 0
    for _ in range(20_000):
        i, k = int(rng.binomial(n0, p)), int(rng.binomial(n, p))
        label, radius = certify([i, n0 - i], [k, n - k], alpha, sigma)
        false += label != ABSTAIN and (label != int(p < 0.5) or radius > sigma * abs(norm.ppf(p)))
    return false / 20_000


FALSE_RATE = {
    "Abstentions were counted": audit(lambda label, radius, right, distance: label != right or radius > distance),
    "a *true* certificate": audit(lambda label, radius, right, distance: label == right and radius <= distance),
    "nothing false is claimed": lambda *arguments: 1 - false_rate(*arguments),
    "α is per run": audit(per_answer=True),
    "Only the radius was compared": audit(
        lambda label, radius, right, distance: label != ABSTAIN and radius > distance
    ),
    "Only the class was compared": audit(lambda label, radius, right, distance: label not in (ABSTAIN, right)),
    "The class was taken as known": audit(rows=lambda n0, p: [0 if p < 0.5 else n0]),
    "σ is missing": audit(distance_of=lambda p, sigma: abs(norm.ppf(p))),
    "Class 0 is not always right": audit(right_for=lambda p: 0),
    "The distance was negative": audit(distance_of=lambda p, sigma: sigma * norm.ppf(p)),
    "The classes are exchanged": audit(chance=lambda p: 1 - p),
    "equally likely": audit(
        weigh=lambda rows, columns: (np.full(len(rows), 1 / len(rows)), np.full(len(columns), 1 / len(columns)))
    ),
    "counted, not weighed": audit(weigh=lambda rows, columns: (np.ones(len(rows)), np.ones(len(columns)))),
    "what the rule *promises*": lambda certify, p, n0, n, alpha, sigma: alpha,
    "simulated or rounded": simulated,
    "add to 4": lambda certify, p, n0, n, alpha, sigma: certify([n, 0], [n0, 0], alpha, sigma)[1],
    "expected": lambda certify, p, n0, n, alpha, sigma: 0.5,
}

EXERCISES = (
    Exercise(checks.vote_counts, (count_votes, in_batches), VOTES),
    Exercise(checks.abstention, (abstention,), ABSTENTION),
    Exercise(checks.certificate, (drawn(from_counts), certificate_in_batches), CERTIFICATE),
    Exercise(checks.false_rate, (false_rate, audit()), FALSE_RATE),
)
