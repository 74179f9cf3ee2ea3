"""Checks of notebook 01: FGSM, the ℓ2 step with its projection, and the whole of PGD for ℓ∞."""

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


def _gradient(x: Tensor, y: Tensor, network: Callable = _network) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(attacks.cross_entropy(network(x), y).sum(), x)[0]


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


# -- exercise 3: the whole of PGD ---------------------------------------------------------------


def _wavy(x: Tensor) -> Tensor:
    """A classifier whose loss has several maxima in a ball: `(B, 1, 2, 3)` → `(B, 3)`."""
    rows = torch.tensor([[2.0, -1, 0, 1, -2, 0.5], [-1, 2, 1, -0.5, 0, 1], [0, -1, -2, 1, 2, -1]]).double()
    return (3 * torch.sin(4 * x.flatten(1).double() @ rows.T)).to(x.dtype)


def whole_pgd(function: Callable) -> None:
    """Check `function(f, x, y, epsilon, eta, steps, starts)` → the worst image that PGD for ℓ∞ saw, for each image.

    starts: `(R, B, C, H, W)`, where each run begins; the ball and [0, 1] hold.
    """
    x, y = _images(6)
    epsilon, eta, steps = 0.3, 0.2, 4
    offsets = 2 * torch.rand(3, *x.shape, generator=torch.Generator().manual_seed(2)) - 1
    starts = (x + epsilon * offsets).clamp(0, 1)
    starts[1, 2] = _best(_runs(x, y, epsilon, 0.01, 200, starts))[2]  # no step finds a higher loss for this image
    found = _as_images(answer(function, _wavy, x.clone(), y.clone(), epsilon, eta, steps, starts.clone()), x)
    if float((found - x).abs().max()) > epsilon + 1e-5:
        raise Wrong(f"A pixel is {float((found - x).abs().max()):.2f} from x, ε = {epsilon}: clamp each step to x ± ε.")
    if float(found.min()) < -1e-6 or float(found.max()) > 1 + 1e-6:
        raise Wrong("The result leaves [0, 1]: clamp each step to [0, 1] as well.")
    points, losses = runs = _runs(x, y, epsilon, eta, steps, starts)
    last, images = losses[-1].argmax(0), torch.arange(len(x))
    run = int(losses.amax(0).mean(1).argmax())

    def variant(**options) -> Tensor:
        return _best(_runs(x, y, epsilon, eta, steps, starts, **options))

    faults = (
        (points[-1, last, images], "Only the ends of the runs were compared: a step can also lower the loss."),
        (_best((points[:, -1:], losses[:, -1:])), "Only the last run counts here: keep the best of all runs."),
        (_best((points[:, :1], losses[:, :1])), "Only the first run counts here: keep the best of all runs."),
        (points[-1, -1], "This is the end of the last run. Keep the best iterate of all runs."),
        (_best((points[:, run : run + 1], losses[:, run : run + 1])), "One run was chosen for all images."),
        (_best((points[1:], losses[1:])), "The starts were left out: for one image a start is the best there is."),
        (_best((points, -losses)), "This is the point of *lowest* loss: the attacker wants the highest."),
        (variant(rise=-1), "The steps go down: an attack ascends."),
        (variant(from_x=True), "Every run begins at x: let run r begin at starts[r]."),
        (variant(once=True), "The gradient was taken once a run: take it anew at each iterate."),
        (variant(sign=False), "The steps go along the gradient itself; for ℓ∞ take its sign."),
        (variant(late=True), "The iterates were brought back only at the end: project after each step."),
    )
    compare(
        found,
        _best(runs),
        faults,
        "This is not, for each image, the point of highest loss among the starts and all iterates of all runs.",
        same=within(1e-5, 1e-5),
    )
    passed("whole_pgd: each image keeps the worst point that any run saw, and none leaves the ball or [0, 1].")


def _runs(
    x: Tensor, y: Tensor, epsilon: float, eta: float, steps: int, starts: Tensor, *, rise: float = 1,
    sign: bool = True, once: bool = False, from_x: bool = False, late: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """All points `(T + 1, R, B, …)` and losses `(T + 1, R, B)` of PGD from `starts`; the options are usual mistakes."""

    def inside(z: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(z, x - epsilon), x + epsilon).clamp(0, 1)

    runs = []
    for start in starts:
        points = [x if from_x else start]
        first = _gradient(points[0], y, _wavy)
        for _ in range(steps):
            gradient = first if once else _gradient(points[-1], y, _wavy)
            moved = points[-1] + rise * eta * (gradient.sign() if sign else gradient)
            points.append(moved if late else inside(moved))
        runs.append(torch.stack([inside(point) for point in points]))
    together = torch.stack(runs, 1)
    flat = together.flatten(0, 2)
    losses = attacks.cross_entropy(_wavy(flat), y.repeat(len(flat) // len(y)))
    return together, losses.view(together.shape[:3])


def _best(runs: tuple[Tensor, Tensor]) -> Tensor:
    """For each image the point of highest loss."""
    points, losses = (tensor.flatten(0, 1) for tensor in runs)
    return points[losses.argmax(0), torch.arange(points.shape[1])]
