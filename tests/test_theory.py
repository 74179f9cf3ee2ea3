"""Closed forms against quadrature and Monte Carlo, and the figures of MATHS.md, sections 2 and 3."""

import math

import pytest
import torch
from helpers import normal
from scipy.stats import ncx2, norm

from rslab.errors import InputError
from rslab.smoothing.bounds import certified_radius
from rslab.smoothing.closed_forms import Ball, Halfspace, Interval, gaussian_expectation, stein_gradient


def flat(*values: float) -> torch.Tensor:
    """One image that holds `values`: (1, 1, 1, d)."""
    return torch.tensor(values).view(1, 1, 1, -1)


def frequency(classifier, x, sigma, samples=200_000) -> float:
    """How often the classifier says 1 on noisy copies of x."""
    noise = normal(samples, *x.shape[1:], seed=1) * sigma
    return float((classifier(x + noise).argmax(1) == 1).float().mean())


# -- half-space --------------------------------------------------------------------------


def test_halfspace_of_the_course_certifies_its_distance_for_every_sigma():
    halfspace, x = Halfspace(torch.tensor([3.0, 4.0]), 1.0), flat(1.0, 0.5).double()
    assert float(halfspace.distance(x)) == pytest.approx(1.2)
    for sigma in (0.25, 0.5, 1.0, 2.0):
        assert certified_radius(float(halfspace.probability(x, sigma)), sigma) == pytest.approx(1.2, rel=1e-9)


def test_halfspace_says_1_on_the_positive_side_and_ties_on_the_boundary():
    halfspace = Halfspace(torch.tensor([3.0, 4.0]), -5.0)
    assert halfspace(torch.cat((flat(1.0, 1.0), flat(0.0, 1.0)))).argmax(1).tolist() == [1, 0]
    assert float(halfspace.probability(flat(1.0, 0.5), 0.3)) == 0.5


def test_halfspace_probability_is_the_frequency_under_noise():
    halfspace, x = Halfspace(torch.tensor([1.0, -2.0, 0.5]), 0.2), flat(0.3, 0.4, 0.1)
    assert frequency(halfspace, x, 0.5) == pytest.approx(float(halfspace.probability(x, 0.5)), abs=0.004)


# -- interval and ball -------------------------------------------------------------------


@pytest.mark.parametrize(
    "sigma, certified, true",
    [(0.25, 0.9582, 1.0), (0.5, 0.8451, 0.99996), (1.0, 0.4752, 0.9333), (1.4, 0.0876, 0.4763)],
)
def test_interval_certifies_less_than_its_true_radius(sigma, certified, true):
    interval = Interval(1.0)
    assert certified_radius(interval.probability(0.0, sigma), sigma) == pytest.approx(certified, abs=5e-5)
    assert interval.true_radius(sigma) == pytest.approx(true, abs=5e-5)


def test_interval_vanishes_at_the_known_sigma():
    vanishes = 1 / norm.ppf(0.75)
    assert vanishes == pytest.approx(1.48260, abs=5e-6)
    assert Interval(1.0).true_radius(vanishes * 0.999) > 0 == Interval(1.0).true_radius(vanishes * 1.001)


def test_interval_probability_is_the_frequency_under_noise():
    assert frequency(Interval(0.7), flat(0.4), 0.5) == pytest.approx(Interval(0.7).probability(0.4, 0.5), abs=0.004)


def test_disc_has_the_known_values():
    disc = Ball(2.0, 2)
    assert disc.probability(0.0, 1.0) == pytest.approx(1 - math.exp(-2), abs=1e-9)
    assert disc.probability(1.0, 1.0) == pytest.approx(0.73099, abs=5e-6)
    assert certified_radius(disc.probability(0.0, 1.0), 1.0) == pytest.approx(1.1015, abs=5e-5)
    assert disc.true_radius(1.0) == pytest.approx(1.7143, abs=5e-5)


@pytest.mark.parametrize("dimension, true", [(1, 2.576), (2, 2.862), (10, 3.759), (100, 6.051), (784, 9.787)])
def test_ball_of_099_certifies_ever_less_of_its_true_radius_as_dimension_grows(dimension, true):
    radius = math.sqrt(ncx2.ppf(0.99, dimension, 0.0))
    ball = Ball(radius, dimension)
    assert certified_radius(ball.probability(0.0, 1.0), 1.0) == pytest.approx(2.3263, abs=5e-4)
    assert ball.true_radius(1.0) == pytest.approx(true, abs=1e-3)


