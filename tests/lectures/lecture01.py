"""Answers to notebook 01, right and wrong: FGSM, the ℓ2 step, the whole of PGD."""

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


def run_of(f, x, y, epsilon, eta, steps, start, step=lambda g: g.sign(), project=True):
    """The points of one run, the start among them, and their losses."""
    points = [start]
    for _ in range(steps):
        z = points[-1] + eta * step(slope(f, points[-1], y))
        points.append(torch.clamp(z, x - epsilon, x + epsilon).clamp(0, 1) if project else z)
    return torch.stack(points), torch.stack([cross_entropy(f(point), y) for point in points])


def best_of(points, losses):
    return points[losses.argmax(0), torch.arange(points.shape[1])]


def whole_pgd(f, x, y, epsilon, eta, steps, starts):
    best, highest = x, torch.full((len(x),), -torch.inf)
    for start in starts:
        point = start
        for number in range(steps + 1):
            loss = cross_entropy(f(point), y)
            better = loss > highest
            highest = torch.where(better, loss, highest)
            best = torch.where(better.view(-1, 1, 1, 1), point, best)
            if number < steps:
                point = point + eta * slope(f, point, y).sign()
                point = torch.clamp(point, x - epsilon, x + epsilon).clamp(0, 1)
    return best


def all_at_once(f, x, y, epsilon, eta, steps, starts):
    """Another right answer: all points kept, the best chosen at the end."""
    runs = [run_of(f, x, y, epsilon, eta, steps, start) for start in starts]
    return best_of(*(torch.cat(tensors) for tensors in zip(*runs, strict=True)))


def chosen(choose, **options):
    """A wrong answer: what `choose(points, losses)`, both (T + 1, R, B, …), makes of runs with `options`."""

    def function(f, x, y, epsilon, eta, steps, starts):
        runs = [run_of(f, x, y, epsilon, eta, steps, start, **options) for start in starts]
        return choose(*(torch.stack(tensors, 1) for tensors in zip(*runs, strict=True)))

    return function


def best_point(points, losses):
    return best_of(points.flatten(0, 1), losses.flatten(0, 1))


def once(f, x, y, epsilon, eta, steps, starts):
    found = []
    for start in starts:
        step = slope(f, start, y).sign()
        found.append(run_of(f, x, y, epsilon, eta, steps, start, step=lambda _, step=step: step))
    return best_point(*(torch.stack(tensors, 1) for tensors in zip(*found, strict=True)))


def late(f, x, y, epsilon, eta, steps, starts):
    points = [run_of(f, x, y, epsilon, eta, steps, start, project=False)[0] for start in starts]
    together = torch.clamp(torch.cat(points), x - epsilon, x + epsilon).clamp(0, 1)
    return best_of(together, torch.stack([cross_entropy(f(point), y) for point in together]))


def of_one_run(points, losses):
    run = int(losses.amax(0).mean(1).argmax())
    return best_of(points[:, run], losses[:, run])


PGD = {
    "clamp each step to x ± ε": chosen(best_point, project=False),
    "leaves [0, 1]": lambda f, x, y, e, eta, t, starts: x + e * slope(f, x, y).sign(),
    "ends of the runs": chosen(lambda points, losses: best_of(points[-1], losses[-1])),
    "Only the last run": chosen(lambda points, losses: best_of(points[:, -1], losses[:, -1])),
    "Only the first run": chosen(lambda points, losses: best_of(points[:, 0], losses[:, 0])),
    "end of the last run": chosen(lambda points, losses: points[-1, -1]),
    "One run was chosen": chosen(of_one_run),
    "starts were left out": chosen(lambda points, losses: best_point(points[1:], losses[1:])),
    "*lowest* loss": chosen(lambda points, losses: best_point(points, -losses)),
    "go down": chosen(best_point, step=lambda g: -g.sign()),
    "begins at x": lambda f, x, y, e, eta, t, starts: whole_pgd(f, x, y, e, eta, t, x[None]),
    "taken once": once,
    "take its sign": chosen(best_point, step=lambda g: g),
    "only at the end": late,
    "not, for each image": lambda f, x, y, e, eta, t, starts: x,
}

EXERCISES = (
    Exercise(checks.one_step, (one_step,), FGSM),
    Exercise(checks.l2_step, (l2_step,), L2),
    Exercise(checks.whole_pgd, (whole_pgd, all_at_once), PGD),
)
