"""The two toys that part the naive objective from SmoothAdv, and Jensen's bias of the plug-in."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from rslab import attacks
from rslab.smoothing import bounds
from rslab.smoothing.classifier import log_mean_probs, mean_log_probs
from rslab.smoothing.closed_forms import STEP_TOY, SmoothToy, gaussian_expectation

SIGMA, EPSILON = 0.5, 0.75


def best(loss, epsilon: float, points: int = 1501) -> float:
    """The point of [−ε, ε] with the highest loss."""
    grid = np.linspace(-epsilon, epsilon, points)
    return float(grid[np.argmax([loss(x) for x in grid])])


# -- toy A: a step function, everything in Φ's -------------------------------------------------


def test_step_toy_has_the_known_values_at_zero():
    g, vote = STEP_TOY.probability(0, SIGMA), STEP_TOY.vote(0, SIGMA)
    assert (g, vote) == pytest.approx((0.76374, 0.76345), abs=5e-6)
    assert bounds.certified_radius(vote, SIGMA) == pytest.approx(0.35872, abs=5e-6)
    soft = brentq(lambda r: STEP_TOY.probability(r, SIGMA) - 0.5, 0, 1)
    hard = brentq(lambda r: STEP_TOY.vote(r, SIGMA) - 0.5, 0, 1)
    assert (soft, hard) == pytest.approx((0.50813, 0.48013), abs=5e-6)
    assert STEP_TOY.naive_slope(0, SIGMA) == pytest.approx(-2.3764, abs=5e-5)
    assert STEP_TOY.smoothadv_slope(0, SIGMA) == pytest.approx(0.35648, abs=5e-6)


def test_step_toy_draws_the_naive_attack_to_where_g_rises():
    naive = best(lambda x: STEP_TOY.naive_loss(x, SIGMA), EPSILON)
    smoothadv = best(lambda x: -STEP_TOY.probability(x, SIGMA), EPSILON)
    assert naive == pytest.approx(-0.5823, abs=1e-3) and smoothadv == EPSILON
    assert STEP_TOY.probability(naive, SIGMA) == pytest.approx(0.8189, abs=1e-4)
    assert STEP_TOY.probability(smoothadv, SIGMA) == pytest.approx(0.3357, abs=5e-5)
    assert STEP_TOY.vote(smoothadv, SIGMA) == pytest.approx(0.3042, abs=5e-5)


@pytest.mark.parametrize("sigma, epsilon, agree", [(0.25, 0.75, False), (0.75, 0.5, False), (1.0, 0.75, True)])
def test_step_toy_parts_the_two_at_other_sigmas_but_not_at_one(sigma, epsilon, agree):
    naive = best(lambda x: STEP_TOY.naive_loss(x, sigma), epsilon)
    smoothadv = best(lambda x: -STEP_TOY.probability(x, sigma), epsilon)
    assert smoothadv == epsilon and (naive == smoothadv) is agree


def test_step_toy_is_the_classifier_of_its_closed_forms():
    x = 0.1
    soft = gaussian_expectation(lambda t: STEP_TOY(t[:, None]).softmax(1)[:, 1], x, SIGMA)
    naive = gaussian_expectation(lambda t: -STEP_TOY(t[:, None]).log_softmax(1)[:, 1], x, SIGMA)
    assert soft == pytest.approx(STEP_TOY.probability(x, SIGMA), abs=1e-3)
    assert naive == pytest.approx(STEP_TOY.naive_loss(x, SIGMA), abs=0.02)
    h = 1e-6
    slope = (STEP_TOY.naive_loss(x + h, SIGMA) - STEP_TOY.naive_loss(x - h, SIGMA)) / (2 * h)
    assert slope == pytest.approx(STEP_TOY.naive_slope(x, SIGMA), rel=1e-6)
    slope = -math.log(STEP_TOY.probability(x + h, SIGMA) / STEP_TOY.probability(x - h, SIGMA)) / (2 * h)
    assert slope == pytest.approx(STEP_TOY.smoothadv_slope(x, SIGMA), rel=1e-6)


# -- toy B: smooth, so that PGD can run on it ---------------------------------------------------

LINE = SmoothToy()


def soft(x: float) -> float:
    return gaussian_expectation(lambda t: LINE(t[:, None]).softmax(1)[:, 1], x, SIGMA, points=2001)


def naive_loss(x: float) -> float:
    return gaussian_expectation(lambda t: -LINE(t[:, None]).log_softmax(1)[:, 1], x, SIGMA, points=2001)


def test_smooth_toy_has_the_known_values_at_zero():
    h = 1e-4
    assert soft(0) == pytest.approx(0.6801, abs=5e-5)
    assert (naive_loss(h) - naive_loss(-h)) / (2 * h) == pytest.approx(-1.639, abs=5e-4)
    assert -math.log(soft(h) / soft(-h)) / (2 * h) == pytest.approx(0.549, abs=5e-4)

    def log_odds(t):
        return float(LINE(torch.tensor([[t]], dtype=torch.float64))[0, 1])

    ends = [brentq(log_odds, *bracket) for bracket in ((-1, -0.7), (-0.7, -0.4), (0, 1))]
    left, right, last = norm.cdf(np.array(ends) / SIGMA)
    assert left + last - right == pytest.approx(0.66981, abs=5e-6)  # the vote, exactly


def test_smooth_toy_draws_the_naive_attack_to_where_g_rises():
    naive, smoothadv = best(naive_loss, EPSILON, 751), best(lambda x: -soft(x), EPSILON, 751)
    assert naive == pytest.approx(-0.682, abs=2e-3) and smoothadv == EPSILON
    assert soft(naive) == pytest.approx(0.7795, abs=1e-3) and soft(naive) > soft(0)
    assert soft(smoothadv) == pytest.approx(0.2757, abs=5e-5)


PLANE = SmoothToy(angle=30)
SEEDS = 100


@cache
def grid() -> tuple[torch.Tensor, ...]:
    """Points of N(0, σ²I) on ±5.5σ, fine across the narrow dip, and the weights of either axis."""
    axes = [torch.linspace(-5.5, 5.5, count, dtype=torch.float64) for count in (301, 81)]
    weights = [torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum() for z in axes]
    return torch.cartesian_prod(*axes) * SIGMA, *weights


def probability(x: torch.Tensor) -> float:
    """G_y at a point (2,) of the plane."""
    points, first, second = grid()
    inside = PLANE(x + points).softmax(1)[:, 1].view(len(first), len(second))
    return float(first @ inside @ second)


def success(log_probs, objective, m: int) -> float:
    """How often PGD with m fixed noise samples reaches G_y < ½. Image = ½ + x / 2: the ball fits into [0, 1]."""
    generator = torch.Generator().manual_seed(m)
    noise = torch.randn(m, SEEDS, 2, 1, 1, dtype=torch.float64, generator=generator) * SIGMA
    start = torch.full((SEEDS, 2, 1, 1), 0.5, dtype=torch.float64)
    adversarial = attacks.pgd(
        lambda image: log_probs(PLANE, 2 * image - 1, noise),
        start,
        torch.ones(SEEDS, dtype=torch.long),
        EPSILON / 2,
        steps=20,
        step_size=EPSILON / 20,
        objective=objective,
    )
    return float(np.mean([probability(x) < 0.5 for x in (2 * adversarial - 1).flatten(1)]))


@pytest.mark.parametrize(
    "m, naive, smoothadv",
    [(1, 0.82, 0.82), (4, 0.56, 0.83), (16, 0.21, 0.85), (64, 0.07, 0.93), (256, 0.20, 1.00), (1024, 0.41, 1.00)],
)
def test_smooth_toy_in_the_plane_more_samples_help_smoothadv_and_not_the_naive_attack(m, naive, smoothadv):
    """Shares of 100 seeds, beside those of 100 other seeds: within four standard deviations of the difference."""
    measured = (
        success(mean_log_probs, attacks.negative_log_likelihood, m),
        success(log_mean_probs, attacks.cross_entropy, m),
    )
    for share, other in zip(measured, (naive, smoothadv), strict=True):
        p = min(max(other, 0.02), 0.98)
        assert share == pytest.approx(other, abs=4 * math.sqrt(p * (1 - p) * 2 / SEEDS))
    if m == 1:
        assert measured[0] == measured[1]  # with one sample the two are one attack
    if m >= 64:
        assert measured[1] > measured[0] + 0.3


# -- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 3])
def test_gaussian_bump_has_both_objectives_in_closed_form(dimension):
    """F = exp(−|x|²/2τ²): naive (|x|² + dσ²)/2τ², SmoothAdv |x|²/2(τ² + σ²) + (d/2) ln(1 + σ²/τ²)."""
    x, sigma, tau = 1.0, 0.5, 1.0
    where = [x] + [0.0] * (dimension - 1)
    naive = sum(gaussian_expectation(lambda t: t**2 / (2 * tau**2), c, sigma) for c in where)
    log_g = sum(math.log(gaussian_expectation(lambda t: torch.exp(-(t**2) / (2 * tau**2)), c, sigma)) for c in where)
    closed_naive = (x**2 + dimension * sigma**2) / (2 * tau**2)
    closed = x**2 / (2 * (tau**2 + sigma**2)) + dimension / 2 * math.log1p(sigma**2 / tau**2)
    assert (naive, -log_g) == pytest.approx((closed_naive, closed), abs=1e-7)
    if dimension == 1:
        assert (naive, -log_g) == pytest.approx((0.625, 0.51157), abs=5e-6)
    ratio = (x / tau**2) / (x / (tau**2 + sigma**2))
    assert ratio == pytest.approx((tau**2 + sigma**2) / tau**2)


@pytest.mark.parametrize("m, bias", [(1, 0.5108), (2, 0.2554), (8, 0.0459), (64, 0.00508), (256, 0.001255)])
def test_jensens_bias_is_that_of_the_binomial_and_ends_as_its_second_order(m, bias):
    """F is .9 or .1 evenly; the limit is Var/(2mp²) = .32/m, and m = 1 is the naive loss."""
    ones = np.arange(m + 1)
    logs = np.log((0.9 * ones + 0.1 * (m - ones)) / m)
    expected = math.log(0.5) - float(np.exp(_log_binomial(m)) @ logs)
    assert expected == pytest.approx(bias, rel=2e-3)
    if m == 1:
        assert math.log(0.5) - expected == pytest.approx((math.log(0.9) + math.log(0.1)) / 2)
    if m == 256:
        assert expected == pytest.approx(0.32 / m, rel=0.01)


def _log_binomial(m: int) -> np.ndarray:
    ones = np.arange(m + 1)
    log_factorial = np.concatenate(([0.0], np.log(np.arange(1, m + 1)).cumsum()))
    return log_factorial[m] - log_factorial[ones] - log_factorial[m - ones] - m * math.log(2)
