"""Answers to notebook 06, right and wrong: weights of the copies, log and mean, a gradient from votes, the order."""

import numpy as np
import torch

from lectures.exercise import Exercise
from rslab.lectures.lecture06 import checks

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

EXERCISES = (
    Exercise(checks.copy_weights, (copy_weights,), WEIGHTS),
    Exercise(checks.smoothadv_loss, (smoothadv_loss,), LOSS),
    Exercise(checks.stein_gradient, (stein(),), STEIN),
    Exercise(checks.training_images, (training_image,), ORDER),
)
