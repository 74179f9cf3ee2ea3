"""Published checkpoints, built here independently; safe loading; runs and logs on disk."""

import argparse
import gzip
import json
import os
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import normal, uniform
from torch import nn

from rslab.config import TrainConfig
from rslab.errors import InputError, WorkError
from rslab.networks.models import build_model
from rslab.store import checkpoints, files, logs, run_folder

# -- the published networks, as the literature's code builds them --------------------------


class Block(nn.Module):
    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        residual = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            residual = self.downsample(x)
        return self.relu(out + residual)


class PublishedResNet(nn.Module):
    """ResNet of depth 6n + 2 for CIFAR-10, as trained by Cohen et al. and Salman et al."""

    def __init__(self, depth):
        super().__init__()
        n = (depth - 2) // 6
        self.inplanes = 16
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self.make_layer(16, n)
        self.layer2 = self.make_layer(32, n, stride=2)
        self.layer3 = self.make_layer(64, n, stride=2)
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64, 10)

    def make_layer(self, planes, blocks, stride=1):
        downsample = None
        if stride != 1 or self.inplanes != planes:
            conv = nn.Conv2d(self.inplanes, planes, kernel_size=1, stride=stride, bias=False)
            downsample = nn.Sequential(conv, nn.BatchNorm2d(planes))
        layers = [Block(self.inplanes, planes, stride, downsample)]
        self.inplanes = planes
        return nn.Sequential(*layers, *(Block(planes, planes) for _ in range(1, blocks)))

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.avgpool(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.view(x.size(0), -1))


class NormalizeLayer(nn.Module):
    """Of Cohen et al.: subtracts the means and divides by the deviations."""

    def forward(self, x):
        means, sds = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
        return (x - means[None, :, None, None]) / sds[None, :, None, None]


class InputCenterLayer(nn.Module):
    """Of Salman et al.: subtracts the means alone."""

    def forward(self, x):
        return x - torch.tensor([0.4914, 0.4822, 0.4465])[None, :, None, None]


def published(depth, layer, seed=0) -> nn.Sequential:
    """A network whose batch norms have statistics that matter, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(layer, PublishedResNet(depth))
    for number, module in enumerate(network.modules()):
        if isinstance(module, nn.BatchNorm2d):
            width = module.num_features
            module.running_mean.copy_(0.1 * normal(width, seed=number))
            module.running_var.copy_(0.5 + uniform(width, seed=number))
            module.weight.data.copy_(0.5 + uniform(width, seed=number + 1))
            module.bias.data.copy_(0.1 * normal(width, seed=number + 1))
    return network.eval()


def save_checkpoint(path, network, arch, prefix="1.module."):
    """As the authors' training code writes it; `prefix` as (Data)Parallel leaves it."""
    states = {name.replace("1.", prefix, 1): tensor for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9).state_dict()
    torch.save({"epoch": 90, "arch": arch, "state_dict": states, "optimizer": optimizer}, path)
    return path


IMAGES = uniform(3, 3, 32, 32, seed=1)


@pytest.mark.parametrize("layer, name", [(NormalizeLayer(), "standard"), (InputCenterLayer(), "center")])
@pytest.mark.parametrize("prefix", ["1.module.", "module.1.", "1.", "module.1.module.", "", "module."])
def test_a_published_checkpoint_gives_the_same_logits(tmp_path, layer, name, prefix):
    theirs = published(20, layer)
    path = save_checkpoint(tmp_path / "checkpoint.pth.tar", theirs, "cifar_resnet20", prefix)
    ours, dataset = checkpoints.import_checkpoint(path, normalization=name)
    assert dataset == "cifar10" and not ours.training
    with torch.no_grad():
        assert torch.allclose(ours(IMAGES), theirs(IMAGES), atol=1e-4)
        other = checkpoints.import_checkpoint(path, normalization="center" if name == "standard" else "standard")[0]
        assert not torch.allclose(other(IMAGES), theirs(IMAGES), atol=1e-2)


