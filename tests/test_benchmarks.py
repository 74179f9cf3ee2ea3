"""What `rslab bench` measures: both sides do the same work, and the figures are of what they say."""

import json

import numpy as np
import pytest
import torch
from helpers import uniform
from torch import nn

from rslab import attacks
from rslab.errors import InputError
from rslab.experiments import benchmarks, costs
from rslab.networks.inference import InferenceNetwork
from rslab.networks.models import build_model
from rslab.smoothing.classifier import SmoothedClassifier, default_batch_size, log_mean_probs


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("cnn", "digits", 10).eval()


@pytest.mark.parametrize("what", ["certify", "attack", "train"])
def test_a_result_has_the_ratio_to_each_reference_within_its_spread(what):
    found = benchmarks.measure(what, "cnn", 0.01, "cpu", "float32")
    assert found["precision"] == "float32" and found["pairs"] >= 3
    assert len(found["references"]) == (1 if what == "attack" else 2)
    for row in found["references"].values():
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["per_second"] * row["low"] / 2 < found["per_second"] < 2 * row["per_second"] * row["high"]
    line = benchmarks.format_result(found)
    assert f"{found['per_second']:,.0f} noisy images/s" in line and "over" in line
    assert ("% of the matrix peak" in line) == (what == "certify")
    assert json.loads(json.dumps(found)) == found


def test_the_reference_votes_as_certify_does(model, monkeypatch):
    """The same network, the same noise in law: shares of votes agree within four standard deviations."""
    x, n, counted = uniform(1, 8, 8), 4000, []
    with monkeypatch.context() as patched:  # NumPy itself needs the true one
        patched.setattr(np, "zeros", lambda *arguments, **options: counted.append(np.full(10, 0)) or counted[-1])
        assert benchmarks.reference_votes(model, x, n, 400) == n
    ours = SmoothedClassifier(InferenceNetwork(model), 10, 0.25).sample_under_noise(x, n)
    (theirs,) = counted
    assert theirs.sum() == int(ours.sum()) == n
    assert np.abs(theirs - ours.numpy()).max() < 4 * (n / 2) ** 0.5


def test_the_reference_attack_finds_what_ours_does(model):
    """Steps of 2 ε / T there, 2.5 ε / T by default here: given the same they agree."""
    x, y = uniform(6, 1, 8, 8, seed=1), torch.arange(6)
    noise = 0.25 * torch.randn(4, *x.shape, generator=torch.Generator().manual_seed(2))
    theirs = benchmarks.reference_pgd(model, x, y, noise, 0.5, 4)
    f = InferenceNetwork(model)
    ours = attacks.pgd(lambda z: log_mean_probs(f, z, noise), x, y, 0.5, steps=4, step_size=0.25, keep="last")

    def loss(z):
        return float(attacks.cross_entropy(log_mean_probs(f, z, noise), y).detach().sum())

    # the order of the projections onto ball and box differs
    assert loss(theirs) > loss(x) and loss(ours) == pytest.approx(loss(theirs), rel=0.02)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_operations_are_those_of_the_layers_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 4 * 4, 7))
    assert benchmarks.operations(network, uniform(1, 3, 4, 4)) == 2 * (5 * 4 * 4 * 3 * 9 + 5 * 4 * 4 * 7)
    assert benchmarks.matrix_peak("cpu", "float32", 128) > 1e8


@pytest.mark.parametrize(
    "arguments, name",
    [
        (("speed", None, 1.0), "what"),
        (("certify", "vgg", 1.0), "arch"),
        (("certify", None, 0.0), "seconds"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_measured(arguments, name):
    with pytest.raises(InputError, match=f"^{name}: got"):
        next(benchmarks.programme(*arguments, "cpu", "float32"))


# -- fewer votes ---------------------------------------------------------------------------


def test_the_votes_saved_are_those_of_the_simulation_and_the_totals_weigh_every_model_alike():
    rows = benchmarks.votes_saved(1000, 0.001, repetitions=1)
    assert len(rows) == 8 + 2 and list(rows) == sorted(rows)
    for method in ("gaussian", "smoothadv"):
        ours = [rows[f"{method}-{sigma}"] for sigma in ("0.12", "0.25", "0.5", "1")]
        assert rows[f"{method}-all"]["votes"] == pytest.approx(sum(row["votes"] for row in ours) / 4)
        assert all(row["floor"] < row["votes"] < 1000 and row["kept"] > 0.95 for row in ours)


# -- cost as work grows --------------------------------------------------------------------


def test_the_cost_table_has_every_quantity_and_more_work_takes_longer(monkeypatch):
    monkeypatch.setattr(
        costs, "GROWING", {"n": (16, 64), "depth": (8, 14), "classes": (10, 100), "image size": (8, 16)}
    )
    monkeypatch.setattr(costs, "USUAL", {**costs.USUAL, "n": 64})
    monkeypatch.setattr(costs, "MEMORY", {"attack, m": (1,)})
    monkeypatch.setattr(costs, "in_a_process", lambda call, *arguments: call(*arguments))
    found = costs.measure_costs("cpu", "float32")
    assert list(found["seconds"]) == ["n", "depth", "classes", "image size"] and list(found["memory"]) == ["attack, m"]
    for rows in found["seconds"].values():
        assert all(row["seconds"] == pytest.approx(row["n"] * row["microseconds_a_vote"] / 1e6) for row in rows)
    text = costs.format_costs(found | {"device": "cpu", "precision": "float32"})
    assert all(quantity in text for quantity in ("n  ", "depth", "classes", "image size", "attack, m"))


def _peak_of_votes(n: int, batch_size: int | None) -> int:
    """Bytes that n votes on a 224×224 image take at their peak, with a network that keeps nothing."""
    smoothed = SmoothedClassifier(lambda z: z.flatten(1)[:, :10], 10, 0.25, batch_size)
    smoothed.sample_under_noise(torch.full((3, 224, 224), 0.5), 1)
    before = costs.process_peak("cpu")
    assert int(smoothed.sample_under_noise(torch.full((3, 224, 224), 0.5), n).sum()) == n
    return costs.process_peak("cpu") - before


def test_memory_is_that_of_a_chunk_however_many_the_votes():
    """256 noisy images of 3×224×224 hold 147 MiB at once, in the default chunks 9 MiB and what is temporary."""
    chunked, whole = (costs.in_a_process(_peak_of_votes, 256, size) for size in (None, 256))
    assert chunked < 60 * costs.MEGABYTE < 130 * costs.MEGABYTE < whole


def test_a_million_votes_at_224_by_224_are_chunks_that_fit_24_gib():
    """On a GPU too: a chunk of noise, and the largest activations of ResNet-50, three of each size at once."""
    for device in ("cpu", "cuda"):
        images = default_batch_size((3, 224, 224), device)
        floats = images * (2 * 3 * 224 * 224 + 3 * 64 * 112 * 112 + 3 * 256 * 56 * 56)
        assert images >= 16 and 4 * floats < 24 * 2**30 / 4
