"""A certificate is about the network that was given: networks of every odd kind, certified as themselves or refused."""

import functools
import itertools
import json
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import Always, normal, uniform
from torch import nn
from torch.nn.utils import parametrizations, prune

from rslab.data.datasets import LabeledImages
from rslab.errors import InputError, WorkError
from rslab.evaluate.attack import attack_dataset
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import AttackSettings, CertifySettings
from rslab.machine.devices import has_bfloat16
from rslab.networks.inference import InferenceNetwork, InPrecision, fold_in_place
from rslab.networks.models import ARCHITECTURES, STATISTICS, Normalize, build_model
from rslab.smoothing.classifier import SmoothedClassifier
from rslab.smoothing.function import difference, logits_of

K, SHAPE = 5, (1, 6, 6)


def used(model: nn.Module) -> nn.Module:
    """The model with weights and statistics that are not those of the start, in eval mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.2 + torch.rand(module.num_features, generator=generator))
    return model.eval()


def conv(inputs: int = 1, outputs: int = 4) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def net(*layers: nn.Module) -> nn.Sequential:
    """A network with `layers` from one channel to four inside."""
    return used(nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, K)))


def plain() -> nn.Sequential:
    return net(conv(), nn.BatchNorm2d(4))


class Forward(nn.Module):
    """A module with the parts and the `forward` that are given."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def odd(forward, **parts) -> nn.Module:
    return used(Forward(forward, head=nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, K)), **parts))


def hooked(place: str, kind: str) -> nn.Module:
    model = plain()
    module = {"root": model, "conv": model[0], "norm": model[1]}[place]
    if kind == "forward":
        module.register_forward_hook(lambda module, inputs, output: output.flip(1))
    elif kind == "pre":
        module.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0] - 1,))
    elif kind == "kwargs":
        module.register_forward_pre_hook(lambda module, args, kwargs: ((args[0] / 2,), kwargs), with_kwargs=True)
    elif kind == "always":
        module.register_forward_hook(lambda module, inputs, output: output + 1.0, always_call=True)
    return model


class Permuting(nn.Module):
    """A wrapper of somebody's own, with an attribute called `module`."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x).roll(1, 1)


def counting() -> nn.Module:
    def forward(self, x):
        self.calls.add_(1)
        return self.head(self.norm(self.conv(x)))

    model = odd(forward, conv=conv(), norm=nn.BatchNorm2d(4))
    model.register_buffer("calls", torch.zeros(()))
    return model


def uncopyable() -> nn.Module:
    model = plain()
    model.handle = (step for step in range(3))  # a generator is not to be copied
    return model


def own_forward() -> nn.Module:
    model = plain()
    model[1].forward = lambda x: x.flip(1)  # of the instance, where folding would take the class's
    return model


def old_style(function) -> nn.Module:
    model = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(model[0])
    return model


def jit(compile):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(plain())


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, dtype=torch.qint8)


def train_mode() -> nn.Module:
    return net(conv(), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()


def frozen_in_train_mode() -> nn.Module:
    model = net(conv(), nn.BatchNorm2d(4), conv(4), nn.BatchNorm2d(4)).train()
    model[1].eval()
    return model


def averaged() -> nn.Module:
    average = torch.optim.swa_utils.AveragedModel(plain(), use_buffers=True)
    average.update_parameters(plain())
    return average.eval()


def norm_read_elsewhere() -> nn.Module:
    return odd(
        lambda self, x: self.head(self.norm(self.conv(x)) * self.norm.weight.sum()), conv=conv(), norm=nn.BatchNorm2d(4)
    )


def functional() -> nn.Module:
    def forward(self, x):
        out = nn.functional.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
        return self.head(nn.functional.batch_norm(out, self.norm.running_mean, self.norm.running_var))

    return odd(forward, conv=conv(), norm=nn.BatchNorm2d(4))


def two_uses(self, x):
    return self.head(self.one(self.conv(x)) + self.two(self.conv(x)))


def recurrent(self, x):
    out = self.start(x)
    for norm in self.norms:
        out = torch.relu(norm(self.conv(out)))
    return self.head(out)


def tied() -> nn.Module:
    model = net(conv(4 // 4), nn.BatchNorm2d(4), conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.BatchNorm2d(4))
    model[5].weight = model[2].weight
    return model


MASK = torch.tensor([-1e9, 0.0, 0.0, -1e9, 0.0])


def masked(layer: nn.Module, mask: torch.Tensor = MASK) -> nn.Module:
    """A network with `layer` inside, two of whose classes are never to be answered."""
    return odd(lambda self, x: self.head(self.norm(self.layer(self.conv(x)))) + mask, conv=conv(), layer=layer,
               norm=nn.BatchNorm2d(4))  # fmt: skip


def around(function) -> nn.Module:
    """A plain network of what `function` makes of the images."""
    return odd(lambda self, x: self.head(self.conv(function(x))), conv=conv())


def seldom(draw) -> nn.Module:
    """A network that leaves its convolution's share out once in ten thousand times."""
    return odd(lambda self, x: self.head(self.conv(x) * (0.0 if draw() < 1e-4 else 1.0)), conv=conv())