def test_a_published_resnet110_gives_the_same_logits(tmp_path):
    theirs = published(110, NormalizeLayer())
    path = save_checkpoint(tmp_path / "checkpoint.pth.tar", theirs, "cifar_resnet110")
    ours, _ = checkpoints.import_checkpoint(path)
    with torch.no_grad():
        expected = theirs(IMAGES)
        assert torch.allclose(ours(IMAGES), expected, atol=1e-3 * float(expected.abs().max()))


def test_a_published_resnet50_gives_the_same_logits(tmp_path):
    from torchvision.models import resnet50

    theirs = resnet50(weights=None).eval()
    states = {f"1.module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"arch": "resnet50", "state_dict": states}, tmp_path / "checkpoint.pth.tar")
    ours, dataset = checkpoints.import_checkpoint(tmp_path / "checkpoint.pth.tar")
    assert dataset == "imagenet"
    x = uniform(1, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs((x - mean[:, None, None]) / std[:, None, None])
        assert torch.allclose(ours(x), expected, atol=1e-4)


def test_a_checkpoint_may_hold_its_normalisation_and_lack_the_batch_counters(tmp_path):
    theirs = published(20, NormalizeLayer())
    states = {n: t for n, t in theirs.state_dict().items() if not n.endswith("num_batches_tracked")}
    means = {"0.means": torch.tensor([0.4914, 0.4822, 0.4465])}
    torch.save({"arch": "cifar_resnet20", "state_dict": states | means}, tmp_path / "old")
    ours, _ = checkpoints.import_checkpoint(tmp_path / "old")
    with torch.no_grad():
        assert torch.allclose(ours(IMAGES), theirs(IMAGES), atol=1e-4)


@pytest.mark.parametrize(
    "name, values",
    [
        ("0.means", [0.0, 0.0, 0.0]),
        ("module.0.sds", [1.0, 2.0, 3.0]),
        ("0.weight", [[[[1.0]]]]),
        ("0.scale", [0.5, 0.5]),
    ],
)
def test_a_first_layer_that_is_not_ours_is_another_network(tmp_path, name, values):
    states = published(20, NormalizeLayer()).state_dict() | {name: torch.tensor(values)}
    torch.save({"arch": "cifar_resnet20", "state_dict": states}, tmp_path / "file")
    for normalization in ("standard", "center"):
        with pytest.raises(InputError, match="in the first layer, expected none, or .* another network than ours"):
            checkpoints.import_checkpoint(tmp_path / "file", normalization=normalization)


def test_deviations_in_the_first_layer_say_which_normalisation_it_is(tmp_path):
    states = published(20, NormalizeLayer()).state_dict() | {"0.sds": torch.tensor([0.2023, 0.1994, 0.2010])}
    torch.save({"arch": "cifar_resnet20", "state_dict": states}, tmp_path / "file")
    assert checkpoints.import_checkpoint(tmp_path / "file", normalization="standard")
    with pytest.raises(InputError, match="normalization 'center'"):
        checkpoints.import_checkpoint(tmp_path / "file", normalization="center")


class Payload:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Evaluate:
    """Unpickling this would evaluate a text."""

    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_checkpoint_with_a_payload_is_refused_and_does_not_run(tmp_path, writer):
    theirs = published(20, NormalizeLayer())
    content = {"arch": "cifar_resnet20", "state_dict": theirs.state_dict(), "best": Payload(tmp_path / "ran")}
    path = tmp_path / "checkpoint.pth.tar"
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="contains posix.system, which is not loaded|broken or would run code"):
        checkpoints.import_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_truncated_foreign_and_wrong_checkpoints_are_refused_in_a_sentence(tmp_path):
    theirs = published(20, NormalizeLayer())
    good = save_checkpoint(tmp_path / "good", theirs, "cifar_resnet20")
    content = torch.load(good, weights_only=True)

    def refused(what, match):
        path = tmp_path / "bad"
        path.write_bytes(what) if isinstance(what, bytes) else torch.save(what, path)
        with pytest.raises(InputError, match=match) as caught:
            checkpoints.import_checkpoint(path)
        assert "\n" not in str(caught.value)

    refused(good.read_bytes()[:5000], "bad: got")
    refused(b"", "bad: got an empty file")
    refused(b"idx\tlabel\n", "bad: got")
    refused([1, 2], "state_dict")
    refused({"arch": "cifar_resnet20"}, "state_dict")
    refused(content | {"arch": "vgg16"}, "arch 'vgg16', expected one of cifar_resnet20")
    refused(content | {"arch": "cifar_resnet110"}, "got no tensor '1.layer1.3.conv1.weight'")
    states = content["state_dict"]
    refused(content | {"state_dict": states | {"1.module.extra": torch.zeros(1)}}, "unknown tensor '1.extra'")
    refused(content | {"state_dict": states | {"1.module.conv1.weight": torch.zeros(1)}}, "of shape \\(1,\\), expected")
    refused(content | {"state_dict": states | {"1.module.bn1.bias": "text"}}, "expected tensors")
    refused(content | {"state_dict": {n: t for n, t in states.items() if "fc" not in n}}, "fc.weight")
    many = torch.zeros(1, 1).expand(10**12, 64)  # a file of a kilobyte
    refused(content | {"state_dict": states | {"1.module.fc.weight": many}}, "of 2 to 100000 classes")
    refused(content | {"state_dict": states | {"1.module.fc.weight": torch.zeros(0, 64)}}, "of 2 to 100000 classes")
    bias = next(name for name in states if name.endswith("fc.bias"))
    for odd in (torch.zeros(10).to_sparse(), torch.zeros(10, dtype=torch.cfloat), torch.zeros(10, dtype=torch.long)):
        refused(content | {"state_dict": states | {bias: odd}}, "expected (plain numbers|a checkpoint)")
    with pytest.raises(InputError, match="absent"):
        checkpoints.import_checkpoint(tmp_path / "absent")


def bare(theirs) -> dict[str, torch.Tensor]:
    """The tensors of the network alone, by its own names."""
    return theirs[1].state_dict()


def prefixed(prefix, states) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in states.items()}


