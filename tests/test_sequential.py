"""Sequential certification: the boundary against exact sums, coverage by simulation, and the votes it saves."""

from fractions import Fraction
from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch
from helpers import normal, seeded, uniform
from scipy.stats import binomtest, norm

from rslab.data.datasets import LabeledImages
from rslab.errors import InputError
from rslab.evaluate import certify
from rslab.evaluate.settings import CertifySettings
from rslab.report import published
from rslab.smoothing import bounds, sequential
from rslab.smoothing.bounds import RADII
from rslab.smoothing.classifier import ABSTAIN, SmoothedClassifier
from rslab.smoothing.closed_forms import Halfspace
from rslab.smoothing.sequential import SequentialPlan, SequentialTest, boundary, floor_votes, hopeless, looks, simulate
from rslab.store.files import read_json
from rslab.store.logs import read_log

ALPHA = 0.001


def halfspace_at(distance: float) -> tuple[Halfspace, torch.Tensor]:
    weights, x = normal(12, seed=3), uniform(3, 2, 2, seed=4)
    return Halfspace(weights, distance * float(weights.norm()) - float(x.flatten() @ weights)), x


def probability_of_passing(miss: Fraction, taken: tuple[int, ...], limits: tuple[int, ...]) -> Fraction:
    """P(some look k sees at most c_k misses), in exact fractions: an answer without floating point."""
    alive, total, before = {0: Fraction(1)}, Fraction(0), 0
    for votes, limit in zip(taken, limits, strict=True):
        new = votes - before
        before = votes
        following = {}
        for misses, weight in alive.items():
            for k in range(new + 1):
                share = weight * comb(new, k) * miss**k * (1 - miss) ** (new - k)
                following[misses + k] = following.get(misses + k, 0) + share
        total += sum(weight for misses, weight in following.items() if misses <= limit)
        alive = {misses: weight for misses, weight in following.items() if misses > limit}
    return total


# -- one radius --------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [(30,), (10, 20, 40), (8, 12, 18, 27, 40)])
@pytest.mark.parametrize("miss", [Fraction(1, 2), Fraction(1, 5), Fraction(1, 20)])
@pytest.mark.parametrize("alpha", [Fraction(1, 20), Fraction(1, 3)])
def test_the_boundary_spends_at_most_alpha_and_one_more_miss_would_overspend(taken, miss, alpha):
    limits = boundary(float(miss), taken, float(alpha))
    assert probability_of_passing(miss, taken, limits) <= alpha
    more = (*limits[:-1], limits[-1] + 1)
    assert probability_of_passing(miss, taken, more) > alpha


@pytest.mark.parametrize("n", [1, 2, 5, 60])
@pytest.mark.parametrize("alpha", [0.6, 0.3, 0.001])
def test_a_single_look_passes_where_the_exact_binomial_sum_says_from_no_miss_to_all(n, alpha):
    for miss in (0.0, 0.01, 0.2, 0.5):
        (limit,) = boundary(miss, (n,), alpha)
        below = [sum(comb(n, k) * miss**k * (1 - miss) ** (n - k) for k in range(c + 1)) for c in range(n + 1)]
        assert limit == sum(total <= alpha for total in below) - 1


def test_a_smaller_p_a_only_delays_a_pass():
    taken = (10, 20, 40)
    limits = boundary(0.2, taken, 0.05)
    chances = [probability_of_passing(Fraction(miss, 20), taken, limits) for miss in (2, 4, 5, 8, 19)]
    assert chances == sorted(chances, reverse=True)


@pytest.mark.parametrize("sigma", [0.12, 0.25, 0.5, 1.0])
def test_what_it_certifies_clopper_pearson_certifies_on_the_same_votes(sigma):
    plan = SequentialPlan.within_reach(sigma, RADII, 100_000, ALPHA)
    for radius, row in zip(plan.radii, plan.boundaries, strict=True):
        assert list(row) == sorted(row)
        for votes, misses in zip(plan.looks, row, strict=True):
            if misses >= 0:
                lower = bounds.lower_confidence_bound(votes - misses, votes, ALPHA)
                assert bounds.certified_radius(lower, sigma) >= radius