def with_generator(generator, draw) -> nn.Module:
    model = odd(lambda self, x: self.head(self.conv(x) * (0.0 if draw(self.generator) < 1e-4 else 1.0)), conv=conv())
    model.generator = generator
    return model


def reused() -> nn.Module:
    """Noise of its own, written into one and the same tensor: every answer is the last."""

    def forward(self, x):
        self.answers[len(x)] = self.answers.get(len(x), torch.zeros(len(x), K))
        return self.answers[len(x)].copy_(self.head(self.conv(x + 0.01 * torch.randn_like(x))))

    model = odd(forward, conv=conv())
    model.answers = {}
    return model


class Merging(nn.Module):
    """A convolution with a correction that eval mode adds to its weights and train mode takes away, up to rounding."""

    def __init__(self):
        super().__init__()
        self.conv, self.more, self.merged = conv(), nn.Parameter(torch.zeros(4, 1, 3, 3)), False

    def train(self, mode: bool = True):
        if mode == self.merged:
            self.conv.weight.data += -self.more if mode else self.more
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        weight = self.conv.weight if self.merged else self.conv.weight + self.more
        return nn.functional.conv2d(x, weight, self.conv.bias, padding=1)


class Deploying(nn.Module):
    """Two branches that eval mode makes one convolution of, for good."""

    def __init__(self):
        super().__init__()
        self.one, self.two = conv(), conv()

    def train(self, mode: bool = True):
        if not mode and hasattr(self, "one"):
            self.both = conv()
            self.both.weight = nn.Parameter(self.one.weight + self.two.weight)
            self.both.bias = nn.Parameter(self.one.bias + self.two.bias)
            del self.one, self.two
        return super().train(mode)

    def forward(self, x):
        return self.one(x) + self.two(x) if hasattr(self, "one") else self.both(x)


def in_train_mode(module: nn.Module) -> nn.Module:
    model = nn.Sequential(module, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, K))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model


class FrozenNorms(nn.Sequential):
    """Keeps its batch norms in eval mode, in the usual way, and gives nothing back."""

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


class Remembering(nn.Module):
    """Keeps what it has computed of its weights for the next time, as tables of positions are kept."""

    def __init__(self):
        super().__init__()
        self.conv, self.scale, self.table = conv(), nn.Parameter(torch.ones(6)), None

    def forward(self, x):
        if self.table is None:
            self.table = torch.arange(6.0)
        return self.conv(x + self.table * self.scale)


def forward_around_itself() -> nn.Module:
    """A module whose forward was replaced by one that calls the first: a copy would call the original."""
    model = plain().train()
    forward = model.forward
    model.forward = lambda x: forward(x) / 2
    return model


def in_place(*changes) -> nn.Module:
    """A network that writes into the images that it is given."""

    def forward(self, x):
        for name, *values in changes:
            getattr(x, name)(*values)
        return self.head(self.norm(self.conv(x)))

    return odd(forward, conv=conv(), norm=nn.BatchNorm2d(4))


def distributed() -> nn.Module:
    return nn.parallel.DataParallel(plain().train())


def frozen_program(function) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(torch.jit.script(plain()))


def sparse() -> nn.Module:
    model = odd(lambda self, x: self.head(self.conv(x)) + self.bias.to_dense(), conv=conv())
    model.register_buffer("bias", torch.tensor([0.0, 0.0, 1.0, 0.0, -1.0]).to_sparse())
    return model


def exported() -> nn.Module:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(plain(), (torch.zeros(4, *SHAPE),), dynamic_shapes=dynamic).module()


