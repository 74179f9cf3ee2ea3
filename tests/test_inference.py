"""Networks made fast: the same function as the plain model, within stated rounding, in every precision."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from helpers import normal, subset, uniform
from torch import nn

from rslab import attacks
from rslab.config import TrainConfig
from rslab.errors import InputError, WorkError
from rslab.evaluate.attack import attack_dataset
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import AttackSettings, CertifySettings
from rslab.machine import devices
from rslab.machine.devices import choose_precision, has_bfloat16
from rslab.networks.compiled import CompiledNetwork, missing_compiler
from rslab.networks.inference import InferenceNetwork, InPrecision
from rslab.networks.models import build_model
from rslab.smoothing.classifier import log_mean_probs
from rslab.training.losses import Step, smoothadv_loss

# Relative to the largest entry. bfloat16 keeps 8 bits: half a unit is 2⁻⁹ a rounding, and there are 20 layers.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16("cpu"), reason="this CPU has no bfloat16 units")
precisions = pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])


def used(arch: str, dataset: str) -> nn.Module:
    """A model whose batch norms are not those of the start."""
    torch.manual_seed(0)
    model = build_model(arch, dataset, 10)
    for number, module in enumerate(model.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * normal(module.num_features, seed=number))
            module.running_var.copy_(0.5 + uniform(module.num_features, seed=number))
    return model.eval()


def close(ours: torch.Tensor, plain: torch.Tensor, tolerance: float) -> bool:
    return float((ours - plain).detach().abs().max()) <= tolerance * float(plain.detach().abs().max())


@precisions
@pytest.mark.parametrize("arch, dataset, shape", [("cnn", "digits", (1, 8, 8)), ("resnet20", "cifar10", (3, 32, 32))])
def test_logits_and_gradients_are_the_plain_models(arch, dataset, shape, precision):
    model, x, y = used(arch, dataset), uniform(6, *shape).requires_grad_(), torch.arange(6)
    network = InferenceNetwork(model, precision)
    noise = 0.25 * normal(3, 6, *shape)
    losses, gradients = [], []
    for f in (network, model):
        loss = attacks.negative_log_likelihood(log_mean_probs(f, x, noise), y)
        losses.append(loss.detach())
        gradients += torch.autograd.grad(loss.sum(), x)
    assert network(x).dtype == torch.float32
    assert close(network(x), model(x), TOLERANCE[precision])
    assert close(*losses, TOLERANCE[precision])
    # the direction is what an attack follows
    cosine = nn.functional.cosine_similarity(*(gradient.flatten(1) for gradient in gradients))
    assert float(cosine.min()) > (0.9999 if precision == "float32" else 0.95)
    assert all(parameter.requires_grad for parameter in model.parameters())


@precisions
def test_a_training_step_has_the_loss_and_gradients_of_the_plain_step(precision):
    """SmoothAdv on ResNet-20, m = 2: loss and weight gradients against eval-mode PGD by hand in float32."""
    model, x, y = used("resnet20", "cifar10"), uniform(4, 3, 32, 32), torch.arange(4)
    config = TrainConfig(method="smoothadv", steps=2, samples=2, epsilon=0.5, precision=precision)
    noise = 0.25 * torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(5))
    adversarial = attacks.pgd(lambda z: log_mean_probs(model, z, noise), x, y, 0.5, steps=2, keep="last")
    model.train()
    network = InPrecision(copy.deepcopy(model), precision)  # a pass in train mode moves the running statistics
    plain = nn.functional.cross_entropy(model((adversarial + noise).flatten(0, 1)), y.repeat(2))
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(plain, list(model.parameters()))])
    loss, scores = smoothadv_loss(network, x, y, Step(config, 0.5, torch.Generator().manual_seed(5)))
    ours = torch.cat([g.flatten() for g in torch.autograd.grad(loss.mean(), list(network.parameters()))])
    assert loss.dtype == scores.dtype == ours.dtype == torch.float32
    plain, loss = plain.detach(), loss.detach()
    assert float(loss.mean()) == pytest.approx(float(plain), rel=1e-4 if precision == "float32" else 0.02)
    cosine = float(nn.functional.cosine_similarity(ours, expected, dim=0))
    assert cosine > (0.9999 if precision == "float32" else 0.9)


def test_a_model_that_cannot_be_traced_is_copied_and_followed():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return self.layer(x.flatten(1)) * (1 if x.sum() > 0 else -1)

    model, x = Branching().train(), uniform(3, 1, 2, 2)
    network = InferenceNetwork(model)
    assert torch.equal(network(x), model(x))
    assert model.training and not network.training and all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        model.layer.weight.add_(1)
    assert not torch.equal(network(x), model(x)) and torch.equal(network.follow()(x), model(x))


# -- precision -----------------------------------------------------------------------------


def test_the_default_is_the_fastest_that_the_device_has_and_others_are_refused(monkeypatch):
    for native, fastest in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(devices, "has_bfloat16", lambda device, native=native: native)
        assert choose_precision("auto", "cpu") == fastest
        assert choose_precision("float32", "cpu") == "float32"
    with pytest.raises(InputError, match="^precision: got 'bfloat16', expected 'float32' or 'auto': cpu has no bf"):
        choose_precision("bfloat16", "cpu")
    with pytest.raises(InputError, match="^precision: got 'float16', expected one of auto, float32, bfloat16"):
        choose_precision("float16", "cpu")
    with pytest.raises(InputError, match="^precision: got 'half'"):
        CertifySettings(sigma=0.25, precision="half")
    with pytest.raises(InputError, match="^precision: got 'half'"):
        AttackSettings(sigma=0.25, precision="half")
    with pytest.raises(InputError, match="^precision: got 'half'"):
        TrainConfig(precision="half")


CERTIFY = CertifySettings(sigma=0.25, n0=20, n=400, alpha=0.01, max=12)


@needs_bfloat16
def test_bfloat16_certifies_what_float32_does_and_the_log_says_which(trained, digits_test, tmp_path):
    """Votes differ where a noisy image lies within rounding of the decision boundary: a few in 400."""
    counts = {}
    for precision in ("float32", "bfloat16"):
        log = tmp_path / f"{precision}.tsv"
        settings = CertifySettings(**{**CERTIFY.__dict__, "precision": precision})
        counts[precision] = torch.tensor([row[6] for row in certify_dataset(trained, digits_test, settings, log)])
        assert json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))["precision"] == precision
    assert int((counts["float32"] - counts["bfloat16"]).abs().max()) <= 8
    assert not torch.equal(counts["float32"], torch.full_like(counts["float32"], 400))


def test_a_resumed_log_keeps_the_precision_and_batch_size_in_which_it_began(
    trained, digits_test, tmp_path, monkeypatch
):
    """Also one from before either could be chosen, or compiling asked for."""
    log, few = tmp_path / "certify.tsv", subset(digits_test, 20)
    settings = CertifySettings(**{**CERTIFY.__dict__, "precision": "float32", "batch_size": 256})
    rows = certify_dataset(trained, few, settings, log)
    next(rows)
    rows.close()
    began = json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))
    assert began.pop("compile") is False
    log.with_suffix(".json").write_text(json.dumps(began), encoding="utf-8")
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: True)
    assert len(list(certify_dataset(trained, few, CERTIFY, log, resume=True))) == 11
    ended = json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))
    assert (ended["precision"], ended["batch_size"], ended["compile"]) == ("float32", 256, False)
    other = CertifySettings(**{**CERTIFY.__dict__, "precision": "bfloat16"})
    with pytest.raises(InputError, match="^precision: got 'bfloat16', expected 'float32' as .* began"):
        certify_dataset(trained, few, other, log, resume=True)


# -- attacks on several images at once -----------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"restarts": 2},
        {"attack": "ddn"},
        {"attack": "fgsm", "steps": 20, "norm": "linf", "epsilon": 0.1},
        {"restarts": 2, "norm": "linf", "epsilon": 0.1, "objective": "naive"},
        {"stein": True},
        {"sigma": 0.0, "objective": "base", "samples": 32},
    ],
)
def test_rows_do_not_depend_on_how_many_images_are_attacked_at_a_time(trained, digits_test, tmp_path, options):
    few = subset(digits_test, 20)
    common = {"sigma": 0.25, "epsilon": 0.5, "steps": 3, "samples": 4, "n": 200, "max": 7, "precision": "float32"}
    found = {}
    for batch in (1, 3, None):
        settings = AttackSettings(**{**common, **options, "batch": batch})
        rows = attack_dataset(trained, few, settings, tmp_path / f"{batch}.tsv")
        found[batch] = [row[:5] for row in rows]
    assert found[1] == found[3] == found[None] and len(found[1]) == 7


def test_each_image_in_a_batch_suffers_what_it_would_alone(trained, digits_test):
    from rslab.evaluate.attack import attack_batch

    x, y = digits_test.images[:5], digits_test.labels[:5]
    settings = AttackSettings(sigma=0.25, steps=4, samples=3, restarts=2)

    def seeded(i):
        return torch.Generator().manual_seed(i)

    together = attack_batch(trained, x, y, settings, [seeded(i) for i in range(5)])
    alone = torch.cat([attack_batch(trained, x[i : i + 1], y[i : i + 1], settings, [seeded(i)]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(
        together, attack_batch(trained, x, y, settings, [seeded(i + 1) for i in range(5)]), atol=1e-3
    )


# -- compiled ------------------------------------------------------------------------------


def test_compiled_votes_are_the_networks_and_the_log_says_so(trained, digits_test, tmp_path):
    if missing_compiler():
        pytest.skip("no C++ compiler")
    votes = {}
    for compile in (True, False):
        log = tmp_path / f"{compile}.tsv"
        votes[compile] = [row[2] for row in certified_rows(trained, digits_test, log, compile=compile)]
        assert json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))["compile"] is compile
    assert all(abs(a - b) <= 2 for a, b in zip(*votes.values(), strict=True))  # a vote at a tie may fall either way


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("graph", [True, False])
def test_compiled_for_a_gpu_with_and_without_a_graph_each_batch_gets_its_own_logits(graph):
    network = InferenceNetwork(used("resnet20", "cifar10").cuda())
    compiled = CompiledNetwork(network, 32, (3, 32, 32), "cuda", graph)
    with torch.inference_mode():
        for seed in range(4):  # the graph is recorded in the second call
            x = uniform(30, 3, 32, 32, seed=seed).cuda()
            assert close(compiled(x), network(x), 0.01)  # another image is far off


def test_a_compiled_network_sees_one_shape_only_and_gives_each_image_its_own_logits(monkeypatch):
    shapes = set()

    def network(x):
        shapes.add(tuple(x.shape))
        return x.flatten(1)

    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    compiled = CompiledNetwork(network, 32, (1, 2, 2), "cpu")
    for size in (32, 7, 1):
        x = uniform(size, 1, 2, 2, seed=size)
        assert torch.equal(compiled(x), x.flatten(1))
    assert shapes == {(32, 1, 2, 2)}


def certified_rows(model, data, log, **options) -> list[tuple]:
    """(class, radius, votes) a row, in float32."""
    settings = CertifySettings(sigma=0.25, n0=20, n=200, max=2, batch_size=32, precision="float32", **options)
    return [(row[2], row[3], row[6]) for row in certify_dataset(model, data, settings, log)]


def test_without_a_compiler_one_sentence_says_so_and_the_log_too(trained, digits_test, tmp_path, monkeypatch, capsys):
    plain = certified_rows(trained, digits_test, tmp_path / "plain.tsv")
    monkeypatch.setenv("CXX", "no-such-compiler")
    log = tmp_path / "a.tsv"
    assert certified_rows(trained, digits_test, log, compile=True) == plain
    assert capsys.readouterr().err == (
        "Note: --compile: needs the C++ compiler no-such-compiler, which is not here: not compiled.\n"
    )
    assert json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))["compile"] is False


def raises(x):
    raise RuntimeError("no header\nand a page of it")


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (raises, "the compiler failed (RuntimeError: no header)"),
        (
            lambda x: x.flatten(1)[:, :10] * torch.nan,
            "its logits differ from the plain network's by nan of their range",
        ),
        (lambda x: x.flatten(1)[:, :10] * 1e9, "its logits differ from the plain network's by "),
    ],
)
def test_a_compiled_network_is_not_trusted_before_one_batch_agrees(
    trained, digits_test, tmp_path, monkeypatch, capsys, wrong, sentence
):
    plain = certified_rows(trained, digits_test, tmp_path / "plain.tsv")
    monkeypatch.setenv("CXX", "true")  # a compiler that is there
    monkeypatch.setattr(torch, "compile", lambda network, **options: wrong)
    log = tmp_path / "a.tsv"
    assert certified_rows(trained, digits_test, log, compile=True) == plain
    said = capsys.readouterr().err
    assert said.startswith(f"Note: --compile: {sentence}") and said.endswith(": not compiled.\n")
    assert said.count("\n") == 1
    assert json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))["compile"] is False


def test_a_compiler_that_fails_is_a_work_error_with_its_first_line(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, **options: raises)
    with pytest.raises(WorkError, match=r"^the compiler failed \(RuntimeError: no header\)$"):
        CompiledNetwork(nn.Identity(), 4, (1, 2, 2), "cpu")


def test_the_compilers_cache_is_this_processors_own(monkeypatch, tmp_path):
    seen = []

    def compiler(network, **options):
        return lambda x: seen.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])) or network(x)

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    for isa in ("SSE41", "AVX2", "SSE41"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
        CompiledNetwork(nn.Identity(), 4, (1, 2, 2), "cpu")
    assert seen[0] == seen[2] != seen[1] and {folder.parent for folder in seen} == {tmp_path}
