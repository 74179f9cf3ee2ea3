"""Bounds against exact binomial sums, and the figures of MATHS.md, sections 1 and 3."""

import math
from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial, norm

from rslab.errors import InputError
from rslab.smoothing import bounds

ALPHA = 0.001


# -- Clopper–Pearson ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "count, n, expected", [(990, 1000, 0.976036), (99_900, 100_000, 0.998651), (8000, 10_000, 0.787389)]
)
def test_lower_bound_has_the_known_values(count, n, expected):
    assert bounds.lower_confidence_bound(count, n, ALPHA) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("count, n", [(1, 1), (1, 7), (4, 7), (55, 100), (990, 1000)])
def test_lower_bound_is_the_p_at_which_so_many_votes_have_probability_alpha(count, n):
    p = bounds.lower_confidence_bound(count, n, ALPHA)
    assert binom.sf(count - 1, n, p) == pytest.approx(ALPHA, rel=1e-6)


@pytest.mark.parametrize("count, n", [(0, 1), (0, 9), (4, 7), (45, 100), (10, 1000)])
def test_upper_bound_is_the_p_at_which_so_few_votes_have_probability_alpha(count, n):
    p = bounds.upper_confidence_bound(count, n, ALPHA)
    assert binom.cdf(count, n, p) == pytest.approx(ALPHA, rel=1e-6)


@pytest.mark.parametrize("count, n", [*product((1, 30, 57), (57,))])
def test_bounds_agree_with_scipy(count, n):
    below = binomtest(count, n, alternative="greater").proportion_ci(1 - ALPHA, method="exact").low
    above = binomtest(count, n, alternative="less").proportion_ci(1 - ALPHA, method="exact").high
    assert bounds.lower_confidence_bound(count, n, ALPHA) == pytest.approx(below, abs=1e-9)
    assert bounds.upper_confidence_bound(count, n, ALPHA) == pytest.approx(above, abs=1e-9)


@pytest.mark.parametrize("n", [1, 100, 100_000])
def test_no_votes_give_zero_and_all_votes_the_nth_root_of_alpha(n):
    assert bounds.lower_confidence_bound(0, n, ALPHA) == 0.0
    assert bounds.lower_confidence_bound(n, n, ALPHA) == pytest.approx(ALPHA ** (1 / n), rel=1e-12)
    assert bounds.upper_confidence_bound(n, n, ALPHA) == 1.0
    assert bounds.upper_confidence_bound(0, n, ALPHA) == pytest.approx(1 - ALPHA ** (1 / n), abs=1e-12)


def test_a_single_vote_proves_only_alpha():
    assert bounds.lower_confidence_bound(1, 1, ALPHA) == pytest.approx(ALPHA)
    assert bounds.upper_confidence_bound(0, 1, ALPHA) == pytest.approx(1 - ALPHA)


def test_arrays_give_what_their_elements_give_and_numbers_give_numbers():
    counts = np.array([0, 1, 50, 99, 100])
    for bound in (bounds.lower_confidence_bound, bounds.upper_confidence_bound):
        together = bound(counts, 100, ALPHA)
        assert together.shape == counts.shape
        assert together.tolist() == [bound(int(count), 100, ALPHA) for count in counts]
        assert type(bound(50, 100, ALPHA)) is float


@pytest.mark.parametrize("n, alpha", [*product((1, 2, 9, 40, 200), (0.001, 0.05, 0.3))])
def test_exact_coverage_of_both_one_sided_bounds(n, alpha):
    counts = np.arange(n + 1)
    lower = bounds.lower_confidence_bound(counts, n, alpha)
    upper = bounds.upper_confidence_bound(counts, n, alpha)
    # The worst p lie beside the bounds themselves.
    grid = np.concatenate((np.linspace(0.001, 0.999, 200), lower[1:] * (1 - 1e-9), upper[:-1] * (1 + 1e-9)))
    votes = binom.pmf(counts, n, grid[:, None])  # (P, n + 1)
    too_high = (votes * (lower > grid[:, None])).sum(1)
    too_low = (votes * (upper < grid[:, None])).sum(1)
    for miss in (too_high, too_low):
        assert miss.max() <= alpha * (1 + 1e-6)
        assert miss.max() >= alpha * (1 - 1e-6)  # and no wider than it must be


def test_coverage_of_the_lower_bound_has_the_known_value():
    counts = np.arange(1001)
    right = bounds.lower_confidence_bound(counts, 1000, ALPHA) <= 0.8
    assert binom.pmf(counts, 1000, 0.8)[right].sum() == pytest.approx(0.999084, abs=5e-7)


