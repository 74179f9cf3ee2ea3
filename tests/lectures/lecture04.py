"""Answers to notebook 04, right and wrong: the warm-up radius, the scaling step, the worst half-space."""

import numpy as np
from scipy.stats import norm

from lectures.exercise import Exercise
from rslab.lectures.lecture04 import checks

# -- exercise 1 ---------------------------------------------------------------------------------


def warm_up_radius(p_a, p_b, sigma):
    lipschitz = 1 / (sigma * np.sqrt(2 * np.pi))
    return (p_a - p_b) / (2 * lipschitz)


WARM_UP = {
    "h − ½": lambda p_a, p_b, sigma: sigma * np.sqrt(np.pi / 8) * (p_a - p_b),
    "B can rise": lambda p_a, p_b, sigma: sigma * np.sqrt(2 * np.pi) * (p_a - p_b),
    "as printed": lambda p_a, p_b, sigma: np.sqrt(1 / (2 * sigma**2)) * (p_a - p_b),
    "divided by 2L": lambda p_a, p_b, sigma: (p_a - p_b) / 2 / (sigma * np.sqrt(2 * np.pi)),
    "σ is missing": lambda p_a, p_b, sigma: np.sqrt(np.pi / 2) * (p_a - p_b),
    "main theorem": lambda p_a, p_b, sigma: sigma / 2 * (norm.ppf(p_a) - norm.ppf(p_b)),
    "p_b is missing": lambda p_a, p_b, sigma: sigma * np.sqrt(np.pi / 2) * p_a,
    "expected (p_a − p_b) / 2L": lambda p_a, p_b, sigma: 0.1,
}


# -- exercise 2 ---------------------------------------------------------------------------------


def smooth(smooth_unit, h, x, sigma):
    return smooth_unit(lambda z: h(sigma * z), x / sigma)


SCALING = {
    "as printed": lambda unit, h, x, sigma: unit(lambda z: h(z / sigma), sigma * x),
    "h̃ is right, the point is not": lambda unit, h, x, sigma: unit(lambda z: h(sigma * z), sigma * x),
    "was not rescaled": lambda unit, h, x, sigma: unit(lambda z: h(sigma * z), x),
    "The point is right, h̃": lambda unit, h, x, sigma: unit(lambda z: h(z / sigma), x / sigma),
    "neither h nor the point": lambda unit, h, x, sigma: unit(h, x),
    "no factor σ": lambda unit, h, x, sigma: sigma * unit(lambda z: h(sigma * z), x / sigma),
    "not a number": lambda unit, h, x, sigma: unit(0.5, x / sigma),
}


# -- exercise 3 ---------------------------------------------------------------------------------


def half(edge=lambda p, s, n: s * n * norm.ppf(p), inside=lambda value, edge: value <= edge, centre=lambda x, d: x):
    def answer(x, delta, p_a, sigma):
        limit = edge(p_a, sigma, np.linalg.norm(delta))
        return lambda z: inside((z - centre(x, delta)) @ delta, limit)

    return answer


WORST = {
    "replace each ...": lambda x, delta, p_a, sigma: lambda z: ...,
    "Return a function": lambda x, delta, p_a, sigma: 0.5,
    "complement": half(inside=lambda value, edge: value > edge),
    "wrong side": half(inside=lambda value, edge: value >= -edge),
    "‖δ‖ is missing": half(edge=lambda p, s, n: s * norm.ppf(p)),
    "σ is missing at the edge": half(edge=lambda p, s, n: n * norm.ppf(p)),
    "no place on the line": half(edge=lambda p, s, n: s * n * p),
    "not norm.cdf": half(edge=lambda p, s, n: s * n * norm.cdf(p)),
    "Not centred": half(centre=lambda x, delta: 0 * x),
    "Centred at x + δ": half(centre=lambda x, delta: x + delta),
    "expected one answer a point": lambda x, delta, p_a, sigma: lambda z: z > 0,
}

EXERCISES = (
    Exercise(checks.warm_up, (warm_up_radius,), WARM_UP),
    Exercise(checks.scaling, (smooth,), SCALING),
    Exercise(checks.worst_case, (half(),), WORST),
)
