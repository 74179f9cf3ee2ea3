"""Checks of notebook 06's exercises: weights, log and mean, a gradient from votes, the order, a step of training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rslab.lectures.answers import Wrong, answer, compare, passed, within
from rslab.lectures.spies import Spy

_same = within(1e-4, 1e-7)

# -- exercise 1: who gets a say -----------------------------------------------------------------


def copy_weights(function: Callable) -> None:
    """Check `function(log_probs)`: (m,) log F_y of each copy → the weight of its gradient in ∇(−log mean F_y)."""
    for log_probs in (torch.tensor([0.9, 0.6, 1e-6]).log(), torch.tensor([0.2, 0.2]).log(), torch.tensor([-120.0, 0])):
        _check_weights(answer(function, log_probs.clone()), log_probs)
    passed("copy_weights: F_y of the copy over the sum of all. A copy that is lost already gets no say.")


def _check_weights(given, log_probs: Tensor) -> None:
    probs, right = log_probs.exp(), log_probs.softmax(0)
    given = _tensor(given, log_probs.shape, "one weight a copy")
    uniform = torch.full_like(right, 1 / len(right))
    faults = (
        (uniform, "Equal weights: that is the naive objective, log and mean swapped. Differentiate −log of the mean."),
        (probs, "Not divided by the sum of F_y over the copies: differentiating the log divides by the mean."),
        (probs / len(right), "Not divided by the mean of F_y: differentiating the log gives 1/mean in front."),
        (probs / probs.mean(), "The 1/m of the mean is missing: the weights must add to 1."),
        ((-log_probs).softmax(0), "Upside down: this favours the copies that are lost already."),
        (-right, "The sign is turned: both gradients are of −log, the weights are positive."),
        (-log_probs / -log_probs.sum(), "These are shares of the loss, not of the probability: use F_y itself."),
    )
    otherwise = f"For F_y = {_show(probs)} expected weights {_show(right)}, came {_show(given)}."
    compare(given, right, faults, otherwise, same=_same)


# -- exercise 2: log and mean ---------------------------------------------------------------------


def smoothadv_loss(function: Callable) -> None:
    """Check `function(log_probs, y)`: (m, B, K) log F(x + δᵢ) and labels (B,) → −log of the mean of F_y, (B,)."""
    generator = torch.Generator().manual_seed(0)
    for shape, lost in (((4, 3, 5), 0.0), ((7, 2, 3), 3.0), ((3, 2, 4), 300.0)):
        logits, labels = torch.randn(shape, generator=generator), torch.arange(shape[1]) % shape[2]
        logits -= lost * torch.nn.functional.one_hot(labels, shape[2])  # e^−300 is 0 in float32
        log_probs = logits.log_softmax(2)
        _check_loss(answer(function, log_probs.clone(), labels.clone()), log_probs, labels)
    passed("smoothadv_loss: first the mean of the probabilities, then the log; safe where F_y underflows.")


def _check_loss(given, log_probs: Tensor, y: Tensor) -> None:
    m = len(log_probs)
    of_label = log_probs.gather(2, y.expand(m, -1)[..., None])[..., 0]  # (m, B)
    right = torch.tensor(m).log() - of_label.logsumexp(0)
    if isinstance(given, Tensor) and given.dim() == 0:
        raise Wrong("One number came back: return a loss for each image, (B,), so that each is attacked by itself.")
    given = _tensor(given, y.shape, "one loss an image", finite=False)
    if not given.isfinite().all() and right.isfinite().all():
        raise Wrong("Infinite where every F_y underflows to 0: stay with logarithms, logsumexp(0) − log m.")
    faults = (
        (-of_label.mean(0), "This is the naive objective: the mean of the logs. Take the log of the mean."),
        (-of_label.exp().mean(0), "The log is missing: this is −G_y. Same maximum, another loss."),
        (-of_label.logsumexp(0), "A sum in place of the mean: log m is missing."),
        (-right, "The sign is turned: a loss is −log G_y, large where y is unlikely."),
        (-of_label.amax(0), "This is the best copy only: take the mean over all of them."),
        (-of_label.amin(0), "This is the worst copy only: take the mean over all of them."),
        (-log_probs.mean(0).log_softmax(1).gather(1, y[:, None])[:, 0], "The mean of the logs, normalised: not G."),
    )
    otherwise = f"Expected −log of the mean over the first axis, {_show(right)}, came {_show(given)}."
    compare(given, right, faults, otherwise, same=_same)


# -- exercise 3: a gradient from values -------------------------------------------------------------


def stein_gradient(function: Callable) -> None:
    """Check `function(probability, x, sigma, noise)`: ∇(−log G_y) at x (d,) from the pairs ±δ, noise (m, d)."""
    generator = torch.Generator().manual_seed(1)
    for d, sigma in ((3, 0.5), (5, 1.25)):
        noise = sigma * torch.randn(40, d, generator=generator)
        x, slope = torch.randn(d, generator=generator), torch.randn(d, generator=generator)

        def share(points: Tensor, slope=slope) -> Tensor:
            return torch.special.ndtr(2 * points @ slope + 0.3)

        probability = Spy(share, (d,), f"probability wants points (n, {d}), got {{shape}}.")
        given = answer(function, probability, x.clone(), sigma, noise.clone())
        _check_stein(given, probability(x + noise), probability(x - noise), sigma, noise)
    passed("stein_gradient: values of F alone. Pairs ±δ are fine for an attack, never for a certificate.")


def _check_stein(given, plus: Tensor, minus: Tensor, sigma: float, noise: Tensor) -> None:
    def moment(weight: Tensor) -> Tensor:
        return (noise * weight[:, None]).mean(0)

    paired, both = moment((plus - minus) / 2) / sigma**2, (plus + minus).mean() / 2
    right = -paired / both
    given = _tensor(given, right.shape, "the gradient, one entry a coordinate")
    single = moment(plus) / sigma**2
    faults = (
        (-right, "The sign is turned: G_y must fall, so the gradient of −log G_y is −∇G_y / G_y."),
        (-paired, "This is −∇G_y: the log is missing, divide by G_y."),
        (paired, "This is ∇G_y: the loss is −log G_y, so divide by −G_y."),
        (right * sigma**2, "Stein's 1/σ² is missing."),
        (right * sigma, "Divided by σ where Stein's identity has σ²."),
        (2 * right, "Twice too large: a pair holds two values, halve their difference."),
        (-single / plus.mean(), "Only +δ is used: subtract the value at −δ, and the constant part's variance is gone."),
        (-single / both, "Only +δ is used in the gradient: subtract the value at −δ and halve."),
        (-paired / plus.mean(), "Estimate G_y from both halves of the pairs: you have paid for them."),
        (right * len(noise), "A sum over the samples in place of their mean."),
    )
    otherwise = f"Expected {_show(right)}, came {_show(given)}: average δ·(F(x+δ) − F(x−δ))/2, then σ² and −G_y."
    compare(given, right, faults, otherwise, same=_same)


# -- exercise 4: the order of noise and attack --------------------------------------------------


def training_images(function: Callable) -> None:
    """Check `function(way, attack, f, G, x, noise)` → the image on which f is trained in way 2, 3 or 4.

    attack(h, x) returns x moved so as to raise the loss of h near x.
    """

    def base(z):
        return z

    def smoothed(z):
        return z

    x, noise = torch.tensor([0.2, 0.7]), torch.tensor([0.05, -0.3])
    calls: list = []

    def attack(h, where):
        calls.append((h, where.clone()))
        return where + torch.tensor([1.0, 10.0]) * (1 + where.square().sum()) + (100 if h is smoothed else 0)

    for way, (model, start, adds) in {2: (base, x, True), 3: (base, x + noise, False), 4: (smoothed, x, True)}.items():
        calls.clear()
        given = _tensor(answer(function, way, attack, base, smoothed, x.clone(), noise.clone()), x.shape, "an image")
        _check_order(way, given, list(calls), model, start, attack(model, start) + (noise if adds else 0), noise, base)
    passed("training_images: (2) attack f, then noise; (3) noise, then attack f; (4) attack G, then noise.")


def _check_order(way: int, given: Tensor, calls, model, start: Tensor, right: Tensor, noise: Tensor, base) -> None:
    if not calls:
        raise Wrong(f"Way ({way}): attack was never called.")
    used, where = calls[0]
    if used is not model:
        wanted = "f" if model is base else "G"
        raise Wrong(f"Way ({way}) attacks {wanted}: you attacked {'G' if wanted == 'f' else 'f'}.")
    if not _same(where, start):
        order = "comes before the attack" if way == 3 else "comes after the attack"
        raise Wrong(f"Way ({way}): the noise {order}.")
    faults = (
        (right - noise, f"Way ({way}): the attacked image is returned without noise; f is trained under noise."),
        (right + noise, f"Way ({way}): the noise is added twice; the attack moved the noisy image already."),
    )
    compare(given, right, faults, f"Way ({way}): expected {_show(right)}, came {_show(given)}.", same=_same)


# -- exercise 5: a step of training ---------------------------------------------------------------


class _Curved(nn.Module):
    """Logits (N, 3) of images (N, 1, 2, 2), not linear in the pixels, so that each step has a direction of its own."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(2 * torch.randn(3, 4, generator=generator))

    def forward(self, z: Tensor) -> Tensor:
        flat = z.flatten(1)
        return flat @ self.weight.T + 3 * (2 * flat @ self.weight.T.roll(1, 1)).sin()


