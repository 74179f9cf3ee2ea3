"""Figures that the notebooks quote and that no other module tests: Stein, radii, the inner maximisation."""

import math

import numpy as np
import pytest
import torch
from helpers import normal
from scipy.integrate import quad
from scipy.stats import binom, ncx2, norm

from rslab import attacks
from rslab.smoothing import bounds
from rslab.smoothing.closed_forms import Ball, Interval, gaussian_expectation, stein_gradient

# -- Stein -------------------------------------------------------------------------------------


def test_a_smoothed_sine_is_steepest_at_one_over_sigma():
    """h = ½ + ½ sin kx: H = ½ + ½ exp(−k²σ²/2) sin kx, and max |H′| = .30327/σ, below 1/(σ√2π) = .39894/σ."""
    sigma, x, k = 0.5, 0.3, 3.0
    smoothed = gaussian_expectation(lambda t: 0.5 + 0.5 * torch.sin(k * t), x, sigma)
    assert smoothed == pytest.approx(0.5 + 0.5 * math.exp(-(k**2) * sigma**2 / 2) * math.sin(k * x), abs=1e-9)
    frequencies = np.linspace(0.1, 10, 9901)
    steepest = 0.5 * frequencies * np.exp(-(frequencies**2) * sigma**2 / 2)
    assert frequencies[steepest.argmax()] == pytest.approx(1 / sigma, abs=1e-3)
    assert steepest.max() * sigma == pytest.approx(0.30327, abs=5e-6)
    assert steepest.max() * sigma < 1 / math.sqrt(2 * math.pi)


def trace_of_variance(h, sigma: float, dimension: int) -> float:
    """Σ Var of δ h(x₁ + δ₁) / σ² at x = 0, one sample: (E[δ₁²h²] + (d − 1)σ²E[h²]) / σ⁴ − H′²."""
    along = quad(lambda z: (sigma * z) ** 2 * h(sigma * z) ** 2 * norm.pdf(z), -12, 12)[0]
    across = sigma**2 * quad(lambda z: h(sigma * z) ** 2 * norm.pdf(z), -12, 12)[0]
    slope = quad(lambda z: z / sigma * h(sigma * z) * norm.pdf(z), -12, 12)[0]
    return (along + (dimension - 1) * across) / sigma**4 - slope**2


@pytest.mark.parametrize("dimension, stein", [(1, 1.21), (10, 11.36), (100, 112.9), (1000, 1128)])
def test_steins_variance_grows_with_the_dimension_and_the_plug_ins_does_not(dimension, stein):
    sigma = 0.5
    assert trace_of_variance(norm.cdf, sigma, dimension) == pytest.approx(stein, rel=4e-3)
    second = quad(lambda z: norm.pdf(sigma * z) ** 2 * norm.pdf(z), -12, 12)[0]
    mean = quad(lambda z: norm.pdf(sigma * z) * norm.pdf(z), -12, 12)[0]
    assert second - mean**2 == pytest.approx(0.002626, abs=5e-7)  # of φ(x₁ + δ₁), the only component


def test_centring_takes_most_of_steins_variance():
    """h − ½ has the same gradient: a control variate."""
    assert trace_of_variance(lambda t: norm.cdf(t) - 0.5, 0.5, 1000) == pytest.approx(128.3, abs=0.1)