def test_the_last_look_is_hardly_stricter_than_a_single_one():
    """Most of α is left for it: what n votes would decide, this decides with few exceptions."""
    plan = SequentialPlan.within_reach(0.5, RADII, 100_000, ALPHA)
    for miss, row in zip(plan.miss_rates, plan.boundaries, strict=True):
        once = boundary(float(miss), (100_000,), ALPHA)[0]
        spread = np.sqrt(100_000 * miss * (1 - miss))
        assert once - 0.5 * spread - 1 <= row[-1] <= once


# -- coverage ----------------------------------------------------------------------------


def false_certificates(plan: SequentialPlan, miss: float, repetitions: int, seed: int) -> int:
    """How often a radius passes that does not hold when votes miss with probability `miss`."""
    _, passed = simulate(plan, np.full(repetitions, 1 - miss), np.random.default_rng(seed))
    return int((passed > (plan.miss_rates > miss * (1 + 1e-12)).sum()).sum())


@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_false_certificates_are_at_most_alpha_at_every_threshold_and_beside_it(sigma):
    plan = SequentialPlan.within_reach(sigma, RADII, 10_000, ALPHA)
    for number, miss in enumerate(plan.miss_rates):
        for step, beside in enumerate((1.0, 1.01, 0.99)):
            false = false_certificates(plan, beside * miss, 100_000, seed=10 * number + step)
            # Fails by chance once in 10⁶; the true rate at a threshold is just below α.
            assert binomtest(false, 100_000, ALPHA, alternative="greater").pvalue > 1e-6


def test_the_simulation_notices_what_naive_peeking_does():
    """The same count with an ordinary bound at every look: about eight times α, as the check above would see."""
    plan = SequentialPlan(0.5, (0.5,), 10_000, ALPHA)
    once = [boundary(float(plan.miss_rates[0]), (votes,), ALPHA)[0] for votes in plan.looks]

    class Naive(SequentialPlan):
        boundaries = np.array([once])

    naive = Naive(0.5, (0.5,), 10_000, ALPHA)
    false = false_certificates(naive, float(plan.miss_rates[0]), 100_000, seed=1)
    assert binomtest(false, 100_000, ALPHA, alternative="greater").pvalue < 1e-20


@pytest.mark.parametrize("p_a", [0.2, 0.5])
def test_a_class_without_a_majority_is_hardly_ever_certified(p_a):
    plan = SequentialPlan.within_reach(0.5, RADII, 100_000, ALPHA)
    votes, passed = simulate(plan, np.full(20_000, p_a), np.random.default_rng(0))
    assert (passed > 0).sum() <= 20_000 * ALPHA + 4 * np.sqrt(20_000 * ALPHA)
    assert p_a == 0.5 or votes.mean() < 150  # and is soon given up


# -- the plan ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 99, 100, 101, 1000, 100_000])
def test_looks_grow_and_end_at_n(n):
    taken = looks(n)
    assert taken[-1] == n and all(a < b for a, b in pairwise(taken))


def test_giving_up_costs_power_only():
    """With the same votes, a plan that never gives up passes at least as much, and few images more."""
    hasty = SequentialPlan.within_reach(0.5, RADII, 100_000, ALPHA)

    class Patient(SequentialPlan):
        limits = np.where(np.arange(len(hasty.looks)) < len(hasty.looks) - 1, 200_000, hasty.limits)

    patient = Patient.within_reach(0.5, RADII, 100_000, ALPHA)
    p_a = np.repeat(norm.cdf(np.linspace(0.05, 3.4, 200)), 20)
    slow, most = simulate(patient, p_a, np.random.default_rng(0))
    fast, passed = simulate(hasty, p_a, np.random.default_rng(0))
    assert fast.mean() < 0.5 * slow.mean()
    assert passed.sum() > 0.99 * most.sum()


def test_no_radius_is_given_up_while_its_boundary_can_be_met_easily():
    miss, taken = 0.16, looks(10_000)
    limits = hopeless(miss, taken, ALPHA)
    for votes, limit, passing in zip(taken[:-1], limits[:-1], boundary(miss, taken, ALPHA)[:-1], strict=True):
        assert passing < limit and (votes > 2000 or limit > votes * miss)
    assert limits[-1] == 0  # nothing to hope for after the last look


