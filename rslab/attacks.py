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
float32, and come back in their own type, rounded towards the originals. `InputError` says
what cannot be attacked or followed, `WorkError` that the network gave NaN.

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
    check_kind,
    check_open_unit,
    check_positive,
)
from rslab.smoothing.function import check_logits, evaluating, failure, on_copies
from rslab.smoothing.images import check_labels, check_noise, check_pixels

NORMS = ("l2", "linf")
Objective = Callable[[Tensor, Tensor], Tensor]  # scores (B, K), labels (B,) → loss (B,)
Generators = torch.Generator | list[torch.Generator] | None  # one for all images, or one for each


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
    """max_{c ≠ y} z_c − z_y, positive exactly when misclassified: (B,).

    Unlike the cross-entropy its gradient does not vanish where the model is certain.

    Source: robust-training blog, Carlini–Wagner loss; Carlini and Wagner 2017, f₆.
    """
    of_label = log_probs.gather(1, y[:, None])[:, 0]
    others = log_probs.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - of_label


OBJECTIVES: dict[str, Objective] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "negative-log-likelihood": negative_log_likelihood,
}


# -- the ball --------------------------------------------------------------------------------


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """Numbers (…, B) of the images x (B, C, H, W) → (…, B, 1, 1, 1), to broadcast."""
    return values.view(*values.shape, *[1] * (x.dim() - 1))


def _each(epsilon: float | Tensor, x: Tensor) -> float | Tensor:
    """A number as it is; one ε an image (B,) → (B, 1, 1, 1)."""
    return _wide(epsilon.to(x), x) if isinstance(epsilon, Tensor) else epsilon


def _norm(delta: Tensor, norm: str) -> Tensor:
    """(B, C, H, W) → (B, 1, 1, 1): the norm of each perturbation."""
    flat = delta.flatten(1)
    return _wide(flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1), delta)


def _unit(direction: Tensor) -> Tensor:
    """Each direction (B, C, H, W) divided by its ℓ2 norm; 0 stays 0."""
    # By the largest entry first: the squares of a tiny gradient would underflow in float32.
    direction = direction / _norm(direction, "linf").clamp_min(1e-38)
    return direction / _norm(direction, "l2").clamp_min(1e-30)


def _shortened(delta: Tensor, radius: float | Tensor, norm: str) -> Tensor:
    """Each perturbation longer than `radius` brought back to it: scaled for ℓ2, cut number by number for ℓ∞."""
    if norm == "linf":
        return delta.clamp_max(radius).clamp_min(-radius)
    return delta * (radius / _norm(delta, norm).clamp_min(1e-30)).clamp_max(1.0)


def project(x: Tensor, delta: Tensor, epsilon: float | Tensor, norm: str = "l2") -> Tensor:
    """The perturbed images x + δ (B, C, H, W), brought into the ε-ball and into [0, 1].

    First the box, then the ball: scaling moves every pixel towards x, so that none can
    leave [0, 1] again, and clipped pixels leave their share of ε to the others. The
    ball is smaller by one part in a million than asked, the room that float32
    rounding of x + δ needs; the last clamp is for rounding too.

    Source: robust-training blog, projection.
    """
    delta = (x + delta).clamp(0.0, 1.0) - x
    return (x + _shortened(delta, _each(epsilon, x) * (1 - 1e-6), norm)).clamp(0.0, 1.0)


def _within(x: Tensor, adversarial: Tensor, epsilon: float | Tensor, norm: str) -> Tensor:
    """The perturbed images, each pixel rounded towards the original where rounding left an image beyond ε."""
    exact, radius = x.double(), _each(epsilon, x.double())
    moved = adversarial.double() - exact
    room = 1 - 1e-9 if norm == "l2" else 1.0  # for the scaling's own rounding
    shorter = _rounded_towards(x, exact + _shortened(moved, radius * room, norm))
    return torch.where(_norm(moved, norm) > radius, shorter, adversarial)


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _rounded_towards(x: Tensor, found: Tensor) -> Tensor:
    """The images `found` in the precision of x, no pixel farther from x than it was, hence within ε still."""
    rounded, bits = found.to(x.dtype), _BITS[x.element_size()]
    too_far = (rounded.double() - x.double()).abs() > (found.double() - x.double()).abs()
    towards = (x > rounded).to(bits) - (x < rounded).to(bits)
    # Numbers of [0, 1] are in the order of their bits, neighbours one apart.
    return torch.where(too_far, (rounded.view(bits) + towards).view(x.dtype), rounded)


