"""Attacks: one function an algorithm, on any callable from images to log-probabilities.

What is attacked is decided by the callable alone:

    f                                        the base classifier
    lambda x: log_mean_probs(f, x, noise)    the smoothed classifier G (SmoothAdv)
    lambda x: mean_log_probs(f, x, noise)    the naive objective, log and mean swapped, with
                                             objective=negative_log_likelihood

Every attack returns a detached tensor of images in [0, 1], never farther than ε
from the originals in the stated norm; PGD and DDN keep the best of all iterates.
Distances are in [0, 1] pixel units. Images are `(B, C, H, W)`, labels `(B,)`; ε is
a number, or a tensor `(B,)` of one an image. Half-precision images are attacked in
float32, and come back in their own type, rounded towards the originals.

Where the gradient of an image vanishes, PGD and DDN step in a random direction, the same
for all images of a step: a flat spot is no end. `flat_spots`, an int64 tensor `(B,)` of the
caller's, counts how often that happened to each image. (FGSM counts, and stays: its linearisation is flat.)
"""

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor

from rslab.errors import (
    InputError,
    WorkError,
    check_at_least,
    check_choice,
    check_count,
    check_open_unit,
    check_positive,
)
from rslab.smoothing.function import check_logits, evaluating, failure
from rslab.smoothing.images import check_labels, check_pixels

NORMS = ("l2", "linf")
Objective = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(log_probs: Tensor, y: Tensor) -> Tensor:
    """−log p_y of logits, or of log-probabilities that sum to 1: (B, K), (B,) → (B,)."""
    return -log_probs.log_softmax(1).gather(1, y[:, None])[:, 0]


def negative_log_likelihood(log_probs: Tensor, y: Tensor) -> Tensor:
    """−log p_y of scores that are log-probabilities already: (B, K), (B,) → (B,).

    The objective of the naive attack: `mean_log_probs` sums to less than 1, and normalising
    it once more, as `cross_entropy` does with logits, would attack the mean of the logits.
    """
    return -log_probs.gather(1, y[:, None])[:, 0]


def margin(log_probs: Tensor, y: Tensor) -> Tensor:
    """max_{c ≠ y} z_c − z_y, positive exactly when misclassified (Carlini and Wagner 2017, f₆): (B,).

    Unlike the cross-entropy its gradient does not vanish where the model is certain.
    """
    of_label = log_probs.gather(1, y[:, None])[:, 0]
    others = log_probs.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - of_label


OBJECTIVES: dict[str, Objective] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "negative-log-likelihood": negative_log_likelihood,
}


def _norm(delta: Tensor, norm: str) -> Tensor:
    """(B, …) → (B, 1, …): the norm of each perturbation, shaped to broadcast."""
    flat = delta.flatten(1)
    length = flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)
    return length.view(-1, *[1] * (delta.dim() - 1))


def _unit(gradient: Tensor) -> Tensor:
    """Each gradient divided by its ℓ2 norm; a zero or NaN gradient gives no step."""
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    # By the largest entry first: the squares of a tiny gradient would underflow in float32.
    gradient = gradient / _norm(gradient, "linf").clamp_min(1e-38)
    return gradient / _norm(gradient, "l2").clamp_min(1e-30)


def _each(epsilon: float | Tensor, x: Tensor) -> float | Tensor:
    """A number as it is; one ε an image (B,) → (B, 1, …), to broadcast."""
    return epsilon.to(x).view(-1, *[1] * (x.dim() - 1)) if isinstance(epsilon, Tensor) else epsilon


def project(x: Tensor, delta: Tensor, epsilon: float | Tensor, norm: str = "l2") -> Tensor:
    """The perturbed images x + δ, brought into the ε-ball and into [0, 1].

    First the box, then the ball: scaling moves every pixel towards x, so that none can
    leave [0, 1] again, and clipped pixels leave their share of ε to the others. The
    ball is smaller by one part in a million than asked, the room that float32
    rounding of x + δ needs; the last clamp is for rounding too.
    """
    radius = _each(epsilon, x) * (1 - 1e-6)
    delta = (x + delta).clamp(0.0, 1.0) - x
    if norm == "l2":
        delta = delta * (radius / _norm(delta, norm).clamp_min(1e-30)).clamp_max(1.0)
    else:
        delta = delta.clamp_max(radius).clamp_min(-radius)
    return (x + delta).clamp(0.0, 1.0)


