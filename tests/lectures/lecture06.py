"""Answers to notebook 06, right and wrong: weights, log and mean, a gradient from votes, the order, a step."""

import numpy as np
import torch

from lectures.exercise import Exercise
from rslab import attacks
from rslab.lectures.lecture06 import checks
from rslab.smoothing.classifier import log_mean_probs, mean_log_probs

# -- the exercises --------------------------------------------------------------------------------


def copy_weights(log_probs):
    return log_probs.softmax(0)


WEIGHTS = {
    "naive objective": lambda lp: torch.full_like(lp, 1 / len(lp)),
    "Not divided by the sum": lambda lp: lp.exp(),
    "1/m of the mean": lambda lp: lp.exp() / lp.exp().mean(),
    "Upside down": lambda lp: (-lp).softmax(0),
    "sign is turned": lambda lp: -lp.softmax(0),
    "shares of the loss": lambda lp: lp / lp.sum(),
    "one weight a copy": lambda lp: lp.softmax(0)[:1],
    "NaN": lambda lp: lp.exp() / (lp.exp() * 0),
}


def of_label(scores, y):
    return -scores.gather(1, y[:, None])[:, 0]


def smoothadv_loss(log_probs, y):
    return of_label(log_probs.logsumexp(0) - np.log(len(log_probs)), y)


LOSS = {
    "naive objective": lambda lp, y: of_label(lp.mean(0), y),
    "log is missing": lambda lp, y: of_label(lp.exp().mean(0), y),
    "log m is missing": lambda lp, y: of_label(lp.logsumexp(0), y),
    "sign is turned": lambda lp, y: -smoothadv_loss(lp, y),
    "best copy only": lambda lp, y: of_label(lp.amax(0), y),
    "One number came back": lambda lp, y: smoothadv_loss(lp, y).mean(),
    "underflows to 0": lambda lp, y: of_label(lp.exp().mean(0).log(), y),
    "over the first axis": lambda lp, y: 0.5 * smoothadv_loss(lp, y),
}


def stein(scale=lambda s: s**2, pairs=True, sign=-1, log=True, half=2):
    def gradient(probability, x, sigma, noise):
        plus, minus = probability(x + noise), probability(x - noise)
        weight, mean = ((plus - minus) / half, (plus + minus).mean() / 2) if pairs else (plus, plus.mean())
        return sign * (noise * weight[:, None]).mean(0) / scale(sigma) / (mean if log else 1)

    return gradient


STEIN = {
    "sign is turned": stein(sign=1),
    "log is missing": stein(log=False),
    "1/σ² is missing": stein(scale=lambda s: 1),
    "identity has σ²": stein(scale=lambda s: s),
    "Twice too large": stein(half=1),
    "Only +δ is used": stein(pairs=False),
    "wants points (n, 3)": lambda probability, x, sigma, noise: probability(x),
}


def training_image(way, attack, f, G, x, noise):
    if way == 2:
        return attack(f, x) + noise
    if way == 3:
        return attack(f, x + noise)
    return attack(G, x) + noise


def only(way, other):
    return lambda w, attack, f, G, x, noise: (other if w == way else training_image)(w, attack, f, G, x, noise)


ORDER = {
    "never called": lambda way, attack, f, G, x, noise: x + noise,
    "Way (4) attacks G": only(4, lambda w, attack, f, G, x, noise: attack(f, x) + noise),
    "Way (2): the noise comes after": only(2, lambda w, attack, f, G, x, noise: attack(f, x + noise)),
    "Way (3): the noise comes before": only(3, lambda w, attack, f, G, x, noise: attack(f, x) + noise),
    "without noise": only(2, lambda w, attack, f, G, x, noise: attack(f, x)),
    "added twice": only(3, lambda w, attack, f, G, x, noise: attack(f, x + noise) + noise),
}


def unit_step(slope, step_size):
    return step_size * slope / slope.flatten(1).norm(dim=1)[:, None, None, None]


def into_ball(delta, epsilon):
    return delta * (epsilon / delta.flatten(1).norm(dim=1)).clamp_max(1)[:, None, None, None]


def step(inner="outside", move=unit_step, ball=into_ball, sign=1, same=True, noisy=True, attacked=True, last="mean"):
    def log_probs(f, z, y, noise):
        scores = f((z + noise).flatten(0, 1)).log_softmax(1).unflatten(0, noise.shape[:2])
        return torch.stack([row[torch.arange(len(y)), y] for row in scores])

    def answer(f, x, y, noise, epsilon, steps, step_size):
        z, seen = x, noise if noisy else torch.zeros_like(noise[:1])
        for _ in range(steps if attacked else 0):
            z = z.detach().requires_grad_()
            copies = log_probs(f, z, y, seen)
            loss = -(copies.logsumexp(0) if inner == "outside" else copies.mean(0))
            (slope,) = torch.autograd.grad(loss.sum(), z)
            z = x + ball((z + sign * move(slope, step_size) - x).detach(), epsilon)
        copies = log_probs(f, z.detach(), y, noise if same else 0.3 * torch.randn_like(noise))
        if last == "log-mean":
            return -(copies.logsumexp(0) - np.log(len(noise)))
        return {"mean": -copies.mean(0), "sum": -copies.sum(0), "number": -copies.mean()}[last]

    return answer


def by_the_library(f, x, y, noise, epsilon, steps, step_size):
    end = attacks.pgd(
        lambda z: log_mean_probs(f, z, noise), x, y, epsilon, steps=steps, step_size=step_size, keep="last"
    )
    return attacks.negative_log_likelihood(mean_log_probs(f, end, noise), y)


def with_backward(f, x, y, noise, epsilon, steps, step_size):
    step()(f, x, y, noise, epsilon, steps, step_size).sum().backward()
    return step()(f, x, y, noise, epsilon, steps, step_size)


STEP = {
    "No attack": step(attacked=False),
    "naive one": step(inner="inside"),
    "ε-projection is missing": step(ball=lambda delta, epsilon: delta),
    "over the batch": step(ball=lambda delta, epsilon: delta * (epsilon / delta.norm()).clamp_max(1)),
    "pixel by pixel": step(ball=lambda delta, epsilon: delta.clamp(-epsilon, epsilon)),
    "must make the loss large": step(sign=-1),
    "not normalised": step(move=lambda slope, step_size: step_size * slope),
    "other noise than the attack": step(same=False),
    "attack sees no noise": step(noisy=False),
    "without noise: g": lambda f, x, y, noise, *more: torch.nn.functional.cross_entropy(
        f(_end(f, x, y, noise, *more)), y, reduction="none"
    ),
    "outer=log-mean": step(last="log-mean"),
    "take their mean": step(last="sum"),
    "One number came back": step(last="number"),
    "detach x̂, not the loss": lambda *case: step()(*case).detach(),
    "left gradients in the weights": with_backward,
    "f wants images": lambda f, x, y, noise, *more: f(x + noise),
}


def _end(f, x, y, noise, epsilon, steps, step_size):
    return checks._ascend(f, x, y, noise, epsilon, steps, step_size)


EXERCISES = (
    Exercise(checks.copy_weights, (copy_weights,), WEIGHTS),
    Exercise(checks.smoothadv_loss, (smoothadv_loss,), LOSS),
    Exercise(checks.stein_gradient, (stein(),), STEIN),
    Exercise(checks.training_images, (training_image,), ORDER),
    Exercise(checks.smoothadv_step, (step(), by_the_library), STEP),
)
