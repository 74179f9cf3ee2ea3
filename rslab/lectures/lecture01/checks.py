"""Checks of notebook 01: FGSM, the ℓ2 step with its projection, and PGD that keeps the best iterate."""

from collections.abc import Callable

import torch
from torch import Tensor

from rslab import attacks
from rslab.lectures.answers import Wrong, answer, compare, passed, within

# -- exercise 1: one step --------------------------------------------------------------------


def _network(x: Tensor) -> Tensor:
    """A classifier of images of 1 × 2 × 3 pixels into 3 classes, smooth and not linear: `(B, …)` → `(B, 3)`."""
    z = x.flatten(1).double()
    rows = torch.tensor([[2.0, -1, 0, 1, -2, 0.5], [-1, 2, 1, -0.5, 0, 1], [0, -1, -2, 1, 2, -1]]).double()
    return (z @ rows.T + (z**2) @ rows.flip(0).T / 3).to(x.dtype)


def _images(count: int) -> tuple[Tensor, Tensor]:
    """Images with pixels near 0, in the middle and near 1, and labels."""
    pixels = torch.tensor([0.02, 0.5, 0.97, 0.4, 0.6, 0.3])
    shifts = 0.02 * torch.arange(count)[:, None]
    return (pixels - shifts).clamp(0, 1).view(count, 1, 2, 3), torch.arange(count) % 3


def _as_images(result, x: Tensor) -> Tensor:
    if isinstance(result, (tuple, list)):
        raise Wrong("Return the perturbed images alone, not a pair.")
    result = torch.as_tensor(result)
    if result.shape != x.shape:
        raise Wrong(f"The result has shape {tuple(result.shape)}, expected that of x, {tuple(x.shape)}.")
    return result.detach()


def _gradient(x: Tensor, y: Tensor, function=attacks.cross_entropy) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(_network(x), y).sum(), x)[0]


def one_step(function: Callable) -> None:
    """Check `function(f, x, y, epsilon)` → x + ε sign ∇L, kept in [0, 1]; f: images → logits."""
    x, y = _images(4)
    epsilon = 0.1
    found = _as_images(answer(function, _network, x.clone(), y.clone(), epsilon), x)
    gradient = _gradient(x, y)
    right = (x + epsilon * gradient.sign()).clamp(0, 1)
    predicted = _gradient(x, _network(x).argmax(1))
    faults = (
        (x + epsilon * gradient.sign(), "The result leaves [0, 1]: it is no image any more. Clamp it."),
        (epsilon * gradient.sign(), "This is δ. Return the perturbed images, x + δ."),
        (x - epsilon * gradient.sign(), "The loss goes down: the slide says descent, but an attack ascends."),
        (x + epsilon * gradient, "The sign is missing: with the gradient itself most pixels hardly move."),
        (
            x + epsilon * gradient / _length(gradient),
            "This is the step for ℓ2, along ∇L / ‖∇L‖₂. In ℓ∞ every pixel may move by ε: its sign.",
        ),
        (x + epsilon * predicted.sign(), "The loss was taken at the predicted class; it must be taken at the label y."),
        (x + epsilon / 255 * gradient.sign(), "ε was divided by 255: images are in [0, 1] here, and so is ε."),
        (x + gradient.sign(), "ε is missing: the step has length 1."),
        (x, "Nothing moves: is the gradient taken with respect to x, and x.requires_grad set?"),
    )
    near = within(1e-5, 1e-6)

    def same(given: Tensor, expected: Tensor) -> bool:
        return near(given, expected) or near(given, expected.clamp(0, 1))

    moved = f"largest move {float((found - x).abs().max()):.3f}"
    otherwise = f"No pixel may move by more than ε = {epsilon}, and each by ε where it can; {moved}."
    compare(found, right, faults, otherwise, same=same)
    passed("one_step: every pixel moves by ε in the direction that raises the loss, and stays in [0, 1].")


# -- exercise 2: a step of ℓ2 PGD --------------------------------------------------------------


def l2_step(function: Callable) -> None:
    """Check `function(x, iterate, gradient, eta, epsilon)` → the next iterate of ℓ2 PGD (the box [0, 1] left out)."""
    for eta in (0.25, 0.15):  # longer than ε, and shorter
        _check_l2_step(function, eta, 0.2)
    passed("l2_step: each image steps by η along its own gradient and is brought back only if it left its ball.")


