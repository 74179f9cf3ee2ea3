"""The losses by which training methods differ: one function a method.

A loss takes the model, images x (B, C, H, W), labels y (B,) and the `Step` (options,
current ε, randomness) and returns the loss of each image (B,) and the scores (B, K) that
it judged. `config.METHODS` says in a line what each computes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rslab import attacks
from rslab.config import Objective, TrainConfig
from rslab.machine.distributed import Part
from rslab.networks.inference import InferenceNetwork
from rslab.smoothing.classifier import log_mean_probs, mean_log_probs
from rslab.smoothing.function import on_copies


@dataclass
class Step:
    """What a loss needs beside the batch."""

    config: TrainConfig
    epsilon: float  # after warm-up
    generator: torch.Generator
    part: Part | None = None  # of the batch, which is this process's x; None: all of it
    _copy: InferenceNetwork | None = None  # of the model that is trained

    def frozen(self, model: nn.Module) -> InferenceNetwork:
        """f as the attack sees it: the model's weights of this step, without gradients, batch norm in eval mode."""
        if self._copy is None or not self._copy.is_of(model):
            self._copy = InferenceNetwork(model, self.config.precision)
        return self._copy.follow()

    def noise(self, x: Tensor, samples: int) -> Tensor:
        """δ₁ … δ_m ~ N(0, σ²I): (m, B, C, H, W); drawn for the whole batch, that all processes' generators agree."""
        part = self.part or Part(0, len(x), len(x))
        noise = torch.randn(samples, part.whole, *x.shape[1:], device=x.device, generator=self.generator)
        return noise[:, part.slice] * self.config.sigma

    def shares(self, x: Tensor, most: float) -> Tensor:
        """A uniform number in [0, most] for each image: (B, 1, 1, 1); drawn as `noise` is."""
        part = self.part or Part(0, len(x), len(x))
        drawn = most * torch.rand(part.whole, device=x.device, generator=self.generator)
        return drawn[part.slice].view(-1, 1, 1, 1)

    def _random_start(self, x: Tensor) -> Tensor:
        """A random point of the ε-ball for each of x (k·B, C, H, W), k copies of the batch; drawn as `noise` is."""
        part = self.part or Part(0, len(x), len(x))
        copies = len(x) // (part.stop - part.start)
        whole = x.new_empty(copies * part.whole, *x.shape[1:])
        start = attacks.random_in_ball(whole, self.epsilon, self.config.norm, self.generator)
        return start.unflatten(0, (copies, part.whole))[:, part.slice].flatten(0, 1)

    def attack(self, log_probs, x: Tensor, y: Tensor, objective: Objective = "cross-entropy") -> Tensor:
        """The adversarial images (B, C, H, W) of the configured attack on `log_probs`, at this epoch's ε."""
        attack = self.config.attack_of(self.epsilon, objective)  # whose step follows ε, unless it is given
        start = self._random_start(x) if attack.random_start else None
        return replace(attack, random_start=False)(log_probs, x, y, start=start, keep="last")