def normalised(hook: bool = False) -> nn.Module:
    model = nn.Sequential(Normalize((0.3,), (0.2,)), plain())
    if hook:
        model.register_forward_hook(lambda module, inputs, output: -output)
    return model


CERTIFIED = {
    "plain": plain,
    "one convolution under two batch norms": lambda: odd(
        two_uses, conv=conv(), one=nn.BatchNorm2d(4), two=nn.BatchNorm2d(4)
    ),
    "one convolution again and again": lambda: odd(
        recurrent, start=conv(), conv=conv(4), norms=nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
    ),
    "one batch norm after two convolutions": lambda: odd(
        lambda self, x: self.head(self.norm(self.one(x)) + self.norm(self.two(x))),
        one=conv(), two=conv(), norm=nn.BatchNorm2d(4),
    ),
    "a convolution that is also read before its batch norm": lambda: odd(
        lambda self, x: self.head((lambda out: self.norm(out) + out)(self.conv(x))), conv=conv(), norm=nn.BatchNorm2d(4)
    ),
    "two convolutions with one weight": tied,
    "one module under two names": lambda: odd(
        lambda self, x: self.head(self.norm(self.one(x)) + self.two(x)),
        norm=nn.BatchNorm2d(4), **dict.fromkeys(("one", "two"), conv()),
    ),
    "functional": functional,
    "a batch norm whose weight is read": norm_read_elsewhere,
    "batch norm first": lambda: net(nn.BatchNorm2d(1), conv()),
    "batch norm after a ReLU": lambda: net(conv(), nn.ReLU(), nn.BatchNorm2d(4)),
    "batch norm without weights": lambda: net(conv(), nn.BatchNorm2d(4, affine=False)),
    "group norm": lambda: net(conv(), nn.GroupNorm(2, 4)),
    "layer norm": lambda: net(conv(), nn.LayerNorm((4, 6, 6))),
    "instance norm": lambda: net(conv(), nn.InstanceNorm2d(4, affine=True)),
    "instance norm with statistics": lambda: net(conv(), nn.InstanceNorm2d(4, track_running_stats=True)),
    "a view of its own": lambda: odd(lambda self, x: self.head(self.conv(x).reshape(len(x), -1)), conv=conv()),
    "strides": lambda: odd(lambda self, x: self.head(self.conv(x).contiguous().view(len(x), -1)), conv=conv()),
    "branches": lambda: odd(
        lambda self, x: self.head(self.norm(self.conv(x))) if len(x) >= 0 else x, conv=conv(), norm=nn.BatchNorm2d(4)
    ),
    "a counter in forward": counting,
    "a forward of the instance": own_forward,
    "not to be copied": uncopyable,
    "a wrapper with a module": lambda: Permuting(plain()),
    "DataParallel": lambda: nn.DataParallel(plain()),
    "a precision": lambda: InPrecision(plain(), "float32"),
    "an average of weights": averaged,
    "normalised": normalised,
    "normalised, and hooked": lambda: normalised(hook=True),
    "train mode": train_mode,
    "eval mode merges weights": lambda: in_train_mode(Merging()),
    "eval mode builds another network": lambda: in_train_mode(Deploying()),
    "batch norms kept in eval mode": lambda: FrozenNorms(*plain(), nn.Dropout(0.5)),
    "remembers": lambda: in_train_mode(Remembering()),
    "a forward around itself": forward_around_itself,
    "normalises in place": lambda: in_place(("sub_", 0.5), ("div_", 0.2)),
    "clips in place": lambda: in_place(("clamp_", 0.2, 0.8)),
    "DataParallel in train mode": distributed,
    "frozen program": lambda: frozen_program(torch.jit.freeze),
    "optimised program": lambda: frozen_program(lambda m: torch.jit.optimize_for_inference(torch.jit.freeze(m))),
    "a sparse buffer": sparse,
    "an attribute dtype": lambda: odd(lambda self, x: self.head(self.conv(x)), conv=conv(), dtype="float32"),
    "a double temperature": lambda: odd(
        lambda self, x: self.head(self.norm(self.conv(x))) / self.temperature.float(), conv=conv(),
        norm=nn.BatchNorm2d(4), temperature=nn.Parameter(torch.tensor([1.5], dtype=torch.float64)),
    ),
    "a seeded generator of its own, started anew": lambda: odd(
        lambda self, x: self.head(self.conv(x))
        + torch.randn(K, generator=torch.Generator().manual_seed(3)), conv=conv(),
    ),
    "an exported program": exported,
    "an exported program inside": lambda: nn.Sequential(Normalize((0.3,), (0.2,)), exported()),
    "compiled by the caller": lambda: torch.compile(plain(), backend="eager"),
    "masked classes": lambda: masked(nn.Identity()),
    "impossible classes": lambda: masked(nn.Identity(), torch.where(MASK < 0, -torch.inf, 0.0)),
    "a class that is never near": lambda: odd(lambda self, x: self.head(self.conv(x)) * MASK.add(1), conv=conv()),
    "logits of thousands": lambda: odd(lambda self, x: 1e6 * self.head(self.conv(x)) + 1e7, conv=conv()),
    "logits of millionths": lambda: odd(lambda self, x: 1e-7 * self.head(self.conv(x)), conv=conv()),
    "constant": lambda: odd(lambda self, x: 0 * self.head(x.expand(-1, 4, -1, -1)) + torch.arange(5.0)),
    "frozen in train mode": frozen_in_train_mode,
    "weight norm, old": lambda: old_style(nn.utils.weight_norm),
    "spectral norm, old": lambda: old_style(nn.utils.spectral_norm),
    "weight norm": lambda: net(parametrizations.weight_norm(conv()), nn.BatchNorm2d(4)),
    "spectral norm": lambda: net(parametrizations.spectral_norm(conv()), nn.BatchNorm2d(4)),
    "pruned": lambda: net(prune.l1_unstructured(conv(), "weight", 0.5), nn.BatchNorm2d(4)),
    "traced": lambda: jit(lambda model: torch.jit.trace(model, torch.zeros(2, *SHAPE))),
    "scripted": lambda: jit(torch.jit.script),
    "a graph": lambda: torch.fx.symbolic_trace(plain()),
    "half precision": lambda: plain().half(),
    "bfloat16": lambda: plain().bfloat16(),
    "double": lambda: plain().double(),
    "a function": lambda: plain().forward,
    "a lambda": lambda: (lambda f: lambda x: 3 * f(x))(plain()),
    "a partial": lambda: functools.partial(plain().forward),
    "votes": lambda: (lambda f: lambda x: nn.functional.one_hot(f(x).argmax(1), K).float())(plain()),
    **{
        f"{kind} hook of the {place}": functools.partial(hooked, place, kind)
        for place, kind in itertools.product(("root", "conv", "norm"), ("forward", "pre", "kwargs", "always"))
    },
}  # fmt: skip
REFUSED = {
    "dropout left on": (
        lambda: odd(lambda self, x: self.head(nn.functional.dropout(self.conv(x), 0.3, training=True)), conv=conv()),
        "two answers to one batch",
    ),
    "noise of its own": (
        lambda: odd(lambda self, x: self.head(self.conv(x + 0.01 * torch.randn_like(x))), conv=conv()),
        "two answers to one batch",
    ),
    "dropout beside masked classes": (
        lambda: masked(Always(lambda x: nn.functional.dropout(x, 0.3))), "two answers to one batch"
    ),
    "the mean of the batch beside masked classes": (
        lambda: masked(Always(lambda x: x - 0.1 * x.mean(0))), "depend on its neighbours"
    ),
    "torch's chance, seldom": (lambda: seldom(lambda: float(torch.rand(()))), "torch's own generator"),
    "Python's chance, seldom": (lambda: seldom(random.random), "Python's random"),
    "NumPy's chance, seldom": (lambda: seldom(np.random.random), "numpy.random"),
    "a generator of torch, seldom": (
        lambda: with_generator(torch.Generator(), lambda own: float(torch.rand((), generator=own))), "generator"
    ),
    "a generator of NumPy, seldom": (
        lambda: with_generator(np.random.default_rng(0), lambda own: own.random()), "generator"
    ),
    "a generator of Python, seldom": (
        lambda: with_generator(random.Random(0), lambda own: own.random()), "generator"
    ),
    "a generator in a list, seldom": (
        lambda: with_generator([np.random.default_rng(0)], lambda own: own[0].random()), "generator"
    ),
    "a generator of a callable object, seldom": (
        lambda: with_generator(functools.partial(random.Random(0).random), lambda own: own()), "generator"
    ),
    "a generator of what cannot be copied": (
        lambda: with_generator((torch.Generator(), (step for step in range(3))),
                               lambda own: float(torch.rand((), generator=own[0]))), "generator"
    ),
    "seeds everyone's generator": (
        lambda: around(lambda x: (torch.manual_seed(0), x + 0.1 * torch.randn_like(x))[1]), "or seeds them"
    ),
    "lazy layers": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(K)), "lazy layers"),
    "asks for more": (lambda: odd(lambda self, x: self.head(self.norm(x, x)), norm=nn.BatchNorm2d(1)), "TypeError"),
    "asks for another size": (
        lambda: odd(lambda self, x: [self.head(self.conv(x))][x.shape[-1] - 6 + (x.shape[-1] == 6)], conv=conv()),
        "IndexError: list index out of range",
    ),
    "an array": (lambda: odd(lambda self, x: self.head(self.conv(x)).detach().numpy(), conv=conv()), "from_numpy"),
    "nothing": (lambda: odd(lambda self, x: None, conv=conv()), r"got NoneType .* logits \(B, K\)\.$"),
    "noise in a tensor that is used again": (reused, "two answers to one batch"),
    "the size of the batch": (lambda: around(lambda x: x * len(x)), "depend on its neighbours"),
    "the first image": (lambda: around(lambda x: x - 0.1 * x[:1]), "depend on its neighbours"),
    "the last image": (lambda: around(lambda x: x - 0.1 * x[-1:]), "depend on its neighbours"),
    "the largest pixel": (lambda: around(lambda x: x / x.abs().max()), "depend on its neighbours"),
    "a trace of the batch's mean": (lambda: around(lambda x: x - 1e-3 * x.mean(0)), "depend on its neighbours"),
    "a little of the batch's mean in bfloat16": (
        lambda: around(lambda x: x - 0.05 * x.mean(0)).bfloat16(), "depend on its neighbours"
    ),
    "truth values": (lambda: odd(lambda self, x: self.head(self.conv(x)) > 0, conv=conv()), "bool"),
    "complex": (lambda: odd(lambda self, x: self.head(self.conv(x)) * 1j, conv=conv()), "complex"),
    "the mean of the batch": (
        lambda: odd(lambda self, x: self.head(self.conv(x - x.mean(0))), conv=conv()), "depend on its neighbours"
    ),
    "batch norm without statistics": (
        lambda: net(conv(), nn.BatchNorm2d(4, track_running_stats=False)), "depend on its neighbours"
    ),
    "attention over the batch": (
        lambda: odd(lambda self, x: self.head(self.conv(x)).softmax(0), conv=conv()), "depend on its neighbours"
    ),
    "quantised by the range of the batch": (quantised, "depend on its neighbours"),
    "a tuple": (lambda: odd(lambda self, x: (self.head(self.conv(x)), x), conv=conv()), r"got tuple .*f\(x\)\[0\]"),
    "a dict": (lambda: odd(lambda self, x: {"out": self.head(self.conv(x))}, conv=conv()), r"got dict .*\['out'\]"),
    "an object": (
        lambda: odd(lambda self, x: type("Output", (), {"logits": x})(), conv=conv()), r"got Output .*f\(x\)\.logits"
    ),
    "NaN": (lambda: odd(lambda self, x: self.head(self.conv(x)) * torch.nan, conv=conv()), "NaN"),
    "other classes": (lambda: odd(lambda self, x: self.head(self.conv(x))[:, :3], conv=conv()), "3"),
}  # fmt: skip
SETTINGS = CertifySettings(sigma=0.25, n0=10, n=60, alpha=0.1, batch_size=30, precision="float32")