def _within(x: Tensor, adversarial: Tensor, epsilon: float | Tensor, norm: str) -> Tensor:
    """The perturbed images, each pixel rounded towards the original where rounding left an image beyond ε."""
    exact, radius = x.double(), _each(epsilon, x.double())
    moved = adversarial.double() - exact
    beyond = _norm(moved, norm) > radius
    shorter = moved * (radius * (1 - 1e-9) / _norm(moved, norm).clamp_min(1e-300)).clamp_max(1.0)
    if norm == "linf":
        shorter = moved.clamp_max(radius).clamp_min(-radius)
    return torch.where(beyond, _rounded_towards(x, exact + shorter), adversarial)


def _drawn(random, shape, x: Tensor, generator) -> Tensor:
    """random(shape), like x; `generator` is one for all images, or a list with one for each."""
    if not isinstance(generator, list):
        return random(shape, dtype=x.dtype, device=x.device, generator=generator)
    return torch.cat([_drawn(random, (1, *shape[1:]), x, own) for own in generator])


def random_in_ball(x: Tensor, epsilon: float | Tensor, norm: str, generator) -> Tensor:
    """A perturbation for each image of x (B, C, H, W), drawn uniformly from the ε-ball."""
    if norm == "linf":
        uniform = _drawn(torch.rand, x.shape, x, generator)
        return (2 * uniform - 1) * _each(epsilon, x)
    direction = _unit(_drawn(torch.randn, x.shape, x, generator))
    uniform = _drawn(torch.rand, (len(x),), x, generator)
    return direction * (_each(epsilon, x) * _each(uniform ** (1 / x[0].numel()), x))


def _loss_and_gradient(log_probs, x: Tensor, y: Tensor, objective: Objective, sign: float, gradient=None):
    """The loss of each image (B,) and its gradient with respect to the image alone (B, …).

    By autograd, or from `gradient(x, y)` where that is given: then nothing is differentiated.
    """
    if gradient is not None:
        with torch.no_grad():
            return sign * objective(log_probs(x), y), sign * gradient(x, y)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        loss = sign * objective(log_probs(x), y)
        return loss.detach(), _slope(loss, x)


def _slope(loss: Tensor, x: Tensor) -> Tensor:
    """∂ loss / ∂x; 0 where the loss does not depend on x as far as autograd knows: of votes, say."""
    found = torch.autograd.grad(loss.sum(), x, allow_unused=True)[0] if loss.requires_grad else None
    return torch.zeros_like(x) if found is None else found


def _direction(slope: Tensor, norm: str, number: int, flat_spots: Tensor | None) -> Tensor:
    """Where step `number` goes: along the gradient (its sign for ℓ∞), at random where that vanishes."""
    slope = slope.nan_to_num(0.0, 0.0, 0.0)
    flat = _norm(slope, "linf") == 0  # (B, 1, …)
    if flat_spots is not None:
        flat_spots += flat.flatten()
    # A generator of its own: an image's step depends neither on its neighbours nor on the caller's noise. On the
    # device: a copy would wait for a GPU.
    generator = torch.Generator(slope.device).manual_seed(number)
    random = torch.randn(1, *slope.shape[1:], device=slope.device, generator=generator).to(slope.dtype)
    if norm == "linf":
        return torch.where(flat, random.sign(), slope.sign())
    return torch.where(flat, _unit(random), _unit(slope))