def test_ball_probability_is_the_frequency_under_noise():
    ball, x = Ball(1.5, 5), flat(0.6, 0.0, 0.8, 0.0, 0.0)
    assert frequency(ball, x, 0.5) == pytest.approx(ball.probability(1.0, 0.5), abs=0.004)


def test_sigma_of_zero_is_refused():
    with pytest.raises(InputError, match="sigma.*above 0"):
        Interval(1.0).true_radius(0.0)


# -- Stein -------------------------------------------------------------------------------


def test_stein_gradient_of_a_step_needs_no_derivative():
    gradient = stein_gradient(
        lambda z: (z[:, 0] > 0.3).double(),
        torch.zeros(2, dtype=torch.float64),
        0.5,
        400_000,
        generator=torch.Generator().manual_seed(0),
    )
    assert float(gradient[0]) == pytest.approx(norm.pdf(0.6) / 0.5, abs=0.01)
    assert float(gradient[1]) == pytest.approx(0, abs=0.01)


def test_stein_gradient_of_a_sine_is_the_closed_form_and_its_bound():
    sigma, k = 0.5, 2.0  # k = 1/σ, where |H′| is largest: 0.30327/σ
    slope = stein_gradient(
        lambda z: 0.5 + 0.5 * torch.sin(k * z[:, 0]),
        torch.zeros(1, dtype=torch.float64),
        sigma,
        400_000,
        antithetic=True,
        generator=torch.Generator().manual_seed(0),
    )
    assert float(slope) == pytest.approx(0.5 * k * math.exp(-(k**2) * sigma**2 / 2), abs=0.004)
    assert float(slope) == pytest.approx(0.30327 / sigma, abs=0.004)


def estimates(antithetic: bool, d: int = 100, repetitions: int = 1500) -> torch.Tensor:
    """Single-sample Stein gradients of the half-space's step at 0, σ = 1: (repetitions, d)."""
    generator = torch.Generator().manual_seed(5)
    zero = torch.zeros(d, dtype=torch.float64)

    def step(z):
        return (z[:, 0] > 0).double()

    return torch.stack(
        [stein_gradient(step, zero, 1.0, 1, antithetic=antithetic, generator=generator) for _ in range(repetitions)]
    )


def test_stein_variance_grows_with_dimension_and_pairs_halve_it():
    d = 100
    plain, paired = estimates(False), estimates(True)
    assert float(plain.var(0).sum()) == pytest.approx(d / 2 - 1 / (2 * math.pi), rel=0.04)
    assert float(paired.var(0).sum()) == pytest.approx(d / 4 - 1 / (2 * math.pi), rel=0.04)


def test_stein_gradient_is_the_same_for_the_same_generator():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return stein_gradient(lambda z: z[:, 0].sigmoid(), torch.zeros(3), 0.5, 10, generator=generator)

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("sigma, samples, name", [(0.0, 10, "sigma"), (1.0, 0, "samples")])
def test_stein_refuses_bad_numbers(sigma, samples, name):
    with pytest.raises(InputError, match=name):
        stein_gradient(lambda z: z[:, 0], torch.zeros(1), sigma, samples)


# -- quadrature --------------------------------------------------------------------------


def test_quadrature_gives_the_closed_forms():
    assert gaussian_expectation(torch.cos, 0.0, 0.7) == pytest.approx(math.exp(-0.245), abs=1e-9)
    assert gaussian_expectation(lambda z: z.square(), 2.0, 0.5) == pytest.approx(4.25, abs=1e-9)
    # the lecture's scaling step: H = 0.27425 for a step at 0.3 with σ = 0.5
    assert gaussian_expectation(lambda z: (z > 0.3).double(), 0.0, 0.5) == pytest.approx(0.27425, abs=4e-4)


@pytest.mark.parametrize("sigma, radius", [(0.25, 0.4472), (0.5, 0.7071), (1.0, 0.8944)])
def test_a_probit_score_certifies_less_than_its_distance(sigma, radius):
    p = gaussian_expectation(lambda z: torch.special.ndtr(z / 0.5), 1.0, sigma)
    assert certified_radius(p, sigma) == pytest.approx(radius, abs=5e-5)
