"""What the tests share: small data, one trained model, and the places of real data."""

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from rslab.config import TrainConfig
from rslab.data.datasets import load_dataset
from rslab.report import published
from rslab.store import run_folder
from rslab.training.loop import train

# No database, no time limit an example. `make test` draws the same examples in every run, `make soundness` new ones
# and four times as many; what fails is printed with the line that repeats it.
settings.register_profile("rslab", deadline=None, derandomize=True, database=None, max_examples=50)
settings.register_profile("soundness", deadline=None, database=None, max_examples=200, print_blob=True)
torch.set_num_threads(1)  # the tensors are small, and the machine may be shared


def pytest_configure(config):
    """Before a test module is imported: the profile of its property tests, and signals as at a terminal.

    A suite in the background (`nohup make test &`) ignores Ctrl-C and a closed window; a handler that does nothing
    does so too, and is not inherited by the programs that tests start.
    """
    settings.load_profile("soundness" if in_soundness(config) else "rslab")
    for name in ("SIGINT", "SIGHUP"):
        if (number := getattr(signal, name, None)) and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """With `-m soundness` the modules of property tests are among them, before pytest takes its choice."""
    for item in items:
        if in_soundness(config) and hasattr(getattr(item, "module", None), "given"):
            item.add_marker("soundness")


def in_soundness(config) -> bool:
    """Whether the long experiments are asked for: `make soundness`."""
    return config.option.markexpr == "soundness"


@pytest.fixture(autouse=True)
def same_weights(request):
    """Networks that a test builds begin with the same weights, whatever ran before it."""
    if not in_soundness(request.config):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits", "train")


@pytest.fixture(scope="session")
def digits_test():
    return load_dataset("digits", "test")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, digits) -> Path:
    """The run folder of a Gaussian classifier of the digits: σ = 0.25, 8 epochs."""
    folder = tmp_path_factory.mktemp("runs") / "gaussian"
    for _ in train(TrainConfig(method="gaussian", sigma=0.25, epochs=8), folder, data=digits):
        pass
    return folder


@pytest.fixture
def trained(trained_run) -> torch.nn.Module:
    """The model of `trained_run`, in eval mode, a fresh copy for each test."""
    return run_folder.load_run(trained_run)[0]


@pytest.fixture(scope="session")
def published_logs() -> Path:
    """The folder `data/certify` of Salman et al.'s repository."""
    return _published("smoothing-adversarial") / "certify"


@pytest.fixture(scope="session")
def cohens_logs() -> Path:
    """The folder `data/certify` of Cohen et al.'s repository."""
    return _published("smoothing") / "certify"


@pytest.fixture(scope="session")
def published_attacks() -> Path:
    """The folder of Salman et al.'s attacks on a model of Cohen et al., on CIFAR-10."""
    return _published("smoothing-adversarial") / "predict" / "predict_cifar_cohen"


def _published(name: str) -> Path:
    """The folder `data` of a publication."""
    root = os.environ.get("RSLAB_LOGS")
    if not root:
        pytest.skip("RSLAB_LOGS is not set: it names the folder above smoothing and smoothing-adversarial")
    return published.publication(root, name) / "data"