class Numbers(Enum):
    """A type of the caller's own, which no file may ask for."""

    ONE = 1


BESIDE = {
    "numpy scalars": {"best": np.float64(0.5), "epoch": np.int64(3), "done": np.bool_(True), "lr": np.float32(0.1)},
    "numpy arrays": {"losses": np.linspace(0, 1, 5), "names": np.array(["a", "b"])},
    "options": {"args": argparse.Namespace(lr=0.1, out=Path("runs"), more=argparse.Namespace(a=1))},
    "dates and paths": {"at": datetime(2020, 1, 1), "took": timedelta(1), "place": Path("a/b")},
    "collections": {"seen": defaultdict(list, a=[1]), "count": Counter("abc"), "kept": {1, 2}, "size": torch.Size([1])},
}


@pytest.mark.parametrize("name", BESIDE)
def test_harmless_values_beside_the_weights_are_passed_over(tmp_path, name):
    theirs = published(20, NormalizeLayer())
    torch.save({"arch": "cifar_resnet20", "state_dict": theirs.state_dict(), **BESIDE[name]}, tmp_path / "file")
    with torch.no_grad():
        assert torch.allclose(checkpoints.import_checkpoint(tmp_path / "file")[0](IMAGES), theirs(IMAGES), atol=1e-4)


