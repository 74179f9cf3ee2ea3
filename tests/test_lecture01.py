"""Notebook 01: its figures, its explorers and the checks of its exercises."""

import base64

import numpy as np
import pytest
import torch
from explorers import sweep

from rslab import attacks
from rslab.attacks import cross_entropy
from rslab.checks import lecture01 as checks
from rslab.checks.answers import Wrong
from rslab.data import load_dataset
from rslab.figures import lecture01 as figures
from rslab.models import fold_batchnorm
from rslab.records import RESULTS, load_run
from rslab.widgets import lecture01 as widgets


@pytest.fixture(scope="module")
def network():
    model, _ = load_run(RESULTS / "digits" / "gaussian-0.25")
    return fold_batchnorm(model)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", "test")


# -- figures ----------------------------------------------------------------------------------


def is_png(figure) -> bool:
    (picture,) = figure._repr_mimebundle_().values()
    return base64.b64decode(picture).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.balls_figure(),
        lambda: figures.danskin_figure(0.5),
        lambda: figures.histograms_figure({"a": [np.arange(9.0)], "b": [np.arange(9.0), np.ones(9)]}, 0.2),
        lambda: figures.training_figure({"a": [(2, 2, 2), (1, 1.5, 1.6)], "b": [(2, 2, 2), (0.5, 0.6, 0.7)]}),
        lambda: figures.accuracies_figure({"a": {"clean": (100, 99), "FGSM": (50, 40), "PGD": (3, 0)}}),
        lambda: figures.transfer_figure(np.array([[0, 50.0], [90, 10]]), ["a", "b"]),
    ],
)
def test_figures_draw(draw):
    assert is_png(draw())


def test_figures_of_a_network_draw(network, digits):
    x, y = digits.images[:4], digits.labels[:4]
    assert is_png(figures.examples_figure(network, x, attacks.fgsm(network, x, y, 0.1)))
    assert is_png(figures.lines_figure({"a": network, "b": network}, x, y, 0.2))
    losses, ends = figures.final_losses(network, x[0], int(y[0]), 0.2, starts=20)
    first, second, angle = figures.distinct_ends(ends, x[0])
    assert first != second and 0 < angle < 180 and losses.shape == (20,)
    assert is_png(figures.surface_figure(network, x[0], int(y[0]), ends[first], ends[second]))
    plane = figures.loss_plane(network, x[0], int(y[0]), ends[first], ends[second], np.array([0.0, 1.0]))
    with torch.no_grad():
        corners = cross_entropy(network(torch.stack((x[0], ends[first], ends[second]))), y[[0, 0, 0]])
    assert [plane[0, 0], plane[0, 1], plane[1, 0]] == pytest.approx(corners.tolist(), abs=1e-4)


def test_certified_is_below_true_is_below_empirical():
    figure, radii = figures.three_accuracies_figure(0.12)
    assert is_png(figure)
    assert np.all(radii["certified"] <= radii["true"]) and np.all(radii["true"] <= radii["one-step attack"] + 1e-9)
    assert radii["certified"].mean() > 0.8 * radii["true"].mean()


def test_the_toy_loss_fools_fgsm():
    figure, numbers = figures.folded_figure()
    assert is_png(figure)
    assert numbers["FGSM"] == pytest.approx(-1.99, abs=1e-3) and numbers["maximum"] == pytest.approx(3.25)
    assert numbers["PGD, best"] == pytest.approx(3.25, abs=1e-3) and 0 < numbers["share of starts"] < 1
    assert numbers["highest on FGSM's line"] == pytest.approx(0.3226, abs=1e-3)


def test_the_paths_are_those_of_the_packages_pgd(network, digits):
    x, y = digits.images[:6], digits.labels[:6]
    path = figures.pgd_path(lambda z: cross_entropy(network(z), y), x, 0.1, 0.025, 5)
    expected = attacks.pgd(network, x, y, 0.1, norm="linf", steps=5, step_size=0.025, keep="last")
    assert torch.allclose(path[-1], expected, atol=1e-6) and torch.equal(path[0], x)


# -- what the notebook says of the shipped network ---------------------------------------------


