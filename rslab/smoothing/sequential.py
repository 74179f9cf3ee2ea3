"""Fewer votes, the same guarantee: CERTIFY that stops as soon as every radius of interest is decided.

**What is tested.** Let r_1 < r_2 < … be the radii of interest. Radius r_j holds when p_A > q_j =
Φ(r_j/σ), that is, when one vote misses class A with probability below 1 − q_j. So each radius is a
test of "p_A ≤ q_j" on one and the same sequence of votes, looked at after n_1 < … < n_K = n of them.

**One radius.** F_k counts the misses among the first n_k votes. Radius j passes at the first look with
F_k ≤ c_k. The boundary c_1 ≤ … ≤ c_K is computed *exactly*, look by look: the distribution, under
p_A = q_j, of the misses in those histories that have not passed yet; then the largest c_k for which
the probability of having passed by look k stays within the share of α that is due by then
(α-spending, Lan and DeMets 1983; the share is a power of n_k/n, Kim and DeMets 1987). Hence

    P(radius j ever passes) ≤ α  if p_A = q_j,

and also if p_A < q_j: let every vote decide by one uniform number u, for A when u < p_A. A smaller
p_A then turns some votes into misses and none back, so it can only delay a pass.  ∎

**All radii at once.** The certificate is the largest r_J such that r_1, …, r_J have *all* passed,
each test at the full α: nothing is divided. Let r_j be the smallest radius with p_A ≤ q_j. A false
certificate is some r_J ≥ r_j, so it needs r_j to have passed: probability ≤ α. The same argument makes
p̲_A = q_J a lower confidence bound at every look at once.  ∎

**Stopping.** The event "r_j ever passes" is bounded over all looks, whether or not one goes on to
take them. So votes may stop at any look for any reason and the certificate at that look is valid. We
stop when every radius has passed, or when the next one is *hopeless*. That is the same test the other
way round: "the votes miss as seldom as those of an image that the last look passes with probability
1 − `DOUBT`" is given up by the same boundary on the hits, so such an image, or a better one, is lost
with probability `DOUBT` at most. It can cost a certificate, never soundness.

**Never before CERTIFY could.** {F_k ≤ c_k} lies inside {passed by look k}, so its probability under q_j
is at most α: the bound of Clopper–Pearson at level α certifies r_j on the n_k votes with which it passed.

**How few votes could do.** Say a method certifies r_j with probability at most α when p_A = q_j, and with
probability at least β ≥ α at the true p_A > q_j. Stopped at any time, its N votes tell p_A from q_j by
E[N] · kl(p_A, q_j) (Wald 1945), and no answer computed from them tells more: E[N] · kl(p_A, q_j) ≥ kl(β, α),
with kl(a, b) = a log(a/b) + (1 − a) log((1 − a)/(1 − b)). This is `floor_votes`: even one who knows p_A needs them.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import rel_entr
from scipy.stats import beta, binom, norm

from rslab.errors import InputError, check_at_least, check_count, check_open_unit, check_positive
from rslab.smoothing import bounds
from rslab.smoothing.bounds import RADII

# Chosen by `rslab bench sequential`; none of them touches the guarantee.
BETWEEN = 128  # looks are multiples of so many votes, or of more where batches are large (`spacing`)
GROWTH = 1.1  # from ten times as many on, each look has a tenth more votes than the one before
POWER = 0.7  # by the look at n_k, (n_k/n)^POWER of α may be spent
DOUBT = 0.2  # of an image that n votes would certify with probability 1 − DOUBT: the chance to give it up
_NEGLIGIBLE = 1e-16  # histories of this probability are counted as passed


def spacing(batch_size: int | None) -> int:
    """Votes between looks for batches of this size: an eighth, so that a GPU is not kept waiting by small ones."""
    return max(BETWEEN, (batch_size or 0) // 8)


def looks(n: int, between: int = BETWEEN) -> tuple[int, ...]:
    """The vote counts at which to look: 128, 256, … and from 1,280 on a tenth more each time, then n.

    >>> looks(1000)
    (128, 256, 384, 512, 640, 768, 896, 1000)
    """
    check_count("n", n)
    taken = []
    batches = 1
    while batches * between < n:
        taken.append(batches * between)
        batches = max(batches + 1, round(batches * GROWTH))
    return (*taken, int(n))


def spending(taken: tuple[int, ...], alpha: float) -> np.ndarray:
    """How much of α may be spent by each of the looks `taken`: (K,), increasing, the last one α.

    Source: Lan and DeMets 1983, α-spending; Kim and DeMets 1987, power family.
    """
    return alpha * (np.array(taken) / taken[-1]) ** POWER


@lru_cache(maxsize=256)
def boundary(miss: float, taken: tuple[int, ...], alpha: float) -> tuple[int, ...]:
    """c_k at each look: passing at the first F_k ≤ c_k has probability ≤ α when votes miss with probability `miss`.

    −1 where even a vote count without a miss does not pass. `miss` = 1 − q, which keeps its
    digits near q = 1.
    """
    distribution, least = np.ones(1), 0  # of the misses in histories that have not passed: least, least + 1, …
    spent, before, passing = 0.0, 0, []
    for votes, allowed in zip(taken, spending(taken, alpha), strict=True):
        new = votes - before
        before = votes
        low, high = (int(cut) for cut in (binom.ppf(_NEGLIGIBLE, new, miss), binom.isf(_NEGLIGIBLE, new, miss)))
        distribution = np.convolve(distribution, binom.pmf(np.arange(low, high + 1), new, miss))
        least += low
        spent += 2 * _NEGLIGIBLE  # what lay below `low` or above `high`
        states = int(np.searchsorted(np.cumsum(distribution), allowed - spent, side="right"))
        passing.append(least + states - 1 if states else -1)
        spent += float(distribution[:states].sum())
        distribution, least = distribution[states:], least + states
        tail = int(np.searchsorted(np.cumsum(distribution[::-1]), _NEGLIGIBLE))
        distribution = distribution[: len(distribution) - tail]  # many misses: would hardly ever pass
        spent += _NEGLIGIBLE
    # Who is at or below an earlier boundary passed there: the running maximum changes nothing.
    return tuple(int(c) for c in np.maximum.accumulate(passing))


@lru_cache(maxsize=256)
def hopeless(miss: float, taken: tuple[int, ...], alpha: float) -> tuple[int, ...]:
    """At each look the least number of misses from which on to give this radius up (n_k + 1: never)."""
    n, goal = taken[-1], boundary(miss, taken, alpha)[-1]
    if goal < 0:  # even n votes without a miss would not do
        return (0,) * len(taken)
    good = float(beta.ppf(DOUBT, goal + 1, n - goal))  # its miss rate: P(Bin(n, good) > goal) = DOUBT
    hits = boundary(1 - good, taken, DOUBT)
    limits = [votes - most for votes, most in zip(taken, hits, strict=True)]
    return (*limits[:-1], 0)  # after the last look there is nothing to hope for


@dataclass(frozen=True)
class SequentialPlan:
    """When to look, and what to conclude: depends on σ, the radii of interest, n and α only."""

    sigma: float
    radii: tuple[float, ...]  # increasing, each within what n and α allow
    n: int = 100_000  # at most so many votes
    alpha: float = 0.001
    slack: float = 0.0  # by how much a vote may hit too often: what `rslab.smoothing.sampling` says of the sampler
    between: int = BETWEEN  # votes: looks are multiples of it

    def __post_init__(self):
        check_positive("sigma", self.sigma)
        check_at_least("slack", self.slack, 0)
        check_count("between", self.between)
        check_open_unit("alpha", self.alpha)
        check_count("n", self.n)
        try:
            object.__setattr__(self, "radii", tuple(float(radius) for radius in self.radii))
        except (TypeError, ValueError) as error:
            raise InputError(f"radii: got {self.radii!r}, expected increasing radii of 0 or more.") from error
        if not self.radii or list(self.radii) != sorted(set(self.radii)) or not 0 <= self.radii[0]:
            raise InputError(f"radii: got {list(self.radii)}, expected increasing radii of 0 or more.")
        if 2.0**-self.n > self.alpha:
            raise InputError(f"n: got {self.n}, expected more: so few votes certify no radius at α = {self.alpha:g}.")
        cap = bounds.max_certified_radius(self.n, self.alpha, self.sigma)
        if not self.radii[-1] <= cap:
            raise InputError(
                f"radii: got {self.radii[-1]:g}, expected at most {cap:.4g}: n = {self.n} votes at "
                f"α = {self.alpha:g} and σ = {self.sigma:g} certify no more."
            )

    @classmethod
    def within_reach(
        cls, sigma: float, radii, n: int, alpha: float, slack: float = 0.0, between: int = BETWEEN
    ) -> "SequentialPlan":
        """The plan for those of `radii` that n and α allow at all (0 always counts)."""
        cap = bounds.max_certified_radius(n, alpha, sigma)
        return cls(sigma, tuple(radius for radius in radii if radius <= cap) or (0.0,), n, alpha, slack, between)

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """The vote counts n_1 < … < n_K = n at which the votes are looked at."""
        return looks(self.n, self.between)

    @cached_property
    def miss_rates(self) -> np.ndarray:
        """1 − q_j, the probability of a miss at which radius j just does not hold, less the slack: (J,)."""
        return np.maximum(norm.sf(np.array(self.radii) / self.sigma) - self.slack, 0.0)

    @cached_property
    def boundaries(self) -> np.ndarray:
        """c_k of every radius: (J, K)."""
        return np.array([boundary(float(miss), self.looks, self.alpha) for miss in self.miss_rates])

    @cached_property
    def limits(self) -> np.ndarray:
        """From how many misses on each radius is given up: (J, K)."""
        return np.array([hopeless(float(miss), self.looks, self.alpha) for miss in self.miss_rates])


class SequentialTest:
    """The state of `runs` certifications at once (one, or thousands in a simulation).

    >>> test = SequentialTest(SequentialPlan(0.5, (0.0, 0.5), n=1000, alpha=0.001))
    >>> while test.wanted:
    ...     test.add(0)  # none of the votes misses
    >>> int(test.passed[0]), int(test.votes[0])
    (2, 128)
    """

    def __init__(self, plan: SequentialPlan, runs: int = 1):
        self.plan = plan
        self.look = 0
        self.votes = np.zeros(runs, dtype=int)  # taken by each run
        self.misses = np.zeros(runs, dtype=int)  # among them
        self.passed = np.zeros(runs, dtype=int)  # J: r_1 … r_J have passed
        self.running = np.ones(runs, dtype=bool)

    @property
    def wanted(self) -> int:
        """How many more votes until the next look; 0 when every run has stopped."""
        if not self.running.any():
            return 0
        return self.plan.looks[self.look] - (self.plan.looks[self.look - 1] if self.look else 0)

    def add(self, misses) -> None:
        """Count the misses among the `wanted` votes, a number for each run that is running; then decide."""
        plan, on = self.plan, np.flatnonzero(self.running)
        self.votes[on] = plan.looks[self.look]
        self.misses[on] += misses
        seen, passed = self.misses[on], self.passed[on]
        for radius, boundary_here in enumerate(plan.boundaries[:, self.look]):
            passed += (passed == radius) & (seen <= boundary_here)  # the radii in order, each after those before it
        self.passed[on] = passed
        following = np.minimum(passed, len(plan.radii) - 1)
        given_up = seen >= plan.limits[following, self.look]
        self.running[on] = (passed < len(plan.radii)) & ~given_up
        self.look += 1


def simulate(plan: SequentialPlan, p_a: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(votes taken, radii passed), one certification for each true p_A: what `certify_sequential` would do."""
    p_a = np.asarray(p_a, float)
    test = SequentialTest(plan, len(p_a))
    while test.wanted:
        test.add(rng.binomial(test.wanted, 1 - p_a[test.running]))
    return test.votes, test.passed