@pytest.fixture(scope="module")
def data() -> LabeledImages:
    return LabeledImages("odd", uniform(2, *SHAPE), torch.tensor([0, 1]), tuple("abcde"), "0")


def state(model):
    """What a caller would miss if it were not given back as it came."""
    if not isinstance(model, nn.Module):
        return []
    modes = [getattr(module, "training", None) for module in model.modules()]
    tensors = [
        t.to_dense().clone()
        for name, t in model.state_dict().items()
        if isinstance(t, torch.Tensor) and name != "calls" and not nn.parameter.is_lazy(t)
    ]
    return [modes, [p.requires_grad for p in model.parameters()], tensors]


def same(one, two) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else same(a, b) if isinstance(a, list) else a == b
        for a, b in zip(one, two, strict=True)
    )


def counted(model, image, seed: int) -> list[int]:
    """The votes of the original, in eval mode, on the noise of `SmoothedClassifier` with this seed."""
    generator = torch.Generator().manual_seed(seed)
    votes = torch.zeros(K, dtype=torch.int64)
    with torch.inference_mode():
        for _ in range(2):
            noisy = image + 0.25 * torch.randn(30, *SHAPE, generator=generator)
            votes += torch.bincount(logits_of(model, noisy).argmax(1), minlength=K)
    return votes.tolist()


