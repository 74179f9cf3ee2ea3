"""Our PGD, FGSM and DDN beside those of foolbox and torchattacks, on smooth networks in float64.

Last iterates are compared as numbers: without kinks, and in double precision, rounding stays rounding on every
processor. What is kept as the best is compared by its strength: ours may be stronger, never weaker by over 1 %.
"""

import warnings

import pytest
import torch
from helpers import normal, uniform
from torch import nn

from rslab import attacks

with warnings.catch_warnings():  # at their import, of NumPy's and SciPy's old names
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox
    import torchattacks

K, SHAPE = 5, (3, 6, 6)


def smooth_network(seed: int) -> nn.Module:
    """Logits of K classes with every derivative: softplus between random weights, in float64."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Softplus(beta=4), nn.Flatten(), nn.Linear(128, 32), nn.Tanh(), nn.Linear(32, K)
    )
    with torch.no_grad():
        network[-1].weight.mul_(8)  # margins that a small ε decides about
    return network.double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network():
    return smooth_network(1)


@pytest.fixture(scope="module")
def batch(network):
    """64 images, a third of them with pixels at 0 and 1, where the box cuts; labels by the network."""
    x = uniform(64, *SHAPE).double()
    x[::3] = (3 * x[::3] - 1).clamp(0, 1)
    return x, network(x).argmax(1)


@pytest.fixture
def inner(batch):
    """Far from the ends of the box: no projection onto it, which the libraries order otherwise than we do."""
    x, y = batch
    return 0.4 + 0.2 * x, y


def losses(network, x, y):
    return nn.functional.cross_entropy(network(x), y, reduction="none")


def lengths(x, other, order=2):
    return torch.linalg.vector_norm((other - x).flatten(1), order, dim=1)


def by_foolbox(network, attack, x, y, **options):
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    return attack.run(model, x, foolbox.criteria.Misclassification(y), **options)


def by_torchattacks(attack, x, y):
    """It checks the range of pixels and hands images over in float32; its loop runs in their type."""
    attack.device = torch.device("cpu")
    return attack.forward(x, y).detach()


def foolbox_pgd(network, x, y, norm, epsilon, steps, step_size):
    attack = {"l2": foolbox.attacks.L2ProjectedGradientDescentAttack, "linf": foolbox.attacks.LinfPGD}[norm]
    options = {"abs_stepsize": step_size, "steps": steps, "random_start": False}
    return by_foolbox(network, attack(**options), x, y, epsilon=epsilon)


def torchattacks_pgd(network, x, y, norm, epsilon, steps, step_size):
    attack = {"l2": torchattacks.PGDL2, "linf": torchattacks.PGD}[norm]
    made = attack(network, eps=epsilon, alpha=step_size, steps=steps, random_start=False)
    return by_torchattacks(made, x, y)


CASES = [("l2", 0.4, 10), ("l2", 0.05, 40), ("linf", 0.03, 10), ("linf", 0.002, 40)]
LIBRARIES = pytest.mark.parametrize("theirs", [foolbox_pgd, torchattacks_pgd], ids=["foolbox", "torchattacks"])


@LIBRARIES
@pytest.mark.parametrize("norm, epsilon, steps", CASES)
def test_the_last_iterate_of_pgd_is_theirs(network, inner, theirs, norm, epsilon, steps):
    x, y = inner
    step_size = 2.5 * epsilon / steps
    ours = attacks.pgd(network, x, y, epsilon, steps=steps, step_size=step_size, norm=norm, keep="last")
    other = theirs(network, x, y, norm, epsilon, steps, step_size)
    assert lengths(x, other, 2 if norm == "l2" else float("inf")).max() > 0.9 * epsilon
    # Ours stays a millionth inside the ball, for float32. ℓ∞ moves by signs, which a derivative near 0 may turn.
    apart = lengths(ours, other)
    assert float(apart.median()) < 1e-5 * epsilon * x[0].numel() ** 0.5
    assert losses(network, ours, y).mean() == pytest.approx(float(losses(network, other, y).mean()), rel=1e-4)


@LIBRARIES
@pytest.mark.parametrize("norm, epsilon, steps", CASES)
def test_the_best_iterate_of_pgd_is_at_least_as_strong(network, batch, theirs, norm, epsilon, steps):
    """In the box, too, where ours projects onto the box first and gives up no length."""
    x, y = batch
    step_size = 2.5 * epsilon / steps
    best = attacks.pgd(network, x, y, epsilon, steps=steps, step_size=step_size, norm=norm)
    other = theirs(network, x, y, norm, epsilon, steps, step_size)
    ours, reached = (float(losses(network, images, y).mean()) for images in (best, other))
    assert 0.99 * reached <= ours
    fooled = [float((network(images).argmax(1) != y).double().mean()) for images in (best, other)]
    assert fooled[0] >= fooled[1] - 1 / len(x)
    assert lengths(x, best, 2 if norm == "l2" else float("inf")).max() <= epsilon


@pytest.mark.parametrize("norm, epsilon", [("l2", 0.3), ("linf", 0.02)])
def test_fgsm_is_theirs(network, batch, norm, epsilon):
    x, y = batch
    ours = attacks.fgsm(network, x, y, epsilon, norm=norm)
    attack = {"l2": foolbox.attacks.L2FastGradientAttack, "linf": foolbox.attacks.LinfFastGradientAttack}[norm]
    others = [by_foolbox(network, attack(), x, y, epsilon=epsilon)]
    if norm == "linf":
        others.append(by_torchattacks(torchattacks.FGSM(network, eps=epsilon), x, y))
    for other in others:
        assert float(lengths(ours, other).max()) < 1e-5 * epsilon * x[0].numel() ** 0.5


@pytest.mark.parametrize("steps", [20, 100])
def test_ddn_finds_norms_as_small_as_theirs(network, batch, steps):
    """The authors' attack, as foolbox has it: every image fooled, and the norms equal or smaller on average."""
    x, y = batch
    attack = foolbox.attacks.DDNAttack(init_epsilon=1.0, steps=steps, gamma=0.05)
    other = by_foolbox(network, attack, x, y)
    ours = attacks.ddn(network, x, y, steps=steps)
    assert (network(ours).argmax(1) != y).all() and (network(other).argmax(1) != y).all()
    mean, median = [
        [float(measure(lengths(x, images))) for images in (ours, other)] for measure in (torch.mean, torch.median)
    ]
    assert mean[0] <= 1.01 * mean[1] and median[0] <= 1.01 * median[1]
    assert mean[0] >= 0.8 * mean[1]  # or one of the two would not be DDN


def test_on_a_half_space_both_find_the_distance(inner):
    """Two classes, linear: the nearest adversarial example is a projection, whose length is known."""
    x, y = inner
    weight, offset = normal(2, x[0].numel(), seed=3).double() / 10, torch.zeros(2, dtype=torch.float64)
    offset[1] = float((x.flatten(1) @ (weight[0] - weight[1])).median()) - 0.02
    network = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2)).double().eval().requires_grad_(False)
    network[1].weight.copy_(weight)
    network[1].bias.copy_(offset)
    scores = network(x)
    y = scores.argmax(1)
    distance = (scores[:, 0] - scores[:, 1]).abs() / (weight[0] - weight[1]).norm()
    attack = foolbox.attacks.DDNAttack(init_epsilon=1.0, steps=200, gamma=0.05)
    for found in (attacks.ddn(network, x, y, steps=200), by_foolbox(network, attack, x, y)):
        length = lengths(x, found)
        assert (length >= distance * (1 - 1e-9)).all()
        assert float((length - distance).median()) < 0.01 and float((length / distance).median()) < 1.1