@pytest.mark.parametrize("n, alpha", [*product((5, 25), (0.01, 0.2))])
def test_exact_coverage_of_the_two_class_bounds_although_the_runner_up_is_chosen_from_the_votes(n, alpha):
    outcomes = [(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)]
    found = np.array([bounds.two_class_bounds(a, max(b, c), n, alpha) for a, b, c in outcomes])
    for p_a, share in product((0.2, 0.34, 0.5, 0.8, 0.97), (0.5, 0.7, 1.0)):
        p_b = (1 - p_a) * share
        wrong = (found[:, 0] > p_a) | (found[:, 1] < p_b - 1e-12)
        assert multinomial.pmf(outcomes, n, (p_a, p_b, 1 - p_a - p_b))[wrong].sum() <= alpha


def test_two_class_upper_bound_is_never_above_the_rest():
    p_a, p_b = bounds.two_class_bounds(90, 10, 100, ALPHA)
    assert p_a == bounds.lower_confidence_bound(90, 100, ALPHA / 2)
    assert p_b == 1 - p_a
    p_a, p_b = bounds.two_class_bounds(9000, 10, 10_000, ALPHA)
    assert p_b == bounds.upper_confidence_bound(10, 10_000, ALPHA / 2) < 1 - p_a


@given(st.integers(1, 10_000), st.data())
def test_bounds_grow_with_votes_and_alpha_and_enclose_the_frequency(n, data):
    count = data.draw(st.integers(0, n))
    alpha = data.draw(st.floats(1e-6, 0.49))
    lower = bounds.lower_confidence_bound(count, n, alpha)
    upper = bounds.upper_confidence_bound(count, n, alpha)
    assert 0 <= lower <= count / n <= upper <= 1
    assert bounds.lower_confidence_bound(count, n, alpha * 1.5) >= lower
    assert bounds.upper_confidence_bound(count, n, alpha * 1.5) <= upper
    if count < n:
        assert bounds.lower_confidence_bound(count + 1, n, alpha) > lower
        assert bounds.upper_confidence_bound(count + 1, n, alpha) >= upper


# -- radii -------------------------------------------------------------------------------


def test_one_class_radius_has_the_known_values():
    assert bounds.certified_radius(0.9, 1.0) == pytest.approx(1.2816, abs=5e-5)
    assert bounds.certified_radius(0.5, 1.0) == 0
    assert bounds.certified_radius(0.0, 1.0) == 0
    assert bounds.certified_radius(1.0, 0.5) == math.inf
    # 55 of 100 abstains, 900 of 1000 gives 1.114σ rather than the 1.282σ of p_A = 0.9
    assert bounds.certified_radius(bounds.lower_confidence_bound(55, 100, ALPHA), 1.0) == 0
    assert bounds.certified_radius(bounds.lower_confidence_bound(900, 1000, ALPHA), 1.0) == pytest.approx(
        1.114, abs=5e-4
    )


def test_one_class_radius_grows_with_sigma_and_takes_arrays():
    p = np.array([0.2, 0.5, 0.8, 0.99])
    assert bounds.certified_radius(p, 0.5) == pytest.approx(0.5 * np.maximum(norm.ppf(p), 0))
    assert 4 * bounds.certified_radius(p, 0.125) == pytest.approx(bounds.certified_radius(p, 0.5))


@pytest.mark.parametrize("p_a, p_b, expected", [(0.5, 0.1, 0.64078), (0.9, 0.05, 1.4632), (0.9, 0.1, 1.2816)])
def test_two_class_radius_has_the_known_values(p_a, p_b, expected):
    assert bounds.certified_radius_two_sided(p_a, p_b, 1.0) == pytest.approx(expected, abs=5e-5)
    assert bounds.certified_radius_two_sided(p_a, p_b, 0.25) == pytest.approx(expected / 4, abs=5e-5)


@pytest.mark.parametrize("p_a, p_b", [(0.4, 0.4), (0.3, 0.6), (1.0, 1.0), (0.0, 0.0), (0.0, 1.0)])
def test_two_class_radius_is_zero_unless_a_leads(p_a, p_b):
    assert bounds.certified_radius_two_sided(p_a, p_b, 1.0) == 0