def smoothadv_step(function: Callable) -> None:
    """Check `function(f, x, y, noise, epsilon, steps, step_size)` → the loss of SmoothAdv's step for each image, (B,).

    noise (m, B, C, H, W) has its σ already; PGD under ℓ2 from x, and the mean cross-entropy of the copies at its end.
    """
    generator = torch.Generator().manual_seed(7)
    for m, steps, epsilon, step_size in ((6, 3, 0.2, 0.3), (4, 4, 0.3, 0.2), (1, 1, 0.2, 0.1)):
        x, y = 0.5 + 0.05 * torch.randn(3, 1, 2, 2, generator=generator), torch.tensor([0, 2, 1])
        noise = 0.3 * torch.randn(m, *x.shape, generator=generator)
        f = _Curved()
        spy = Spy(f, (1, 2, 2), "f wants images (N, 1, 2, 2), got {shape}: flatten the copies into the batch.")
        given = answer(function, spy, x.clone(), y.clone(), noise.clone(), epsilon, steps, step_size)
        spy.seen("f was never called.")
        _check_step(given, f, spy, (x, y, noise, epsilon, steps, step_size))
    passed("smoothadv_step: G is attacked, and f is trained on the very copies that the attack was made for.")


def _ascend(f, x, y, noise, epsilon, steps, step_size, *, mean="log outside", sign=1, unit=True, ball="image"):
    """The reference attack, and by its options the usual mistakes: where it ends, (B, C, H, W)."""
    z = x
    for _ in range(steps):
        z = z.detach().requires_grad_()
        of_label = _of_label(f, z, y, noise)
        loss = -of_label.mean(0) if mean == "log inside" else -of_label.logsumexp(0)
        slope = sign * torch.autograd.grad(loss.sum(), z)[0]
        if unit:
            slope = slope / slope.flatten(1).norm(dim=1)[:, None, None, None]
        delta = z.detach() + step_size * slope - x
        if ball == "image":
            delta = delta * (epsilon / delta.flatten(1).norm(dim=1)).clamp_max(1)[:, None, None, None]
        elif ball == "batch":
            delta = delta * (epsilon / delta.norm()).clamp_max(1)
        elif ball == "ℓ∞":
            delta = delta.clamp(-epsilon, epsilon)
        z = x + delta
    return z.detach()


