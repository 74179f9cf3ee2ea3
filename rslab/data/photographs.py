"""Four photographs with names: a coffee, a photographer, a cat, a rocket, as ImageNet's networks see them.

They are scikit-image's pictures `coffee`, `camera`, `chelsea` and `rocket`, scaled to 256 pixels on the shorter
side and cut to the 224 × 224 in the middle, in `pictures/`. All are free of copyright: CC0 by Rachel Michetti,
Lav Varshney and Stéfan van der Walt; the rocket was given to the public domain by SpaceX.
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rslab.data.datasets import LabeledImages

PICTURES = Path(__file__).parent / "pictures"

# What each shows, as one of ImageNet's 1,000 classes. The cat might be called "tiger cat" or "Egyptian cat" as well.
PHOTOGRAPHS = {"coffee": "espresso", "camera": "tripod", "chelsea": "tabby", "rocket": "missile"}


@cache
def imagenet_classes() -> tuple[str, ...]:
    """ImageNet's 1,000 class names, in the order of a network's logits; torchvision brings them."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


@cache
def load_photographs() -> LabeledImages:
    """The four of `PHOTOGRAPHS`, in its order: images float32 (4, 3, 224, 224) in [0, 1], labels of ImageNet."""
    pixels = np.stack([np.asarray(Image.open(PICTURES / f"{name}.png").convert("RGB")) for name in PHOTOGRAPHS])
    classes = imagenet_classes()
    labels = torch.tensor([classes.index(name) for name in PHOTOGRAPHS.values()])
    images = torch.tensor(pixels).movedim(-1, 1).float().div_(255)
    return LabeledImages("photographs", images, labels, classes, hashlib.sha256(pixels.tobytes()).hexdigest())