WAYS = {
    "bare": lambda states: states,
    "ordered": lambda states: OrderedDict(states),
    "under state_dict": lambda states: {"state_dict": states, "epoch": 3},
    "under model": lambda states: {"model": states, "optimizer": {"state": {}, "param_groups": []}},
    "under net": lambda states: {"net": states, "acc": 90.5},
    "under two": lambda states: {"model": {"state_dict": states}},
    "compiled": lambda states: prefixed("_orig_mod.", states),
    "compiled and parallel": lambda states: {"state_dict": prefixed("module._orig_mod.", states)},
    "parallel, then compiled": lambda states: prefixed("_orig_mod.module.", states),
    "in a class": lambda states: {"state_dict": prefixed("model.", states)},
    "in three": lambda states: prefixed("model.module._orig_mod.1.", states),
    "averaged": lambda states: prefixed("module.", states) | {"n_averaged": torch.tensor(7)},
    "averaged, under its own key": lambda states: {"ema": prefixed("ema_model.module.", states), "epoch": 3},
    "sharded": lambda states: prefixed("_fsdp_wrapped_module.", states),
    "checkpointed": lambda states: {"model_state": prefixed("_checkpoint_wrapped_module.", states)},
    "in half precision": lambda states: {n: t.half() if t.is_floating_point() else t for n, t in states.items()},
}


@pytest.mark.parametrize("name", WAYS)
def test_weights_that_fit_are_taken_however_they_were_saved(tmp_path, name):
    theirs = published(20, NormalizeLayer())
    torch.save(WAYS[name](bare(theirs)), tmp_path / "file")
    ours, dataset = checkpoints.import_checkpoint(tmp_path / "file")
    with torch.no_grad():
        assert dataset == "cifar10" and torch.allclose(ours(IMAGES), theirs(IMAGES), atol=1e-2, rtol=1e-2)


def test_the_network_is_known_by_its_tensors(tmp_path):
    for arch, dataset, classes in (
        ("resnet20", "cifar10", 100),
        ("resnet110", "cifar10", 10),
        ("resnet50", "imagenet", 7),
    ):
        states = build_model(arch, dataset, classes)[1].state_dict()
        torch.save(states, tmp_path / "file")
        ours, found = checkpoints.import_checkpoint(tmp_path / "file")
        assert found == dataset and all(torch.equal(ours.state_dict()[f"1.{n}"], t) for n, t in states.items())


