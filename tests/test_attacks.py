"""Attacks against a half-space, closed forms, plain loops of the published algorithms, and hostile models."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from helpers import normal, seeded, uniform
from torch import nn

from rslab import attacks
from rslab.attacks import cross_entropy, ddn, fgsm, margin, pgd, project, stein_gradients
from rslab.errors import InputError, WorkError
from rslab.smoothing.classifier import log_mean_probs
from rslab.smoothing.closed_forms import Halfspace


def distances(x, adversarial, norm="l2") -> torch.Tensor:
    delta = (adversarial.double() - x.double()).flatten(1)
    return delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)


def random_network(seed: int, pixels: int, classes: int = 4) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 16), nn.Tanh(), nn.Linear(16, classes)).eval()


class Recorder:
    """A callable that keeps the images and the loss of every call."""

    def __init__(self, f, y):
        self.f, self.y, self.images, self.losses = f, y, [], []

    def __call__(self, x):
        scores = self.f(x)
        self.images.append(x.detach().clone())
        self.losses.append(cross_entropy(scores.detach(), self.y))
        return scores


# -- the half-space: certified radius ≤ true distance ≤ attack's distance ------------------

TRUE = torch.tensor([0.1, 0.25, 0.4])


@pytest.fixture
def halfspace():
    """A half-space and three grey-blue images at the distances TRUE inside it, far from the box."""
    classifier = Halfspace(normal(48, seed=2), 0.0)
    x = 0.5 + 0.02 * normal(3, 3, 4, 4, seed=3)
    unit = classifier.normal / classifier.normal.norm()
    x = x + ((TRUE - classifier.distance(x))[:, None] * unit).view_as(x)
    return classifier, x, torch.ones(3, dtype=torch.long)


def test_ddn_finds_the_distance_of_a_halfspace(halfspace):
    classifier, x, y = halfspace
    adversarial = ddn(classifier, x, y, steps=100)
    found = distances(x, adversarial)
    assert (classifier(adversarial).argmax(1) == 0).all()
    assert (found >= TRUE).all() and (found <= 1.05 * TRUE).all()


def least_epsilon_of_pgd(succeeds) -> float:
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if succeeds(middle) else (middle, high)
    return high


def test_pgd_succeeds_just_beyond_the_distance_of_a_halfspace(halfspace):
    classifier, x, y = halfspace
    for i, distance in enumerate(TRUE.tolist()):
        image, label = x[i : i + 1], y[i : i + 1]

        def succeeds(epsilon, image=image, label=label):
            return int(classifier(pgd(classifier, image, label, epsilon, steps=10)).argmax(1)) == 0

        assert distance * (1 - 1e-5) <= least_epsilon_of_pgd(succeeds) <= 1.05 * distance


def test_attacks_on_the_smoothed_halfspace_find_the_same_distance(halfspace):
    """Judged by g itself, which is the same half-space for every σ."""
    classifier, x, y = halfspace
    noise = normal(64, *x.shape, seed=8) * 0.25

    def smoothed(z):
        return log_mean_probs(classifier, z, noise)

    for i, distance in enumerate(TRUE.tolist()):
        inside = pgd(smoothed, x, y, 0.999 * distance, steps=10)
        beyond = pgd(smoothed, x, y, 1.05 * distance, steps=10)
        assert classifier(inside)[i].argmax() == 1 and classifier(beyond)[i].argmax() == 0


# -- closed forms --------------------------------------------------------------------------


def linear(x):
    """Three classes, linear in the 12 pixels."""
    return x.flatten(1) @ normal(12, 3, seed=5)


def linear_gradient(x, y) -> torch.Tensor:
    """Of the cross-entropy: W (p − e_y)."""
    p = linear(x).softmax(1) - nn.functional.one_hot(y, 3)
    return (p @ normal(12, 3, seed=5).T).view_as(x)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_is_one_step_of_length_epsilon_along_the_gradient(targeted):
    x, y = uniform(6, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    gradient = linear_gradient(x, y) * (-1 if targeted else 1)
    expected = (x + 0.1 * gradient.sign()).clamp(0, 1)
    assert torch.allclose(fgsm(linear, x, y, 0.1, targeted=targeted), expected, atol=1e-6)
    length = gradient.flatten(1).norm(dim=1)[:, None, None, None]
    expected = (x + 0.1 * gradient / length).clamp(0, 1)
    assert torch.allclose(fgsm(linear, x, y, 0.1, norm="l2", targeted=targeted), expected, atol=1e-6)


def test_a_tiny_gradient_still_gives_a_step_of_the_stated_length():
    """A gradient of 1e-25 squares to 0 in float32; the step must not blow up for it."""
    x, y = uniform(2, 1, 2, 2) * 0.2 + 0.4, torch.ones(2, dtype=torch.long)
    faint = Halfspace(normal(4, seed=3) * 1e-25, 0.0)
    moved = pgd(faint, x, y, 1.0, steps=1, step_size=0.01, keep="last")
    assert (moved - x).flatten(1).norm(dim=1).tolist() == pytest.approx([0.01, 0.01], rel=1e-4)


def test_pgd_linf_reaches_the_best_corner_of_a_linear_model():
    w = normal(12, seed=6)
    x, y = uniform(6, 3, 2, 2), torch.ones(6, dtype=torch.long)
    corner = (x - 0.2 * w.sign().view(3, 2, 2)).clamp(0, 1)
    assert torch.allclose(pgd(Halfspace(w, 0.0), x, y, 0.2, norm="linf"), corner, atol=1e-6)


def test_projection_brings_into_the_box_and_then_into_the_ball():
    x = torch.full((1, 1, 1, 2), 0.5)
    delta = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    # Clipped to (0.5, 0.5), then scaled to the length of 0.25.
    assert project(x, delta, 0.25).flatten().tolist() == pytest.approx([0.5 + 0.25 / 2**0.5] * 2, abs=1e-6)
    assert project(x, delta / 10, 0.25).flatten().tolist() == pytest.approx([0.65, 0.7], abs=1e-6)
    assert project(x, delta, 0.25, "linf").flatten().tolist() == pytest.approx([0.75, 0.75], abs=1e-6)
    assert project(x, delta, 10.0).flatten().tolist() == [1.0, 1.0]
    assert torch.equal(project(x, delta / 100, 0.25), x + delta / 100)


def test_losses_are_the_written_formulas():
    scores, y = torch.tensor([[2.0, 1.0, 0.0], [0.0, 5.0, 6.0]]), torch.tensor([0, 1])
    assert torch.allclose(cross_entropy(scores, y), nn.functional.cross_entropy(scores, y, reduction="none"))
    assert margin(scores, y).tolist() == [-1.0, 1.0]


def test_margin_still_has_a_gradient_where_the_cross_entropy_is_flat():
    certain = Halfspace(torch.full((4,), 1000.0), -1500.0)  # ±500 at x: softmax is exactly 0 and 1 in float32
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([1])
    assert torch.equal(pgd(certain, x, y, 0.5), x)
    attacked = pgd(certain, x, y, 0.5, objective=margin)
    assert certain(attacked).argmax(1) == 0 and margin(certain(attacked), y) > 0


def test_targeted_attacks_reach_the_named_class():
    network, x = random_network(3, 16), uniform(8, 1, 4, 4)
    target = (network(x).argmin(1)).clone()
    for attack in (pgd, ddn):
        adversarial = attack(network, x, target, 4.0, targeted=True, steps=60)
        assert (network(adversarial).argmax(1) == target).float().mean() > 0.5
        assert (cross_entropy(network(adversarial), target) <= cross_entropy(network(x), target)).all()


# -- what is kept -----------------------------------------------------------------------


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_pgd_returns_the_best_of_all_its_iterates(norm):
    x, y = uniform(8, 1, 4, 4), torch.arange(8) % 4
    recorder = Recorder(random_network(1, 16), y)
    adversarial = pgd(recorder, x, y, 1.0, steps=7, step_size=3.0, norm=norm, restarts=3, generator=seeded())
    losses = torch.stack(recorder.losses)
    assert len(losses) == 3 * 8
    assert torch.equal(cross_entropy(recorder.f(adversarial), y), losses.amax(0))
    assert (losses.amax(0) > losses[-1]).any()  # the last one would not have done


def test_pgd_can_keep_the_last_iterate_without_scoring_it():
    x, y = uniform(8, 1, 4, 4), torch.arange(8) % 4
    recorder = Recorder(random_network(1, 16), y)
    pgd(recorder, x, y, 1.0, steps=7, step_size=3.0)
    scored, last = recorder, recorder.images[-1]
    recorder = Recorder(scored.f, y)
    assert torch.equal(pgd(recorder, x, y, 1.0, steps=7, step_size=3.0, keep="last"), last)
    assert len(recorder.images) == 7


def test_restarts_are_never_worse_and_sometimes_better():
    network, x, y = random_network(4, 16), uniform(40, 1, 4, 4), torch.arange(40) % 4
    once = pgd(network, x, y, 1.0, steps=3, random_start=True, generator=seeded(1))
    often = pgd(network, x, y, 1.0, steps=3, random_start=True, restarts=5, generator=seeded(1))
    gain = cross_entropy(network(often), y) - cross_entropy(network(once), y)
    assert (gain >= 0).all() and (gain > 0).any()


def test_ddn_returns_the_nearest_adversarial_iterate_or_else_the_highest_loss():
    network = random_network(1, 16).requires_grad_(False)
    x, y = uniform(8, 1, 4, 4), network(uniform(8, 1, 4, 4)).argmax(1)
    for epsilon in (0.05, 10.0):
        recorder = Recorder(network, y)
        adversarial = ddn(recorder, x, y, epsilon, steps=15)
        for i in range(8):
            seen = [images[i : i + 1] for images in recorder.images]
            fooled = [image for image in seen if recorder.f(image).argmax(1) != y[i]]
            if fooled:
                nearest = min(float(distances(x[i : i + 1], image)) for image in fooled)
                assert float(distances(x[i : i + 1], adversarial[i : i + 1])) == pytest.approx(nearest, abs=1e-6)
            else:
                highest = max(float(losses[i]) for losses in recorder.losses)
                assert float(cross_entropy(recorder.f(adversarial), y)[i]) == pytest.approx(highest, abs=1e-6)
    assert (recorder.f(adversarial).argmax(1) != y).all()  # within 10 each is found


def test_ddn_leaves_an_image_that_is_misclassified_already():
    network, x = random_network(1, 16), uniform(8, 1, 4, 4)
    assert torch.equal(ddn(network, x, (network(x).argmax(1) + 1) % 4), x)


# -- never beyond ε, whatever the model ----------------------------------------------------


def broken_gradient(x):
    """Finite values, NaN gradient: the derivative of √ at 0."""
    root = (x * 0).flatten(1).sum(1).sqrt()
    return torch.stack((x.flatten(1).sum(1) + root, -x.flatten(1).sum(1)), 1)


MODELS = {
    **{f"network {seed}": random_network(seed, 48) for seed in range(6)},
    "constant": lambda x: x.flatten(1).sum(1, keepdim=True) * torch.zeros(1, 4),
    "huge": lambda x: x.flatten(1)[:, :4] * 1e30,
    "tiny gradient": lambda x: x.flatten(1)[:, :4] * 1e-30,
    "NaN gradient": broken_gradient,
    "votes": lambda x: nn.functional.one_hot(x.flatten(1)[:, :4].argmax(1), 4),
}
ATTACKS = {
    "pgd": pgd,
    "pgd last": lambda *a, **k: pgd(*a, keep="last", random_start=True, generator=seeded(), **k),
    "pgd restarts": lambda *a, **k: pgd(*a, restarts=3, step_size=100.0, generator=seeded(), **k),
    "pgd margin": lambda *a, **k: pgd(*a, objective=margin, **k),
    "fgsm": lambda *a, steps, **k: fgsm(*a, **k),
    "ddn": ddn,
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("model", MODELS)
def test_no_attack_leaves_the_ball_the_box_or_a_graph(model, attack):
    images = uniform(9, 3, 4, 4, seed=4)
    images[0], images[1] = 0.0, 1.0
    images[2] = images[2].round()
    for norm in ("l2", "linf") if attack != "ddn" else ("l2",):
        for number, epsilon in enumerate((0.0, 1e-9, 1e-7, 0.03, 0.1, 0.7, 100.0)):
            x = images[:1] if number == 3 else images  # a batch of one, too
            y = torch.arange(len(x)) % 2
            keywords = {} if attack == "ddn" else {"norm": norm}
            adversarial = ATTACKS[attack](MODELS[model], x, y, epsilon, steps=4, **keywords)
            assert adversarial.shape == x.shape and adversarial.dtype == x.dtype
            assert not adversarial.requires_grad and adversarial.isfinite().all()
            assert adversarial.min() >= 0 and adversarial.max() <= 1
            assert (distances(x, adversarial, norm) <= epsilon).all(), (norm, epsilon)


def test_a_constant_loss_leaves_the_images():
    x, y = uniform(4, 1, 3, 3), torch.zeros(4, dtype=torch.long)
    for attack in (pgd, fgsm, ddn):
        assert torch.equal(attack(MODELS["constant"], x, y, 0.5), x)


def test_a_nan_gradient_of_one_pixel_spares_the_others():
    def partly(x):
        score = x.flatten(1).sum(1) + (x[:, 0, 0, 0] * 0).sqrt()
        return torch.stack((score, -score), 1)

    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    assert pgd(partly, x, y, 0.2, norm="linf").flatten().tolist() == pytest.approx([0.5, 0.3, 0.3, 0.3], abs=1e-5)


@pytest.mark.parametrize("attack", ["pgd", "pgd margin", "fgsm", "ddn"])  # those without a random start
def test_grey_images_and_one_alone_give_what_the_batch_gives(attack):
    # in float64: a batch and one image alone are rounded differently, and five steps make more of it
    network, x, y = random_network(2, 16).double(), uniform(5, 1, 4, 4).double(), torch.arange(5) % 4
    together = ATTACKS[attack](network, x, y, 0.5, steps=5)
    alone = [ATTACKS[attack](network, x[i : i + 1], y[i : i + 1], 0.5, steps=5) for i in range(5)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


@pytest.mark.parametrize("attack", ["pgd", "pgd margin", "fgsm", "ddn"])
def test_an_epsilon_for_each_image_gives_what_it_gives_alone(attack):
    network, x, y = random_network(2, 16).double(), uniform(4, 1, 4, 4).double(), torch.arange(4) % 4
    epsilons = [0.0, 0.05, 0.5, 2.0]
    together = ATTACKS[attack](network, x, y, torch.tensor(epsilons, dtype=torch.float64), steps=5)
    alone = [ATTACKS[attack](network, x[i : i + 1], y[i : i + 1], epsilons[i], steps=5) for i in range(4)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
    with pytest.raises(InputError, match=r"^epsilon: got shape \(3,\), expected a number or \(4,\)"):
        ATTACKS[attack](network, x, y, torch.ones(3), steps=5)
    with pytest.raises(InputError, match="^epsilon: got nan"):
        ATTACKS[attack](network, x, y, torch.tensor([1.0, 1, math.nan, 1]), steps=5)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_weights_get_no_gradient_and_the_images_stay(attack):
    network, x, y = random_network(2, 16), uniform(5, 1, 4, 4), torch.arange(5) % 4
    before = x.clone()
    ATTACKS[attack](network, x, y, 0.5, steps=3)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(x, before) and not x.requires_grad


def test_attacks_work_where_gradients_are_switched_off():
    network, x, y = random_network(2, 16), uniform(5, 1, 4, 4), torch.arange(5) % 4
    with torch.no_grad():
        assert torch.equal(pgd(network, x, y, 0.5), pgd(network, x, y, 0.5))
        assert not torch.equal(pgd(network, x, y, 0.5), x)


# -- Stein ---------------------------------------------------------------------------------


@pytest.mark.parametrize("antithetic", [False, True])
def test_stein_gradient_approximates_the_gradient_of_the_smoothed_loss(antithetic):
    x, y = uniform(2, 3, 2, 2), torch.tensor([0, 1])
    noise = normal(20_000, 2, 3, 2, 2, seed=3) * 0.5
    wanted = x.clone().requires_grad_()
    cross_entropy(log_mean_probs(linear, wanted, noise), y).sum().backward()
    found = stein_gradients(linear, noise, 0.5, antithetic=antithetic)(x, y)
    assert not found.requires_grad
    error = (found - wanted.grad).flatten(1).norm(dim=1) / wanted.grad.flatten(1).norm(dim=1)
    assert (error < 0.05).all()


def test_stein_attacks_a_hard_classifier_that_has_no_gradient(halfspace):
    classifier, x, y = halfspace

    def hard(z):
        return nn.functional.one_hot(classifier(z).argmax(1), 2) * 1000.0

    noise = normal(2000, *x.shape, seed=8) * 0.25
    gradient = stein_gradients(hard, noise, 0.25)
    adversarial = pgd(lambda z: log_mean_probs(hard, z, noise), x, y, 0.5, steps=5, gradient=gradient)
    assert (classifier(adversarial).argmax(1) == 0).all()


def test_a_given_gradient_is_the_only_one():
    def no_graph(z):
        assert not torch.is_grad_enabled()
        return torch.stack((z.flatten(1).sum(1), torch.zeros(len(z))), 1)

    x, y = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    found = pgd(no_graph, x, y, 0.2, steps=3, gradient=lambda z, y: -torch.ones_like(z))
    assert torch.allclose(distances(x, found), torch.tensor(0.2).double()) and (found < x).all()


@pytest.mark.parametrize(
    "attack, passes",
    [
        (lambda *a, **k: pgd(*a, steps=3, **k), [True] * 3 + [False]),  # the last iterate is only scored
        (lambda *a, **k: pgd(*a, steps=3, keep="last", **k), [True] * 3),
        (lambda *a, **k: pgd(*a, steps=3, gradient=linear_gradient, **k), [False] * 4),
        (fgsm, [True]),
        (lambda *a, **k: ddn(*a, steps=3, **k), [True] * 4),
    ],
)
def test_an_attack_differentiates_where_it_asks_for_a_gradient_and_nowhere_else(attack, passes):
    seen = []

    def scores(z):
        seen.append(torch.is_grad_enabled())
        return linear(z)

    def objective(scores, y):
        assert torch.is_grad_enabled() == scores.requires_grad == seen[-1]
        return cross_entropy(scores, y)

    attack(scores, uniform(6, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2]), 0.1, objective=objective)
    assert seen == passes


@pytest.mark.parametrize("targeted", [False, True])
def test_the_gradient_of_the_caller_gives_what_autograd_gives(targeted):
    x, y = uniform(6, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    own = pgd(linear, x, y, 0.3, steps=4, targeted=targeted)
    assert torch.allclose(pgd(linear, x, y, 0.3, steps=4, targeted=targeted, gradient=linear_gradient), own, atol=1e-5)


# -- flat spots --------------------------------------------------------------------------


def step_and_slope(z):
    """Class 0 is sure, and flat, on a plateau of width 0.02 around 0.5; beyond it the scores fall."""
    away = ((z.flatten(1) - 0.5).abs().amax(1) - 0.01).clamp_min(0.0)
    return torch.stack((torch.full_like(away, 0.1), 4 * away), 1)


@pytest.mark.parametrize("attack", [pgd, lambda *a, **k: pgd(*a, norm="linf", **k), ddn])
def test_a_flat_spot_is_left_and_counted(attack):
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    x[2] = 0.45  # on the slope
    flat_spots = torch.zeros(3, dtype=torch.int64)
    found = attack(step_and_slope, x, y, 0.3, steps=20, flat_spots=flat_spots)
    assert (step_and_slope(found).argmax(1) == 1).all()
    assert flat_spots[0] >= 1 and flat_spots[2] == 0
    alone = attack(step_and_slope, x[:1], y[:1], 0.3, steps=20)  # whatever its neighbours, whatever the caller drew
    assert torch.allclose(found[:1], alone, atol=1e-5)
    assert torch.equal(attack(step_and_slope, x, y, 0.0, steps=3), x)


# -- the door ----------------------------------------------------------------------------

DOOR = {"pgd": pgd, "pgd linf": lambda *a, **k: pgd(*a, norm="linf", **k), "fgsm": fgsm, "ddn": ddn}
doors = pytest.mark.parametrize("attack", DOOR.values(), ids=DOOR)


@doors
@pytest.mark.parametrize(
    "spoil, said",
    [
        (
            lambda x: (x - 0.5) / 0.25,
            r"^images: got pixels from .*expected \[0, 1\]: normalisation",
        ),
        (lambda x: x * 255, r"^images: got pixels from 0 to .*of 0 … 255"),
        (lambda x: x * math.nan, "^images: got NaN"),
        (lambda x: (x * 255).byte(), "^images: got torch.uint8"),
        (lambda x: x.numpy(), "^images: got ndarray"),
    ],
)
def test_images_of_other_units_are_refused_by_every_attack(attack, spoil, said):
    x = uniform(4, 3, 2, 2)
    x[0] = 0.0
    with pytest.raises(InputError, match=said):
        attack(linear, spoil(x), torch.zeros(4, dtype=torch.long), 0.1)


@doors
@pytest.mark.parametrize("labels", [[1, 3], torch.tensor([0, -1]), torch.tensor([0.5, 1.0]), [True, False]])
def test_labels_that_are_no_class_are_refused_by_every_attack(attack, labels):
    with pytest.raises(InputError, match="^labels: got .*expected whole numbers"):
        attack(linear, uniform(2, 3, 2, 2), labels, 0.1)


@doors
def test_whole_labels_of_any_kind_are_taken(attack):
    x, y = uniform(2, 3, 2, 2), torch.tensor([0, 1])
    for labels in ([0, 1], y.float(), y.to(torch.uint8), y.numpy()):
        assert torch.equal(attack(linear, x, labels, 0.1), attack(linear, x, y, 0.1))


@doors
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("own", [False, True])
def test_half_precision_is_attacked_in_float32_and_comes_back_inside_the_ball(attack, dtype, own):
    network, x, y = random_network(2, 16), uniform(5, 1, 4, 4).to(dtype), torch.arange(5) % 4
    f = network if not own else copy.deepcopy(network).to(dtype)
    found = attack(f, x, y, 0.3)
    assert found.dtype == dtype and found.min() >= 0 and found.max() <= 1
    norm = "linf" if attack in (fgsm, DOOR["pgd linf"]) else "l2"
    assert (distances(x, found, norm) <= 0.3).all()
    whole = attack(network, x.float(), y, 0.3)
    assert (found.float() - whole).abs().max() < 0.02 if not own and attack is not ddn else found.ne(x).any()
    assert cross_entropy(network(found.float()), y).mean() > cross_entropy(network(x.float()), y).mean()


@doors
def test_results_hold_no_graph_of_images_that_want_a_gradient(attack):
    network, x, y = random_network(2, 16), uniform(5, 1, 4, 4), torch.arange(5) % 4
    found = attack(network, x.clone().requires_grad_(), y, 0.3)
    assert not found.requires_grad and torch.equal(found, attack(network, x, y, 0.3))


@doors
def test_attacks_run_under_inference_mode_and_on_empty_batches(attack):
    network, x, y = random_network(2, 16), uniform(5, 1, 4, 4), torch.arange(5) % 4
    with torch.inference_mode():
        assert torch.equal(attack(network, x, y, 0.3), attack(network, x, y, 0.3))
    assert attack(network, x[:0], y[:0], 0.3).shape == (0, 1, 4, 4)


@doors
def test_a_network_of_nan_or_of_no_logits_is_refused(attack):
    x, y = uniform(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    with pytest.raises(WorkError, match="NaN"):
        attack(lambda z: z.flatten(1) * math.nan, x, y, 0.1)
    for wrapped, cure in ((lambda z: (z.flatten(1), 1), r"f\(x\)\[0\]"), (lambda z: {"out": z}, r"f\(x\)\['out'\]")):
        with pytest.raises(InputError, match=cure):
            attack(wrapped, x, y, 0.1)


@doors
@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.uint8])
def test_images_and_labels_that_were_made_in_inference_mode_are_attacked_too(attack, kind):
    network = random_network(2, 16)
    expected = attack(network, uniform(5, 1, 4, 4), torch.arange(5) % 4, 0.3)
    with torch.inference_mode():
        assert torch.equal(attack(network, uniform(5, 1, 4, 4), (torch.arange(5) % 4).to(kind), 0.3), expected)


@doors
@pytest.mark.parametrize("label", [-1, 0.5, math.nan])
def test_a_label_that_can_be_no_class_is_refused_without_a_made_up_number_of_classes(attack, label):
    with pytest.raises(InputError, match=r"^labels: got .* at 1, expected whole numbers 0 … K − 1"):
        attack(linear, uniform(2, 3, 2, 2), [0, label], 0.1)


@doors
@pytest.mark.parametrize("epsilon", ["0.3", [0.1, 0.1], np.array([0.1, 0.1]), True])
def test_a_distance_that_is_no_number_is_refused(attack, epsilon):
    with pytest.raises(InputError, match="^epsilon: got .*expected"):
        attack(linear, uniform(2, 3, 2, 2), torch.tensor([0, 1]), epsilon)


@pytest.mark.parametrize("norm", attacks.NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-5, 1e-3, 1 / 255, 8 / 255])
def test_small_perturbations_are_whole_ones_and_inside_the_ball(epsilon, dtype, norm):
    """float32 rounds x + δ: pixels go towards the image until it is within ε, and no image is given up."""
    network, x = random_network(2, 3 * 28 * 28).to(dtype), uniform(40, 3, 28, 28).to(dtype)
    y = network(x).argmax(1)  # DDN leaves images alone that are misclassified already
    for attack in (functools.partial(pgd, steps=4, norm=norm), functools.partial(fgsm, norm=norm), ddn):
        moved = distances(x, attack(network, x, y, epsilon), "l2" if attack is ddn else norm)
        assert (moved <= epsilon).all()
        if attack is ddn:  # which comes back from beyond the boundary
            assert epsilon == 1e-6 or (moved > 0).all()
        elif dtype == torch.float64 or epsilon > 1e-4:
            assert (moved >= 0.98 * epsilon).all()
        elif epsilon == 1e-5:  # for ℓ2 a few units in the last place of each pixel, where 1e-6 is less than one
            assert (moved >= 0.3 * epsilon).all()


@doors
@pytest.mark.parametrize("given", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("own", [torch.float64, torch.float32, torch.bfloat16])
def test_images_and_weights_of_different_precision_meet(attack, given, own):
    network, x, y = random_network(2, 16), uniform(5, 1, 4, 4).to(given), torch.arange(5) % 4
    found = attack(copy.deepcopy(network).to(own), x, y, 0.3)
    assert found.dtype == given and found.shape == x.shape
    assert cross_entropy(network(found.float()), y).mean() > cross_entropy(network(x.float()), y).mean()


@doors
def test_a_network_that_writes_into_its_images_changes_neither_them_nor_the_attack(attack):
    network, x, y = random_network(2, 16), uniform(5, 1, 4, 4), torch.arange(5) % 4
    before = x.clone()
    found = attack(lambda z: network(z.sub_(0.5).div_(0.2)), x, y, 0.3)
    assert torch.equal(x, before)
    assert torch.equal(found, attack(lambda z: network((z - 0.5) / 0.2), x, y, 0.3))


@doors
@pytest.mark.parametrize("kind", [ValueError, AssertionError, IndexError, RuntimeError])
def test_a_network_that_fails_is_said_to_in_one_sentence(attack, kind):
    def broken(z):
        raise kind("Wrong image height!\nExpected 32.")

    with pytest.raises(InputError, match=rf"^model: got one that fails on 2 .*{kind.__name__}: Wrong image height!"):
        attack(broken, uniform(2, 1, 2, 2), torch.tensor([0, 1]), 0.1)


@doors
def test_a_network_in_train_mode_is_attacked_in_eval_mode_and_given_back(attack):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), random_network(2, 16))
    with torch.no_grad():
        network(uniform(50, 1, 4, 4))  # statistics
    x, y = uniform(5, 1, 4, 4), torch.arange(5) % 4
    expected = attack(network.eval(), x, y, 0.3)
    network.train()
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert torch.equal(attack(network, x, y, 0.3), expected)
    assert [module.training for module in network[:3]] == [True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@doors
def test_what_is_no_function_is_refused(attack):
    with pytest.raises(InputError, match="^model: got str, expected a function"):
        attack("resnet20", uniform(2, 3, 2, 2), torch.tensor([0, 1]), 0.1)


def test_the_single_step_stays_at_a_flat_spot_and_counts_it():
    x, flat_spots = uniform(4, 1, 3, 3), torch.zeros(4, dtype=torch.int64)
    found = fgsm(MODELS["constant"], x, torch.zeros(4, dtype=torch.long), 0.5, flat_spots=flat_spots)
    assert torch.equal(found, x) and flat_spots.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "options, name",
    [
        ({"steps": 1.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"restarts": 1.5}, "restarts"),
        ({"step_size": "0.1"}, "step_size"),
        ({"objective": None}, "objective"),
        ({"start": [1]}, "start"),
        ({"start": torch.zeros(1, 3, 2, 2)}, "start"),
        ({"start": torch.full((4, 3, 2, 2), math.nan)}, "start"),
        ({"start": torch.zeros(4, 3, 2, 2), "random_start": True}, "random_start"),
    ],
)
def test_options_of_pgd_that_cannot_be_followed_are_refused(options, name):
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        pgd(linear, uniform(4, 3, 2, 2), torch.zeros(4, dtype=torch.long), 0.1, **options)


# -- bad input ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda x, y: pgd(linear, x, y, -0.1), "epsilon"),
        (lambda x, y: pgd(linear, x, y, math.nan), "epsilon"),
        (lambda x, y: pgd(linear, x, y, 0.1, steps=0), "steps"),
        (lambda x, y: pgd(linear, x, y, 0.1, restarts=0), "restarts"),
        (lambda x, y: pgd(linear, x, y, 0.1, norm="l1"), "norm"),
        (lambda x, y: pgd(linear, x, y, 0.1, keep="first"), "keep"),
        (lambda x, y: pgd(linear, x, y, 0.1, keep="last", restarts=2), "keep"),
        (lambda x, y: pgd(linear, x, y[:3], 0.1), "labels"),
        (lambda x, y: pgd(linear, x.to(torch.float8_e4m3fn), y, 0.1), "images"),
        (lambda x, y: attacks.stein_gradients(linear, x[None], 0.0), "sigma"),
        (lambda x, y: attacks.stein_gradients(linear, x[None], math.nan), "sigma"),
        (lambda x, y: fgsm(linear, x, y, -1.0), "epsilon"),
        (lambda x, y: fgsm(linear, x, y, 0.1, norm="l0"), "norm"),
        (lambda x, y: ddn(linear, x, y, -1.0), "epsilon"),
        (lambda x, y: ddn(linear, x, y, steps=0), "steps"),
        (lambda x, y: ddn(linear, x, y, gamma=1.0), "gamma"),
        (lambda x, y: ddn(linear, x, y, initial_norm=-1.0), "initial_norm"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        call(uniform(4, 3, 2, 2), torch.zeros(4, dtype=torch.long))
