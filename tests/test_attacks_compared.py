"""The naive attack beside SmoothAdv, and parity with the published algorithms, written plainly."""

import pytest
import torch
from helpers import normal, uniform
from torch import nn

from rslab import attacks
from rslab.attacks import cross_entropy, ddn, pgd
from rslab.smoothing.classifier import log_mean_probs, mean_log_probs


def linear(x):
    """Three classes, linear in the 12 pixels."""
    return x.flatten(1) @ normal(12, 3, seed=5)


# -- the naive attack and SmoothAdv ----------------------------------------------------------


def toy(sigma: float = 0.5, scale: float = 1.6):
    """Toy A of MATHS.md, section 4, on images of one pixel x = ½ + t / 1.6: log G and E log F in closed form."""
    edges = torch.tensor([-0.7, -0.5, 0.5], dtype=torch.float64)
    values = torch.tensor([0.99, 1e-9, 0.99, 0.05], dtype=torch.float64)

    def shares(x):
        below = torch.special.ndtr((edges - (x.flatten(1) - 0.5) * scale) / sigma)  # (B, 3)
        ends = torch.zeros(len(x), 1, dtype=x.dtype), torch.ones(len(x), 1, dtype=x.dtype)
        return torch.cat((ends[0], below, ends[1]), 1).diff(dim=1)  # (B, 4)

    def smoothadv(x):
        p = shares(x) @ values
        return torch.stack((p, 1 - p), 1).log()

    def naive(x):
        return torch.stack((shares(x) @ values.log(), shares(x) @ (1 - values).log()), 1)

    return smoothadv, naive


def test_naive_attack_raises_the_smoothed_probability_where_smoothadv_lowers_it():
    smoothadv, naive = toy()
    x, y = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.tensor([0])
    assert float(smoothadv(x)[0, 0].exp()) == pytest.approx(0.76374, abs=5e-6)
    epsilon, options = 0.75 / 1.6, {"steps": 200, "step_size": 0.01}
    fooled = pgd(naive, x, y, epsilon, objective=attacks.negative_log_likelihood, **options)
    assert float(fooled - 0.5) * 1.6 == pytest.approx(-0.5823, abs=0.01)
    assert float(smoothadv(fooled)[0, 0].exp()) == pytest.approx(0.8189, abs=1e-3)
    found = pgd(smoothadv, x, y, epsilon, **options)
    assert float(found - 0.5) * 1.6 == pytest.approx(0.75, abs=1e-3)
    assert float(smoothadv(found)[0, 0].exp()) == pytest.approx(0.3357, abs=1e-3)


def test_the_naive_loss_is_the_mean_cross_entropy_of_the_copies():
    """The mean of log-probabilities sums to less than 1, so normalising it again would change the loss."""
    x, y, noise = uniform(6, 3, 2, 2), torch.arange(6) % 3, normal(5, 6, 3, 2, 2, seed=1)
    copies = torch.stack([nn.functional.cross_entropy(linear(x + delta), y, reduction="none") for delta in noise])
    scores = mean_log_probs(linear, x, noise)
    assert torch.allclose(attacks.negative_log_likelihood(scores, y), copies.mean(0), atol=1e-5)
    assert (cross_entropy(scores, y) < copies.mean(0) - 0.01).all()


def smoothed_probability(model, x, y, sigma=0.25, samples=64) -> torch.Tensor:
    """G(x)_y by fresh noise: (B,)."""
    with torch.inference_mode():
        noises = (normal(*x.shape, seed=10_000 + i) * sigma for i in range(samples))
        probs = torch.stack([model(x + noise).softmax(1) for noise in noises]).mean(0)
    return probs.gather(1, y[:, None])[:, 0]


def test_pgd_on_the_smoothed_digits_model_lowers_its_probability_more_than_the_vanilla_attack(trained, digits_test):
    x, y = digits_test.images[:100], digits_test.labels[:100]
    noise = normal(16, *x.shape, seed=1) * 0.25
    vanilla = pgd(trained, x, y, 0.75, steps=8)
    smoothadv = pgd(lambda z: log_mean_probs(trained, z, noise), x, y, 0.75, steps=8)
    clean, by_vanilla, by_smoothadv = (
        float(smoothed_probability(trained, images, y).mean()) for images in (x, vanilla, smoothadv)
    )
    assert clean > 0.75
    assert by_smoothadv < by_vanilla - 0.004 < clean


# -- parity with the published algorithms, written plainly ------------------------------------


def plain_pgd(model, x, y, epsilon, steps, step_size):
    """Madry et al. 2018 for ℓ2, as robustness libraries write it."""
    delta = torch.zeros_like(x)
    for _ in range(steps):
        delta.requires_grad_()
        nn.functional.cross_entropy(model(x + delta), y, reduction="sum").backward()
        gradient = delta.grad / delta.grad.flatten(1).norm(dim=1)[:, None, None, None]
        delta = (delta.detach() + step_size * gradient).renorm(2, 0, epsilon)
        delta = (x + delta).clamp(0, 1) - x
    return x + delta


def plain_ddn(model, x, y, steps=40, gamma=0.05):
    """Rony et al. 2019, Algorithm 1, with SGD and cosine annealing as its authors published it: least norms."""
    delta = torch.zeros_like(x, requires_grad=True)
    norm, best = torch.ones(len(x)), torch.full((len(x),), torch.inf)
    optimizer = torch.optim.SGD([delta], lr=1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.01)
    for _ in range(steps):
        scores = model(x + delta)
        fooled, length = scores.argmax(1) != y, delta.detach().flatten(1).norm(dim=1)
        best = torch.where(fooled & (length < best), length, best)
        optimizer.zero_grad()
        (-nn.functional.cross_entropy(scores, y, reduction="sum")).backward()
        delta.grad.div_(delta.grad.flatten(1).norm(dim=1)[:, None, None, None])
        optimizer.step()
        scheduler.step()
        norm = norm * torch.where(fooled, 1 - gamma, 1 + gamma)
        with torch.no_grad():
            delta.mul_((norm / delta.flatten(1).norm(dim=1))[:, None, None, None])
            delta.add_(x).clamp_(0, 1).sub_(x)
    return best


def test_pgd_gives_the_loss_of_the_plain_loop(trained, digits_test):
    x, y = digits_test.images[:100], digits_test.labels[:100]
    trained.requires_grad_(False)
    plain = cross_entropy(trained(plain_pgd(trained, x, y, 0.5, 20, 0.0625)), y).mean()
    ours = cross_entropy(trained(pgd(trained, x, y, 0.5, steps=20, step_size=0.0625, keep="last")), y).mean()
    assert float(ours) == pytest.approx(float(plain), rel=0.01)
    best = cross_entropy(trained(pgd(trained, x, y, 0.5, steps=20, step_size=0.0625)), y).mean()
    assert best >= ours


def test_ddn_gives_the_median_norm_of_the_plain_loop(trained, digits_test):
    x, y = digits_test.images[:100], digits_test.labels[:100]
    trained.requires_grad_(False)
    plain = plain_ddn(trained, x, y).median()
    ours = (ddn(trained, x, y, steps=40) - x).flatten(1).norm(dim=1).median()
    assert float(ours) == pytest.approx(float(plain), rel=0.03)