@pytest.mark.parametrize("name", CERTIFIED)
def test_votes_are_those_of_the_network_that_was_given(name, data):
    """A vote in sixty may fall the other way: the fast copy is rounded otherwise."""
    model = CERTIFIED[name]()
    before, expected = state(model), counted(model, data.images[0], 7)
    for f in (model, InferenceNetwork(model)) if isinstance(model, nn.Module) else (model,):
        smoothed = SmoothedClassifier(f, K, 0.25, 30)
        votes = smoothed.sample_under_noise(data.images[0], 60, generator=torch.Generator().manual_seed(7)).tolist()
        assert sum(abs(a - b) for a, b in zip(votes, expected, strict=True)) <= 2
    assert same(state(model), before)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile's own
@pytest.mark.parametrize("name", CERTIFIED)
def test_logs_are_about_the_network_that_was_given(name, data, tmp_path):
    model = CERTIFIED[name]()
    before = state(model)
    rows = list(certify_dataset(model, data, SETTINGS, tmp_path / "log.tsv"))
    attacked = AttackSettings(sigma=0.25, epsilon=0.1, steps=2, samples=2, n=50, batch_size=30, precision="float32")
    assert len(list(attack_dataset(model, data, attacked, tmp_path / "attack.tsv"))) == 2
    assert same(state(model), before)
    f = model if isinstance(model, nn.Module) else None
    for index, row in enumerate(rows):
        x = data.images[index] + 0.25 * normal(3000, *SHAPE, seed=5)
        with torch.inference_mode():
            logits = logits_of(f, x) if f is not None else model(x)
        share = float((logits.argmax(1) == row[2]).float().mean()) if row[2] >= 0 else 1.0
        assert share > 0.5  # a radius above 0 is of a class that the original's votes prefer


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_an_image_is_refused(name, data, tmp_path):
    build, said = REFUSED[name]
    model = build().train()
    before = state(model)
    with pytest.raises((InputError, WorkError), match=said) as error:
        SmoothedClassifier(model, K, 0.25, 30).certify(data.images[0], 10, 60, 0.1)
    assert str(error.value).count("\n") == 0
    with pytest.raises((InputError, WorkError), match=said):
        list(certify_dataset(model, data, SETTINGS, tmp_path / "log.tsv"))
    assert not list(tmp_path.iterdir())  # a log begins with a network that can be certified
    for sigma, objective in ((0.25, "smoothadv"), (0.0, "base")):
        settings = AttackSettings(sigma=sigma, objective=objective, steps=1, n=50, precision="float32")
        with pytest.raises((InputError, WorkError), match=said):
            list(attack_dataset(model, data, settings, tmp_path / f"attack-{sigma}.tsv"))
    assert not list(tmp_path.iterdir())
    assert same(state(model), before)


