"""`--arch mynet:build`: a network of the caller's is found, trained and certified; a run of it runs no code unasked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_cli import call
from torch import nn

from rslab.errors import InputError
from rslab.networks.models import build_model
from rslab.store import files
from rslab.store.logs import read_log
from rslab.store.run_folder import RESULTS, load_run, read_run

CODE = """
from pathlib import Path

from torch import nn

Path("imported").touch()

def build(num_classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, num_classes))

class Net(nn.Linear):
    def __init__(self, num_classes, channels):
        super().__init__(8, num_classes)

def nothing(num_classes, channels): pass
def untrained(num_classes): pass
def function(num_classes, channels): return lambda x: x
number = 3
"""
ORDINARY = RESULTS / "digits" / "gaussian-0.25"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with the file ournet.py, not yet imported; no place of it is on Python's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    (tmp_path / "ournet.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "quits.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    (tmp_path / "torn.py").write_text("def build(:\n", encoding="utf-8")
    (tmp_path / "adds.py").write_text(
        "import sys\nsys.path.append('/elsewhere')\nfrom ournet import build\n", encoding="utf-8"
    )
    yield tmp_path
    for name in ("ournet", "quits", "torn", "adds"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the file's network, trained by the installed command in a process of its own."""
    folder = tmp_path_factory.mktemp("arch")
    (folder / "ournet.py").write_text(CODE, encoding="utf-8")
    rslab = Path(sys.executable).with_name("rslab")  # unlike python -m rslab it has no current folder on its path
    words = [rslab, "train", "--arch", "ournet:build", "--epochs", "1", "--device", "cpu"]
    done = subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", timeout=300)
    assert (done.returncode, done.stdout) == (0, "runs/digits-ournet.build-gaussian-0.25\n"), done.stderr
    return folder / "runs" / "digits-ournet.build-gaussian-0.25"


@pytest.fixture
def run(here, trained):
    """The run of that network, in the current folder."""
    (here / "run").mkdir()
    for file in trained.iterdir():
        (here / "run" / file.name).write_bytes(file.read_bytes())
    return Path("run")


def test_a_file_in_the_current_folder_is_a_network_with_our_normalization_before_it(here, trained):
    before = list(sys.path)
    model = build_model("ournet:build", "digits", 10)
    assert sys.path == before
    assert [type(layer).__name__ for layer in model] == ["Normalize", "Sequential"]
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert type(build_model("ournet:Net", "mnist", 7)[1]).__name__ == "Net"  # a class is a function, too
    config, classes = read_run(trained)
    assert (config.arch, classes) == ("ournet:build", 10)
    assert {name: tensor.shape for name, tensor in files.load_tensors(trained / "weights.safetensors").items()} == {
        "1.1.weight": (10, 64),
        "1.1.bias": (10,),
    }


def test_the_trained_weights_are_certified_and_attacked_once_the_code_is_named(run, monkeypatch, capsys):
    options = ("--arch", "ournet:build", "--n", 200, "--max", 3)
    code, out, _ = call(monkeypatch, capsys, "certify", run, *options)
    assert (code, out) == (0, "run/certify.tsv\n")
    code, out, _ = call(monkeypatch, capsys, "attack", run, *options, "--steps", 1, "--samples", 1)
    assert code == 0 and out.startswith("run/attack.tsv\n")
    model, config = load_run(run, arch="ournet:build")
    log = read_log(run / "certify.tsv")
    assert log.idx.tolist() == [0, 1, 2] and log.n.tolist() == [200] * 3 and config.sigma == 0.25
    weights = files.load_tensors(run / "weights.safetensors")
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    by_hand = ((x - model[0].mean) / model[0].std).flatten(1) @ weights["1.1.weight"].T + weights["1.1.bias"]
    assert torch.allclose(model(x), by_hand, atol=1e-5) and not model.training


def test_an_attack_may_be_crafted_on_somebodys_network(run, monkeypatch, capsys):
    options = ("--transfer", run, "--arch", "ournet:build", "--steps", 1, "--samples", 1, "--n", 100, "--max", 2)
    code, out, _ = call(monkeypatch, capsys, "attack", ORDINARY, *options, "--out", "new.tsv")
    assert code == 0 and out.startswith("new.tsv\n") and len(read_log(Path("new.tsv"))) == 2


REFUSED = "arch: got 'ournet:build' in run, which is code, expected --arch ournet:build too."


@pytest.mark.parametrize(
    "command",
    [
        "certify run",
        "attack run",
        "certify run --arch ournet:Net",
        f"attack {ORDINARY} --transfer run --out new.tsv",
        "train --pretrained run --out new",
        "train --pseudo-labels run --unlabelled hidden --labels 10 --out new",
    ],
)
def test_a_run_of_somebodys_code_runs_none_of_it_unasked(run, monkeypatch, capsys, command):
    before = sorted(Path().rglob("*"))
    code, out, err = call(monkeypatch, capsys, *command.split())
    assert (code, out) == (2, "") and err.splitlines()[-1] == f"rslab: {REFUSED}"
    assert sorted(Path().rglob("*")) == before and "ournet" not in sys.modules
    assert not Path("imported").exists()
    build_model("ournet:build", "digits", 10)
    assert Path("imported").exists()  # which is what an import would have left