def test_no_vote_helps_where_n_votes_certify_nothing_and_the_floor_rises_towards_a_threshold():
    plan = SequentialPlan(0.5, (0.5,), 100_000, ALPHA)
    floor = floor_votes(plan, np.array([0.3, norm.cdf(1.0), 0.85, 0.9, 0.99, 1.0]))
    assert list(floor[:2]) == [0, 0] and all(a > b for a, b in pairwise(floor[2:])) and floor[2] < 100_000
    sure = np.log(1 / ALPHA) / np.log(1 / norm.cdf(1.0))  # votes that all hit: q^N ≤ α
    assert floor[-1] == pytest.approx(sure) and boundary(norm.sf(1.0), (int(np.ceil(sure)),), ALPHA) == (0,)


@pytest.mark.parametrize("p_a", [0.86, 0.9, 0.99])
def test_no_rule_that_is_as_strong_stays_under_the_floor(p_a):
    """Also not one that is told p_A: Wald's test of p_A against the threshold, the best there is, comes close."""
    plan = SequentialPlan(0.5, (0.5,), 100_000, ALPHA)
    q, rng = 1 - plan.miss_rates[0], np.random.default_rng(0)
    floor = float(floor_votes(plan, p_a))
    hit, miss = np.log(p_a / q), np.log((1 - p_a) / (1 - q))
    walks = rng.binomial(1, p_a, (1000, 20_000))
    reached = (np.where(walks > 0, hit, miss).cumsum(1) >= np.log(1 / ALPHA)).argmax(1) + 1
    assert floor < reached.mean() + 4 * reached.std() / np.sqrt(1000) < 1.25 * floor
    ours, _ = simulate(plan, np.full(2000, p_a), rng)
    assert floor < ours.mean() < 2.5 * floor


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (dict(sigma=0.0, radii=(0.0,)), "sigma"),
        (dict(sigma=0.5, radii=()), "radii"),
        (dict(sigma=0.5, radii=(0.5, 0.25)), "radii"),
        (dict(sigma=0.5, radii=(0.5, 0.5)), "radii"),
        (dict(sigma=0.5, radii=(-0.5,)), "radii"),
        (dict(sigma=0.5, radii=(float("nan"),)), "radii"),
        (dict(sigma=0.25, radii=(0.5, 1.0)), "radii: got 1, expected at most"),
        (dict(sigma=0.25, radii=(0.0,), alpha=0.0), "alpha"),
        (dict(sigma=0.25, radii=(0.0,), n=0), "n"),
        (dict(sigma=0.25, radii=(0.0,), n=9), "so few votes"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(arguments, fault):
    with pytest.raises(InputError, match=fault) as error:
        SequentialPlan(**arguments)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


# -- CERTIFY -----------------------------------------------------------------------------


@pytest.mark.parametrize("distance, expected", [(0.6, 0.5), (1.2, 1.0), (0.1, 0.0)])
def test_the_radius_of_a_halfspace_is_the_largest_of_the_plan_below_the_distance(distance, expected):
    halfspace, x = halfspace_at(distance)
    plan = SequentialPlan(0.5, (0.0, 0.5, 1.0), 100_000, ALPHA)
    smoothed = SmoothedClassifier(halfspace, 2, 0.5, batch_size=20_000)
    for seed in range(5):
        certificate = smoothed.certify_sequential(x, 100, plan, generator=seeded(seed))
        assert (certificate.prediction, certificate.radius) == (1, expected)
        assert certificate.n in plan.looks and sum(certificate.counts) == certificate.n
        assert certificate.p_a_lower == pytest.approx(norm.cdf(expected / 0.5))


def test_an_even_vote_abstains_and_the_selection_votes_are_not_counted_again():
    halfspace, x = halfspace_at(-0.0)
    plan = SequentialPlan(0.5, (0.0,), 1000, ALPHA)
    certificate = SmoothedClassifier(halfspace, 2, 0.5).certify_sequential(x, 100, plan, generator=seeded())
    assert (certificate.prediction, certificate.radius) == (ABSTAIN, 0.0)
    assert sum(certificate.counts) == certificate.n <= 1000


def test_a_plan_for_another_sigma_is_refused():
    halfspace, x = halfspace_at(0.5)
    with pytest.raises(InputError, match="σ = 0.25"):
        SmoothedClassifier(halfspace, 2, 0.5).certify_sequential(x, 10, SequentialPlan(0.25, (0.0,)))


def test_one_test_at_a_time_decides_as_a_thousand_at_once():
    plan = SequentialPlan.within_reach(0.5, RADII, 10_000, ALPHA)
    missed = np.random.default_rng(0).binomial(1, 0.02, (50, 10_000)).cumsum(1)
    together = SequentialTest(plan, 50)
    while together.wanted:
        at, before = plan.looks[together.look], plan.looks[together.look - 1] if together.look else 0
        on = together.running
        together.add(missed[on, at - 1] - (missed[on, before - 1] if before else 0))
    for row in range(50):
        alone = SequentialTest(plan)
        while alone.wanted:
            at, before = plan.looks[alone.look], plan.looks[alone.look - 1] if alone.look else 0
            alone.add(missed[row, at - 1] - (missed[row, before - 1] if before else 0))
        assert (alone.votes[0], alone.passed[0]) == (together.votes[row], together.passed[row])


class Named(torch.nn.Module):
    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(x)


# -- logs --------------------------------------------------------------------------------


@pytest.fixture
def images():
    return LabeledImages("uniform", uniform(8, 3, 2, 2), torch.zeros(8, dtype=torch.long), ("a", "b"), "0" * 64)


@pytest.mark.parametrize("radii", [None, "0,0.5"])
def test_the_log_states_the_votes_taken_and_resumes_to_the_same_rows(tmp_path, images, radii):
    halfspace, _ = halfspace_at(0.4)
    model = Named(halfspace)
    settings = CertifySettings(sigma=0.5, n0=20, n=2000, bound="sequential", radii=radii)
    for _ in certify.certify_dataset(model, images, settings, tmp_path / "whole.tsv"):
        pass
    rows = certify.certify_dataset(model, images, settings, tmp_path / "parts.tsv")
    for _ in range(3):
        next(rows)
    rows.close()
    for _ in certify.certify_dataset(model, images, settings, tmp_path / "parts.tsv", resume=True):
        pass
    whole, parts = (read_log(tmp_path / name).drop(columns="time") for name in ("whole.tsv", "parts.tsv"))
    assert whole.equals(parts) and len(whole) == 8
    assert set(whole["n"]) <= set(looks(2000)) and (whole["count_a"] <= whole["n"]).all()
    described = read_json(tmp_path / "whole.json")
    assert described["bound"] == "sequential"
    assert described["radii"] == ([0.0, 0.5] if radii else [0.0, 0.25, 0.5, 0.75, 1.0, 1.25])
    assert set(whole["radius"]) <= set(described["radii"])


def test_radii_without_the_sequential_bound_are_refused():
    with pytest.raises(InputError, match="radii"):
        CertifySettings(sigma=0.5, radii="0,0.5")


def test_the_shipped_votes_give_the_published_accuracies():
    """Certified accuracy up to the labels: the share of images with a radius, at each of the published σ."""
    probabilities = published.published_top_probabilities()
    assert set(probabilities) == {f"{m}-{s}" for m in ("gaussian", "smoothadv") for s in ("0.12", "0.25", "0.5", "1")}
    for p_a in probabilities.values():
        assert len(p_a) == 1000 and (np.diff(p_a) >= 0).all() and 0 < p_a[0] <= 0.5 < p_a[-1] <= 1


def test_fewer_votes_near_the_floor_and_hardly_a_cell_lost():
    """The goal of `rslab bench sequential`, at one σ and less than half of its repetitions."""
    p_a = published.published_top_probabilities()["smoothadv-0.5"]
    row = sequential.compare_votes(np.tile(p_a, 8), 0.5, 100_000, ALPHA, np.random.default_rng(0))
    assert row["votes"] < 100_000 / 4
    assert row["floor"] < row["votes"] < 1.5 * row["floor"]
    assert 0.997 < row["cells"] / row["cells_fixed"] <= 1.001
