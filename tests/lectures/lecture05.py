"""Answers to notebook 05, right and wrong: from loss to radius, the bias of the plug-in, training under noise."""

import math

import numpy as np
import torch
from scipy.stats import binom, norm

from lectures.exercise import Exercise
from rslab.lectures.lecture05 import checks

# -- the exercises -----------------------------------------------------------------------------


def radius_with(share, keep_negative=False):
    def answer(loss, sigma):
        p = max(share(loss), 1e-12)
        return sigma * norm.ppf(p) if keep_negative or p > 0.5 else 0.0

    return answer


def good(loss):
    return 1 - loss / math.log(2)


RADIUS = {
    "at least 0": radius_with(good, keep_negative=True),
    "e^(−loss) bounds G_y": radius_with(lambda loss: math.exp(-loss)),
    "Missing ln 2": radius_with(lambda loss: 1 - loss),
    "σ is missing": lambda loss, sigma: radius_with(good)(loss, 1.0),
    "turn it into a radius": lambda loss, sigma: max(good(loss), 0.0),
    "True but weaker": radius_with(lambda loss: 2 * math.exp(-loss) - 1),
    "Expected σΦ⁻¹": lambda loss, sigma: 7.0,
}


def plug_in_bias(m, q, high, low):
    k = np.arange(m + 1)
    return binom.pmf(k, m, q) @ -np.log((k * high + (m - k) * low) / m) + math.log(q * high + (1 - q) * low)


BIAS = {
    "sign is turned": lambda m, q, high, low: -plug_in_bias(m, q, high, low),
    "subtract the truth": lambda m, q, high, low: plug_in_bias(m, q, high, low) - math.log(q * high + (1 - q) * low),
    "This is the truth": lambda m, q, high, low: -math.log(q * high + (1 - q) * low),
    "second-order approximation": lambda m, q, high, low: (
        q * (1 - q) * (high - low) ** 2 / (2 * m * (q * high + (1 - q) * low) ** 2)
    ),
    "Zero: the mean probability": lambda m, q, high, low: 0.0,
    "counts swapped": lambda m, q, high, low: (
        plug_in_bias(m, 1 - q, high, low) - math.log((1 - q) * high + q * low) + math.log(q * high + (1 - q) * low)
    ),
    "Σ over k": lambda m, q, high, low: 3.0,
}


def noisy_loss(scale=lambda s: s, draw=torch.randn, change=lambda z: z, reduce=None, labels=None, one=False):
    def answer(f, x, y, sigma, m, generator):
        noise = draw(1 if one else m, *x.shape, generator=generator) * scale(sigma)
        log_probs = f(change(x + noise.expand(m, *x.shape)).flatten(0, 1)).log_softmax(1)
        given = (labels or (lambda y, m: y.repeat(m)))(y, m)
        of_label = log_probs.gather(1, given[:, None])[:, 0].unflatten(0, (m, -1))
        return -of_label.mean(0) if reduce is None else reduce(of_label)

    return answer


LOSS = {
    "never called": lambda f, x, y, sigma, m, generator: torch.zeros(2),
    "clean images": noisy_loss(scale=lambda s: 0.0),
    "clipped": noisy_loss(change=lambda z: z.clamp(0, 1)),
    "same noise": noisy_loss(one=True),
    "not the variance": noisy_loss(scale=lambda s: s**2),
    "not multiplied by σ": noisy_loss(scale=lambda s: 1.0),
    "do not divide by 255": noisy_loss(scale=lambda s: s / 255),
    "torch.randn, not torch.rand": noisy_loss(draw=torch.rand),
    "−log of the mean": noisy_loss(reduce=lambda lp: -lp.exp().mean(0).log()),
    "take their mean": noisy_loss(reduce=lambda lp: -lp.sum(0)),
    "sign is turned": noisy_loss(reduce=lambda lp: lp.mean(0)),
    "expected one loss an image": noisy_loss(reduce=lambda lp: -lp.mean()),
    "its own image's label": noisy_loss(labels=lambda y, m: y.repeat_interleave(m)),
}

EXERCISES = (
    Exercise(checks.loss_to_radius, (radius_with(good),), RADIUS),
    Exercise(checks.plug_in_bias, (plug_in_bias,), BIAS),
    Exercise(checks.gaussian_loss, (noisy_loss(),), LOSS),
)
