"""Answers to notebook 01, right and wrong: FGSM, the ℓ2 step, the best iterate."""

import torch

from lectures.exercise import Exercise
from rslab.attacks import cross_entropy
from rslab.lectures.lecture01 import checks

# -- exercise 1 ---------------------------------------------------------------------------------


def slope(f, x, y):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(cross_entropy(f(x), y).sum(), x)[0]


def one_step(f, x, y, epsilon):
    return (x + epsilon * slope(f, x, y).sign()).clamp(0, 1)


def length(v):
    return v.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)  # (B, 1, 1, 1)


def unit(v):
    return v / length(v)


FGSM = {
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


# -- exercise 2 ---------------------------------------------------------------------------------


def l2_step(x, iterate, gradient, eta, epsilon):
    delta = iterate + eta * unit(gradient) - x
    return x + delta * (epsilon / length(delta)).clamp(max=1)


L2 = {
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


# -- exercise 3 ---------------------------------------------------------------------------------


def keep_best(path, losses):
    return path[losses.argmax(0), torch.arange(path.shape[1])]


BEST = {
    "last iterates": lambda path, losses: path[-1],
    "One step was chosen": lambda path, losses: path[losses.mean(1).argmax()],
    "lowest": lambda path, losses: keep_best(path, -losses),
    "start was left out": lambda path, losses: keep_best(path[1:], losses[1:]),
    "axes are exchanged": lambda path, losses: path[torch.arange(4), losses.argmax(1)],
    "are not the iterates": lambda path, losses: 0 * path[0],
}

EXERCISES = (
    Exercise(checks.one_step, (one_step,), FGSM),
    Exercise(checks.l2_step, (l2_step,), L2),
    Exercise(checks.keep_best, (keep_best,), BEST),
)
