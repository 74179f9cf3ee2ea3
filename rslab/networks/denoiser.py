"""Denoisers to stand before a classifier: a tiny convolutional network for digits, non-local means for photographs.

Denoised smoothing (Salman et al. 2020) puts a denoiser D before a classifier f that never saw noise. Their composition
`nn.Sequential(D, f)` maps images in [0, 1] to logits, like every network here: it is one base classifier more, and it
is smoothed and certified like any other.
"""

from importlib import import_module

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from rslab.errors import WorkError, check_choice, check_positive
from rslab.machine.randomness import generator_for
from rslab.networks.efficientnet import INSTALL
from rslab.networks.models import conv_bn

OBJECTIVES = ("mse", "stability")


class DnCNN(nn.Module):
    """D(z) = z − R(z): noisy images (B, C, H, W) → images of the same shape, R being `depth` convolutions of 3×3.

    R is trained to be the noise. With 16 channels and depth 4 it has 5,000 weights; the network of Zhang et al. (2017)
    has 64 channels and depth 17.
    """

    def __init__(self, channels: int = 1, width: int = 16, depth: int = 4):
        super().__init__()
        first = (nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True))
        middle = (layer for _ in range(depth - 2) for layer in conv_bn(width, width))
        self.noise = nn.Sequential(*first, *middle, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        """The denoised images."""
        return z - self.noise(z)


def denoising_loss(objective: str, denoiser: nn.Module, classifier: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
    """What the denoiser has to make small on images x and noise, both (B, C, H, W); a mean over the batch.

    "mse": the squared distance between D(x + δ) and x, a pixel. "stability": the cross-entropy of f(D(x + δ)) against
    the class that f itself gives to x; labels are not needed.

    Source: Salman et al. 2020, denoising objectives.
    """
    check_choice("objective", objective, OBJECTIVES)
    cleaned = denoiser(x + noise)
    if objective == "mse":
        return mse_loss(cleaned, x)
    with torch.no_grad():
        own = classifier(x).argmax(1)
    return cross_entropy(classifier(cleaned), own)


def train_denoiser(
    classifier: nn.Module,
    images: Tensor,
    sigma: float,
    objective: str = "mse",
    *,
    epochs: int = 60,
    batch_size: int = 64,
    lr: float = 0.003,
    width: int = 16,
    depth: int = 4,
    seed: int = 0,
) -> DnCNN:
    """A denoiser of noise σ for a frozen classifier, trained by Adam on clean images (N, C, H, W); in eval mode.

    The learning rate falls to 0 along a cosine. The classifier stays as it is: it is put in eval mode, and no
    gradient reaches its weights.
    """
    check_positive("sigma", sigma)
    classifier = classifier.eval().requires_grad_(False)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        denoiser = DnCNN(images.shape[1], width, depth).train()
    optimizer = torch.optim.Adam(denoiser.parameters(), lr)
    steps = epochs * (len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(epochs):
        generator = generator_for("train", seed, epoch)
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - batch_size + 1, batch_size):
            x = images[order[start : start + batch_size]]
            noise = sigma * torch.randn(x.shape, generator=generator)
            loss = denoising_loss(objective, denoiser, classifier, x, noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return denoiser.eval()


class NonLocalMeans(nn.Module):
    """Non-local means (Buades et al. 2005) for noise σ, nothing learned: images (B, 3, H, W) → the same shape.

    Each pixel becomes a mean of the pixels within 6 whose 5 × 5 surroundings look alike; h = 0.8 σ, as scikit-image's
    documentation advises. Each image is denoised by itself, so that the result is a function of one image.
    """

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = check_positive("sigma", sigma)
        try:
            restoration = import_module("skimage.restoration")
        except ImportError:
            raise WorkError(f"Non-local means needs scikit-image: {INSTALL}.") from None
        self._denoise = restoration.denoise_nl_means

    def forward(self, z: Tensor) -> Tensor:
        """The denoised images."""
        options = {"patch_size": 5, "patch_distance": 6, "h": 0.8 * self.sigma, "sigma": self.sigma}
        cleaned = [self._denoise(image, fast_mode=True, channel_axis=0, **options) for image in z.cpu().numpy()]
        return torch.from_numpy(np.stack(cleaned)).to(z)