def _nll(log_probs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """−log p_y, not normalised once more: a mean of log-probabilities sums to less than 1."""
    return attacks.negative_log_likelihood(log_probs, y), log_probs


def _copies(model, x: Tensor, noise: Tensor) -> Tensor:
    """log F(x + δᵢ): x (B, C, H, W), noise (m, B, C, H, W) → (m, B, K)."""
    return on_copies(model, x, noise).log_softmax(2)


def standard_loss(model, x, y, step):
    """−log F_y(x): neither noise nor attack. Source: slides, average loss."""
    return _nll(model(x).log_softmax(1), y)


def gaussian_loss(model, x, y, step):
    """E[−log F(x + δ)_y], Gaussian augmentation.

    Source: lecture 14, attempt 1, (8); blog, training; Cohen et al. 2019, section 3.3.
    """
    return _nll(mean_log_probs(model, x, step.noise(x, step.config.samples)), y)


def smoothed_loss(model, x, y, step):
    """−log E[F(x + δ)_y], by the plug-in estimator with m samples.

    Source: lecture 14, attempt 2, (9), (10), plug-in estimator.
    """
    return _nll(log_mean_probs(model, x, step.noise(x, step.config.samples)), y)


def consistency_loss(model, x, y, step):
    """Consistency regularisation: copies that disagree cost extra.

    mean −log F(x + δᵢ)_y + λ mean KL(p̄ ‖ F(x + δᵢ)) + η H(p̄), p̄ the mean prediction: no
    attack, and still larger radii than Gaussian augmentation at twice its cost (m = 2).

    Source: Jeong and Shin 2020, (9).
    """
    log_probs = _copies(model, x, step.noise(x, step.config.samples))  # (m, B, K)
    mean = log_probs.exp().mean(0)  # (B, K)
    entropy = -(mean * mean.clamp_min(1e-30).log()).sum(1)
    divergence = -(mean * log_probs).sum(2).mean(0) - entropy
    loss, scores = _nll(log_probs.mean(0), y)
    return loss + step.config.consistency * divergence + step.config.confidence * entropy, scores


def adversarial_loss(model, x, y, step):
    """min–max training of f; `clean` mixes in the loss on the images themselves.

    Source: blog, minimax, adversarial training; robust-training blog, population loss, min–max;
    slides, min–max, training algorithm, mixed updates; Madry et al. 2018, min–max.
    """
    adversarial = step.attack(step.frozen(model), x, y)
    loss, scores = _nll(model(adversarial).log_softmax(1), y)
    if step.config.clean:
        loss = (1 - step.config.clean) * loss + step.config.clean * _nll(model(x).log_softmax(1), y)[0]
    return loss, scores


def combine1_loss(model, x, y, step):
    """(1): a robust f and Gaussian augmentation at once. Source: blog, combination (1)."""
    adversarial, scores = adversarial_loss(model, x, y, step)
    gaussian, _ = gaussian_loss(model, x, y, step)
    return (adversarial + gaussian) / 2, scores


def combine2_loss(model, x, y, step):
    """(2): first the adversarial example of f, then the noise. Source: blog, combination (2)."""
    adversarial = step.attack(step.frozen(model), x, y)
    return gaussian_loss(model, adversarial, y, step)


def combine3_loss(model, x, y, step):
    """(3): first the noise, then an adversarial example of f near each noisy copy.

    Every copy gets a perturbation of its own, which is what tells (3) from (4): with
    m = 1 the two are the same.

    Source: blog, combination (3).
    """
    m = step.config.samples
    noise = step.noise(x, m).flatten(0, 1)  # (m·B, C, H, W)
    copies, labels = x.repeat(m, 1, 1, 1), y.repeat(m)
    f = step.frozen(model)
    adversarial = step.attack(lambda z: f(z + noise), copies, labels)
    loss, scores = _nll(model(adversarial + noise).log_softmax(1), labels)
    return loss.unflatten(0, (m, -1)).mean(0), scores.unflatten(0, (m, -1)).mean(0)


def _attack_under_noise(model, x, y, step, inner, outer):
    """Attack `inner`, then take the loss of `outer` there, both on the same m noise samples."""
    noise = step.noise(x, step.config.samples)
    f = step.frozen(model)
    adversarial = step.attack(lambda z: inner(f, z, noise), x, y, "negative-log-likelihood")
    return _nll(outer(model, adversarial, noise), y)


def naive_loss(model, x, y, step):
    """log and mean swapped in the attack: an example that fools f under noise. Source: blog, naive objective."""
    return _attack_under_noise(model, x, y, step, mean_log_probs, mean_log_probs)


def smoothadv_loss(model, x, y, step):
    """SmoothAdv: attack G, then update at the example.

    The published code updates on the mean cross-entropy of the copies
    (`outer="mean-ce"`), the paper's formula on −log of their mean (`"log-mean"`).

    Source: lecture 14, attempt 3; blog, combination (4), update of θ; Salman et al. 2019, SmoothAdv.
    """
    outer = mean_log_probs if step.config.outer == "mean-ce" else log_mean_probs
    return _attack_under_noise(model, x, y, step, log_mean_probs, outer)


def smoothmix_loss(model, x, y, step):
    """SmoothMix: on the way from x to its SmoothAdv example x̂ the prediction fades towards uniform.

    mean −log F(x + δᵢ)_y + η mean KL(y_mix ‖ F(x_mix + δᵢ)), the second term only where the mean prediction p̄ is
    right; x_mix = (1 − λ) x + λ x̂ and y_mix = (1 − λ) p̄ + λ/K, with λ ~ U[0, ½] for each image. x̂ stays in the
    ε-ball here; the published code takes T steps of a fixed length without a ball.

    Source: Jeong et al. 2021, SmoothMix.
    """
    noise = step.noise(x, step.config.samples)
    f, share = step.frozen(model), step.shares(x, 0.5)
    adversarial = step.attack(lambda z: log_mean_probs(f, z, noise), x, y, "negative-log-likelihood")
    log_probs = _copies(model, x, noise)  # (m, B, K)
    mean = log_probs.exp().mean(0)  # (B, K)
    mixed = (1 - share) * x + share * adversarial
    soft = (1 - share).flatten(1) * mean + share.flatten(1) / mean.shape[1]
    divergence = (soft * (soft.clamp_min(1e-30).log() - _copies(model, mixed, noise))).sum(2).mean(0)
    loss, scores = _nll(log_probs.mean(0), y)
    return loss + step.config.mixing * divergence * (mean.argmax(1) == y), scores


LOSSES: dict[str, Callable] = {
    "standard": standard_loss,
    "gaussian": gaussian_loss,
    "smoothed": smoothed_loss,
    "consistency": consistency_loss,
    "smoothmix": smoothmix_loss,
    "adversarial": adversarial_loss,
    "combine1": combine1_loss,
    "combine2": combine2_loss,
    "combine3": combine3_loss,
    "naive": naive_loss,
    "smoothadv": smoothadv_loss,
}
