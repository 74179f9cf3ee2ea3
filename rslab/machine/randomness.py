"""One generator for each purpose, seed and index: never the same stream twice.

Training, attack, PREDICT and CERTIFY must not share noise: a certificate's α is a
probability over noise that is independent of the model and of the attack.
"""

import torch

from rslab.errors import InputError, check_seed

PURPOSES = ("train", "attack", "predict", "certify")
_INDICES = 1_000_003  # more than any data set here has images


def generator_for(purpose: str, seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of image (or epoch) `index` in a run with `seed`.

    torch's CPU generator reads 32 bits of its seed: two for the purpose, thirty for seed
    and index. Distinct for 0 ≤ seed ≤ 1000 and index ≤ 1,000,002; others are refused.
    """
    check_seed(seed)
    if not 0 <= index < _INDICES:
        raise InputError(f"index: got {index}, expected 0 … {_INDICES - 1}.")
    return torch.Generator(device).manual_seed(PURPOSES.index(purpose) << 30 | seed * _INDICES + index)