def test_the_sampled_variance_is_the_closed_form():
    """Half-space at 0, σ = 1, d = 100: d/2 − 1/2π = 49.84."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 100, dtype=torch.float64, generator=generator)
    single = noise * (noise[:, :1] > 0)
    assert float(single.var(0).sum()) == pytest.approx(50 - 1 / (2 * math.pi), rel=0.03)
    generator.manual_seed(0)
    mean = stein_gradient(
        lambda z: (z[:, 0] > 0).double(), torch.zeros(100, dtype=torch.float64), 1.0, 4000, generator=generator
    )
    assert torch.allclose(mean, single.mean(0))


# -- radii -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, sigma, radius", [(1000, 0.40, 0.7712), (100_000, 0.30, 0.9123)])
def test_the_best_sigma_for_the_interval_shrinks_with_n(n, sigma, radius):
    """The expected CERTIFY radius at the middle of [−1, 1], α = .001; more samples afford less noise."""
    counts = np.arange(n + 1)
    lower = bounds.lower_confidence_bound(counts, n, 0.001)

    def expected(s):
        return float(binom.pmf(counts, n, Interval().probability(0.0, s)) @ bounds.certified_radius(lower, s))

    assert expected(sigma) == pytest.approx(radius, abs=5e-5)
    assert expected(sigma) > max(expected(sigma - 0.05), expected(sigma + 0.05))


def test_disc_keeps_its_class_far_beyond_the_certificate():
    disc = Ball(2.0, 2)
    assert disc.probability(0.0, 1.0) == pytest.approx(1 - math.exp(-2))
    assert disc.probability(1.0, 1.0) == pytest.approx(0.73099, abs=5e-6)
    assert bounds.certified_radius(disc.probability(0.0, 1.0), 1.0) == pytest.approx(1.1015, abs=5e-5)
    assert disc.true_radius(1.0) == pytest.approx(1.7143, abs=5e-5)


@pytest.mark.parametrize("dimension, true", [(784, 9.787), (3072, 13.638)])
def test_true_radius_of_a_ball_grows_like_the_fourth_root_of_the_dimension(dimension, true):
    """p(0) = .99 certifies 2.3263 in every dimension."""
    ball = Ball(math.sqrt(ncx2.ppf(0.99, dimension, 0)), dimension)
    radius = ball.true_radius(1.0)
    assert radius == pytest.approx(true, abs=1e-3)
    assert radius == pytest.approx(math.sqrt(norm.ppf(0.99) * math.sqrt(2 * dimension)), rel=0.03)
    assert bounds.certified_radius(ball.probability(0.0, 1.0), 1.0) == pytest.approx(2.3263, abs=1e-4)


def test_pooling_divides_the_noise():
    """The mean of 4×4 independent pixels: σ = .5 becomes .125, so that large images bear more noise."""
    noise = normal(2000, 1, 8, 8) * 0.5
    assert float(torch.nn.functional.avg_pool2d(noise, 4).std()) == pytest.approx(0.125, rel=0.03)


@pytest.mark.parametrize("radius, least", [(2.25, 0.590), (3.5, 0.918)])
def test_a_radius_needs_a_sigma(radius, least):
    """n = 100,000 and α = .001: σ ≥ r / 3.811, whatever the network."""
    assert radius / bounds.max_certified_radius(100_000, 0.001, 1.0) == pytest.approx(least, abs=5e-4)
    assert bounds.max_certified_radius(100_000, 0.001, least - 0.001) < radius
    assert bounds.max_certified_radius(10_000, 0.001, 1.0) < 3.5  # lecture 14's k = 10,000 at σ = 1


# -- the inner maximisation --------------------------------------------------------------------

LABEL = torch.tensor([0])


def as_model(loss):
    """A model on images ½ + δ whose negative log-likelihood is loss(δ) + 10."""

    def log_probs(x):
        return torch.stack((-loss(x.flatten(1) - 0.5) - 10, torch.zeros(len(x), dtype=x.dtype)), 1)

    return log_probs


def ridge(z):
    a, b = z[:, 0], z[:, 1]
    return a + 0.9 * b - 6 * (a + b - 0.3).clamp_min(0) ** 2 + 4 * (a - b - 0.2).clamp_min(0)


def test_fgsm_overshoots_where_pgd_finds_the_maximum():
    start = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
    exact = {"norm": "linf", "objective": attacks.negative_log_likelihood}
    fgsm = (attacks.fgsm(as_model(ridge), start, LABEL, 0.5, **exact) - 0.5).flatten(1)
    assert fgsm[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    assert float(ridge(fgsm)) == pytest.approx(-1.99, abs=1e-4)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    line = ridge(t[:, None] * fgsm)
    assert float(line.max()) == pytest.approx(0.3226, abs=5e-5)
    assert float(t[line.argmax()]) == pytest.approx(0.38, abs=5e-3)

    pgd = (attacks.pgd(as_model(ridge), start, LABEL, 0.5, **exact) - 0.5).flatten(1)
    assert pgd[0].tolist() == pytest.approx([0.5, -0.5], abs=1e-5)
    axis = torch.linspace(-0.5, 0.5, 201, dtype=torch.float64)
    assert float(ridge(pgd)) == pytest.approx(3.25, abs=1e-4)
    assert float(ridge(torch.cartesian_prod(axis, axis)).max()) == pytest.approx(3.25)


def test_restarts_on_two_bumps_end_in_two_clusters():
    """Concentrated final losses are a finding about networks, not a property of PGD."""

    def bumps(z):
        near, far = z - torch.tensor([0.2, 0.2]), z + torch.tensor([0.3, 0.3])
        return 1.1 * torch.exp(-near.square().sum(1) / 0.05) + 3 * torch.exp(-far.square().sum(1) / 0.02)

    starts = torch.full((1000, 1, 1, 2), 0.5, dtype=torch.float64)
    found = attacks.pgd(
        as_model(bumps),
        starts,
        LABEL.expand(1000),
        0.5,
        steps=40,
        step_size=0.02,
        norm="linf",
        objective=attacks.negative_log_likelihood,
        random_start=True,
        generator=torch.Generator().manual_seed(0),
    )
    final = bumps(found.flatten(1) - 0.5)
    low, high = final < 1.2, final > 2.8
    assert (low | high).double().mean() > 0.98
    assert 0.05 < float(high.double().mean()) < 0.95


def test_a_sign_step_wastes_the_l2_budget_on_a_sparse_gradient():
    """Share of ε‖g‖₂ that a sign step of ℓ2 length ε gains: ‖g‖₁ / (√d ‖g‖₂)."""
    d = 784

    def efficiency(gradient):
        return float(gradient.norm(p=1) / (math.sqrt(d) * gradient.norm()))

    dense = torch.stack([normal(d, seed=i) for i in range(50)])
    assert np.mean([efficiency(g) for g in dense]) == pytest.approx(math.sqrt(2 / math.pi), abs=0.005)
    assert efficiency(torch.eye(d)[0]) == pytest.approx(0.0357, abs=5e-5)


def test_an_l2_certificate_says_little_about_linf():
    """‖δ‖₂ ≤ √d ‖δ‖∞: a radius of .5 on CIFAR-10 covers 2.30/255 in ℓ∞, not 8/255."""
    assert 0.5 / math.sqrt(3 * 32 * 32) * 255 == pytest.approx(2.30, abs=5e-3)
