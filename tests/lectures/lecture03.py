"""Answers to notebook 03, right and wrong: Stein's estimator, pairs, the variance, a jump without a slope."""

import math

import torch
from scipy.stats import norm

from lectures.exercise import Exercise
from rslab.lectures.lecture03 import checks

# -- exercise 1 ---------------------------------------------------------------------------------


def stein(h, x, sigma, n, generator):
    noise = sigma * torch.randn(n, len(x), dtype=x.dtype, generator=generator)  # (n, d)
    values = h(x + noise)  # (n,)
    return (noise * values[:, None]).mean(0) / sigma**2  # (d,)


def variant(change=lambda products, sigma: products.mean(0) / sigma**2, scale=lambda sigma: sigma, front=None):
    def answer(h, x, sigma, n, generator):
        noise = scale(sigma) * torch.randn(n, len(x), dtype=x.dtype, generator=generator)
        values = h(x + noise)
        factor = noise if front is None else front(noise, x, generator)
        return change(factor * values[:, None], sigma)

    return answer


def same_noise(h, x, sigma, n, generator):
    noise = (sigma * torch.randn(1, len(x), dtype=x.dtype, generator=generator)).expand(n, -1)
    return (noise * h(x + noise)[:, None]).mean(0) / sigma**2


STEIN = {
    "1/σ² is missing": variant(lambda products, sigma: products.mean(0)),
    "not by σ²": variant(lambda products, sigma: products.mean(0) / sigma),
    "sign is turned": variant(lambda products, sigma: -products.mean(0) / sigma**2),
    "sum was returned": variant(lambda products, sigma: products.sum(0) / sigma**2),
    "multiply it by δ alone": variant(front=lambda noise, x, generator: x + noise),
    "the *same* δ": variant(front=lambda noise, x, generator: torch.randn(noise.shape, dtype=x.dtype)),
    "multiply it by σ": variant(scale=lambda sigma: 1.0),
    "σ itself is the standard": variant(scale=lambda sigma: sigma**2),
    "has shape": variant(lambda products, sigma: products / sigma**2),
    "same noise": same_noise,
    "wants (N, d)": lambda h, x, sigma, n, generator: h(x),
    "at x itself": lambda h, x, sigma, n, generator: h(x.expand(n, -1)).mean() * x,
    "never called": lambda h, x, sigma, n, generator: x,
}


# -- exercise 2 ---------------------------------------------------------------------------------


def pairs(combine=lambda plus, minus: (plus - minus) / 2, power=2, fresh=False):
    def answer(h, x, sigma, n, generator):
        noise = sigma * torch.randn(n, len(x), dtype=x.dtype, generator=generator)
        other = sigma * torch.randn(n, len(x), dtype=x.dtype, generator=generator) if fresh else noise
        return (noise * combine(h(x + noise), h(x - other))[:, None]).mean(0) / sigma**power

    return answer


def forward_difference(h, x, sigma, n, generator):
    noise = sigma * torch.randn(n, len(x), dtype=x.dtype, generator=generator)
    return (noise * (h(x + noise) - h(x.expand(n, -1)))[:, None]).mean(0) / sigma**2


PAIRS = {
    "a pair has two": stein,
    "divide by 2σ²": pairs(lambda plus, minus: plus - minus),
    "1/σ² is missing": pairs(power=0),
    "has a minus": pairs(lambda plus, minus: (plus + minus) / 2),
    "sign is turned": pairs(lambda plus, minus: (minus - plus) / 2),
    "the *same* δ": pairs(fresh=True),
    "a good baseline": forward_difference,
}


# -- exercise 3 ---------------------------------------------------------------------------------


def total_variance(d, sigma):
    return d * sigma**2 / 2 / sigma**4 - 1 / (2 * math.pi * sigma**2)


VARIANCE = {
    "squared mean is missing": lambda d, sigma: d / 2 / sigma**2,
    "only half of the noises": lambda d, sigma: (d - 1 / (2 * math.pi)) / sigma**2,
    "σ is missing": lambda d, sigma: d / 2 - 1 / (2 * math.pi),
    "first component alone": lambda d, sigma: (1 / 2 - 1 / (2 * math.pi)) / sigma**2,
    "subtract 1/(2πσ²) once": lambda d, sigma: d * (1 / 2 - 1 / (2 * math.pi)) / sigma**2,
    "baseline": lambda d, sigma: (d / 4 - 1 / (2 * math.pi)) / sigma**2,
}


# -- exercise 4 ---------------------------------------------------------------------------------


def hidden_jump(sigma):
    a = sigma * math.sqrt(2 * math.log(2))  # φ(a/σ) = φ(0)/2
    return [-a, 0.0, a], 1


def lopsided(sigma):
    """Another answer: a piece of σ/2 on the left, and on the right what is left of the density."""
    rest = norm.pdf(0) - norm.pdf(0.5)
    return torch.tensor([-0.5, 0.0, math.sqrt(-2 * math.log(rest * math.sqrt(2 * math.pi)))]) * sigma, 1


HIDDEN_JUMP = {
    "One edge alone": lambda sigma: ([0.0], 0),
    "Two edges cannot": lambda sigma: ([0.0, 2 * sigma], 0),
    "right for σ = 1": lambda sigma: hidden_jump(1.0),
    "scale with σ²": lambda sigma: hidden_jump(sigma**2),
    "balances the *masses*": lambda sigma: ([-0.67448975 * sigma, 0.0, 0.67448975 * sigma], 1),
    "A slope stays": lambda sigma: ([-sigma, 0.0, sigma], 1),
    "These are 5 edges": lambda sigma: ([-2.0, -1.0, 0.0, 1.0, 2.0], 0),
    "increase from left to right": lambda sigma: ([0.0, -sigma], 1),
    "no edge at 0": lambda sigma: ([sigma], 0),
    "goes down at 0": lambda sigma: (hidden_jump(sigma)[0], 0),
    "closer than σ/4": lambda sigma: ([-1e-7 * sigma, 0.0, 5 * sigma], 1),
    "its values are 0 and 1": lambda sigma: ([0.0], 0.5),
    "Return two things": lambda sigma: [-sigma, 0.0, sigma],
}

EXERCISES = (
    Exercise(checks.stein, (stein,), STEIN),
    Exercise(checks.antithetic, (pairs(),), PAIRS),
    Exercise(checks.variance, (total_variance,), VARIANCE),
    Exercise(checks.hidden_jump, (hidden_jump, lopsided), HIDDEN_JUMP),
)
