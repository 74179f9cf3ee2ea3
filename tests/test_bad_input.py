"""Bad input to the public names of `rslab`, from Python: one sentence with the name, and nothing written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import rslab
from rslab import RESULTS, AttackSettings, CertifySettings, InputError, TrainConfig

RUN = RESULTS / "digits" / "gaussian-0.25"
X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([1, 2])
NOISE = torch.zeros(3, *X.shape)


def f(x):
    return x.flatten(1)[:, :10]


network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
g = rslab.SmoothedClassifier(f, 10, 0.25)
log = rslab.read_log(RUN / "certify.tsv")
digits = rslab.load_dataset("digits", "test")
certifying, attacking = CertifySettings(sigma=0.25, n=100), AttackSettings(sigma=0.25, n=100)
NO_LOG = Path("nowhere") / "log.tsv"

CASES = {
    "f of log_mean_probs": ("f", lambda: rslab.log_mean_probs(None, X, NOISE)),
    "images of another type than the weights": ("f", lambda: rslab.log_mean_probs(network, X.double(), NOISE)),
    "images of another size": ("f", lambda: rslab.stein_gradients(network, NOISE[..., 1:], 0.25)(X[..., 1:], Y)),
    "images as a list": ("x", lambda: rslab.log_mean_probs(f, X.tolist(), NOISE)),
    "images of 8 bits": ("x", lambda: rslab.mean_log_probs(f, (255 * X).byte(), NOISE)),
    "noise of one copy without its axis": ("noise", lambda: rslab.mean_log_probs(f, X, NOISE[0])),
    "no noise": ("noise", lambda: rslab.log_mean_probs(f, X, NOISE[:0])),
    "noise as an array": ("noise", lambda: rslab.log_mean_probs(f, X, NOISE.numpy())),
    "noise of other images": ("noise", lambda: rslab.stein_gradients(f, NOISE[:, :1], 0.25)(X, Y)),
    "f of stein_gradients": ("f", lambda: rslab.stein_gradients(3, NOISE, 0.25)),
    "a seed for a generator": ("generator", lambda: g.certify(X[0], 10, 100, 0.001, generator=3)),
    "a seed for a generator of votes": ("generator", lambda: g.sample_under_noise(X[0], 10, generator="0")),
    "a seed for a generator of an attack": ("generator", lambda: rslab.pgd(f, X, Y, 0.5, generator=3)),
    "a count of text": ("count", lambda: rslab.lower_confidence_bound("90", 100, 0.001)),
    "no count": ("count", lambda: rslab.lower_confidence_bound(None, 100, 0.001)),
    "a probability of text": ("p_a_lower", lambda: rslab.certified_radius("0.9", 0.25)),
    "radii that are none": ("radii", lambda: rslab.certified_accuracy(log, ["a"])),
    "a path for a log": ("log", lambda: rslab.certified_accuracy(RUN / "certify.tsv", [0.5])),
    "a log of an attack": ("log", lambda: rslab.average_certified_radius(log.drop(columns="radius"))),
    "a radius of NaN": ("log", lambda: rslab.average_certified_radius(log.assign(radius=np.nan))),
    "a radius below 0": ("log", lambda: rslab.certified_accuracy(log.assign(radius=-1.0), [0.5])),
    "correct as words": ("log", lambda: rslab.certified_accuracy(log.assign(correct="yes"), [0.5])),
    "no table": ("accuracies", lambda: rslab.upper_envelope([1, 2])),
    "a table without models": ("accuracies", lambda: rslab.upper_envelope(pd.DataFrame())),
    "a radius without a model": ("accuracies", lambda: rslab.upper_envelope(pd.DataFrame({0.0: [np.nan]}))),
    "a number for a log": ("path", lambda: rslab.read_log(3)),
    "bytes for a log": ("path", lambda: rslab.read_log(b"log.tsv")),
    "no run": ("folder", lambda: rslab.load_run(None)),
    "no checkpoint": ("path", lambda: rslab.import_checkpoint(None)),
    "a number for a network": ("arch", lambda: rslab.build_model(3, "digits", 10)),
    "half a class": ("num_classes", lambda: rslab.build_model("cnn", "digits", 1.5)),
    "no class": ("num_classes", lambda: rslab.build_model("cnn", "digits", 0)),
    "one radius, not in a list": ("radii", lambda: rslab.SequentialPlan(0.25, 0.5, n=1000)),
    "looks every half a vote": ("between", lambda: rslab.SequentialPlan(0.25, (0.0,), n=1000, between=1.5)),
    "images for a data set": ("data", lambda: rslab.certify_dataset(f, (X, Y), certifying, NO_LOG)),
    "settings of an attack": ("settings", lambda: rslab.certify_dataset(f, digits, attacking, NO_LOG)),
    "settings of a certification": ("settings", lambda: list(rslab.attack_dataset(f, digits, certifying, NO_LOG))),
    "no log": ("log", lambda: rslab.certify_dataset(f, digits, certifying, None)),
    "an unknown device": ("device", lambda: rslab.certify_dataset(f, digits, certifying, NO_LOG, device="gpu")),
    "a device that is not there": (
        "device",
        lambda: rslab.certify_dataset(f, digits, certifying, NO_LOG, device="cuda:99"),
    ),
    "no device": ("device", lambda: rslab.train(TrainConfig(epochs=1), device=None)),
    "options as a dict": ("config", lambda: rslab.train({"epochs": 1})),
    "a number for a run": ("out", lambda: rslab.train(TrainConfig(epochs=1), 3)),
    "images to train on": ("data", lambda: rslab.train(TrainConfig(epochs=1), data=(X, Y))),
    "copies of a single one": ("samples", lambda: TrainConfig(method="consistency", samples=1)),
}


@pytest.mark.parametrize("name, call", CASES.values(), ids=CASES)
def test_bad_input_is_refused_in_one_sentence_that_names_it(name, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        call()
    sentence = str(refused.value)
    assert sentence.startswith(f"{name}: got ") and ", expected " in sentence, sentence
    assert "\n" not in sentence and len(sentence) < 300
    assert not list(tmp_path.iterdir())