@pytest.mark.parametrize(
    "name", ["plain", "remembers", "normalises in place", "clips in place", "train mode", "eval mode merges weights"]
)
def test_data_and_weights_are_the_callers(name, data, tmp_path):
    """Images are not written over, and the network can be trained afterwards."""
    model, images = CERTIFIED[name](), data.images.clone()
    list(certify_dataset(model, data, SETTINGS, tmp_path / "log.tsv"))
    attacked = AttackSettings(sigma=0.25, epsilon=0.1, steps=2, samples=2, n=50, batch_size=30, precision="float32")
    list(attack_dataset(model, data, attacked, tmp_path / "attack.tsv"))
    SmoothedClassifier(model, K, 0.25, 30).certify(data.images[0], 10, 60, 0.1)
    assert torch.equal(data.images, images)
    if isinstance(model, nn.Module) and any(p.requires_grad for p in model.parameters()):
        model(data.images.to(next(model.parameters()).dtype).clone()).float().sum().backward()


@pytest.mark.skipif(not has_bfloat16("cpu"), reason="this CPU has no bfloat16 units")
@pytest.mark.parametrize("sigma, objective", [(0.25, "smoothadv"), (0.25, "naive"), (0.0, "base")])
def test_attacks_run_in_bfloat16(sigma, objective, data, tmp_path):
    settings = AttackSettings(sigma=sigma, objective=objective, steps=2, n=50, batch_size=30, precision="bfloat16")
    assert len(list(attack_dataset(plain(), data, settings, tmp_path / "attack.tsv"))) == 2
    assert '"precision": "bfloat16"' in (tmp_path / "attack.json").read_text(encoding="utf-8")