class _Scores:
    """`log_probs` with its output checked: scores (B, K), K above every label, in float32 at least.

    It is given copies, into which it may write, in the precision of the images, or where it takes none such in that
    of the caller's or another.
    """

    def __init__(self, log_probs: Callable[[Tensor], Tensor], y: Tensor, given: torch.dtype):
        self.log_probs, self.y, self.broken = log_probs, y, torch.zeros((), dtype=torch.bool, device=y.device)
        self.given, self.dtype = given, torch.float32
        self.known = False

    def __call__(self, x: Tensor) -> Tensor:
        scores = check_logits(self.log_probs(x.to(self.dtype, copy=True)) if self.known else self._first(x))
        if not self.known:
            if scores.dim() != 2 or len(scores) != len(x):
                raise InputError(f"model: got scores of shape {tuple(scores.shape)}, expected ({len(x)}, K).")
            check_labels(self.y, scores.shape[1])
            self.known = True
        self.broken = self.broken | scores.isnan().any()  # looked at once, at the end: no waiting for a GPU
        return scores if scores.dtype == torch.float64 else scores.float()

    def _first(self, x: Tensor) -> Tensor:
        failed: Exception | None = None
        for dtype in dict.fromkeys((x.dtype, self.given, torch.float32, torch.float64, torch.float16, torch.bfloat16)):
            try:
                scores, self.dtype = self.log_probs(x.to(dtype, copy=True)), dtype
                return scores
            except (InputError, WorkError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # weights in another precision, or something of the caller's own making
                failed = failed or error
        assert failed is not None
        raise InputError(f"model: got one that fails on {failure(x, failed)}.") from failed


def _at_the_door(attack: Callable) -> Callable:
    """Check what a caller hands over, once, and give back what he gave: the mechanism of all attacks."""

    @wraps(attack)
    def checked(log_probs, x: Tensor, y, *args, **options) -> Tensor:
        check_pixels(x)
        if not callable(log_probs):
            raise InputError(f"model: got {type(log_probs).__name__}, expected a function of images (B, C, H, W).")
        with torch.inference_mode(False):  # in which nothing could be differentiated, nor what was made in it
            labels = check_labels(y, None, len(x)).to(x.device).clone()
            given = x.detach().clone()
            images = given if given.dtype == torch.float64 else given.float()
            if len(images) == 0:
                return given
            if not callable(options.get("objective", cross_entropy)):
                got = options["objective"]
                raise InputError(f"objective: got {got!r}, expected a function of scores (B, K) and labels (B,).")
            with evaluating(log_probs) as f:
                scores = _Scores(f, labels, given.dtype)
                found = attack(scores, images, labels, *args, **options).detach()
            if bool(scores.broken):
                raise WorkError("The network gave NaN for an attacked image: its loss cannot be followed.")
            return found if found.dtype == given.dtype else _rounded_towards(given, found)

    return checked


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _rounded_towards(x: Tensor, found: Tensor) -> Tensor:
    """The images `found` in the precision of x, no pixel farther from x than it was, hence within ε still."""
    rounded, bits = found.to(x.dtype), _BITS[x.element_size()]
    too_far = (rounded.double() - x.double()).abs() > (found.double() - x.double()).abs()
    towards = (x > rounded).to(bits) - (x < rounded).to(bits)
    # Numbers of [0, 1] are in the order of their bits, neighbours one apart.
    return torch.where(too_far, (rounded.view(bits) + towards).view(x.dtype), rounded)


def _check(x: Tensor, epsilon: float | Tensor, steps: int, norm: str) -> None:
    check_choice("norm", norm, NORMS)
    if not isinstance(epsilon, Tensor) and np.ndim(epsilon):
        raise InputError(f"epsilon: got a {type(epsilon).__name__}, expected a number or a tensor ({len(x)},).")
    if isinstance(epsilon, Tensor) and epsilon.shape != x.shape[:1]:
        raise InputError(f"epsilon: got shape {tuple(epsilon.shape)}, expected a number or ({len(x)},).")
    for value in epsilon.tolist() if isinstance(epsilon, Tensor) else (epsilon,):
        check_at_least("epsilon", value, 0)
    check_count("steps", steps)


@_at_the_door
def pgd(
    log_probs: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    epsilon: float | Tensor,
    *,
    steps: int = 20,
    step_size: float | None = None,
    norm: str = "l2",
    objective: Objective = cross_entropy,
    targeted: bool = False,
    random_start: bool = False,
    start: Tensor | None = None,
    restarts: int = 1,
    keep: str = "best",
    gradient: Callable[[Tensor, Tensor], Tensor] | None = None,
    flat_spots: Tensor | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> Tensor:
    """Projected gradient ascent on the loss inside the ε-ball (Madry et al. 2018).

    x^{t+1} = Π(x^t + η ∇L / ‖∇L‖₂) for ℓ2, Π(x^t + η sign ∇L) for ℓ∞, from x or
    (`random_start`, and every restart but the first) a random point of the ball;
    `start`: from x + start, a perturbation (B, C, H, W) of the caller's.
    `step_size` η defaults to 2.5 ε / steps; with several steps that reaches the
    boundary and moves along it. `targeted`: y is the class to reach and the loss
    is minimised. `keep="last"` returns the last iterate, as training does: it saves
    one pass in T + 1. `gradient(x, y)`, where given, replaces autograd: see `stein_gradients`.
    """
    _check(x, epsilon, steps, norm)
    if step_size is not None:
        check_positive("step_size", step_size)
    check_count("restarts", restarts)
    check_choice("keep", keep, ("best", "last"))
    if keep == "last" and restarts > 1:
        raise InputError(f"keep: got 'last' with {restarts} restarts, expected 'best' to choose among them.")
    if start is not None:
        if random_start:
            raise InputError("random_start: got True with a start, expected one of the two.")
        if not isinstance(start, Tensor):
            raise InputError(f"start: got {type(start).__name__}, expected a tensor {tuple(x.shape)}, a perturbation.")
        if start.shape != x.shape:
            raise InputError(f"start: got shape {tuple(start.shape)}, expected {tuple(x.shape)}, a perturbation.")
        if not start.isfinite().all():
            raise InputError("start: got NaN or an infinite number, expected a perturbation.")
        start = start.detach().to(x)
    step = 2.5 * _each(epsilon, x) / steps if step_size is None else step_size
    sign = -1.0 if targeted else 1.0
    wide = [-1, *[1] * (x.dim() - 1)]
    best, best_loss = x.detach(), torch.full((len(x),), -torch.inf, device=x.device)
    for restart in range(restarts):
        first = torch.zeros_like(x) if start is None else start
        if random_start or restart > 0:
            first = random_in_ball(x, epsilon, norm, generator)
        iterate = project(x, first, epsilon, norm).detach()
        for t in range(steps + 1):
            if t < steps:
                loss, slope = _loss_and_gradient(log_probs, iterate, y, objective, sign, gradient)
            elif keep == "last":
                best = iterate
                break
            else:  # the last iterate is only scored
                with torch.no_grad():
                    loss = sign * objective(log_probs(iterate), y)
            better = loss > best_loss
            best_loss = torch.where(better, loss, best_loss)
            best = torch.where(better.view(wide), iterate, best)
            if t < steps:
                move = _direction(slope, norm, restart * steps + t, flat_spots)
                iterate = project(x, iterate - x + step * move, epsilon, norm)
    return _within(x, best, epsilon, norm)


@_at_the_door
def fgsm(
    log_probs: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    epsilon: float | Tensor,
    *,
    norm: str = "linf",
    objective: Objective = cross_entropy,
    targeted: bool = False,
    flat_spots: Tensor | None = None,
) -> Tensor:
    """One full step along the gradient at x (Goodfellow et al. 2015): ε sign ∇L for ℓ∞.

    The maximiser of the loss's linearisation, not of the loss. Unlike the iterative attacks
    it returns its one step even where the loss fell. Where the gradient vanishes every image of
    the ball maximises the linearisation, and x is returned; `flat_spots` counts these too.
    """
    _check(x, epsilon, 1, norm)
    _, slope = _loss_and_gradient(log_probs, x, y, objective, -1.0 if targeted else 1.0)
    slope = slope.nan_to_num(0.0, 0.0, 0.0)
    if flat_spots is not None:
        flat_spots += _norm(slope, "linf").flatten() == 0
    direction = slope.sign() if norm == "linf" else _unit(slope)
    return _within(x, project(x, _each(epsilon, x) * direction, epsilon, norm), epsilon, norm)


@_at_the_door
def ddn(
    log_probs: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    epsilon: float | Tensor | None = None,
    *,
    steps: int = 20,
    initial_norm: float = 1.0,
    gamma: float = 0.05,
    objective: Objective = cross_entropy,
    targeted: bool = False,
    flat_spots: Tensor | None = None,
) -> Tensor:
    """Decoupled direction and norm (Rony et al. 2019): the *nearest* adversarial example, ℓ2.

    Each step moves along the normalised gradient (length from 1 to 0.01 by a
    cosine), then sets the norm: γ smaller after an adversarial iterate, γ larger
    after one that is not. Returns for each image the adversarial iterate of least
    norm within ε (None: no limit); where none was found, the iterate of highest
    loss within ε. `targeted`: adversarial means classified as y.
    """
    box = max(float(x[0].numel()) ** 0.5, 1.0)  # no two images are farther apart
    epsilon = box if epsilon is None else epsilon
    _check(x, epsilon, steps, "l2")
    check_at_least("initial_norm", initial_norm, 0)
    check_open_unit("gamma", gamma)
    sign = -1.0 if targeted else 1.0
    wide = [-1, *[1] * (x.dim() - 1)]
    cap = epsilon.to(x).clamp_max(box) if isinstance(epsilon, Tensor) else min(epsilon, box)
    length = torch.full((len(x),), initial_norm, dtype=x.dtype, device=x.device).clamp_max(cap)  # (B,)
    iterate, found = x.detach(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    best, best_norm = iterate, torch.full_like(length, torch.inf)
    best_loss = torch.full_like(length, -torch.inf)
    for t in range(steps + 1):  # the last pass only scores the last iterate
        x_in = iterate.detach().requires_grad_()
        with torch.enable_grad():
            scores = log_probs(x_in)
            loss = sign * objective(scores, y)
            slope = _slope(loss, x_in)
        loss = loss.detach()
        adversarial = (scores.argmax(1) == y) == targeted
        norm = _norm(iterate - x, "l2").flatten()

        better = torch.where(adversarial, ~found | (norm < best_norm), ~found & (loss > best_loss))
        best = torch.where(better.view(wide), iterate, best)
        best_norm = torch.where(better, norm, best_norm)
        best_loss = torch.where(better, loss, best_loss)
        found |= adversarial
        if t < steps:
            rate = 0.01 + 0.99 * (1 + torch.cos(torch.tensor(torch.pi * t / steps)).item()) / 2
            delta = iterate - x + rate * _direction(slope, "l2", t, flat_spots)
            length = (length * torch.where(adversarial, 1 - gamma, 1 + gamma)).clamp_max(cap)
            delta = delta * (length.view(wide) / _norm(delta, "l2").clamp_min(1e-30))
            iterate = project(x, delta, cap, "l2").detach()
    return _within(x, best, epsilon, "l2")


def stein_gradients(
    f: Callable[[Tensor], Tensor], noise: Tensor, sigma: float, *, antithetic: bool = True
) -> Callable[[Tensor, Tensor], Tensor]:
    """A gradient of −log G_y that never differentiates f, for `pgd(..., gradient=…)`.

    Stein's lemma (lecture 14, 2.3): ∇G_y(x) = E[δ F_y(x + δ)] / σ², then divided
    by −G_y. noise: (m, B, C, H, W) with standard deviation σ. `antithetic` pairs
    each δ with −δ: allowed in an attack, never in certification, whose votes must
    be independent. Works for a hard or quantised f too.
    """
    check_positive("sigma", sigma)

    @torch.no_grad()
    def gradient(x: Tensor, y: Tensor) -> Tensor:
        def label_probability(delta: Tensor) -> Tensor:  # (m, B, C, H, W) → (m, B)
            probs = f((x + delta).flatten(0, 1)).softmax(1).unflatten(0, delta.shape[:2])
            return probs.gather(2, y.expand(len(delta), -1)[..., None])[..., 0]

        plus = label_probability(noise)
        weight, mean = plus, plus.mean(0)
        if antithetic:
            minus = label_probability(-noise)
            weight, mean = (plus - minus) / 2, (plus + minus).mean(0) / 2
        wide = weight.view(*weight.shape, *[1] * (x.dim() - 1))
        of_g = (noise * wide).mean(0) / sigma**2  # (B, C, H, W)
        return -of_g / mean.clamp_min(1e-30).view(-1, *[1] * (x.dim() - 1))

    return gradient