def test_the_collapsed_network_leaks_labels_masks_gradients_and_has_the_bump():
    model, config = load_run(RESULTS / "digits" / "fgsm-linf-0.4")
    f, epsilon = fold_batchnorm(model), config.epsilon
    assert (config.attack, config.norm, epsilon) == ("fgsm", "linf", 0.4)
    data = load_dataset("digits", "train")
    x, y = data.images[:400], data.labels[:400]

    def accuracy(images):
        with torch.no_grad():
            return float((f(images).argmax(1) == y).float().mean())

    one_step = attacks.fgsm(f, x, y, epsilon)
    assert accuracy(one_step) > accuracy(x) + 0.03  # label leaking
    assert accuracy(attacks.pgd(f, x, y, epsilon, norm="linf", steps=20)) < 0.02
    assert accuracy(attacks.fgsm(f, x, y, epsilon / 2)) < accuracy(one_step) - 0.1
    line = figures.losses_along(f, x, y, one_step, np.linspace(0, 1, 11)).mean(1)
    assert 2 <= line.argmax() <= 5 and line.max() > 2 * max(line[0], line[-1])  # the bump


# -- Danskin ------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [-0.7, 0.3, 1.0])
def test_the_slope_of_the_robust_loss_is_that_at_the_maximiser(theta):
    def robust(t):
        return figures.outer_loss(t, figures.DELTAS).max()

    h = 1e-3
    star, other = figures.inner_maxima(theta)
    assert (robust(theta + h) - robust(theta - h)) / (2 * h) == pytest.approx(theta / 2 + star, abs=2e-3)
    assert figures.outer_loss(theta, star) > figures.outer_loss(theta, other) and star * other < 0


# -- explorers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attack_explorer(network, digits):
    networks = {"first": network, "second": lambda z: -network(z)}
    return widgets.AttackExplorer(networks, digits.images[[0, 3, 7]], digits.labels[[0, 3, 7]])


@pytest.fixture(scope="module")
def danskin():
    return widgets.DanskinExplorer()


@pytest.mark.parametrize("name", ["attack_explorer", "danskin"])
def test_every_slider_changes_the_picture_and_the_numbers(name, request, capsys):
    sweep(request.getfixturevalue(name), capsys)


def test_an_attack_stays_in_its_ball_and_larger_balls_hold_higher_losses(attack_explorer):
    for network in (0, 1):
        highest = []
        for epsilon in widgets.EPSILONS[::3]:
            for steps in (0, 7, 20):
                attack_explorer.move(network=network, epsilon=epsilon, steps=steps, step_size=0.1)
                assert attack_explorer.length <= epsilon + 1e-6
            highest.append(max(attack_explorer.losses))
        assert highest == sorted(highest)
    assert "largest change of a pixel 0.000" in attack_explorer.move(network=0, steps=0).text.value


def test_a_weak_attack_can_turn_the_gradient(danskin):
    for theta in (-1.0, -0.4, 0.1, 0.8):
        assert danskin.move(theta=theta, found=3).gradient == danskin.slope and danskin.step < 0
        assert np.sign(danskin.move(found=1).gradient) == np.sign(danskin.slope)
    assert danskin.move(theta=0.2, found=2).step > 0 and "raises" in danskin.text.value
    assert danskin.move(theta=0.0, found=3).step > 0 and "kink" in danskin.text.value


# -- exercise 1 ---------------------------------------------------------------------------------


def slope(f, x, y, loss=cross_entropy):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(f(x), y).sum(), x)[0]


def one_step(f, x, y, epsilon):
    x = x.clone().requires_grad_()
    loss = cross_entropy(f(x), y)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return (x + epsilon * gradient.sign()).clamp(0, 1).detach()


def unit(v):
    return v / v.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