def test_what_fails_in_bfloat16_runs_as_the_fast_copy_in_float32(capsys):
    model = odd(lambda self, x: self.head(self.norm(self.conv(x)) * self.check(x)), conv=conv(), norm=nn.BatchNorm2d(4),
                check=Always(lambda x: 1 / (x.dtype == torch.float32)))  # fmt: skip
    network = InferenceNetwork(model, "bfloat16")
    x = uniform(3, *SHAPE)
    with torch.no_grad():
        assert torch.allclose(network(x), model(x), atol=1e-4)
    assert network.copied and network.dtype == torch.float32
    assert capsys.readouterr().err == (
        "Note: the network does not compute (ZeroDivisionError) in torch.bfloat16: float32 is used.\n"
    )


def test_a_copy_that_computes_other_logits_is_not_used(capsys):
    """Folded, the first layers round otherwise in bfloat16, which this network asks for by itself."""

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(self.norm(self.conv(x)))

    model = odd(forward, conv=conv(), norm=nn.BatchNorm2d(4))
    network = InferenceNetwork(model)
    with torch.no_grad():
        assert torch.equal(network(x := uniform(8, *SHAPE)), model(x).float())
    assert not network.copied
    assert "Note: the network computes other logits when batch norm is folded" in capsys.readouterr().err


def test_what_folds_but_is_hooked_is_left_alone():
    for place in (0, 1):
        model = plain()
        model[place].register_forward_hook(lambda module, inputs, output: output.flip(1))
        assert fold_in_place(model) == {}
    assert fold_in_place(plain()) == {"0": "1"}


def test_a_hook_on_a_wrapper_is_of_the_network():
    model = nn.DataParallel(plain())
    model.register_forward_hook(lambda module, inputs, output: output.flip(1))
    x = uniform(4, *SHAPE)
    with torch.no_grad():
        assert torch.allclose(InferenceNetwork(model)(x), model.module(x).flip(1), atol=1e-4)


@pytest.mark.parametrize(
    "ours, theirs, expected",
    [
        ([[1.0, 0.0]], [[1.0, 0.0]], 0.0),
        ([[1.0, 0.1]], [[1.0, 0.0]], 0.1),
        ([[1.0, 0.1, -1e9]], [[1.0, 0.0, -1e9 + 64]], 0.1),  # a masked class neither hides nor makes a difference
        ([[-torch.inf, 1.0, 0.1]], [[-torch.inf, 1.0, 0.0]], 0.1),
        ([[1e-40, 0.0]], [[2e-40, 0.0]], 0.5),
        ([[1.0, 0.0]], [[1.0, 0.0, 0.0]], torch.inf),
        ([[1.0, 0.0]], [[torch.inf, torch.inf]], torch.inf),
    ],
)
def test_a_difference_is_a_share_of_the_range_of_the_classes_that_can_win(ours, theirs, expected):
    found = difference(torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64))
    assert found == pytest.approx(expected, rel=1e-4)


def test_what_is_no_function_is_no_base_classifier():
    with pytest.raises(InputError, match="^model: got str, expected a module or a function"):
        SmoothedClassifier("resnet20", K, 0.25)


def test_views_of_activations_keep_the_fast_copy(capsys):
    model = odd(
        lambda self, x: self.head(self.norm(self.conv(x)).view(-1, 4 * 36)), conv=conv(), norm=nn.BatchNorm2d(4)
    )
    network = InferenceNetwork(model)
    with torch.no_grad():
        assert network(uniform(3, *SHAPE)).shape == (3, K) and network.copied
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert capsys.readouterr().err == ""


