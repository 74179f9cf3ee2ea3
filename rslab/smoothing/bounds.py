"""From counts to radii: the statistics of randomized smoothing, without torch.

Notation of the course: σ is the standard deviation of the noise, p_A the
probability that the base classifier returns the top class under noise, p_B the
same for the runner-up, α the allowed probability of a wrong certificate, Φ the
standard normal distribution function. Radii are ℓ2 distances in the units of σ
(images in [0, 1]).

Every function takes numbers or NumPy arrays and returns the same. Bounds and radii are rounded outward:
none claims more than the exact number.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import beta, binomtest, norm

from rslab.errors import InputError, check_at_least, check_open_unit, check_positive

# What rounding may have added, and is taken off again, once, so that no bound or radius lies above the exact one.
ULP = 2.0**-52
OF_RADIUS = 16 * ULP  # of a radius: scipy's quantile of the normal is off by 3 units in the last place
OF_MEAN = 2.0**-42  # of a mean of a million numbers, added up in float64


def _check_votes(n) -> None:
    if check_at_least("n", n, 1) != int(n):
        raise InputError(f"n: got {n}, expected a whole number.")


def _numbers(name: str, values) -> np.ndarray:
    """A number, or an array or list of numbers, as float64; `InputError` for anything else."""
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "biuf":
        raise InputError(f"{name}: got {values!r}, expected a number or an array of numbers.")
    return numbers.astype(float)


def _check_counts(count, n) -> None:
    _check_votes(n)
    counts = _numbers("count", count)
    if not np.all((counts >= 0) & (counts <= n) & (counts == np.floor(counts))):
        raise InputError(f"count: got {count}, expected whole numbers 0 … n = {n}.")


def _check_probability(name: str, value) -> None:
    numbers = _numbers(name, value)
    if not np.all((numbers >= 0) & (numbers <= 1)):  # written so that NaN fails too
        raise InputError(f"{name}: got {value}, expected a probability in [0, 1].")


def _plain(value):
    """A 0-d array becomes a float, so that scalars in give scalars out."""
    return float(value) if np.ndim(value) == 0 else value


def lower_confidence_bound(count, n: int, alpha: float):
    """Clopper–Pearson: p̲ with P(p̲ ≤ p) ≥ 1 − α when count ~ Binomial(n, p).

    p̲ is the p at which seeing `count` or more would have probability α: the α-quantile of
    Beta(count, n − count + 1). For count = 0 it is 0, for count = n it is α^(1/n).

    Source: slides, LOWERCONFBOUND; Cohen et al. 2019, LOWERCONFBOUND.

    >>> round(lower_confidence_bound(990, 1000, 0.001), 6)
    0.976036
    """
    _check_counts(count, n)
    check_open_unit("alpha", alpha)
    count = np.asarray(count, dtype=float)
    # count = 0 would make beta.ppf NaN, and a NaN radius passes `radius < …` tests.
    quantile = beta.ppf(alpha, np.maximum(count, 1), n - np.maximum(count, 1) + 1)
    # Against 60 digits it is off by up to 0.5 of this; near 1, where radii are large, by a unit in the last place.
    rounding = ULP * quantile * (4 + 40 * max(1.0, -np.log2(alpha)) * (1 - quantile))
    return _plain(np.where(count > 0, np.maximum(quantile - rounding, 0.0), 0.0))


def upper_confidence_bound(count, n: int, alpha: float):
    """Clopper–Pearson from above: p̄ with P(p ≤ p̄) ≥ 1 − α.

    >>> upper_confidence_bound(0, 1000, 0.001) == 1 - lower_confidence_bound(1000, 1000, 0.001)
    True
    """
    others = np.asarray(lower_confidence_bound(n - np.asarray(count), n, alpha))
    # 1 − p is exact for p ≥ ½, and may be rounded down below it
    return _plain(np.where((others > 0) & (others < 0.5), np.nextafter(1.0 - others, 1.0), 1.0 - others))


def two_class_bounds(count_a: int, count_b: int, n: int, alpha: float) -> tuple[float, float]:
    """(p̲_A, p̄_B), both right at once with probability ≥ 1 − α.

    A union bound: each of the two fails with probability at most α/2. Class A
    must have been chosen on other samples. `count_b` is the largest count among
    the other classes in *these* samples; choosing it here is allowed, because
    the bound grows with the count: the true runner-up has at most that many
    votes, so its own upper bound, valid for a class fixed beforehand, is no
    larger. Where p̲_A holds, p_B ≤ 1 − p_A ≤ 1 − p̲_A, hence the minimum.

    Source: blog, confidence intervals.
    """
    if count_a + count_b > n:
        raise InputError(f"count_a + count_b: got {count_a} + {count_b}, expected at most n = {n}.")
    p_a = lower_confidence_bound(count_a, n, alpha / 2)
    p_b = upper_confidence_bound(count_b, n, alpha / 2)
    return p_a, min(p_b, 1.0 - p_a)


def certified_radius(p_a_lower, sigma: float):
    """R = σ Φ⁻¹(p̲_A), and 0 where p̲_A ≤ ½ (nothing is certified there).

    With p_A ≥ p̲_A, no class can overtake A at a distance *below* R (at exactly R a
    half-space classifier ties).

    Source: slides, guarantee; Cohen et al. 2019, CERTIFY.

    >>> round(certified_radius(0.9, sigma=1.0), 4)
    1.2816
    """
    check_positive("sigma", sigma)
    _check_probability("p_a_lower", p_a_lower)
    return _plain(np.maximum(sigma * norm.ppf(p_a_lower) * (1 - OF_RADIUS), 0.0))


def certified_radius_two_sided(p_a_lower, p_b_upper, sigma: float):
    """R = σ/2 (Φ⁻¹(p̲_A) − Φ⁻¹(p̄_B)), and 0 where p̲_A ≤ p̄_B.

    The theorem's radius with bounds in place of the unknown probabilities, and that of Lemma 2.2
    with m = Φ⁻¹ and L = 1/σ. With p̄_B = 1 − p̲_A it is `certified_radius`.

    Source: lecture 14, Theorem 1.1, (3), Lemma 2.2; blog, radius; slides, guarantee from two classes;
    Cohen et al. 2019, Theorem 1.

    >>> round(certified_radius_two_sided(0.5, 0.1, sigma=1.0), 5)
    0.64078
    """
    check_positive("sigma", sigma)
    _check_probability("p_a_lower", p_a_lower)
    _check_probability("p_b_upper", p_b_upper)
    p_a, p_b = np.broadcast_arrays(np.asarray(p_a_lower, float), np.asarray(p_b_upper, float))
    with np.errstate(invalid="ignore"):  # ∞ − ∞ where p_a = p_b = 0 or 1: certified 0 below
        a, b = norm.ppf(p_a), norm.ppf(p_b)
        radius = sigma / 2 * (a - b - OF_RADIUS * np.where(np.isinf(a - b), 0.0, np.abs(a) + np.abs(b)))
    return _plain(np.where(p_a > p_b, np.maximum(radius, 0.0), 0.0))


def lipschitz_radius(p_a_lower, p_b_upper, sigma: float, *, sharp: bool = True):
    """The warm-up radius (p̲_A − p̄_B) / 2L.

    G_y is L-Lipschitz with L = 1/(σ√(2π)) (`sharp`), so R = σ√(π/2)·Δp. The
    lecture's Lemma 2.4 proves twice that L, hence half the radius (`sharp=False`);
    its Corollary 2.5 then inverts σ by mistake. Never above the Φ⁻¹ radius.

    Source: lecture 14, Lemma 2.1, Lemma 2.4, Corollary 2.5.

    >>> round(lipschitz_radius(0.9, 0.1, sigma=1.0), 4)
    1.0027
    """
    check_positive("sigma", sigma)
    _check_probability("p_a_lower", p_a_lower)
    _check_probability("p_b_upper", p_b_upper)
    gap = np.asarray(p_a_lower, float) - np.asarray(p_b_upper, float)
    constant = np.sqrt(np.pi / 2) if sharp else np.sqrt(np.pi / 8)
    return _plain(np.maximum(sigma * constant * (gap - OF_RADIUS * np.asarray(p_a_lower, float)), 0.0))


def max_certified_radius(n: int, alpha: float, sigma: float) -> float:
    """The radius when all n votes agree, σ Φ⁻¹(α^(1/n)): no log can hold more.

    0 when n ≤ log2(1/α), because then even unanimity leaves p̲_A ≤ ½.

    Source: lecture 14, p_a = 1.

    >>> round(max_certified_radius(100_000, 0.001, sigma=1.0), 3)
    3.811
    """
    _check_votes(n)
    check_open_unit("alpha", alpha)
    check_positive("sigma", sigma)
    # 1 − α^(1/n) through expm1, and isf in place of ppf: α^(1/n) itself rounds near 1.
    return max(float(sigma * norm.isf(-np.expm1(np.log(alpha) / n))), 0.0)


def top_class_p_value(count_a: int, count_b: int) -> float:
    """Two-sided p-value of "A and B are equally likely", given their votes.

    PREDICT answers when it is ≤ α and abstains otherwise.

    Source: slides, abstention; Cohen et al. 2019, PREDICT.

    >>> top_class_p_value(51, 49) > 0.9
    True
    """
    if min(count_a, count_b) < 0 or count_a != int(count_a) or count_b != int(count_b):
        raise InputError(f"counts: got {count_a} and {count_b}, expected whole numbers of 0 or more.")
    if count_a + count_b == 0:
        return 1.0
    return float(binomtest(int(count_a), int(count_a + count_b), 0.5).pvalue)


def soft_lower_bound(mean, n: int, alpha: float, *, variance=None):
    """p̲ for the mean of n independent values in [0, 1], with P(p̲ ≤ E) ≥ 1 − α.

    For soft votes F(x + δ)_A Clopper–Pearson does not apply. Without `variance`:
    Hoeffding, mean − √(ln(1/α) / 2n). With the sample variance (divided by
    n − 1): empirical Bernstein, mean − √(2 V ln(2/α) / n) − 7 ln(2/α) / (3 (n − 1)),
    tighter for small V.

    Source: lecture 14, section 1.1; Maurer and Pontil 2009, Theorem 4.
    """
    _check_votes(n)
    check_at_least("n", n, 1 if variance is None else 2)
    check_open_unit("alpha", alpha)
    _check_probability("mean", mean)
    mean = np.asarray(mean, float)
    if variance is None:
        width = np.sqrt(np.log(1 / alpha) / (2 * n))
    else:
        _check_probability("variance", variance)  # of values in [0, 1]: at most ½
        log_term = np.log(2 / alpha)
        width = np.sqrt(2 * np.asarray(variance, float) * log_term / n) + 7 * log_term / (3 * (n - 1))
    return _plain(np.maximum(mean - width - OF_MEAN, 0.0))


# -- the four bounds of CERTIFY, from votes to (p̲_A, p̄_B) --------------------------------------

Votes = np.ndarray  # (2, K): Σ v_c and Σ v_c² of n votes v in [0, 1] for each class c
# votes, A, n, α → p̲_A, p̄_B; None in place of p̄_B where the bound speaks of class A alone
Bound = Callable[[Votes, int, int, float], tuple[float, float | None]]


def clopper_pearson(votes: Votes, top: int, n: int, alpha: float) -> tuple[float, None]:
    """p̲_A = the α-quantile of Beta(k_A, n − k_A + 1), k_A the votes for A: `lower_confidence_bound`."""
    return lower_confidence_bound(votes[0, top], n, alpha), None


def two_class(votes: Votes, top: int, n: int, alpha: float) -> tuple[float, float]:
    """p̲_A from k_A and p̄_B from k_B = max_{c ≠ A} k_c, with α/2 for each: `two_class_bounds`.

    Source: lecture 14, (2).
    """
    return two_class_bounds(votes[0, top], np.delete(votes[0], top).max(), n, alpha)


def hoeffding(votes: Votes, top: int, n: int, alpha: float) -> tuple[float, None]:
    """p̲_A = v̄ − √(ln(1/α) / 2n), v̄ the mean of the soft votes F(x + δ)_A: `soft_lower_bound`."""
    return soft_lower_bound(_mean(votes, top, n), n, alpha), None


def bernstein(votes: Votes, top: int, n: int, alpha: float) -> tuple[float, None]:
    """p̲_A = v̄ − √(2V ln(2/α) / n) − 7 ln(2/α) / (3(n − 1)), V = (Σ v² − n v̄²) / (n − 1): `soft_lower_bound`."""
    mean = _mean(votes, top, n)
    variance = max(float(votes[1, top]) - n * mean**2, 0.0) / max(n - 1, 1)
    return soft_lower_bound(mean, n, alpha, variance=variance), None


def _mean(votes: Votes, top: int, n: int) -> float:
    """v̄ of class A; a sum of probabilities may be rounded to more than n."""
    return min(float(votes[0, top]) / n, 1.0)


SOFT_BOUNDS: dict[str, Bound] = {"hoeffding": hoeffding, "bernstein": bernstein}  # of F(x + δ) in place of votes
BOUNDS: dict[str, Bound] = {"clopper-pearson": clopper_pearson, "two-class": two_class, **SOFT_BOUNDS}


def allow_for(slack: float, p_a_lower: float, p_b_upper: float | None) -> tuple[float, float | None]:
    """(p̲_A, p̄_B) for probabilities that the sampler may have moved by `slack`: p̲_A − slack and p̄_B + slack."""
    return max(p_a_lower - slack, 0.0), None if p_b_upper is None else min(p_b_upper + slack, 1.0)


def radius_of(p_a_lower: float, p_b_upper: float | None, sigma: float) -> float:
    """R of both bounds, `certified_radius_two_sided`, or of p̲_A alone, `certified_radius`."""
    if p_b_upper is None:
        return certified_radius(p_a_lower, sigma)
    return certified_radius_two_sided(p_a_lower, p_b_upper, sigma)


# -- which radii are asked for -----------------------------------------------------------------

RADII = tuple(np.arange(10) / 4)  # 0, 0.25 … 2.25


def parse_radii(text: str) -> tuple[float, ...]:
    """ "0,0.25,0.5" → numbers, each finite and ≥ 0, in increasing order."""
    try:
        radii = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"radii: got {text!r}, expected numbers separated by commas, such as 0,0.25,0.5.") from error
    if not all(0 <= radius < float("inf") for radius in radii) or list(radii) != sorted(set(radii)):
        raise InputError(f"radii: got {text!r}, expected increasing radii of 0 or more.")
    return radii
