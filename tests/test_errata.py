"""Errata of the proof in lecture 14 (rows 1–14): the printed claim fails, the corrected one holds.

The rows are those of the course's list of errata; letters are additions to it. Rows
15–33 are in `test_errata_practice.py`. Rows that no computation can decide:

| row | matter | why not computed |
|---|---|---|
| 12 | lecture 14, maximisation: "max over X ~ N of E", h "arbitrary" | notation: max over f of E over X; measurable h |
| 13 | lecture 14, (8) and (9): "min over (X, y) ~ D of E", a loss of (F, X + δ, y) | notation: min over θ |
| 26 | blog: ResNet-110 for both data sets | a fact of the papers: ImageNet used ResNet-50 |
| 31 | slides: the first method with mathematical guarantees | history: Wong and Kolter, Katz et al. came before |
"""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from rslab.smoothing import bounds
from rslab.smoothing.closed_forms import Halfspace, gaussian_expectation, stein_gradient

UNIT = Halfspace(torch.tensor([1.0], dtype=torch.float64), 0.0)  # class 1 where x > 0


def number(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def smoothed_steps(edges: np.ndarray, values: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """(H(0), H′(0)) of step functions: `values` (N, 6) between `edges` (N, 5), both in units of σ.

    E h(δ) and, by Stein, E δ h(δ) / σ², by Gauss and Legendre's rule on each piece: no Φ, no derivative.
    """
    nodes, weights = np.polynomial.legendre.leggauss(60)
    ends = np.pad(edges, ((0, 0), (1, 1)), constant_values=(-12, 12))
    half, middle = np.diff(ends, axis=1)[..., None] / 2, (ends[:, 1:] + ends[:, :-1])[..., None] / 2  # (N, 6, 1)
    z = middle + half * nodes  # (N, 6, 60)
    mass = half * weights * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    level, slope = (mass.sum(2) * values).sum(1), ((mass * z).sum(2) * values).sum(1) / sigma
    return level, slope


def random_steps(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges and values of `count` random functions, a third of them with values 0 and 1 alone, a third half-spaces."""
    rng = np.random.default_rng(seed)
    edges, values = np.sort(rng.uniform(-3, 3, size=(count, 5)), axis=1), rng.random((count, 6))
    values[::3] = values[::3].round()
    values[1::3] = np.arange(6) >= rng.integers(1, 6, size=(len(values[1::3]), 1))
    return edges, values


@pytest.mark.parametrize("sigma, slope", [(0.25, 4.0), (0.5, 2.0), (1.0, 1.0), (2.0, 0.5)])
def test_1_the_quantile_of_a_smoothed_function_is_one_over_sigma_lipschitz(sigma, slope):
    """Lemma 2.6 and the proof's last line say σ-Lipschitz; it is 1/σ, and the half-space attains it.

    Only L = 1/σ in Lemma 2.2 gives the radius of (3), σ/2 (Φ⁻¹(p_a) − Φ⁻¹(p_b)).
    """
    h = 1e-4
    quantiles = [norm.ppf(float(UNIT.probability(number(x), sigma))) for x in (0.3 - h, 0.3 + h)]
    measured = (quantiles[1] - quantiles[0]) / (2 * h)
    assert measured == pytest.approx(slope, rel=1e-6) and slope == 1 / sigma
    if sigma < 1:
        assert measured > sigma  # the printed constant
    margin = norm.ppf(0.9) - norm.ppf(0.1)
    right = bounds.certified_radius_two_sided(0.9, 0.1, sigma)
    assert right == pytest.approx(margin / (2 * (1 / sigma)))
    if sigma != 1:
        assert right != pytest.approx(margin / (2 * sigma), rel=0.1)


def test_1_no_random_step_function_exceeds_one_over_sigma():
    """Lemma 2.6: of 5,000 step functions the steepest Φ⁻¹ ∘ H has slope 1/σ, not σ."""
    sigma = 0.5
    level, slope = smoothed_steps(*random_steps(5000, seed=0), sigma)
    some = (level > 1e-9) & (level < 1 - 1e-9)  # not those that are 0 or 1 everywhere
    steepest = float((abs(slope[some]) / norm.pdf(norm.ppf(level[some]))).max())
    assert sigma * steepest == pytest.approx(1, abs=1e-6)
    assert steepest > 3 * sigma


def test_2_scaling_to_unit_variance():
    """Last paragraph of the proof: h̃(z) = h(σz), H̃(x/σ) = H(x) and N(0, I), not h(z/σ) and H̃(σx)."""
    sigma, x, threshold = 0.5, 0.0, 0.3
    smoothed = float(norm.sf((threshold - x) / sigma))
    assert smoothed == pytest.approx(0.27425, abs=5e-6)
    as_printed = float(norm.sf(threshold * sigma - sigma * x))  # h(z/σ) jumps at z = .3 σ
    corrected = float(norm.sf(threshold / sigma - x / sigma))
    assert as_printed == pytest.approx(0.44038, abs=5e-6)
    assert corrected == pytest.approx(smoothed)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_3_the_last_integral_lacks_its_normalisation(p):
    """Proof of Lemma 2.6, last display: exp(−Φ⁻¹(p)²/2) lacks the factor 1/√2π."""
    quantile = norm.ppf(p)
    integral = quad(lambda z: z * norm.pdf(z), -quantile, np.inf)[0]
    printed = math.exp(-(quantile**2) / 2)
    assert integral == pytest.approx(norm.pdf(quantile), abs=1e-9)
    assert printed / integral == pytest.approx(2.50663, rel=1e-5)
    if p == 0.9:
        assert (integral, printed) == pytest.approx((0.175498, 0.439909), abs=1e-6)


@pytest.mark.parametrize("degrees, value", [(0, 0.280), (30, 0.242), (60, 0.140), (90, 0.0)])
def test_4_the_worst_half_space_looks_along_v(degrees, value):
    """Proof of Lemma 2.6: ℓ(z) = 1[⟨u, z⟩ > …] needs u = v; at an angle θ it only reaches cos θ of the maximum."""
    p, turn = 0.8, math.radians(degrees)
    u = torch.tensor([math.cos(turn), math.sin(turn)], dtype=torch.float64)
    gradient = stein_gradient(
        lambda z: (z @ u > -norm.ppf(p)).double(),
        torch.zeros(2, dtype=torch.float64),
        1.0,
        200_000,
        generator=torch.Generator().manual_seed(degrees),
    )  # E[X ℓ(X)]; v is the first axis
    closed = math.cos(turn) * norm.pdf(norm.ppf(p))
    assert closed == pytest.approx(value, abs=5e-4)
    assert float(gradient[0]) == pytest.approx(closed, abs=0.006)
    if degrees:
        assert closed < norm.pdf(norm.ppf(p)) - 0.03


def test_5_the_warm_up_radius_grows_with_sigma():
    """Corollary 2.5 prints √(1/2σ²) (p_a − p_b); 1/(2L) with Lemma 2.4's L is σ√(π/8) (p_a − p_b)."""
    sigma, distance = 0.25, 0.0125
    p = float(UNIT.probability(number(distance), sigma))
    gap = p - (1 - p)
    printed = math.sqrt(1 / (2 * sigma**2)) * gap
    assert printed == pytest.approx(0.1128, abs=5e-5) and printed > 8 * distance
    lecture = bounds.lipschitz_radius(p, 1 - p, sigma, sharp=False)
    assert lecture == pytest.approx(sigma * math.sqrt(math.pi / 8) * gap)
    assert lecture == pytest.approx(gap / (2 * math.sqrt(2 / (math.pi * sigma**2))))
    assert lecture < bounds.lipschitz_radius(p, 1 - p, sigma) < distance


@pytest.mark.parametrize("sigma, false", [(0.5, True), (0.75, True), (0.7512, False), (1.0, False)])
def test_5_as_printed_it_is_false_below_a_threshold_of_sigma(sigma, false):
    """Corollary 2.5 as printed promises too much for σ < π^(−1/4) = .75113, seen near p = ½."""
    assert math.pi**-0.25 == pytest.approx(0.75113, abs=5e-6)
    distance = 1e-4
    p = float(UNIT.probability(number(distance), sigma))
    assert ((2 * p - 1) / math.sqrt(2 * sigma**2) > distance) is false


def test_6_the_lipschitz_constant_of_a_smoothed_function_is_half_as_large():
    """Lemma 2.4: √(2/πσ²) is an upper bound, twice the least one, 1/(σ√2π): apply the proof to h − ½."""
    sigma = 0.5
    slopes = abs(smoothed_steps(*random_steps(10_000, seed=1), sigma)[1])
    sharp, printed = 1 / (sigma * math.sqrt(2 * math.pi)), math.sqrt(2 / (math.pi * sigma**2))
    assert printed == pytest.approx(2 * sharp)
    assert slopes.max() <= sharp + 1e-12 and slopes.max() == pytest.approx(0.39894 / sigma, rel=1e-3)
    assert sharp == pytest.approx(norm.pdf(0) / sigma)
    ratio = bounds.lipschitz_radius(0.9, 0.1, sigma) / bounds.lipschitz_radius(0.9, 0.1, sigma, sharp=False)
    assert ratio == pytest.approx(2)
    assert bounds.lipschitz_radius(0.9, 0.1, sigma) == pytest.approx(sigma * math.sqrt(math.pi / 2) * 0.8)


def test_7_the_runner_up_is_not_the_top_class():
    """Theorem 1.1, (2): b ranges over the classes without a. Without y* instead, a may be its own runner-up."""
    scores, label = np.array([0.6, 0.3, 0.1]), 1  # a = 0, misclassified
    a = int(scores.argmax())
    printed = int(np.where(np.arange(3) == label, -1, scores).argmax())
    right = int(np.where(np.arange(3) == a, -1, scores).argmax())
    assert (a, printed, right) == (0, 0, 1)
    assert bounds.certified_radius_two_sided(scores[a], scores[printed], 1.0) == 0
    assert bounds.certified_radius_two_sided(scores[a], scores[right], 1.0) == pytest.approx(0.38887, abs=1e-5)


def test_8_the_radius_is_open():
    """(3), the slides' guarantee and the blog's "≤ ε": at exactly R a half-space ties, so it must be <."""
    sigma, point = 0.5, 1.0
    radius = bounds.certified_radius(float(UNIT.probability(number(point), sigma)), sigma)
    assert radius == pytest.approx(point)
    at, inside, outside = (float(UNIT.probability(number(point - point * f), sigma)) for f in (1, 1 - 1e-6, 1 + 1e-6))
    assert at == 0.5
    assert inside > 0.5 > outside
    assert inside - 0.5 == pytest.approx(1e-6 * norm.pdf(0) / sigma, rel=1e-3)


def test_9_steins_lemma_needs_a_bounded_function():
    """Lemma 2.3 asks only that h is measurable: for h = exp(t²/2σ²) the integral of H itself diverges.

    For bounded h the sign and the factor 1/σ² are right as printed.
    """
    sigma = 0.5
    truncated = [
        quad(lambda t: math.exp(t**2 / (2 * sigma**2)) * math.exp(-(t**2) / (2 * sigma**2)), -c, c)[0]
        for c in (2, 4, 8, 16)
    ]
    assert truncated == pytest.approx([4, 8, 16, 32])
    x, h = 0.2, 1e-4

    def wave(t):
        return torch.sin(2 * t).square()

    stein = gaussian_expectation(lambda t: (t - x) * wave(t), x, sigma) / sigma**2
    slope = (gaussian_expectation(wave, x + h, sigma) - gaussian_expectation(wave, x - h, sigma)) / (2 * h)
    assert stein == pytest.approx(slope, abs=1e-6)


def test_10_the_transform_must_increase():
    """Lemma 2.2 asks for a monotone m on ℝ: with a decreasing one its radius is negative and says nothing.

    The m of the main proof, Φ⁻¹, lives on (0, 1) only.
    """
    p_a, p_b, sigma = 0.9, 0.1, 1.0
    assert (norm.isf(p_a) - norm.isf(p_b)) * sigma / 2 < 0  # m = Φ⁻¹(1 − p), as Lipschitz as Φ⁻¹
    increasing = (norm.ppf(p_a) - norm.ppf(p_b)) * sigma / 2
    assert increasing == pytest.approx(bounds.certified_radius_two_sided(p_a, p_b, sigma))
    assert np.isnan(norm.ppf([-0.1, 1.1])).all()


def test_11_lemma_2_1_speaks_of_the_scores_of_its_own_classifier():
    """Lemmas 2.1 and 2.2 take p_a, p_b "as in (2)", which are G's scores; they must be F's. (In 2.5, F is G.)

    F_1 = .3 + |t − .21| is 1-Lipschitz and loses at t = .01 already; G's scores at 0 promise .18.
    """
    sigma = 0.5

    def score(t):
        return (0.3 + (t - 0.21).abs()).clamp(max=1.0)

    own = float(score(torch.tensor(0.0)))
    of_g = gaussian_expectation(score, 0.0, sigma)
    promised, right = (of_g - (1 - of_g)) / 2, (own - (1 - own)) / 2
    assert right == pytest.approx(0.01, abs=1e-6)
    assert promised > 0.18
    assert float(score(torch.tensor(0.05))) < 0.5  # the class changes within the promised radius
    assert (score(torch.linspace(-0.0099, 0.0099, 101)) > 0.5).all()


def test_14_steins_gradient_is_of_the_image_and_not_of_the_weights():
    """After (10), a gradient in θ, Stein's lemma is offered as an estimator: it gives ∇x, another number."""
    theta, x, sigma = 1.5, 0.4, 0.5
    scale = math.sqrt(1 + theta**2 * sigma**2)
    by_x = theta / scale * norm.pdf(theta * x / scale)
    by_theta = x / scale**3 * norm.pdf(theta * x / scale)
    stein = gaussian_expectation(lambda t: (t - x) * torch.special.ndtr(theta * t), x, sigma) / sigma**2
    assert stein == pytest.approx(0.42664, abs=5e-6) and stein == pytest.approx(by_x, abs=1e-6)
    assert by_theta == pytest.approx(0.07281, abs=5e-6)

    def smoothed(weight):
        return gaussian_expectation(lambda t: torch.special.ndtr(weight * t), x, sigma)

    h = 1e-4
    assert (smoothed(theta + h) - smoothed(theta - h)) / (2 * h) == pytest.approx(by_theta, abs=1e-6)
    sampled = stein_gradient(
        lambda z: torch.special.ndtr(theta * z[:, 0]),
        torch.tensor([x], dtype=torch.float64),
        sigma,
        200_000,
        antithetic=True,
        generator=torch.Generator().manual_seed(0),
    )
    assert float(sampled) == pytest.approx(by_x, abs=0.004)


# -- additions to the list -------------------------------------------------------------------


def test_a_the_estimate_is_a_mean_of_the_samples_and_not_their_sum():
    """Section 1.1 calls a coordinate of Ĝ a sum of independent [0, 1] values; a sum does not settle, a mean does."""
    k = np.array([100, 10_000])
    sum_deviation, mean_deviation = np.sqrt(k * 0.9 * 0.1), np.sqrt(0.9 * 0.1 / k)
    assert sum_deviation[1] == pytest.approx(10 * sum_deviation[0])
    assert mean_deviation[1] == pytest.approx(mean_deviation[0] / 10)
    assert 1 - bounds.soft_lower_bound(1.0, 10_000, 0.001) < 0.02  # Chernoff–Hoeffding, for the mean


def test_b_the_constraint_averages_over_the_noise_and_not_over_the_point():
    """Below (7) the constraint is written as an expectation over x ~ N(0, I) of h(x + X): X is what varies.

    Over x as well, every H would have the same value at every point.
    """
    sigma, point = 1.0, 1.0
    over_noise = gaussian_expectation(lambda t: torch.special.ndtr(t), point, sigma)  # h = Φ
    over_point = gaussian_expectation(lambda t: torch.special.ndtr(t), 0.0, sigma)
    assert over_noise == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=1e-6)
    assert over_point == pytest.approx(0.5, abs=1e-9)


def test_c_the_quantile_of_a_constant_zero_or_one_is_not_lipschitz():
    """Lemma 2.6 admits every h, also h = 0 or h = 1 almost everywhere, where Φ⁻¹ ∘ H is infinite.

    For every other h, 0 < H < 1 everywhere; how small the set does not matter.
    """
    constant = gaussian_expectation(torch.ones_like, 0.0, 1.0)
    assert constant == pytest.approx(1) and bounds.certified_radius(1.0, 1.0) == math.inf
    width, x = 1e-6, 0.3  # h = 1 on a millionth only
    level = norm.cdf(x + width) - norm.cdf(x)
    slope = norm.pdf(x + width) - norm.pdf(x)
    assert 0 < level < 1e-6 and abs(slope) / norm.pdf(norm.ppf(level)) < 1


def renyi_radius(p_a: float, p_b: float) -> float:
    """The radius of Li et al. 2018 at σ = 1, from Rényi divergences of every order a > 1."""
    order = np.linspace(1.001, 60, 20_000)
    powers = np.logaddexp((1 - order) * math.log(p_a), (1 - order) * math.log(p_b))
    power_mean = np.exp((powers - math.log(2)) / (1 - order))
    return float(np.sqrt(np.max(-2 / order * np.log(1 - p_a - p_b + 2 * power_mean))))


def test_d_one_of_the_two_earlier_bounds_is_not_linear():
    """After Corollary 2.5: linear bounds are said to be essentially those of [1, 2], constant at p_a = 1.

    True of [1], not of [2]: the Rényi radius passes every linear one and grows without limit.
    """
    linear = [bounds.lipschitz_radius(1 - q, q, 1.0) for q in (1e-2, 1e-4, 1e-8)]
    renyi = [renyi_radius(1 - q, q) for q in (1e-2, 1e-4, 1e-8)]
    exact = [bounds.certified_radius_two_sided(1 - q, q, 1.0) for q in (1e-2, 1e-4, 1e-8)]
    assert max(linear) < math.sqrt(math.pi / 2)
    assert renyi == pytest.approx([1.9080, 3.1409, 4.9018], abs=1e-3)
    assert all(a < b < c for a, b, c in zip(linear, renyi, exact, strict=True))


def test_e_logits_are_no_soft_classifier():
    """Section 1 calls the map to the last layer's output a soft classifier: that needs the softmax.

    Averaged logits can prefer another class than averaged probabilities, and Hoeffding needs [0, 1].
    """
    logits = torch.tensor([[9.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]])  # of three noisy copies
    assert logits.mean(0).argmax() == 0
    assert logits.softmax(1).mean(0).argmax() == 1
    with pytest.raises(ValueError, match="mean"):
        bounds.soft_lower_bound(float(logits.mean(0)[0]), 3, 0.001)