def test_what_numpy_computes_is_certified_and_its_gradient_refused(data, tmp_path):
    model = plain()
    weights = model(data.images).detach().numpy()  # something of NumPy's

    def f(x):
        return torch.from_numpy(x.numpy().reshape(len(x), -1)[:, :K] + weights[0])

    rows = list(certify_dataset(f, data, SETTINGS, tmp_path / "log.tsv"))
    assert len(rows) == 2
    settings = AttackSettings(sigma=0.25, steps=1, samples=2, n=50, precision="float32")
    with pytest.raises(InputError, match="fails on .* where a gradient is asked for, .* or --stein"):
        list(attack_dataset(f, data, settings, tmp_path / "attack.tsv"))
    assert not (tmp_path / "attack.tsv").exists()
    stein = replace(settings, stein=True)
    assert len(list(attack_dataset(f, data, stein, tmp_path / "attack.tsv"))) == 2


def test_quantised_weights_that_differ_anywhere_are_told_apart(tmp_path):
    data = LabeledImages("odd", uniform(1, 1, 16, 16), torch.tensor([0]), tuple("abcde"), "0")
    digests = []
    for changed in (0.0, 0.5):
        model = nn.Sequential(nn.Conv2d(1, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, K))
        used(model)[0].weight.data[30] += changed
        model = nn.Sequential(torch.ao.quantization.QuantStub(), model, torch.ao.quantization.DeQuantStub()).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.qconfig = torch.ao.quantization.get_default_qconfig("x86")
            prepared = torch.ao.quantization.prepare(model)
            prepared(data.images)
            quantised_model = torch.ao.quantization.convert(prepared)
            list(certify_dataset(quantised_model, data, SETTINGS, tmp_path / f"{changed}.tsv"))
        digests.append(json.loads((tmp_path / f"{changed}.json").read_text(encoding="utf-8"))["weights"])
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda images: torch.cat((images[:1], images[1:] + 1)), "data: got pixels from"),
        (lambda images: torch.cat((images[:1], images[1:] * torch.nan)), "data: got NaN"),
        (lambda images: images[:, 0], r"data: got shape \(2, 6, 6\)"),
        (lambda images: images[:, :, :0], r"data: got shape \(2, 1, 0, 6\)"),
        (lambda images: images[:0], "data: got no image"),
        (lambda images: (255 * images).byte().numpy(), "data: got torch.uint8"),
        (lambda images: images.tolist(), "data: got list"),
    ],
    ids=["the second too bright", "the second NaN", "three dimensions", "no rows", "none", "bytes", "a list"],
)
def test_data_that_cannot_be_certified_leave_no_log(wrong, said, data, tmp_path):
    images = wrong(data.images)
    bad = LabeledImages("bad", images, data.labels[: len(images)], data.classes, "0")
    attacked = AttackSettings(sigma=0.25, steps=1, n=50, precision="float32")
    for function, settings in ((certify_dataset, SETTINGS), (attack_dataset, attacked)):
        with pytest.raises(InputError, match=said):
            list(function(plain(), bad, settings, tmp_path / "log.tsv"))
        assert not list(tmp_path.iterdir())


def test_arrays_and_double_precision_are_the_same_data(data, tmp_path):
    rows = []
    for images in (data.images, data.images.numpy(), data.images.double(), data.images.double().numpy()):
        given = LabeledImages("odd", images, data.labels.numpy(), data.classes, "0")
        log = tmp_path / f"{len(rows)}.tsv"
        rows.append([row[:5] for row in certify_dataset(plain(), given, SETTINGS, log)])
    assert rows[0] == rows[1] == rows[2] == rows[3] and len(rows[0]) == 2


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_shipped_architecture_takes_the_fast_copy(arch, capsys):
    dataset = "imagenet" if arch == "resnet50" else "cifar10"
    model = used(build_model(arch, dataset, 10))
    for parameter in model.parameters():
        parameter.data.mul_(0.1)
    size = 64 if arch == "resnet50" else 32
    x = uniform(2, len(STATISTICS[dataset][0]), size, size)
    network = InferenceNetwork(model)
    with torch.no_grad():
        assert network(x).shape == (2, 10) and network.copied
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert capsys.readouterr().err == ""