def test_lipschitz_radius_has_the_known_values():
    assert bounds.lipschitz_radius(0.9, 0.1, 1.0) == pytest.approx(1.0027, abs=5e-5)
    assert bounds.lipschitz_radius(0.9, 0.1, 1.0, sharp=False) == pytest.approx(0.5013, abs=5e-5)
    assert bounds.lipschitz_radius(0.1, 0.9, 1.0) == 0


@given(st.floats(0.5, 1 - 1e-9), st.floats(0, 1), st.floats(0.01, 10))
def test_radii_are_ordered_lecture_linear_sharp_linear_two_class(p_a, share, sigma):
    p_b = (1 - p_a) * share
    lecture = bounds.lipschitz_radius(p_a, p_b, sigma, sharp=False)
    sharp = bounds.lipschitz_radius(p_a, p_b, sigma)
    two = bounds.certified_radius_two_sided(p_a, p_b, sigma)
    one = bounds.certified_radius(p_a, sigma)
    slack = 1e-9 * sigma
    assert lecture <= sharp + slack and sharp <= two + slack and one <= two + slack
    assert bounds.certified_radius_two_sided(p_a, 1 - p_a, sigma) == pytest.approx(one, abs=1e-6 * sigma)


@pytest.mark.parametrize("n, cap", [(100, 1.500), (1000, 2.463), (10_000, 3.199), (100_000, 3.811), (1_000_000, 4.347)])
def test_largest_radius_has_the_known_values(n, cap):
    assert bounds.max_certified_radius(n, ALPHA, 1.0) == pytest.approx(cap, abs=5e-4)
    unanimous = bounds.certified_radius(bounds.lower_confidence_bound(n, n, ALPHA), 1.0)
    assert bounds.max_certified_radius(n, ALPHA, 1.0) == pytest.approx(unanimous, rel=1e-9)


def test_largest_radius_at_a_quarter_is_below_one_and_four_sigma_needs_218105_votes():
    assert bounds.max_certified_radius(100_000, ALPHA, 0.25) == pytest.approx(0.953, abs=5e-4)
    assert bounds.max_certified_radius(218_104, ALPHA, 1.0) < 4 <= bounds.max_certified_radius(218_105, ALPHA, 1.0)


def test_largest_radius_is_zero_where_even_unanimity_proves_nothing():
    assert bounds.max_certified_radius(9, ALPHA, 1.0) == 0 < bounds.max_certified_radius(10, ALPHA, 1.0)


# -- the abstention test -----------------------------------------------------------------


@pytest.mark.parametrize("count_a, count_b", [(51, 49), (7, 3), (5, 5), (1, 0), (553, 447)])
def test_p_value_is_the_two_sided_binomial_tail(count_a, count_b):
    n = count_a + count_b
    exact = min(1.0, 2 * sum(math.comb(n, k) for k in range(count_a, n + 1)) / 2**n)
    assert bounds.top_class_p_value(count_a, count_b) == pytest.approx(exact)


def test_p_value_of_51_against_49_has_the_known_value():
    assert bounds.top_class_p_value(51, 49) == pytest.approx(0.920, abs=5e-4)


@pytest.mark.parametrize("least, n", [(67, 100), (553, 1000), (5166, 10_000)])
def test_least_votes_that_answer_at_one_in_a_thousand(least, n):
    assert bounds.top_class_p_value(least, n - least) <= ALPHA
    assert bounds.top_class_p_value(least - 1, n - least + 1) > ALPHA


def test_p_value_without_votes_for_the_top_two_is_one():
    assert bounds.top_class_p_value(0, 0) == 1.0


# -- soft votes --------------------------------------------------------------------------


def test_hoeffding_at_ten_thousand_samples_cannot_pass_two_sigma():
    p = bounds.soft_lower_bound(1.0, 10_000, ALPHA)
    assert p == pytest.approx(1 - math.sqrt(math.log(1000) / 20_000))
    assert bounds.certified_radius(p, 1.0) == pytest.approx(2.084, abs=5e-4)


def test_bernstein_is_the_formula_of_maurer_and_pontil_and_wins_at_small_variance():
    log_term = math.log(2 / ALPHA)
    by_hand = 0.9 - math.sqrt(2 * 0.01 * log_term / 1000) - 7 * log_term / (3 * 999)
    assert bounds.soft_lower_bound(0.9, 1000, ALPHA, variance=0.01) == pytest.approx(by_hand)
    assert bounds.soft_lower_bound(0.9, 10_000, ALPHA, variance=1e-4) > bounds.soft_lower_bound(0.9, 10_000, ALPHA)
    assert bounds.soft_lower_bound(0.9, 10_000, ALPHA, variance=0.25) < bounds.soft_lower_bound(0.9, 10_000, ALPHA)
    assert bounds.soft_lower_bound(0.01, 10, ALPHA) == 0


