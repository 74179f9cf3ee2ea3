"""What must hold whatever the numbers, the model or the image: orders, invariances, bounds of attacks, abstention."""

import math

import numpy as np
import pytest
import torch
from helpers import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from rslab.attacks import ddn, fgsm, margin, pgd
from rslab.machine.randomness import generator_for
from rslab.smoothing import bounds
from rslab.smoothing.classifier import ABSTAIN, SmoothedClassifier
from rslab.smoothing.sampling import SLACK, STEPS, whole_steps
from rslab.smoothing.sequential import SequentialPlan, simulate

fewer = settings(max_examples=2 * settings().max_examples // 5)  # of what takes longer
probabilities = st.floats(0, 1)
alphas = st.floats(1e-9, 0.4)
sigmas = st.floats(0.01, 10)


def radius_of(count: int, n: int, alpha: float, sigma: float = 1.0) -> float:
    return bounds.certified_radius(bounds.lower_confidence_bound(count, n, alpha), sigma)


# -- the radius grows with … -----------------------------------------------------------------


@given(probabilities, probabilities, sigmas)
def test_radius_grows_with_p_a(p, q, sigma):
    low, high = sorted((p, q))
    assert bounds.certified_radius(low, sigma) <= bounds.certified_radius(high, sigma)
    other = 1 - high
    two = [bounds.certified_radius_two_sided(p_a, other, sigma) for p_a in (low, high)]
    lipschitz = [bounds.lipschitz_radius(p_a, other, sigma) for p_a in (low, high)]
    assert two[0] <= two[1] and lipschitz[0] <= lipschitz[1]


@given(st.integers(1, 3000), st.integers(2, 30), st.data(), alphas)
def test_radius_grows_with_n_at_a_fixed_fraction(n, times, data, alpha):
    count = data.draw(st.integers(n // 2 + 1, n))
    assert radius_of(count, n, alpha) <= radius_of(times * count, times * n, alpha)
    mean = count / n
    assert bounds.soft_lower_bound(mean, n, alpha) <= bounds.soft_lower_bound(mean, times * n, alpha)


@given(st.integers(1, 100_000), st.data(), alphas, alphas)
def test_more_confidence_costs_radius(n, data, one, other):
    count = data.draw(st.integers(0, n))
    surer, looser = sorted((one, other))
    assert radius_of(count, n, surer) <= radius_of(count, n, looser)
    assert bounds.max_certified_radius(n, surer, 1.0) <= bounds.max_certified_radius(n, looser, 1.0)


@given(st.integers(1, 100_000), st.data(), alphas, sigmas)
def test_radius_is_never_above_that_of_the_frequency_nor_of_unanimity_and_scales_with_sigma(n, data, alpha, sigma):
    count = data.draw(st.integers(0, n))
    radius = radius_of(count, n, alpha, sigma)
    assert 0 <= radius <= bounds.certified_radius(count / n, sigma)
    assert radius <= bounds.max_certified_radius(n, alpha, sigma) * (1 + 1e-9)
    assert radius == pytest.approx(sigma * radius_of(count, n, alpha), rel=1e-12)


@given(st.floats(0.01, 0.99), st.integers(0, 2**31))
@fewer
def test_a_sequential_certificate_is_lost_but_never_won_by_a_smaller_p_a(p_a, seed):
    plan = SequentialPlan(0.5, (0.0, 0.25, 0.5, 0.75), 2000, 0.01)
    lower = p_a / 2
    passed = [simulate(plan, np.full(400, p), np.random.default_rng(seed))[1].mean() for p in (lower, p_a)]
    assert passed[0] <= passed[1] + 0.1  # a radius on average, of 400 runs


# -- invariances -----------------------------------------------------------------------------


@given(st.permutations(range(5)), st.integers(0, 1000), st.sampled_from(["float", "grid"]))
@fewer
def test_renaming_the_classes_renames_the_answer_and_changes_nothing_else(order, seed, sampler):
    weights = normal(12, 5, seed=seed)
    new_name = torch.tensor(order)  # class c is now called order[c]

    def plain(x):
        return x.flatten(1) @ weights

    def renamed(x):
        return torch.empty(len(x), 5).index_copy_(1, new_name, plain(x))

    x = torch.full((3, 2, 2), 128 / 255)
    for bound in bounds.BOUNDS:
        one, two = (
            SmoothedClassifier(f, 5, 0.5, sampler=sampler).certify(
                x, 50, 500, 0.01, bound=bound, generator=generator_for("certify", 0, seed)
            )
            for f in (plain, renamed)
        )
        assert two.selected == order[one.selected]
        assert [two.counts[order[c]] for c in range(5)] == pytest.approx(one.counts, rel=1e-6)
        if bound in ("clopper-pearson", "two-class"):  # of whole votes; sums of F may round otherwise
            assert two.radius == one.radius
        assert two.radius == pytest.approx(one.radius, abs=1e-6)
        assert two.prediction == (ABSTAIN if one.prediction == ABSTAIN else order[one.prediction])


@given(st.integers(0, 1000), st.integers(-100, 100))
@fewer
def test_moving_image_and_classifier_together_changes_no_vote(seed, levels):
    """Nothing clips the noisy image, so only differences count: exactly on the grid, nearly in float32."""
    weights, shift = normal(12, 3, seed=seed), levels / 255
    x = torch.randint(100, 156, (3, 2, 2), generator=torch.Generator().manual_seed(seed)) / 255

    def f(z):
        return z.flatten(1) @ weights

    def on_steps(z, steps):
        return f(((z.double() * STEPS).round() - steps).float() / STEPS)

    votes = {}
    for sampler, here, there in (
        ("grid", lambda z: on_steps(z, 0), lambda z: on_steps(z, 16 * levels)),
        ("float", f, lambda z: f(z - shift)),
    ):
        moved = (x + shift).clamp(0, 1)
        assert torch.equal(whole_steps(moved), whole_steps(x) + 16 * levels)
        votes[sampler] = [
            SmoothedClassifier(g, 3, 0.5, sampler=sampler)
            .sample_under_noise(image, 2000, generator=generator_for("predict", 0, seed))
            .tolist()
            for g, image in ((here, x), (there, moved))
        ]
    assert votes["grid"][0] == votes["grid"][1]
    assert votes["float"][0] == pytest.approx(votes["float"][1], abs=2)


# -- attacks stay where they must ---------------------------------------------------------------


def random_model(rng: np.random.Generator, d: int):
    """A random network of one or two layers, of any scale; sometimes flat, sometimes with NaN in its gradient."""
    classes, hidden, kind = int(rng.integers(2, 6)), int(rng.integers(1, 9)), rng.integers(0, 10)
    first = torch.tensor(rng.normal(size=(d, hidden)) * 10.0 ** rng.uniform(-20, 12), dtype=torch.float32)
    second = torch.tensor(rng.normal(size=(hidden, classes)), dtype=torch.float32)

    def model(x):
        flat = x.flatten(1)
        if kind == 0:  # zero gradient
            return flat.sum(1, keepdim=True) * torch.zeros(1, classes)
        scores = (flat @ first).relu() @ second if kind < 6 else torch.tanh(flat @ first) @ second
        if kind == 1:  # NaN gradient: the derivative of √ at 0, at every pixel or at one
            scores = scores + (flat * 0).sum(1, keepdim=True).sqrt()
        if kind == 2:
            scores = scores + (flat[:, :1] * 0).sqrt()
        return scores

    return model, classes


def test_no_attack_leaves_its_ball_or_the_box_on_1000_random_models():
    for number in range(1000):
        rng = np.random.default_rng(number)
        size, channels = int(rng.integers(1, 4)), int(rng.choice([1, 3]))  # a batch of one and grey images, too
        shape = (size, channels, *rng.integers(1, 5, 2).tolist())
        x = torch.tensor(rng.uniform(size=shape), dtype=torch.float32)
        if rng.uniform() < 0.3:
            x = x.round()  # on the walls of the box
        model, classes = random_model(rng, x[0].numel())
        y = torch.tensor(rng.integers(0, classes, size))
        norm = str(rng.choice(["l2", "linf"]))
        epsilon = torch.tensor(10.0 ** rng.uniform(-8, 1, size))  # float64, one an image …
        epsilon = epsilon if rng.integers(2) else float(epsilon[0])  # … or one for all
        options = {"steps": int(rng.integers(1, 5)), "targeted": bool(rng.integers(2))}
        objective = {"objective": margin} if rng.integers(2) else {}
        random = {"random_start": bool(rng.integers(2)), "generator": generator_for("attack", 0, number)}
        found = {
            ("pgd", norm): pgd(
                model, x, y, epsilon, norm=norm, restarts=int(rng.integers(1, 3)), **options, **objective, **random
            ),
            ("ddn", "l2"): ddn(model, x, y, epsilon, **options, **objective),
            ("fgsm", norm): fgsm(model, x, y, epsilon, norm=norm, targeted=options["targeted"], **objective),
        }
        for (attack, ball), adversarial in found.items():
            delta = (adversarial.double() - x.double()).flatten(1)
            distance = delta.norm(dim=1) if ball == "l2" else delta.abs().amax(1)
            assert adversarial.shape == x.shape and adversarial.isfinite().all(), (number, attack)
            assert adversarial.min() >= 0 and adversarial.max() <= 1, (number, attack)
            assert (distance <= epsilon).all(), (number, attack, epsilon, distance)


# -- nothing to certify --------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(0, 1000), st.sampled_from(["float", "grid"]))
def test_certify_abstains_on_a_uniform_classifier(classes, seed, sampler):
    """Class c on the c-th of K equal sectors around the image: every class has probability 1/K, up to rounding."""

    def uniform(x):
        angle = torch.atan2(x[:, 0, 0, 0] - 0.6, x[:, 0, 0, 1] - 0.6) / (2 * math.pi) + 0.5
        return torch.nn.functional.one_hot((angle * classes).long().clamp_max(classes - 1), classes).float()

    smoothed = SmoothedClassifier(uniform, classes, 0.25, sampler=sampler)
    x = torch.full((1, 2, 2), 0.6)
    certificate = smoothed.certify(x, 50, 500, 1e-5, generator=generator_for("certify", 0, seed))
    assert certificate.prediction == ABSTAIN and certificate.radius == 0
    plan = SequentialPlan(0.25, (0.0, 0.25), 500, 1e-5, SLACK[sampler])
    certificate = smoothed.certify_sequential(x, 50, plan, generator=generator_for("certify", 1, seed))
    assert certificate.prediction == ABSTAIN and certificate.radius == 0
    assert smoothed.predict(x, 500, 1e-5, generator=generator_for("predict", 0, seed)).prediction == ABSTAIN
