"""The naive attack against SmoothAdv: what the experiment computes, and what the shipped log says of it."""

import numpy as np
import pytest
import torch
from drawn import panels, xy
from scipy.stats import binom

from rslab import attacks
from rslab.data.datasets import load_dataset
from rslab.experiments import naive_attack
from rslab.lectures.lecture06 import copies
from rslab.networks.inference import InferenceNetwork
from rslab.smoothing.classifier import log_mean_probs, mean_log_probs
from rslab.store.run_folder import RESULTS, load_run


@pytest.fixture(scope="module")
def network():
    return InferenceNetwork(load_run(RESULTS / "digits" / "gaussian-0.25")[0])


@pytest.fixture(scope="module")
def shipped():
    return copies.read_log()


# -- the experiment ----------------------------------------------------------------------------


def test_effective_copies_are_all_of_them_when_equal_and_one_when_one_decides():
    log_f = torch.tensor([[0.0, 0.0, -1.0], [0.0, -200.0, -1.0], [0.0, -200.0, -1.0]])
    assert naive_attack.effective_copies(log_f).tolist() == pytest.approx([3, 1, 3])


def test_both_attacks_are_pgd_on_the_objectives_of_the_package(network):
    digits = load_dataset("digits", "test")
    x, y = digits.images[:3], digits.labels[:3]
    noise = naive_attack.noise_for("attack", [0, 1, 2], 4, x.shape[1:], 0.25)
    options = {"steps": naive_attack.STEPS, "objective": attacks.negative_log_likelihood}
    for smoothed, estimate in ((True, log_mean_probs), (False, mean_log_probs)):
        end, path = naive_attack.attacked(network, x, y, noise, 0.5, smoothed)
        expected = attacks.pgd(lambda z, e=estimate: e(network, z, noise), x, y, 0.5, **options)
        assert torch.allclose(end, expected, atol=1e-5)
        assert path.shape == (naive_attack.STEPS + 1, 3) and 1 <= path.min() <= path.max() <= 4 + 1e-4


def test_the_gradients_compared_are_those_of_the_two_objectives(network):
    digits = load_dataset("digits", "test")
    x, y = digits.images[:3], digits.labels[:3]
    noise = naive_attack.noise_for("attack", [0, 1, 2], 4, x.shape[1:], 0.25)
    slopes = []
    for estimate in (log_mean_probs, mean_log_probs):
        z = x.clone().requires_grad_()
        loss = attacks.negative_log_likelihood(estimate(network, z, noise), y).sum()
        slopes.append(torch.autograd.grad(loss, z)[0].flatten(1))
    _, cosine, alike = naive_attack.compared_gradients(network, x, y, noise)
    assert cosine.tolist() == pytest.approx(torch.cosine_similarity(*slopes, 1).tolist(), abs=1e-4)
    assert (-1 / 3 - 1e-4 <= alike).all() and (alike <= 1 + 1e-4).all()
    _, same, _ = naive_attack.compared_gradients(network, x, y, noise[:1])  # one copy: one attack
    assert same.tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_what_is_compared_has_the_shapes_that_the_lecture_reads(network):
    digits = load_dataset("digits", "test")
    rows = naive_attack.compare(network, digits.images[:2], digits.labels[:2], [0, 1], 0.25, 0.5)
    assert {name: values.shape for name, values in rows.items()} == {
        "votes": (3, 2, 10),
        "soft": (3, 2),
        "copies": (3, naive_attack.COPIES, 2),
        "cosine": (3, 2),
        "alike": (3, 2),
        "path": (2, naive_attack.STEPS + 1, 2),
    }
    assert (rows["votes"].sum(2) == naive_attack.VOTES).all()


@pytest.mark.data
def test_the_shipped_log_is_what_the_experiment_computes(shipped):
    row = shipped[0]
    data = load_dataset("cifar10", "test")
    f = InferenceNetwork(load_run(RESULTS / row.network)[0])
    images = list(copies.IMAGES["cifar10"])
    with np.load(copies.LOG) as stored:
        clean, labels = stored[f"{row.network} clean"], stored[f"{row.network} labels"]
    first = [images[k] for k in np.flatnonzero(clean.argmax(1) == labels)[: naive_attack.AT_ONCE]]
    y = torch.tensor([int(data.labels[image]) for image in first])
    again = naive_attack.compare(f, data.images[first], y, first, 0.25, row.epsilon)
    assert again["soft"] == pytest.approx(row.soft[:, : len(first)], abs=0.02)


# -- the log -----------------------------------------------------------------------------------


def test_the_log_holds_every_setting_of_a_hundred_images_each(shipped):
    assert [(row.network, row.epsilon) for row in shipped] == [
        (network, epsilon) for network, epsilons in copies.SETTINGS.items() for epsilon in epsilons
    ]
    for row in shipped:
        attacked = row.soft.shape[1]
        assert row.images == 100 and row.right.shape == (3, attacked) and row.right[copies.CLEAN].all()
        assert row.weights.mean(1) == pytest.approx(1)
        at_start = naive_attack.effective_copies(torch.from_numpy(row.log_f[copies.CLEAN])).numpy()
        for path in row.path:
            assert path[0] == pytest.approx(at_start, abs=0.1)
    assert copies.LOG.stat().st_size < 300_000


def test_the_two_attacks_agree_on_these_networks_as_the_notebook_says(shipped):
    for row in shipped:
        lost = (row.log_f[copies.SMOOTHADV] < np.log(0.001)).mean()
        difference, half = copies.mean_interval(row.soft[copies.NAIVE] - row.soft[copies.SMOOTHADV])
        effective, cosine = row.path[1, -1].mean(), np.median(row.cosine[copies.SMOOTHADV])
        assert row.alike[copies.SMOOTHADV].mean() > 0.33 and cosine > 0.95 > (effective / 16) ** 0.5 - 0.05
        if row.network.startswith("cifar10"):
            assert abs(difference) < 0.002 and half < 0.002 and effective > 12 and lost < 0.0005
            assert (row.right[copies.NAIVE] != row.right[copies.SMOOTHADV]).sum() <= 1
        else:
            assert abs(difference) < 0.005
    assert effective < 6 and 0.25 < lost < 0.35  # the digits network, largest ε


def test_the_interval_of_a_difference_is_not_empty_where_no_image_differs():
    right = np.ones((3, 60), bool)
    row = copies.Attacked("a/gaussian-0.25", 0.5, 100, right, *[np.ones((3, 60))] * 5)
    difference, low, high = copies.accuracy_interval(row)
    assert difference == 0 and low == pytest.approx(-high)
    assert binom.cdf(0, 100, high / 100) == pytest.approx(0.0125, rel=1e-3)
    right[copies.SMOOTHADV, :4] = False  # four survive the naive attack only
    difference, low, high = copies.accuracy_interval(row)
    assert difference == 4 and low < 0 < difference < high


def test_the_figure_shows_the_means_and_their_intervals(shipped):
    left, steps, *_ = panels(copies.copies_figure(shipped))
    first = shipped[0]
    mean, _ = copies.mean_interval(first.soft[copies.NAIVE] - first.soft[copies.SMOOTHADV])
    drawn = [xy(line)[1] for line in left.lines if len(line.get_xdata()) and line.get_linestyle() == "None"]
    assert any(len(values) and values[0] == pytest.approx(1000 * mean) for values in drawn)
    for line in steps.lines:
        steps, effective = xy(line)
        assert len(steps) == naive_attack.STEPS + 1 and (effective <= naive_attack.COPIES + 1e-3).all()