@pytest.mark.parametrize(
    "name, draw, mean",
    [
        ("uniform", lambda rng, shape: rng.random(shape), 0.5),
        ("coin", lambda rng, shape: (rng.random(shape) < 0.9).astype(float), 0.9),
        ("mostly one, rarely zero", lambda rng, shape: (rng.random(shape) < 0.98).astype(float), 0.98),
        ("peaked", lambda rng, shape: rng.beta(20, 2, shape), 20 / 22),
    ],
)
def test_soft_bounds_cover_the_mean_in_simulation(name, draw, mean):
    alpha, repetitions = 0.05, 20_000
    for n in (10, 60):
        values = draw(np.random.default_rng(n), (repetitions, n))
        hoeffding = bounds.soft_lower_bound(values.mean(1).clip(0, 1), n, alpha)
        bernstein = bounds.soft_lower_bound(values.mean(1).clip(0, 1), n, alpha, variance=values.var(1, ddof=1))
        allowed = alpha + 3 * math.sqrt(alpha / repetitions)
        assert (hoeffding > mean).mean() <= allowed
        assert (bernstein > mean).mean() <= allowed


# -- from votes to a bound -----------------------------------------------------------------

HARD = np.array([[30.0, 900.0, 70.0]] * 2)  # a vote is 0 or 1, its own square
SOFT = np.array([[40.5, 880.25, 79.25], [20.0, 850.0, 30.0]])


def test_each_bound_of_certify_is_its_equation():
    n, top = 1000, 1
    assert list(bounds.BOUNDS) == ["clopper-pearson", "two-class", "hoeffding", "bernstein"]
    p_a, p_b = bounds.BOUNDS["clopper-pearson"](HARD, top, n, ALPHA)
    assert p_a == bounds.lower_confidence_bound(900, n, ALPHA) and p_b is None
    assert bounds.BOUNDS["two-class"](HARD, top, n, ALPHA) == bounds.two_class_bounds(900, 70, n, ALPHA)
    p_a, p_b = bounds.BOUNDS["hoeffding"](SOFT, top, n, ALPHA)
    assert p_a == pytest.approx(0.88025 - math.sqrt(math.log(1 / ALPHA) / 2 / n), abs=1e-9) and p_b is None
    p_a, p_b = bounds.BOUNDS["bernstein"](SOFT, top, n, ALPHA)
    variance, log = (850 - n * 0.88025**2) / (n - 1), math.log(2 / ALPHA)
    assert p_a == pytest.approx(0.88025 - math.sqrt(2 * variance * log / n) - 7 * log / 3 / (n - 1), abs=1e-9)
    assert p_b is None


def test_bernstein_needs_two_votes():
    with pytest.raises(InputError, match="^n: got 1, expected 2 or more"):
        bounds.BOUNDS["bernstein"](np.ones((2, 2)), 0, 1, ALPHA)


def test_slack_moves_both_bounds_outward_and_no_probability_leaves_the_unit_interval():
    assert bounds.allow_for(0.25, 0.75, None) == (0.5, None)
    assert bounds.allow_for(0.25, 0.75, 0.125) == (0.5, 0.375)
    assert bounds.allow_for(0.25, 0.125, 0.875) == (0.0, 1.0)
    assert bounds.radius_of(0.9, None, 2.0) == bounds.certified_radius(0.9, 2.0)
    assert bounds.radius_of(0.9, 0.05, 2.0) == bounds.certified_radius_two_sided(0.9, 0.05, 2.0)


# -- bad input ---------------------------------------------------------------------------