FGSM = {
    "replace each ...": lambda f, x, y, e: ...,
    "no image any more": lambda f, x, y, e: x + e * slope(f, x, y).sign(),
    "This is δ": lambda f, x, y, e: e * slope(f, x, y).sign(),
    "an attack ascends": lambda f, x, y, e: (x - e * slope(f, x, y).sign()).clamp(0, 1),
    "sign is missing": lambda f, x, y, e: (x + e * slope(f, x, y)).clamp(0, 1),
    "step for ℓ2": lambda f, x, y, e: (x + e * unit(slope(f, x, y))).clamp(0, 1),
    "predicted class": lambda f, x, y, e: (x + e * slope(f, x, f(x).argmax(1)).sign()).clamp(0, 1),
    "divided by 255": lambda f, x, y, e: (x + e / 255 * slope(f, x, y).sign()).clamp(0, 1),
    "ε is missing": lambda f, x, y, e: (x + slope(f, x, y).sign()).clamp(0, 1),
    "Nothing moves": lambda f, x, y, e: x,
    "shape": lambda f, x, y, e: x[0],
    "stopped with RuntimeError": lambda f, x, y, e: torch.autograd.grad(cross_entropy(f(x), y).sum(), x)[0],
}


@pytest.mark.parametrize("message", FGSM)
def test_one_step_names_the_fault(message):
    with pytest.raises(Wrong) as caught:
        checks.one_step(FGSM[message])
    assert message in str(caught.value)


# -- exercise 2 ---------------------------------------------------------------------------------


def l2_step(x, iterate, gradient, eta, epsilon):
    def length(v):
        return v.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)  # (B, 1, 1, 1)

    delta = iterate + eta * gradient / length(gradient) - x
    return x + delta * (epsilon / length(delta)).clamp(max=1)


L2 = {
    "replace each ...": lambda x, i, g, eta, e: ...,
    "not normalised": lambda x, i, g, eta, e: l2_step(x, i + eta * g, g, 0, e),
    "ℓ∞ step": lambda x, i, g, eta, e: l2_step(x, i + eta * g.sign(), g, 0, e),
    "goes down": lambda x, i, g, eta, e: l2_step(x, i, -g, eta, e),
    "whole batch": lambda x, i, g, eta, e: l2_step(x, i + eta * g / g.norm(), g, 0, e),
    "projection is missing": lambda x, i, g, eta, e: i + eta * unit(g),
    "never stretch": lambda x, i, g, eta, e: x + e * unit(i + eta * unit(g) - x),
    "clamped": lambda x, i, g, eta, e: x + (i + eta * unit(g) - x).clamp(-e, e),
    "must start at the iterate": lambda x, i, g, eta, e: l2_step(x, x, g, eta, e),
    "around the iterate": lambda x, i, g, eta, e: l2_step(i, i, g, eta, e),
    "This is δ": lambda x, i, g, eta, e: l2_step(x, i, g, eta, e) - x,
    "η is missing": lambda x, i, g, eta, e: l2_step(x, i, g, 1, e),
    "is not Π": lambda x, i, g, eta, e: x + 0.01,
}


@pytest.mark.parametrize("message", L2)
def test_l2_step_names_the_fault(message):
    with pytest.raises(Wrong) as caught:
        checks.l2_step(L2[message])
    assert message in str(caught.value)


# -- exercise 3 ---------------------------------------------------------------------------------


def keep_best(path, losses):
    return path[losses.argmax(0), torch.arange(path.shape[1])]


BEST = {
    "replace each ...": lambda path, losses: ...,
    "last iterates": lambda path, losses: path[-1],
    "One step was chosen": lambda path, losses: path[losses.mean(1).argmax()],
    "lowest": lambda path, losses: keep_best(path, -losses),
    "start was left out": lambda path, losses: keep_best(path[1:], losses[1:]),
    "axes are exchanged": lambda path, losses: path[torch.arange(4), losses.argmax(1)],
    "are not the iterates": lambda path, losses: 0 * path[0],
}


@pytest.mark.parametrize("message", BEST)
def test_keep_best_names_the_fault(message):
    with pytest.raises(Wrong) as caught:
        checks.keep_best(BEST[message])
    assert message in str(caught.value)


def test_the_solutions_are_accepted(capsys):
    checks.one_step(one_step)
    checks.l2_step(l2_step)
    checks.keep_best(keep_best)
    assert capsys.readouterr().out.count("✓") == 3
