"""Checks of notebook 05's exercises: from loss to radius, the bias of the plug-in, a training loss under noise."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import binom, norm
from torch import Tensor

from rslab.lectures.answers import Wrong, answer, compare, passed, within
from rslab.lectures.spies import Spy

# -- exercise 1: what a small loss promises -------------------------------------------------------


def loss_to_radius(function: Callable) -> None:
    """Check `function(loss, sigma)`: E[−log F_y(x + δ)] in nats → a radius that this loss guarantees for the vote."""
    for loss, sigma in ((0.05, 0.5), (0.2, 0.25), (0.5, 1.0), (0.9, 0.5)):
        _check_radius(float(answer(function, loss, sigma)), loss, sigma)
    passed("loss_to_radius: p_A ≥ 1 − loss/ln 2. A small loss under noise is a certificate, if a modest one.")


def _check_radius(radius: float, loss: float, sigma: float) -> None:
    def radius_of(p: float) -> float:
        return sigma * float(norm.ppf(max(p, 0.5)))

    p = 1 - loss / math.log(2)
    right = radius_of(p)
    case = f"loss = {loss}, σ = {sigma}: came {radius:.4f}, expected {right:.4f}."
    if math.isnan(radius) or radius < 0 or math.isinf(radius):
        raise Wrong(f"A radius is at least 0: where p_A may be ½ or less, nothing is promised. ({case})")
    soft, weaker = radius_of(math.exp(-loss)), radius_of(2 * math.exp(-loss) - 1)
    faults = (
        (soft, "e^(−loss) bounds G_y, the mean probability; the certificate counts votes. Use 1 − loss/ln 2."),
        (radius_of(1 - loss), "Missing ln 2: a wrong copy has F_y ≤ ½, so it costs at least ln 2, and not 1."),
        (right / sigma, "σ is missing: R = σΦ⁻¹(p_A)."),
        (max(p, 0.0), "This is the bound on p_A: turn it into a radius."),
        (weaker, "True but weaker: 2·e^(−loss) − 1 goes through G_y. A wrong copy costs at least ln 2 directly."),
    )
    compare(radius, right, faults, f"Expected σΦ⁻¹(1 − loss/ln 2), or 0 where that is negative. ({case})", case)


# -- exercise 2: the bias of the plug-in ----------------------------------------------------------


def plug_in_bias(function: Callable) -> None:
    """Check `function(m, q, high, low)`: bias of −log(mean of m copies of F), F = high with probability q, else low."""
    for m, q, high, low in ((1, 0.5, 0.9, 0.1), (4, 0.5, 0.9, 0.1), (8, 0.7, 0.95, 0.02), (64, 0.3, 0.8, 0.4)):
        _check_bias(float(answer(function, m, q, high, low)), m, q, high, low)
    passed("plug_in_bias: too high for every m; at m = 1 by Jensen's whole gap, later by about Var/(2mG²).")


def _check_bias(bias: float, m: int, q: float, high: float, low: float) -> None:
    count = np.arange(m + 1)
    weights, shares = binom.pmf(count, m, q), (high * count + low * (m - count)) / m
    truth = -math.log(q * high + (1 - q) * low)
    mean = float(-np.log(shares) @ weights)
    right = mean - truth
    case = f"m = {m}, q = {q}, F = {high} or {low}: came {bias:.5f}, expected {right:.5f}."
    second = q * (1 - q) * (high - low) ** 2 / (2 * m * math.exp(-truth) ** 2)  # Var / (2mG²)
    faults = (
        (-right, "The sign is turned: bias is the mean of the estimate minus the truth, and −log is convex."),
        (mean, "This is the mean of the estimate: subtract the truth, −log G."),
        (truth, "This is the truth, −log G: the bias is the mean of the estimate minus it."),
        (-(q * math.log(high) + (1 - q) * math.log(low)) - truth, "This is the bias at m = 1, for every m."),
        (second, "The second-order approximation; here the exact sum over the m + 1 counts is asked."),
        (0.0, "Zero: the mean probability is unbiased, its logarithm is not. Average −log over the counts."),
        (-np.log(shares).mean() - truth, "All counts weighted alike: their probabilities are binomial."),
        (-np.log(shares) @ binom.pmf(count, m, 1 - q) - truth, "q is the chance of *high*: counts swapped."),
    )
    otherwise = f"Σ over k = 0 … m of P(k copies are high) · −log(mean of the copies), minus −log G. ({case})"
    compare(bias, right, faults, otherwise, case)


# -- exercise 3: train on noise --------------------------------------------------------------------


def _logits(z: Tensor) -> Tensor:
    """A classifier of 8×8 images into 3 classes."""
    return z.flatten(1)[:, :3] * torch.tensor([3.0, -2.0, 1.0])


def gaussian_loss(function: Callable) -> None:
    """Check `function(f, x, y, sigma, m, generator)` → (B,), the mean over m noisy copies of −log F(x + δᵢ)_y."""
    x = torch.stack((torch.zeros(1, 8, 8), torch.ones(1, 8, 8), torch.zeros(1, 8, 8)))[:2]
    y, m = torch.tensor([2, 0]), 12
    for sigma in (0.25, 0.1):
        f = Spy(_logits, (1, 8, 8), "f wants images (N, 1, 8, 8), got {shape}: flatten the copies into the batch.")
        given = answer(function, f, x.clone(), y.clone(), sigma, m, torch.Generator().manual_seed(0))
        images = f.seen("f was never called.")
        _check_noise(images, x, sigma, m)
        _check_mean(given, images, y, m)
    passed("gaussian_loss: fresh noise for every copy, not clipped; the mean over copies of −log F_y.")


def _check_noise(images: Tensor, x: Tensor, sigma: float, m: int) -> None:
    if len(images) != m * len(x):
        raise Wrong(f"f saw {len(images)} images, expected m · B = {m} · {len(x)}.")
    noise = images - (images.mean((1, 2, 3)) > 0.5).float()[:, None, None, None]  # x is all 0 or all 1
    if float(noise.abs().max()) == 0:
        raise Wrong("f saw the clean images: add the noise.")
    if images.min() >= 0 and images.max() <= 1:
        raise Wrong("The noisy images were clipped to [0, 1]: CERTIFY will not clip what it shows to f.")
    pairs = torch.cdist(noise.flatten(1), noise.flatten(1)) + torch.eye(len(noise)) * 1e9
    if float(pairs.min()) < 1e-4:
        raise Wrong("Some copies have the same noise: draw it anew for every copy of every image.")
    spread = float(noise.std())
    faults = (
        (sigma**2, "randn(...) * sigma**2: σ is the standard deviation, not the variance."),
        (sigma / math.sqrt(3), "Uniform noise: torch.randn, not torch.rand."),
        (sigma / math.sqrt(12), "Uniform noise: torch.randn, not torch.rand."),
        (math.sqrt(sigma), "randn(...) * sqrt(σ): σ is the standard deviation already."),
        (1.0, "The noise is not multiplied by σ."),
        (sigma / 255, "σ is in units of pixels in [0, 1]: do not divide by 255."),
    )
    otherwise = f"The noise has standard deviation {spread:.3f}, expected {sigma}."
    compare(spread, sigma, faults, otherwise, same=within(0.1))
    if abs(float(noise.mean())) > 0.2 * sigma:
        raise Wrong("The noise is not centred: torch.randn, not torch.rand.")


def _check_mean(given, images: Tensor, y: Tensor, m: int) -> None:
    which, logits = (images.mean((1, 2, 3)) > 0.5).long(), _logits(images)  # the image of each copy
    log_probs = logits.log_softmax(1)

    def mean(scores: Tensor, labels: Tensor = y) -> Tensor:
        """(B,): the mean over an image's copies of their scores at its label."""
        return torch.zeros(2).index_add(0, which, scores.gather(1, labels[which][:, None])[:, 0]) / m

    right, swapped = -mean(log_probs), -mean(log_probs.exp()).log()
    if not isinstance(given, Tensor) or given.shape != right.shape:
        shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise Wrong(f"Came {shape}, expected one loss an image, (B,) = {tuple(right.shape)}.")
    faults = (
        (swapped, "This is −log of the mean, the loss of G (attempt 2): here the mean of the logs is asked."),
        (right * m, "A sum over the copies: take their mean."),
        (-right, "The sign is turned: the loss is −log F_y."),
        (-mean(logits), "No log_softmax."),
        (-mean(log_probs, y.flip(0)), "Swapped labels."),
    )
    otherwise = (
        f"Expected {right.tolist()}, came {given.tolist()}: does each copy meet its own image's label? "
        "x.repeat(m, 1, 1, 1) goes with y.repeat(m), repeat_interleave with repeat_interleave."
    )
    compare(given.detach(), right, faults, otherwise, same=within(1e-4, 1e-6))
