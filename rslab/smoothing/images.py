"""What an image is: numbers in [0, 1], the units of σ, ε and every radius; and what a label is."""

import math

import torch
from torch import Tensor

from rslab.errors import InputError

_REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_pixels(images: Tensor, *, name: str = "images") -> Tensor:
    """Return `images` if they are a finite floating-point tensor (B, …) in [0, 1], else raise `InputError`.

    σ, ε and radii are in [0, 1] pixel units: images in 0 … 255 or [−1, 1] would
    be certified for another σ than the one asked for.
    """
    _check_tensor(images, name, "(B, C, H, W)")
    if images.is_floating_point() and images.dtype not in _REAL:
        raise InputError(f"{name}: got {images.dtype}, expected float32 or another type that PyTorch computes in.")
    if images.dim() < 2:
        raise InputError(f"{name}: got shape {tuple(images.shape)}, expected (B, C, H, W).")
    if not images.is_floating_point():
        raise InputError(f"{name}: got {images.dtype}, expected floating-point numbers in [0, 1] (8 bits: x / 255).")
    if 0 in images.shape[1:]:
        raise InputError(f"{name}: got shape {tuple(images.shape)}, expected (B, C, H, W) of 1 or more each.")
    if not len(images):
        return images
    low, high = (float(edge) for edge in images.detach().aminmax())  # NaN if any is
    if not math.isfinite(high - low):
        raise InputError(f"{name}: got NaN or infinite pixels, expected numbers in [0, 1].")
    if low < 0 or high > 1:
        got = " to ".join(repr(edge).removesuffix(".0") for edge in (low, high))
        raise InputError(f"{name}: got pixels from {got}, expected [0, 1]{_other_units(low, high)}.")
    return images


def _check_tensor(images, name: str, shape: str) -> None:
    if not isinstance(images, Tensor):
        got = f"{type(images).__name__} of shape {images.shape}" if hasattr(images, "shape") else type(images).__name__
        raise InputError(f"{name}: got {got}, expected a float tensor {shape} in [0, 1] (torch.as_tensor).")


def check_images(images: Tensor, *, name: str = "images") -> Tensor:
    """`check_pixels` of images `(B, C, H, W)`."""
    if isinstance(images, Tensor) and images.dim() != 4:
        raise InputError(f"{name}: got shape {tuple(images.shape)}, expected (B, C, H, W).")
    return check_pixels(images, name=name)


def _other_units(low: float, high: float) -> str:
    """What images of these values probably are in."""
    if low >= 0 and 2 < high <= 255:
        return " (of 0 … 255: x / 255)"
    if low < 0 and high < 10:
        return ": normalisation belongs in the model"
    return ""


def check_image(image: Tensor, *, name: str = "image") -> Tensor:
    """Return one image if it is a finite floating-point tensor `(C, H, W)` in [0, 1], else raise `InputError`."""
    _check_tensor(image, name, "(C, H, W)")
    if image.dim() != 3 or 0 in image.shape:
        raise InputError(f"{name}: got shape {tuple(image.shape)}, expected (C, H, W), one image.")
    check_images(image[None], name=name)
    return image


def check_noise(noise: Tensor, x: Tensor) -> Tensor:
    """Return `noise` if it is floating-point (m, B, C, H, W) for images x (B, C, H, W), m ≥ 1, else `InputError`.

    Types and shapes only: it is asked at every step of an attack.
    """
    for name, tensor, shape in (("x", x, "(B, C, H, W)"), ("noise", noise, "(m, B, C, H, W)")):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(f"{name}: got {got}, expected a float tensor {shape}.")
    if noise.dim() != x.dim() + 1 or noise.shape[1:] != x.shape or not len(noise):
        raise InputError(f"noise: got shape {tuple(noise.shape)}, expected (m, {', '.join(map(str, x.shape))}), m ≥ 1.")
    return noise


def check_labels(labels, num_classes: int | None, size: int | None = None) -> Tensor:
    """The labels as int64 `(B,)` if they are whole numbers 0 … `num_classes` − 1 (`size` of them), else `InputError`.

    A tensor, array or list; floats and bytes are taken where they are whole. `num_classes` None: not known yet.
    """
    try:
        given = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"labels: got {type(labels).__name__}, expected whole numbers (B,).") from error
    if given.dim() != 1 or (size is not None and len(given) != size):
        wanted = "(B,)" if size is None else f"({size},)"
        raise InputError(f"labels: got shape {tuple(given.shape)}, expected {wanted}.")
    if given.is_complex() or given.dtype == torch.bool:
        raise InputError(f"labels: got {given.dtype}, expected whole numbers.")
    given = given.double() if given.is_floating_point() else given.long()
    most = torch.inf if num_classes is None else num_classes
    wrong = ~((given >= 0) & (given < most) & (given == given.floor() if given.is_floating_point() else True))
    if bool(wrong.any()):  # NaN is, too
        place = int(wrong.nonzero()[0])
        hint = ": classes are counted from 0" if given[place] == num_classes else ""
        last = "K − 1, of K classes" if num_classes is None else num_classes - 1
        raise InputError(f"labels: got {given[place].item()} at {place}, expected whole numbers 0 … {last}{hint}.")
    return given.long()
