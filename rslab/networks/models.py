"""Networks that take images in [0, 1] and give logits.

Normalisation is the first layer of each, never a step of the data pipeline: the
noise is added to [0, 1] images, and σ, ε and radii mean the same for every model.
Parameter names of the CIFAR ResNets and of ResNet-50 are those of the published
checkpoints of Cohen et al. and Salman et al.: "1.conv1.weight" and so on, where
"0" is the normalisation.
"""

import os
import sys
from functools import partial
from importlib import import_module, invalidate_caches

import torch
from torch import Tensor, nn

from rslab.errors import InputError, check_choice, check_count, check_kind

# Channel mean and standard deviation over each training set. For the two colour
# sets they are the rounded figures with which the published checkpoints were trained.
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.3053,), (0.3760,)),
    "mnist": ((0.1307,), (0.3081,)),
    "mnist8": ((0.2491,), (0.3085,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar10-heldout": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


NORMALIZATIONS = ("standard", "center")


class Normalize(nn.Module):
    """(x − mean) / std by channel.

    The statistics are buffers that stay out of the state dict, as in the
    published checkpoints, which hold no parameter for this layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def check_channels(model: nn.Module, images: Tensor) -> None:
    """`InputError` if `model` is for another number of channels than `images` (…, C, H, W) have: it would broadcast."""
    for layer in model.modules():
        if isinstance(layer, Normalize) and len(layer.mean) != images.shape[-3]:
            raise InputError(
                f"model: got one for {len(layer.mean)} channels, expected the {images.shape[-3]} of the images."
            )


def conv_bn(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """3×3 convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def small_cnn(num_classes: int, channels: int) -> nn.Sequential:
    """Three convolutions and one hidden layer, 41,000 weights, for digits and MNIST."""
    return nn.Sequential(
        *conv_bn(channels, 16),
        *conv_bn(16, 32, stride=2),
        *conv_bn(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, 64),
        nn.ReLU(inplace=True),
        nn.Linear(64, num_classes),
    )


def strided_cnn(num_classes: int, channels: int) -> nn.Sequential:
    """Two convolutions of stride 2 and a wide hidden layer, 163,000 weights: adversarial training on MNIST.

    The sizes of Wong and Kolter's (2018) MNIST network, with batch norm. At half the
    resolution from the start, a step costs a third of `small_cnn`'s on a CPU.
    """
    return nn.Sequential(
        *conv_bn(channels, 16, stride=2),
        *conv_bn(16, 32, stride=2),
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(inplace=True),
        nn.Linear(100, num_classes),
    )


class BasicBlock(nn.Module):
    """relu(x + BN(conv(relu(BN(conv(x))))))); a 1×1 convolution adapts x where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = torch.relu_(self.bn1(self.conv1(x)))  # in place, as published: fewer activations at a time
        return torch.relu_(self.bn2(self.conv2(out)).add_(shortcut))


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2: depth 6k + 2 with 16, 32 and 64 channels, for 32×32 images.

    `width` channels in the first stage instead of 16 make a wide, shallow network (Zagoruyko and Komodakis 2016),
    `half` begins at half the resolution: the same arithmetic in fewer, larger products.
    """

    def __init__(self, depth: int, num_classes: int, channels: int = 3, *, width: int = 16, half: bool = False):
        super().__init__()
        blocks = (depth - 2) // 6
        kernel, stride = (4, 2) if half else (3, 1)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(width, width, blocks, stride=1)
        self.layer2 = self._stage(width, 2 * width, blocks, stride=2)
        self.layer3 = self._stage(2 * width, 4 * width, blocks, stride=2)
        self.fc = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x)))  # (B, width, 32, 32), or half: (B, width, 16, 16)
        out = self.layer3(self.layer2(self.layer1(out)))  # (B, 4 width, 8, 8), (B, 4 width, 4, 4)
        return self.fc(out.mean((2, 3)))  # (B, K)


def _resnet50(num_classes: int, channels: int) -> nn.Module:
    if channels != 3:
        raise InputError(f"arch: got 'resnet50' for images of {channels} channel, expected 3 channels.")
    from torchvision.models import resnet50

    return resnet50(weights=None, num_classes=num_classes)


ARCHITECTURES = {
    "cnn": small_cnn,
    "strided-cnn": strided_cnn,
    "resnet20": lambda num_classes, channels: CifarResNet(20, num_classes, channels),
    "resnet8-half": lambda num_classes, channels: CifarResNet(8, num_classes, channels, width=32, half=True),
    "resnet14-half": lambda num_classes, channels: CifarResNet(14, num_classes, channels, width=64, half=True),
    "resnet14-wide": lambda num_classes, channels: CifarResNet(14, num_classes, channels, width=64),
    "resnet110": lambda num_classes, channels: CifarResNet(110, num_classes, channels),
    "resnet50": _resnet50,
}


def build_model(arch: str, dataset: str, num_classes: int, *, normalization: str = "standard") -> nn.Sequential:
    """Normalisation for `dataset`, then the network `arch`, with fresh weights.

    Maps images `(B, C, H, W)` in [0, 1] to logits `(B, num_classes)`.
    `normalization`: "standard" divides by the standard deviation (Cohen et al.),
    "center" only subtracts the mean (Salman et al.). `arch` may be a function of the
    caller's, "mypackage.net:build", of the number of classes and of channels.
    """
    check_kind("arch", arch, str, f"one of {', '.join(ARCHITECTURES)}, or mypackage.net:build")
    num_classes = check_count("num_classes", num_classes)
    if ":" not in arch:
        check_choice("arch", arch, ARCHITECTURES)
    check_choice("dataset", dataset, STATISTICS)
    check_choice("normalization", normalization, NORMALIZATIONS)
    mean, std = STATISTICS[dataset]
    if normalization == "center":
        std = (1.0,) * len(std)
    build = partial(_of_the_caller, arch) if ":" in arch else ARCHITECTURES[arch]
    return nn.Sequential(Normalize(mean, std), build(num_classes, len(mean)))


def _of_the_caller(arch: str, num_classes: int, channels: int) -> nn.Module:
    """What the function "mypackage.net:build" makes of the number of classes and of channels; it is code, and runs."""
    place, _, name = arch.partition(":")
    expected = "expected mypackage.net:build, a function of the number of classes and of channels that gives a module"
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.append(here)  # last: nothing that is installed is replaced
    invalidate_caches()  # the file may be a moment old
    try:
        network = getattr(import_module(place), name)(num_classes, channels)
    except (Exception, SystemExit) as error:  # of somebody else's making
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"arch: got {arch!r}, which fails ({said}), {expected}.") from error
    finally:
        if added and here in sys.path:  # whatever the code did to it
            sys.path.remove(here)
    if not isinstance(network, nn.Module):
        raise InputError(f"arch: got {arch!r}, which gave {type(network).__name__}, {expected}.")
    return network


def count_parameters(model: nn.Module) -> int:
    """How many numbers training adjusts."""
    return sum(parameter.numel() for parameter in model.parameters())
