"""Denoised smoothing: the denoisers, the experiment, and what is shipped of it."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import seeded, subset
from scipy.stats import beta, norm
from torch import nn

from rslab.data.datasets import load_dataset
from rslab.errors import InputError, WorkError
from rslab.experiments import denoised
from rslab.networks import denoiser as networks
from rslab.networks.denoiser import DnCNN, NonLocalMeans, denoising_loss, train_denoiser
from rslab.networks.inference import InferenceNetwork
from rslab.store import files, logs

# -- denoisers ---------------------------------------------------------------------------------


class Brightness(nn.Module):
    """Class 1 where the mean of an image is above a half."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x):
        mean = x.flatten(1).mean(1) - 0.5
        return self.scale * torch.stack((-mean, mean), 1)


def test_dncnn_takes_from_an_image_what_it_holds_for_noise():
    torch.manual_seed(0)
    denoiser = DnCNN(width=4, depth=3).eval()
    z = torch.rand(2, 1, 8, 8)
    assert torch.equal(denoiser(z), z - denoiser.noise(z)) and denoiser(z).shape == z.shape
    assert sum(p.numel() for p in DnCNN().parameters()) == pytest.approx(5000, rel=0.05)  # as its docstring says
    nn.init.zeros_(denoiser.noise[-1].weight)
    nn.init.zeros_(denoiser.noise[-1].bias)
    assert torch.equal(denoiser(z), z)  # no noise is seen: the image stays


@torch.no_grad()
def test_the_mse_objective_asks_for_the_image_and_stability_for_its_class():
    x, noise, f = torch.rand(6, 1, 4, 4, generator=seeded()), torch.randn(6, 1, 4, 4, generator=seeded(1)), Brightness()
    identity = nn.Identity()
    assert float(denoising_loss("mse", identity, f, x, noise)) == pytest.approx(float((noise**2).mean()), rel=1e-5)
    own = f(x).argmax(1)
    expected = -f(x + noise).log_softmax(1)[torch.arange(6), own].mean()
    assert float(denoising_loss("stability", identity, f, x, noise)) == pytest.approx(float(expected), rel=1e-5)

    def white(z):  # no image is restored, but f's answer is where the image is bright
        return torch.ones_like(z)

    bright, dark = (denoising_loss("stability", white, f, level + 0 * x, noise) for level in (0.8, 0.2))
    assert float(bright) < 0.1 < 1 < float(dark)
    with pytest.raises(InputError, match="objective"):
        denoising_loss("l1", identity, f, x, noise)


@pytest.mark.parametrize("objective", networks.OBJECTIVES)
def test_training_denoises_and_leaves_the_classifier_and_the_global_randomness_alone(objective):
    images = torch.rand(64, 1, 1, 1, generator=seeded()).expand(64, 1, 8, 8).contiguous()  # flat, of any brightness
    f, state = Brightness().train(), torch.get_rng_state()
    trained = [train_denoiser(f, images, 0.5, objective, epochs=15, batch_size=16, width=4, seed=s) for s in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), state) and float(f.scale) == 4.0 and f.scale.grad is None
    first, again, other = (torch.cat([p.flatten() for p in d.parameters()]) for d in trained)
    assert torch.equal(first, again) and not torch.equal(first, other)
    noise = 0.5 * torch.randn(images.shape, generator=seeded(9))
    with torch.no_grad():
        before, after = (denoising_loss(objective, d, f, images, noise) for d in (nn.Identity(), trained[0]))
    assert not trained[0].training and float(after) < 0.9 * float(before)


def test_a_classifier_behind_a_denoiser_is_a_base_classifier_like_any_other():
    torch.manual_seed(0)
    composed = nn.Sequential(DnCNN(), denoised.classifier_of(0)).eval()
    fast, z = InferenceNetwork(composed), torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(fast(z), composed(z), atol=1e-3) and fast.copied
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.network.modules())  # all folded
    with pytest.raises(InputError, match="sigma"):
        train_denoiser(composed[1], z, 0.0)


def test_non_local_means_denoises_each_image_by_itself():
    pytest.importorskip("skimage")
    flat = torch.zeros(2, 3, 32, 32)
    flat[:, :, :, 16:], flat[1] = 1.0, flat[1].flip(-1)
    noisy, denoise = flat + 0.25 * torch.randn(flat.shape, generator=seeded()), NonLocalMeans(0.25)
    cleaned = denoise(noisy)
    assert cleaned.dtype == torch.float32 and torch.equal(cleaned[1:], denoise(noisy[1:]))
    assert float((cleaned - flat).square().mean()) < 0.2 * float((noisy - flat).square().mean())


def test_without_scikit_image_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    with pytest.raises(WorkError, match="scikit-image: pip install"):
        NonLocalMeans(0.25)


# -- the experiment ----------------------------------------------------------------------------


