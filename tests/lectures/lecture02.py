"""Answers to notebook 02, right and wrong: votes, abstention, the certificate, the sample size."""

import math

import torch
from scipy.stats import binomtest, norm

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


def certificate(selection, counts, alpha, sigma):
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
    return certificate(selection, counts, alpha, sigma)


CERTIFICATE = {
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


# -- exercise 4: the least n ---------------------------------------------------------------


def smallest_n(radius, sigma, alpha):
    return math.ceil(math.log(alpha) / math.log(norm.cdf(radius / sigma)))


SMALLEST = {
    "round up": lambda radius, sigma, alpha: math.log(alpha) / math.log(norm.cdf(radius / sigma)),
    "One too few": lambda radius, sigma, alpha: int(math.log(alpha) / math.log(norm.cdf(radius / sigma))),
    "σ is missing": lambda radius, sigma, alpha: smallest_n(radius, 1.0, alpha),
    "multiplied by σ": lambda radius, sigma, alpha: smallest_n(radius * sigma, 1.0, alpha),
    "halved": lambda radius, sigma, alpha: smallest_n(radius, sigma, alpha / 2),
    "1 − α": lambda radius, sigma, alpha: smallest_n(radius, sigma, 1 - alpha),
    "does not reach": lambda radius, sigma, alpha: 10,
    "fewer votes do too": lambda radius, sigma, alpha: 2 * smallest_n(radius, sigma, alpha),
}

EXERCISES = (
    Exercise(checks.vote_counts, (count_votes, in_batches), VOTES),
    Exercise(checks.abstention, (abstention,), ABSTENTION),
    Exercise(checks.certificate, (certificate,), CERTIFICATE),
    Exercise(checks.smallest_n, (smallest_n,), SMALLEST),
)