def floor_votes(plan: SequentialPlan, p_a: np.ndarray) -> np.ndarray:
    """The floor at each true p_A, same shape: fewer votes on average no method takes that is as sound and as strong.

    As sound: right at level α at every threshold of the plan. As strong: it certifies each radius at least
    as often as CERTIFY with n votes does. The proof is above; an image that CERTIFY cannot certify takes none.

    Source: Wald 1945, expected sample size.
    """
    rates = 1 - np.asarray(p_a, float)
    floor = np.zeros_like(rates)
    for miss in plan.miss_rates:
        most = boundary(float(miss), (plan.n,), plan.alpha)[0]  # CERTIFY's own decision
        strength = binom.cdf(most, plan.n, rates)
        needed = np.where(strength > plan.alpha, _kl(strength, plan.alpha), 0.0)
        told = _kl(rates, miss)
        floor = np.maximum(floor, np.divide(needed, told, out=np.zeros_like(told), where=needed > 0))
    return floor


def _kl(a, b):
    """The relative entropy of a coin of probability a to one of b, in nats."""
    return rel_entr(a, b) + rel_entr(1 - a, 1 - b)


def compare_votes(
    p_a: np.ndarray, sigma: float, n: int, alpha: float, rng: np.random.Generator, between: int = BETWEEN
) -> dict:
    """Votes an image, and the table's cells, of the sequential bound against n votes each: a simulation."""
    plan = SequentialPlan.within_reach(sigma, RADII, n, alpha, between=between)
    votes, passed = simulate(plan, p_a, rng)
    lower = bounds.lower_confidence_bound(rng.binomial(n, p_a), n, alpha)
    fixed = (bounds.certified_radius(lower, sigma)[:, None] >= np.array(plan.radii))[lower > 0.5].sum()
    floor = float(floor_votes(plan, p_a).mean())
    return {"votes": float(votes.mean()), "floor": floor, "cells": int(passed.sum()), "cells_fixed": int(fixed)}