def test_a_safetensors_file_that_fits_is_taken(tmp_path):
    theirs = published(20, NormalizeLayer())
    files.save_weights(tmp_path / "model.safetensors", bare(theirs))
    with torch.no_grad():
        ours = checkpoints.import_checkpoint(tmp_path / "model.safetensors")[0]
        assert torch.allclose(ours(IMAGES), theirs(IMAGES), atol=1e-4)
    (tmp_path / "half").write_bytes((tmp_path / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="no readable safetensors"):
        checkpoints.import_checkpoint(tmp_path / "half")


def test_a_file_that_is_no_checkpoint_is_called_what_it_is(tmp_path):
    theirs, path = published(20, NormalizeLayer()), tmp_path / "file"
    torch.save(theirs.state_dict(), path)
    whole = path.read_bytes()
    states = bare(theirs)
    linear = {name.replace("fc.", "linear."): tensor for name, tensor in states.items()}
    cases = [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer.*git lfs pull"),
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html>\n<html></html>", "a web page"),
        (b"<html><body>Sign in</body></html>", "a web page"),
        (whole[: len(whole) // 2], "an archive whose end is missing or damaged"),
        (gzip.compress(whole), "a file packed by gzip"),
        (theirs, r"contains .*Sequential, which is not loaded.*save model.state_dict\(\)"),
        # Python 3.11.2, Debian 12's, pickles a member of an Enum by getattr
        ({"state_dict": states, "kind": Numbers.ONE}, "contains .*(Numbers|builtins.getattr), which is not loaded"),
        ({"state_dict": states, "how": Evaluate()}, "contains builtins.eval, which is not loaded"),
        ({"epoch": 3, "best": 0.5}, "no 'state_dict' with tensors but epoch, best"),
        (linear | {"arch": "x"}, "got arch 'x'"),
        (linear, r"no matrix 'fc.weight' .* 'linear.weight' \(10, 64\), 'linear.bias' \(10,\)"),
        ({"a.weight": torch.zeros(3, 3)}, r"no arch and 1 tensors, the last 'a.weight' \(3, 3\), expected .* resnet20"),
        ({**states, "ema.scale": torch.zeros(1)}, "unknown tensor '1.ema.scale'"),
        ({**states, "model.fc.bias": torch.zeros(10)}, "got 'fc.bias' and 'model.fc.bias', expected .* one network"),
    ]
    for content, match in cases:
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(InputError, match=match) as caught:
            checkpoints.import_checkpoint(path)
        assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: got ")
    for inside, match in (("constants.pkl", "a TorchScript archive"), ("weights.pt", "torch.save did not write")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"model/{inside}", b"")
        with pytest.raises(InputError, match=match):
            checkpoints.import_checkpoint(path)


# -- whole files -------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "config.json"
    files.write_json(path, {"a": 1})

    def half(file):
        file.write_text('{"a": ', encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(WorkError, match="config.json: could not be written .*No space left"):
        files.write_whole(path, half)
    assert files.read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_nobody_sees_half_a_file(tmp_path):
    path = tmp_path / "deep" / "weights"

    def write(file):
        file.write_bytes(b"half")
        assert not path.exists()
        file.write_bytes(b"whole")

    files.write_whole(path, write)
    assert path.read_bytes() == b"whole"


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(WorkError, match="could not be written"):
        files.write_json(tmp_path / "file" / "config.json", {})
    with pytest.raises(WorkError, match="could not be written"):
        logs.append_row(tmp_path, (1, 2))


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "\x00", "[" * 100_000])
def test_json_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="config.json: got"):
        files.read_json(tmp_path / "config.json")


# -- weights and runs --------------------------------------------------------------------


def test_weights_come_back_bit_for_bit_and_others_are_refused(tmp_path):
    model, path = build_model("cnn", "digits", 10), tmp_path / "weights.safetensors"
    files.save_weights(path, model.state_dict())
    again = files.load_weights(path, build_model("cnn", "digits", 10))
    assert not again.training
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(InputError, match="of shape .*expected"):
        files.load_weights(path, build_model("cnn", "digits", 7))
    with pytest.raises(InputError, match="tensor"):
        files.load_weights(path, build_model("resnet20", "digits", 10))
    for content in (b"", path.read_bytes()[:1000], pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no readable safetensors"):
            files.load_weights(path, build_model("cnn", "digits", 10))


def changed_run(folder, change):
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda v: v.update(extra=1), "unknown key 'extra'"),
        (lambda v: v.pop("train"), "no key 'train'"),
        (lambda v: v["train"].update(extra=1), "unknown key 'extra'"),
        (lambda v: v["train"].pop("sigma"), "no 'sigma'"),
        (lambda v: v["train"].update(sigma="0.25"), "sigma: got '0.25', expected a number"),
        (lambda v: v["train"].update(epochs=True), "epochs: got True, expected a whole number"),
        (lambda v: v["train"].update(arch="vgg"), "arch"),
        (lambda v: v.update(train=[]), "expected an object"),
        (lambda v: v.update(num_classes=1), "num_classes = 1"),
        (lambda v: v.update(num_classes=10**9), "num_classes"),
    ],
)
def test_a_changed_configuration_is_refused(tmp_path, digits, change, match):
    values = run_folder.describe_run(TrainConfig(), digits)
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    (tmp_path / "weights.safetensors").touch()
    changed_run(tmp_path, change)
    with pytest.raises(InputError, match=match):
        run_folder.load_run(tmp_path)


def test_a_folder_that_is_no_run_and_a_run_without_weights_are_refused(tmp_path, digits):
    with pytest.raises(InputError, match="expected a run folder"):
        run_folder.load_run(tmp_path)
    files.write_json(tmp_path / "config.json", run_folder.describe_run(TrainConfig(), digits))
    assert run_folder.read_run(tmp_path) == (TrainConfig(), 10)
    with pytest.raises(InputError, match="no weights.safetensors.*--resume"):
        run_folder.load_run(tmp_path)


def test_floats_are_written_so_that_they_come_back_exactly():
    values = (0.1 + 0.2, 1 / 3, 5e-324, 0.95286, np.float64(2) / 3)
    row = logs.log_row(values)
    assert row.endswith("\n") and tuple(map(float, row.split("\t"))) == values
