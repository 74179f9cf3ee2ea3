"""Our PGD and DDN beside foolbox's on one model; runs only where foolbox is installed."""

import pytest
import torch

from rslab import attacks

foolbox = pytest.importorskip("foolbox")


@pytest.fixture
def theirs(trained):
    return foolbox.PyTorchModel(trained, bounds=(0, 1))


def mean_loss(model, x, y) -> float:
    with torch.no_grad():
        return float(attacks.cross_entropy(model(x), y).mean())


@pytest.fixture
def batch(digits_test):
    return digits_test.images[:200], digits_test.labels[:200]


@pytest.mark.parametrize(
    "norm, epsilon, attack", [("l2", 0.5, "L2ProjectedGradientDescentAttack"), ("linf", 0.1, "LinfPGD")]
)
def test_pgd_reaches_the_same_mean_loss(trained, theirs, batch, norm, epsilon, attack):
    x, y = batch
    step = 2.5 * epsilon / 20
    other = getattr(foolbox.attacks, attack)(abs_stepsize=step, steps=20, random_start=False)
    adversarial = other.run(theirs, x, foolbox.criteria.Misclassification(y), epsilon=epsilon)
    ours = {keep: attacks.pgd(trained, x, y, epsilon, steps=20, norm=norm, keep=keep) for keep in ("last", "best")}
    reached = mean_loss(trained, adversarial, y)
    last, best = (mean_loss(trained, ours[keep], y) for keep in ("last", "best"))
    assert last == pytest.approx(reached, rel=1e-3)
    assert reached - 1e-4 <= best <= 1.01 * reached


@pytest.mark.parametrize("steps", [20, 100])
def test_ddn_finds_the_same_median_norm(trained, theirs, batch, steps):
    x, y = batch
    other = foolbox.attacks.DDNAttack(init_epsilon=1.0, steps=steps, gamma=0.05)
    adversarial = other.run(theirs, x, foolbox.criteria.Misclassification(y))
    norms = [(a - x).flatten(1).norm(dim=1) for a in (attacks.ddn(trained, x, y, steps=steps), adversarial)]
    assert float(norms[0].median()) == pytest.approx(float(norms[1].median()), rel=0.03)