NAN = math.nan


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: bounds.lower_confidence_bound(NAN, 10, ALPHA), "count"),
        (lambda: bounds.lower_confidence_bound(np.array([1, NAN]), 10, ALPHA), "count"),
        (lambda: bounds.lower_confidence_bound(11, 10, ALPHA), "count"),
        (lambda: bounds.lower_confidence_bound(-1, 10, ALPHA), "count"),
        (lambda: bounds.upper_confidence_bound(NAN, 10, ALPHA), "count"),
        (lambda: bounds.lower_confidence_bound(0, 0, ALPHA), "n"),
        (lambda: bounds.lower_confidence_bound(5, 10, 0.0), "alpha"),
        (lambda: bounds.lower_confidence_bound(5, 10, 1.0), "alpha"),
        (lambda: bounds.lower_confidence_bound(5, 10, NAN), "alpha"),
        (lambda: bounds.two_class_bounds(6, 5, 10, ALPHA), "count_a"),
        (lambda: bounds.two_class_bounds(NAN, 5, 10, ALPHA), "count"),
        (lambda: bounds.certified_radius(NAN, 1.0), "p_a_lower"),
        (lambda: bounds.certified_radius(1.1, 1.0), "p_a_lower"),
        (lambda: bounds.certified_radius(np.array([0.9, NAN]), 1.0), "p_a_lower"),
        (lambda: bounds.certified_radius(0.9, 0.0), "sigma"),
        (lambda: bounds.certified_radius(0.9, NAN), "sigma"),
        (lambda: bounds.certified_radius(0.9, math.inf), "sigma"),
        (lambda: bounds.certified_radius_two_sided(0.9, NAN, 1.0), "p_b_upper"),
        (lambda: bounds.certified_radius_two_sided(0.9, 0.1, -1.0), "sigma"),
        (lambda: bounds.lipschitz_radius(NAN, 0.1, 1.0), "p_a_lower"),
        (lambda: bounds.max_certified_radius(0, ALPHA, 1.0), "n"),
        (lambda: bounds.max_certified_radius(10, 2.0, 1.0), "alpha"),
        (lambda: bounds.top_class_p_value(-1, 3), "counts"),
        (lambda: bounds.soft_lower_bound(NAN, 10, ALPHA), "mean"),
        (lambda: bounds.soft_lower_bound(0.5, 1, ALPHA, variance=0.1), "n"),
        (lambda: bounds.soft_lower_bound(0.5, 10, ALPHA, variance=NAN), "variance"),
        (lambda: bounds.soft_lower_bound(0.5, 10, ALPHA, variance=-0.1), "variance"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(InputError, match=f"^{name}.*expected"):
        call()


# -- rounding ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 100, 1_000, 100_000, 10**9, 10**12, 10**18])
@pytest.mark.parametrize("alpha", [0.05, 0.001, 1e-12])
def test_rounding_puts_no_bound_or_radius_above_the_exact_one(n, alpha):
    """All votes for the class, and a single one: p̲ is α^(1/n) and 1 − (1 − α)^(1/n), here in 60 digits."""
    with mpmath.workdps(60):
        exact_all, exact_one = (
            mpmath.mpf(alpha) ** (1 / mpmath.mpf(n)),
            1 - (1 - mpmath.mpf(alpha)) ** (1 / mpmath.mpf(n)),
        )
        lower = bounds.lower_confidence_bound(n, n, alpha)
        assert 0 < lower <= exact_all and 0 < bounds.lower_confidence_bound(1, n, alpha) <= exact_one
        assert bounds.upper_confidence_bound(0, n, alpha) >= 1 - exact_all
        assert bounds.upper_confidence_bound(n - 1, n, alpha) >= 1 - exact_one
        exact = 0.3 * mpmath.sqrt(2) * mpmath.erfinv(2 * exact_all - 1)
        radius = bounds.certified_radius(lower, 0.3)
        assert 0 <= radius <= max(exact, 0)
        assert radius <= bounds.max_certified_radius(n, alpha, 0.3) < math.inf
        if n <= 10**9:
            assert radius >= (1 - 1e-5) * exact or exact <= 0  # and hardly below


@pytest.mark.parametrize("p", [0.5, 0.5 + 2**-40, 0.6, 0.999, 1 - 2**-30, 1 - 2**-53])
def test_rounding_puts_no_radius_above_that_of_the_given_probabilities(p):
    with mpmath.workdps(60):

        def quantile(q):
            return mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(q) - 1)

        assert bounds.certified_radius(p, 0.7) <= 0.7 * quantile(p)
        for p_b in (1e-40, 1e-9, 0.1, 0.49):
            two = bounds.certified_radius_two_sided(p, p_b, 0.7)
            exact = mpmath.mpf(0.7) / 2 * (quantile(p) + mpmath.sqrt(2) * mpmath.erfinv(1 - 2 * mpmath.mpf(p_b)))
            assert (1 - 1e-9) * exact <= two <= exact


def test_fractional_counts_are_refused():
    for call in (
        lambda: bounds.lower_confidence_bound(2.5, 10, 0.001),
        lambda: bounds.upper_confidence_bound([1, 2.5], 10, 0.001),
        lambda: bounds.top_class_p_value(2.5, 1),
    ):
        with pytest.raises(InputError, match="whole numbers"):
            call()