def test_load_run_and_the_tables_run_no_code_either(run, monkeypatch, capsys):
    with pytest.raises(InputError, match="which is code, expected --arch ournet:build too"):
        load_run(run)
    (run / "certify.tsv").write_text("idx\tlabel\tpredict\tradius\tcorrect\n0\t1\t1\t0.5\t1\n", encoding="utf-8")
    code, out, _ = call(monkeypatch, capsys, "table", "run", "--recipe", "--radii", "0.5", "--format", "csv")
    assert code == 0 and out.splitlines()[1].startswith("run,ournet:build,,1,")
    assert call(monkeypatch, capsys, "plot", "run")[0] == 0
    assert not Path("imported").exists() and "ournet" not in sys.modules


@pytest.mark.parametrize("command", ["certify", "attack"])
@pytest.mark.parametrize("arch", ["cnn", "ournet:build"])
def test_a_run_of_our_own_networks_needs_no_arch(here, monkeypatch, capsys, command, arch):
    code, out, err = call(monkeypatch, capsys, command, ORDINARY, "--arch", arch, "--out", "new.tsv")
    assert (code, out) == (2, "") and not Path("new.tsv").exists() and not Path("imported").exists()
    assert err == f"rslab: arch: got '{arch}' with {ORDINARY}, which says what network it is, expected none.\n"


MISTAKES = {
    "absent:build": "which fails (ModuleNotFoundError: No module named 'absent')",
    "ournet:absent": "which fails (AttributeError: module 'ournet' has no attribute 'absent')",
    "ournet:": "which fails (AttributeError: module 'ournet' has no attribute '')",
    ":build": "which fails (ValueError: Empty module name)",
    "ournet:untrained": "which fails (TypeError: untrained() takes 1 positional argument but 2 were given)",
    "ournet:number": "which fails (TypeError: 'int' object is not callable)",
    "ournet:nothing": "which gave NoneType",
    "ournet:function": "which gave function",
    "torn:build": "which fails (SyntaxError: ",
    "quits:build": "which fails (SystemExit: 0)",
}


@pytest.mark.parametrize("arch", MISTAKES)
def test_what_is_no_network_is_one_sentence_and_begins_nothing(here, monkeypatch, capsys, arch):
    before = list(sys.path)
    code, out, err = call(monkeypatch, capsys, "train", "--arch", arch, "--epochs", 1, "--out", "new")
    assert (code, out) == (2, "") and err.startswith(f"rslab: arch: got '{arch}', {MISTAKES[arch]}")
    assert err.endswith("a function of the number of classes and of channels that gives a module.\n")
    assert err.count("\n") == 1 and not Path("new").exists() and sys.path == before


def test_a_file_that_was_not_there_a_moment_ago_is_found(here):
    with pytest.raises(InputError, match="No module named 'adds_later'"):
        build_model("adds_later:build", "digits", 10)
    times = here.stat().st_atime_ns, here.stat().st_mtime_ns
    (here / "adds_later.py").write_text("from ournet import build\n", encoding="utf-8")
    os.utime(here, ns=times)  # as a folder's clock that is too coarse would show it
    try:
        assert isinstance(build_model("adds_later:build", "digits", 10), nn.Module)
    finally:
        sys.modules.pop("adds_later", None)


def test_places_that_the_code_adds_to_the_path_stay_and_the_current_folder_goes(here):
    build_model("adds:build", "digits", 10)
    assert sys.path[-1] == "/elsewhere" and str(here) not in sys.path
    sys.path.append(str(here))
    build_model("adds:build", "digits", 10)
    assert sys.path[-2:] == ["/elsewhere", str(here)]  # it was there before


WRONG = """
from torch import nn

def linear(inputs, outputs): return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))

def few(num_classes, channels): return linear(64 * channels, num_classes - 1)
def many(num_classes, channels): return linear(64 * channels, num_classes + 2)
def maps(num_classes, channels): return nn.Conv2d(channels, num_classes, 1)
def small(num_classes, channels): return linear(32 * channels, num_classes)
def lazy(num_classes, channels): return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

class Pair(nn.Module):
    def __init__(self, num_classes, channels):
        super().__init__()
        self.f = linear(64 * channels, num_classes)
    def forward(self, x): return self.f(x), x
"""


@pytest.mark.parametrize("network", ["few", "many", "maps", "small", "lazy", "Pair"])
def test_wrong_logits_are_one_sentence_before_the_first_epoch(here, monkeypatch, capsys, network):
    (here / "wrong.py").write_text(WRONG, encoding="utf-8")
    try:
        code, out, err = call(monkeypatch, capsys, "train", "--arch", f"wrong:{network}", "--epochs", 1, "--out", "new")
    finally:
        sys.modules.pop("wrong", None)
    assert (code, out) == (2, "") and err.startswith("rslab: ") and err.count("\n") == 1
    assert not Path("new").exists()


@pytest.mark.parametrize(
    "network, said", [("few", "got 9 classes"), ("many", "got 12 classes"), ("small", "it fails on")]
)
def test_wrong_logits_are_not_certified(here, monkeypatch, capsys, network, said):
    (here / "wrong.py").write_text(WRONG, encoding="utf-8")
    config = files.read_json(ORDINARY / "config.json")
    config["train"] |= {"arch": f"wrong:{network}"}
    Path("run").mkdir()
    files.write_json(Path("run") / "config.json", config)
    try:
        files.save_weights(
            Path("run") / "weights.safetensors", build_model(f"wrong:{network}", "digits", 10).state_dict()
        )
        words = ("certify", "run", "--arch", f"wrong:{network}", "--n", 50, "--max", 1)
        code, out, err = call(monkeypatch, capsys, *words)
    finally:
        sys.modules.pop("wrong", None)
    assert (code, out) == (2, "") and said in err.splitlines()[-1] and "Traceback" not in err
    assert not Path("run/certify.tsv").exists()