def _drawn(random, shape, x: Tensor, generator: Generators) -> Tensor:
    """random(shape), like x; from each image's own generator where there is a list of them."""
    if not isinstance(generator, list):
        return random(shape, dtype=x.dtype, device=x.device, generator=generator)
    return torch.cat([_drawn(random, (1, *shape[1:]), x, own) for own in generator])


def random_in_ball(x: Tensor, epsilon: float | Tensor, norm: str, generator: Generators) -> Tensor:
    """A perturbation for each image of x (B, C, H, W), drawn uniformly from the ε-ball.

    Source: robust-training blog, random starts.
    """
    if norm == "linf":
        uniform = _drawn(torch.rand, x.shape, x, generator)
        return (2 * uniform - 1) * _each(epsilon, x)
    direction = _unit(_drawn(torch.randn, x.shape, x, generator))
    uniform = _drawn(torch.rand, (len(x),), x, generator)
    return direction * (_each(epsilon, x) * _wide(uniform ** (1 / x[0].numel()), x))


# -- what an attack climbs -------------------------------------------------------------------

Value = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # x, y → loss (B,), scores (B, K)
ValueAndGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]  # → loss, gradient (B, C, H, W), scores


def _to_climb(
    log_probs: Callable[[Tensor], Tensor],
    objective: Objective,
    targeted: bool,
    gradient: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Value, ValueAndGradient]:
    """value(x, y), which an attack makes large, and value_and_gradient(x, y), the one source of its gradients.

    The gradient of each image's loss with respect to that image: by autograd, or the caller's `gradient(x, y)` of the
    objective. Nothing else in this file differentiates. The scores are those that the loss judged.
    """
    sign = -1.0 if targeted else 1.0

    def value(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = log_probs(x)
        return sign * objective(scores, y), scores

    def by_autograd(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            loss, scores = value(x, y)
            slope = torch.autograd.grad(loss.sum(), x, allow_unused=True)[0] if loss.requires_grad else None
        if slope is None:  # the loss does not depend on x as far as autograd knows: of votes, say
            slope = torch.zeros_like(x)
        return loss.detach(), slope, scores.detach()

    if gradient is None:
        return value, by_autograd

    def by_caller(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss, scores = value(x, y)
        return loss, sign * gradient(x, y), scores

    return value, by_caller


def _direction(slope: Tensor, norm: str, flat_spots: Tensor | None, number: int | None = None) -> Tensor:
    """Where step `number` goes: along the gradient, its sign for ℓ∞, and at random where that vanishes (None: 0)."""
    slope = slope.nan_to_num(0.0, 0.0, 0.0)
    flat = _norm(slope, "linf") == 0  # (B, 1, 1, 1)
    if flat_spots is not None:
        flat_spots += flat.flatten()
    unit = torch.sign if norm == "linf" else _unit
    if number is None:
        return unit(slope)
    # A generator of its own: an image's step depends neither on its neighbours nor on the caller's noise. On the
    # device: a copy would wait for a GPU.
    generator = torch.Generator(slope.device).manual_seed(number)
    random = torch.randn(1, *slope.shape[1:], device=slope.device, generator=generator).to(slope.dtype)
    return torch.where(flat, unit(random), unit(slope))


# -- the door --------------------------------------------------------------------------------


class _Scores:
    """`log_probs` with its output checked: scores (B, K), K above every label, in float32 at least.

    It is given copies, into which it may write, in the precision of the images, or where it takes none such in that
    of the caller's or another.
    """

    def __init__(self, log_probs: Callable[[Tensor], Tensor], y: Tensor, given: torch.dtype):
        self.log_probs, self.y, self.given = log_probs, y, given
        self.dtype: torch.dtype | None = None  # that it takes, once it is known
        self.broken = torch.zeros((), dtype=torch.bool, device=y.device)

    def __call__(self, x: Tensor) -> Tensor:
        if self.dtype is None:
            scores = check_logits(self._first(x))
            if scores.dim() != 2 or len(scores) != len(x):
                raise InputError(f"model: got scores of shape {tuple(scores.shape)}, expected ({len(x)}, K).")
            check_labels(self.y, scores.shape[1])
        else:
            scores = check_logits(self.log_probs(x.to(self.dtype, copy=True)))
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
            with evaluating(log_probs) as f, torch.no_grad():  # which `_to_climb` alone lifts
                scores = _Scores(f, labels, given.dtype)
                found = attack(scores, images, labels, *args, **options)
            if bool(scores.broken):
                raise WorkError("The network gave NaN for an attacked image: its loss cannot be followed.")
            return found if found.dtype == given.dtype else _rounded_towards(given, found)

    return checked


def _check(x: Tensor, epsilon: float | Tensor, steps: int, norm: str) -> None:
    check_choice("norm", norm, NORMS)
    if not isinstance(epsilon, Tensor) and np.ndim(epsilon):
        raise InputError(f"epsilon: got a {type(epsilon).__name__}, expected a number or a tensor ({len(x)},).")
    if isinstance(epsilon, Tensor) and epsilon.shape != x.shape[:1]:
        raise InputError(f"epsilon: got shape {tuple(epsilon.shape)}, expected a number or ({len(x)},).")
    for value in epsilon.tolist() if isinstance(epsilon, Tensor) else (epsilon,):
        check_at_least("epsilon", value, 0)
    check_count("steps", steps)


def _perturbation(start, x: Tensor) -> Tensor:
    """A caller's `start`, if it is a finite perturbation of x (B, C, H, W), in the type of x."""
    if not isinstance(start, Tensor):
        raise InputError(f"start: got {type(start).__name__}, expected a tensor {tuple(x.shape)}, a perturbation.")
    if start.shape != x.shape:
        raise InputError(f"start: got shape {tuple(start.shape)}, expected {tuple(x.shape)}, a perturbation.")
    if not start.isfinite().all():
        raise InputError("start: got NaN or an infinite number, expected a perturbation.")
    return start.to(x)


# -- the attacks -----------------------------------------------------------------------------


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
    generator: Generators = None,
) -> Tensor:
    """Projected gradient ascent on the loss inside the ε-ball.

    x^{t+1} = Π(x^t + η ∇L / ‖∇L‖₂) for ℓ2, Π(x^t + η sign ∇L) for ℓ∞, from x or
    (`random_start`, and every restart but the first) a random point of the ball;
    `start`: from x + start, a perturbation (B, C, H, W) of the caller's.
    `step_size` η defaults to 2.5 ε / steps; with several steps that reaches the
    boundary and moves along it. `targeted`: y is the class to reach and the loss
    is minimised. `keep="last"` returns the last iterate, as training does: it saves
    one pass in T + 1. `gradient(x, y)`, where given, replaces autograd: see `stein_gradients`.

    Source: blog, adversary, PGD; robust-training blog, PGD, PGD for ℓ∞, random starts;
    slides, adversarial example; Madry et al. 2018, PGD.
    """
    _check(x, epsilon, steps, norm)
    if step_size is not None:
        check_positive("step_size", step_size)
    check_count("restarts", restarts)
    check_choice("keep", keep, ("best", "last"))
    if keep == "last" and restarts > 1:
        raise InputError(f"keep: got 'last' with {restarts} restarts, expected 'best' to choose among them.")
    if start is not None and random_start:
        raise InputError("random_start: got True with a start, expected one of the two.")
    for own in generator if isinstance(generator, list) else (generator,):
        check_kind(
            "generator", own, (torch.Generator, type(None)), "a torch.Generator or a list of them, one per image"
        )
    given = torch.zeros_like(x) if start is None else _perturbation(start, x)
    step = 2.5 * _each(epsilon, x) / steps if step_size is None else step_size
    value, value_and_gradient = _to_climb(log_probs, objective, targeted, gradient)
    best, best_loss = x, torch.full((len(x),), -torch.inf, device=x.device)
    for restart in range(restarts):
        at_random = random_start or restart > 0
        iterate = project(x, random_in_ball(x, epsilon, norm, generator) if at_random else given, epsilon, norm)
        for t in range(steps):
            loss, slope, _ = value_and_gradient(iterate, y)
            best, best_loss = _better(iterate, loss, best, best_loss)
            move = _direction(slope, norm, flat_spots, restart * steps + t)
            iterate = project(x, iterate - x + step * move, epsilon, norm)
        if keep == "last":
            return _within(x, iterate, epsilon, norm)
        loss, _ = value(iterate, y)  # the last iterate is only scored
        best, best_loss = _better(iterate, loss, best, best_loss)
    return _within(x, best, epsilon, norm)


def _better(iterate: Tensor, loss: Tensor, best: Tensor, best_loss: Tensor) -> tuple[Tensor, Tensor]:
    """Of two batches of images (B, C, H, W) with their losses (B,), each image of the higher one."""
    higher = loss > best_loss  # never where it is NaN
    return torch.where(_wide(higher, best), iterate, best), torch.where(higher, loss, best_loss)


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
    """One full step along the gradient at x: ε sign ∇L for ℓ∞.

    The maximiser of the loss's linearisation, not of the loss. Unlike the iterative attacks
    it returns its one step even where the loss fell. Where the gradient vanishes every image of
    the ball maximises the linearisation, and x is returned; `flat_spots` counts these too.

    Source: robust-training blog, FGSM; slides, FGSM; Goodfellow et al. 2015, FGSM.
    """
    _check(x, epsilon, 1, norm)
    _, value_and_gradient = _to_climb(log_probs, objective, targeted)
    _, slope, _ = value_and_gradient(x, y)
    step = _each(epsilon, x) * _direction(slope, norm, flat_spots)
    return _within(x, project(x, step, epsilon, norm), epsilon, norm)


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
    """Decoupled direction and norm: the *nearest* adversarial example, ℓ2.

    Each step moves along the normalised gradient (length from 1 to 0.01 by a
    cosine), then sets the norm: γ smaller after an adversarial iterate, γ larger
    after one that is not. Returns for each image the adversarial iterate of least
    norm within ε (None: no limit); where none was found, the iterate of highest
    loss within ε. `targeted`: adversarial means classified as y.

    Source: blog, DDN; Rony et al. 2019, DDN.
    """
    box = max(float(x[0].numel()) ** 0.5, 1.0)  # no two images are farther apart
    epsilon = box if epsilon is None else epsilon
    _check(x, epsilon, steps, "l2")
    check_at_least("initial_norm", initial_norm, 0)
    check_open_unit("gamma", gamma)
    _, value_and_gradient = _to_climb(log_probs, objective, targeted)
    cap = epsilon.to(x).clamp_max(box) if isinstance(epsilon, Tensor) else min(epsilon, box)
    length = torch.full((len(x),), initial_norm, dtype=x.dtype, device=x.device).clamp_max(cap)  # (B,)
    iterate = best = x
    nearest, highest = torch.full_like(length, torch.inf), torch.full_like(length, -torch.inf)
    for t in range(steps + 1):  # the last pass only scores the last iterate
        loss, slope, scores = value_and_gradient(iterate, y)
        adversarial = (scores.argmax(1) == y) == targeted
        norm = _norm(iterate - x, "l2").flatten()
        found = nearest < torch.inf  # before this iterate
        better = torch.where(adversarial, norm < nearest, ~found & (loss > highest))
        best = torch.where(_wide(better, x), iterate, best)
        nearest = torch.where(better & adversarial, norm, nearest)
        highest = torch.where(better, loss, highest)
        if t < steps:
            rate = 0.01 + 0.99 * (1 + torch.cos(torch.tensor(torch.pi * t / steps)).item()) / 2
            delta = iterate - x + rate * _direction(slope, "l2", flat_spots, t)
            length = (length * torch.where(adversarial, 1 - gamma, 1 + gamma)).clamp_max(cap)
            delta = delta * (_wide(length, x) / _norm(delta, "l2").clamp_min(1e-30))
            iterate = project(x, delta, cap, "l2")
    return _within(x, best, epsilon, "l2")


def stein_gradients(
    f: Callable[[Tensor], Tensor], noise: Tensor, sigma: float, *, antithetic: bool = True
) -> Callable[[Tensor, Tensor], Tensor]:
    """A gradient of −log G_y that never differentiates f, for `pgd(..., gradient=…)`.

    Stein's lemma: ∇G_y(x) = E[δ F_y(x + δ)] / σ², then divided
    by −G_y. noise: (m, B, C, H, W) with standard deviation σ. `antithetic` pairs
    each δ with −δ: allowed in an attack, never in certification, whose votes must
    be independent. Works for a hard or quantised f too.

    Source: lecture 14, Lemma 2.3, Stein after (10).
    """
    check_positive("sigma", sigma)
    if not callable(f):
        raise InputError(f"f: got {type(f).__name__}, expected a function of images (B, C, H, W).")

    @torch.no_grad()
    def gradient(x: Tensor, y: Tensor) -> Tensor:
        check_noise(noise, x)

        def label_probability(delta: Tensor) -> Tensor:  # (m, B, C, H, W) → (m, B)
            probs = on_copies(f, x, delta).softmax(2)
            return probs.gather(2, y.expand(len(delta), -1)[..., None])[..., 0]

        plus = label_probability(noise)
        weight, mean = plus, plus.mean(0)
        if antithetic:
            minus = label_probability(-noise)
            weight, mean = (plus - minus) / 2, (plus + minus).mean(0) / 2
        of_g = (noise * _wide(weight, x)).mean(0) / sigma**2  # (B, C, H, W)
        return -of_g / _wide(mean.clamp_min(1e-30), x)

    return gradient