def _of_label(f, z: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """log F_y of the noisy copies: (m, B)."""
    log_probs = f((z + noise).flatten(0, 1)).log_softmax(1).unflatten(0, noise.shape[:2])
    return log_probs.gather(2, y.expand(len(noise), -1)[..., None])[..., 0]


def _check_step(given, f: _Curved, spy: Spy, case: tuple) -> None:
    x, y, noise, *_ = case
    if isinstance(given, Tensor) and given.dim() == 0:
        raise Wrong("One number came back: return the loss of each image, (B,); the training loop takes the mean.")
    loss = _tensor(given, y.shape, "one loss an image")
    if f.weight.grad is not None and bool(f.weight.grad.abs().sum() > 0):
        raise Wrong("The attack left gradients in the weights (backward): use torch.autograd.grad(loss.sum(), z).")

    def at(z: Tensor, copies: Tensor = noise) -> Tensor:
        return -_of_label(f, z, y, copies).mean(0).detach()

    end, none = _ascend(f, *case), torch.zeros_like(noise[:1])
    right = at(end)
    last = spy.batches[-1]
    if len(last) == len(noise) * len(x):
        moved = last.unflatten(0, noise.shape[:2]) - noise  # x̂, m times, where the noise is the one given
        if len(noise) > 1 and float((moved - moved.mean(0)).abs().max()) > 1e-4:
            raise Wrong("The loss is taken under other noise than the attack: x̂ was made for these very copies.")
    faults = (
        (at(x), "No attack: this is the loss of Gaussian augmentation, at x itself."),
        (at(_ascend(f, *case, mean="log inside")), "The attack is the naive one: climb −log of the mean of F_y."),
        (at(_ascend(f, *case, ball="none")), "The ε-projection is missing: after each step go back into the ball."),
        (at(_ascend(f, *case, ball="batch")), "The norm is taken over the batch: each image has a ball of its own."),
        (at(_ascend(f, *case, ball="ℓ∞")), "The projection clamps pixel by pixel, ℓ∞: here the ball is ℓ2."),
        (at(_ascend(f, *case, sign=-1)), "The attack descends: it must make the loss large, x + step · gradient."),
        (at(_ascend(f, *case, unit=False)), "The gradient is not normalised: step_size is the length of the step."),
        (at(_ascend(f, x, y, none, *case[3:])), "The attack sees no noise: this is way (2), attack f, then noise."),
        (at(end, none), "The loss is taken at x̂ without noise: g is certified under noise."),
        (-(_of_label(f, end, y, noise).logsumexp(0) - torch.tensor(len(noise)).log()).detach(),
         "The loss is −log of the mean (outer=log-mean): here the mean of the copies' cross-entropies is asked."),
        (len(noise) * right, "A sum over the copies: take their mean."),
        (-right, "The sign is turned: the loss is −log F_y."),
    )  # fmt: skip
    m = len(noise)
    compare(loss, right, faults, f"m = {m}: expected {_show(right)}, came {_show(loss)}.", same=within(2e-4, 1e-5))
    if not given.requires_grad:
        raise Wrong("The loss has no gradient in the weights: detach x̂, not the loss.")
    slope = torch.autograd.grad(given.sum(), f.weight)[0]
    wanted = torch.autograd.grad(-_of_label(f, end, y, noise).mean(0).sum(), f.weight)[0]
    if not within(1e-2, 1e-3)(slope, wanted):
        raise Wrong("The gradient in the weights goes through the attack: detach x̂ before the loss.")


# -- small change -----------------------------------------------------------------------------------


def _tensor(given, shape, what: str, finite: bool = True) -> Tensor:
    if not isinstance(given, Tensor):
        raise Wrong(f"Return a tensor with {what}; came {type(given).__name__}.")
    if given.shape != shape:
        raise Wrong(f"Came shape {tuple(given.shape)}, expected {tuple(shape)}: {what}.")
    if finite and not given.isfinite().all():
        raise Wrong("NaN or infinity came back: work with log-probabilities and softmax, which do not underflow.")
    return given.detach()


def _show(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values.tolist()) + "]"