def test_a_row_certifies_with_votes_that_did_not_select(monkeypatch):
    monkeypatch.setattr(denoised, "N0", 4)
    votes = np.array([2, 2, 1, 2] + [1] * 60 + [2] * 140)
    row = denoised.row_of(votes, 0.5, ("a", "b", "c"))
    lower = beta.ppf(0.001, 140, 61)
    assert (row["class"], row["count"]) == ("c", 140)
    assert row["lower"] == pytest.approx(lower) and row["radius"] == pytest.approx(0.5 * norm.ppf(lower))
    assert row["most votes"] == {"c": 140, "b": 60}
    assert denoised.row_of(np.array([0] * 4 + [1] * 200), 0.5, ("a", "b", "c"))["radius"] == 0  # another class won


def test_the_experiment_writes_its_logs_and_goes_on_where_it_was_stopped(monkeypatch, tmp_path, capsys):
    trained = []

    def short(*arguments, **options):
        trained.append(arguments[2:])
        return train_denoiser(*arguments, **options, epochs=1)

    data = {split: subset(load_dataset("digits", split), 64) for split in ("train", "test")}
    monkeypatch.setattr(denoised, "load_dataset", lambda _, split: data[split])
    monkeypatch.setattr(denoised, "train_denoiser", short)
    for name, value in {"PLACE": tmp_path, "SEEDS": (0,), "SIGMAS": (0.5,), "IMAGES": 2, "N": 50}.items():
        monkeypatch.setattr(denoised, name, value)
    denoised.main(["digits"])
    assert trained == [(0.5, "mse"), (0.5, "stability")]
    found = {log.parent.name: len(logs.read_log(log)) for log in tmp_path.rglob("certify.tsv")}
    assert found == {"standard-0.5-0": 2, "mse-0.5-0": 2, "stability-0.5-0": 2}
    assert "stability, σ = 0.5" in capsys.readouterr().out
    denoised.main(["digits"])
    assert len(trained) == 2 and not capsys.readouterr().out
    with pytest.raises(InputError, match="expected digits or photographs"):
        denoised.main(["cifar10"])


def test_a_difference_is_paired_over_images_after_the_mean_over_seeds():
    def log(radii):
        return pd.DataFrame({"idx": range(len(radii)), "correct": [1, 1, 1, 0], "radius": radii})

    ours, theirs = [log([0.5, 0.5, 0.1, 0.9]), log([0.5, 0.5, 0.5, 0.9])], [log([0.5, 0.1, 0.1, 0.9])] * 2
    mean, low, high = denoised.difference(ours, theirs, 0.3)
    apart = np.array([0, 100, 50, 0])  # the last is wrong in all, the third certified by one seed of two
    assert mean == apart.mean() and (high - low) / 2 == pytest.approx(1.96 * apart.std(ddof=1) / 2)
    assert (low + high) / 2 == pytest.approx(mean)


# -- what is shipped ---------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", denoised.SIGMAS)
def test_the_shipped_logs_hold_the_same_images_votes_and_settings(sigma):
    methods = denoised.read_logs(sigma)
    assert list(methods) == list(denoised.LABELS.values())
    for label, runs in methods.items():
        assert len(runs) == len(denoised.SEEDS)
        for log in runs:
            assert log.idx.tolist() == list(range(denoised.IMAGES)), label
            assert set(log.n) == {denoised.N} and set(log.n0) == {denoised.N0} and set(log.alpha) == {denoised.ALPHA}
            lower = beta.ppf(denoised.ALPHA, log.count_a, log.n - log.count_a + 1)
            assert log.radius.to_numpy() == pytest.approx(np.maximum(sigma * norm.ppf(lower), 0), abs=1e-5)
    for kind in denoised.LABELS:
        for seed in denoised.SEEDS:
            settings = files.read_json(denoised.log_of(kind, sigma, seed).with_name("certify.json"))
            assert settings["sigma"] == sigma and settings["bound"] == "clopper-pearson" and settings["skip"] == 1


def test_the_shipped_denoisers_denoise():
    test = load_dataset("digits", "test")
    for sigma in denoised.SIGMAS:
        z = test.images + sigma * torch.randn(test.images.shape, generator=seeded())
        mse = {}
        for objective in networks.OBJECTIVES:
            file = denoised.PLACE / f"{objective}-{sigma:g}-0" / "weights.safetensors"
            with torch.no_grad():
                mse[objective] = float((files.load_weights(file, DnCNN())(z) - test.images).square().mean())
        assert mse["mse"] < 0.5 * sigma**2 and mse["mse"] < mse["stability"]


def test_the_radii_of_the_photographs_follow_from_their_votes():
    stored = files.read_json(denoised.PLACE / "photographs.json")
    places = [(row["sigma"], row["picture"]) for row in stored["rows"]]
    assert len(set(places)) == len(places) and {name for _, name in places} == set(denoised.PHOTOGRAPHS)
    table = denoised.photograph_table()
    assert len(table) == len(places) and isinstance(table, pd.DataFrame)
    for row in stored["rows"]:
        for network in ("alone", "non-local means"):
            found = row[network]
            lower = beta.ppf(stored["alpha"], found["count"], stored["n"] - found["count"] + 1) if found["count"] else 0
            assert found["lower"] == pytest.approx(lower)
            assert found["radius"] == pytest.approx(row["sigma"] * max(norm.ppf(lower), 0))
            assert sum(found["most votes"].values()) <= stored["n"]