def _check_l2_step(function: Callable, eta: float, epsilon: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.full((4, 1, 2, 3), 0.5)
    gradient = torch.tensor([0.02, 0.3, 5.0, 40.0]).view(-1, 1, 1, 1) * torch.randn(x.shape, generator=generator)
    offset = torch.randn(x.shape, generator=generator)
    offset = offset / _length(offset) * torch.tensor([0.0, 0.1, 0.2, 0.2]).view(-1, 1, 1, 1)
    found = _as_images(answer(function, x.clone(), (x + offset).clone(), gradient.clone(), eta, epsilon), x)

    def projected(move: Tensor, start: Tensor = offset) -> Tensor:
        delta = start + move
        return x + delta * (epsilon / _length(delta)).clamp(max=1)

    unit = gradient / _length(gradient)
    delta = offset + eta * unit
    moved = x + offset + eta * unit * min(1, epsilon / eta)
    batch = projected(eta * gradient / gradient.norm())
    faults = (
        (projected(eta * gradient), "The gradient was not normalised: its size says nothing about how far to go."),
        (projected(eta * gradient.sign()), "That is the ℓ∞ step. With ℓ2 go along ∇L / ‖∇L‖₂."),
        (projected(-eta * unit), "The step goes down: add η ∇L / ‖∇L‖₂."),
        (batch, "One norm was taken for the whole batch: each image has a gradient of its own length."),
        (x + delta, "The projection is missing: the second half of the step brings δ back into the ball."),
        (x + epsilon * delta / _length(delta), "A δ inside the ball was blown up to its edge. Shrink, never stretch."),
        (x + delta.clamp(-epsilon, epsilon), "Each pixel was clamped: that is the projection onto the ℓ∞ ball."),
        (projected(eta * unit, torch.zeros_like(offset)), "The step starts at x: it must start at the iterate."),
        (moved, "The ball was laid around the iterate, as the blog's formula reads: then T steps go T times as far."),
        (delta * (epsilon / _length(delta)).clamp(max=1), "This is δ. Return the next iterate, x + δ."),
        (projected(unit), "η is missing: the step has length 1."),
    )
    far = f"the farthest is {float(_length(found - x).max()):.3f} from x, ε = {epsilon}"
    otherwise = f"The next iterate is not Π(iterate + η ∇L / ‖∇L‖₂); {far}."
    compare(found, projected(eta * unit), faults, otherwise, same=within(1e-5, 1e-5))


def _length(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)


# -- exercise 3: keep the best -----------------------------------------------------------------


def keep_best(function: Callable) -> None:
    """Check `function(path, losses)` → for each image the iterate of highest loss.

    path: `(T + 1, B, C, H, W)`, losses: `(T + 1, B)`.
    """
    losses = torch.tensor([[0.5, 2.0, 1.0, 3.0], [1.5, 2.5, 0.5, 2.0], [3.0, 1.0, 0.7, 2.5], [2.0, 1.5, 0.9, 1.0]])
    path = torch.arange(losses.numel() * 6.0).view(4, 4, 1, 2, 3) / 100
    found = _as_images(answer(function, path.clone(), losses.clone()), path[0])
    images = torch.arange(4)
    right = path[losses.argmax(0), images]
    faults = (
        (path[-1], "These are the last iterates: a step of PGD can also lower the loss. Choose by the loss."),
        (path[int(losses.mean(1).argmax())], "One step was chosen for all images: each image has its own best."),
        (path[losses.argmin(0), images], "These have the *lowest* loss: the attacker wants the highest."),
        (path[1:][losses[1:].argmax(0), images], "The start was left out: for one image it is the best there is."),
        (path[images, losses.argmax(1)], "The axes are exchanged: losses[t, i] belongs to step t and image i."),
    )
    otherwise = "These are not the iterates path[t, i] with the largest losses[t, i], one for each image i."
    compare(found, right, faults, otherwise, same=torch.equal)
    passed("keep_best: each image keeps its own best iterate; the start counts too.")
