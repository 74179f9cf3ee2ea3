"""Networks: normalisation first, the published sizes, folding that changes nothing."""

import pytest
import torch
from helpers import normal, uniform
from torch import nn

from rslab.errors import InputError
from rslab.networks.inference import fold_batchnorm
from rslab.networks.models import STATISTICS, build_model, count_parameters

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


@pytest.mark.parametrize("arch", ["cnn", "strided-cnn", "resnet8-half", "resnet14-wide", "resnet20"])
@pytest.mark.parametrize("dataset", SHAPES)
def test_images_become_logits(arch, dataset):
    model = build_model(arch, dataset, 10).eval()
    with torch.no_grad():
        assert model(uniform(2, *SHAPES[dataset])).shape == (2, 10)


def test_resnet50_takes_imagenet():
    model = build_model("resnet50", "imagenet", 1000).eval()
    assert count_parameters(model) == 25_557_032  # as torchvision documents it
    with torch.no_grad():
        assert model(uniform(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("arch, layers, parameters", [("resnet20", 20, 269_722), ("resnet110", 110, 1_727_962)])
def test_cifar_resnets_have_the_published_depth_and_size(arch, layers, parameters):
    """He et al. count 0.27 M and 1.7 M weights; these have the 1×1 shortcuts of the published checkpoints, too."""
    model = build_model(arch, "cifar10", 10)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == layers  # and the linear layer
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert count_parameters(model) == parameters + shortcuts
    assert list(model.state_dict())[0] == "1.conv1.weight" and "1.layer3.0.downsample.1.bias" in model.state_dict()


def test_the_half_resolution_resnet_has_the_arithmetic_of_its_depth():
    """Half the height and width, twice the channels: a 3×3 block costs what it costs in the published network."""
    half = build_model("resnet8-half", "cifar10", 10)
    convolutions = 16 * 3 * 32 + 9 * (2 * 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128) + 32 * 64 + 64 * 128
    norms = 2 * (3 * 32 + 3 * 64 + 3 * 128)
    assert count_parameters(half) == convolutions + norms + 128 * 10 + 10
    shapes = {}
    for name, module in half.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    half.eval()(uniform(1, 3, 32, 32))
    assert [shapes[f"1.layer{k}"] for k in (1, 2, 3)] == [(32, 16, 16), (64, 8, 8), (128, 4, 4)]


def test_the_wide_resnet_is_the_published_one_four_times_as_wide():
    wide = build_model("resnet14-wide", "cifar10", 10)
    convolutions = 9 * (3 * 64 + 4 * 64 * 64 + 64 * 128 + 3 * 128 * 128 + 128 * 256 + 3 * 256 * 256)
    shortcuts, norms = 64 * 128 + 128 * 256, 2 * 5 * (64 + 128 + 256)
    assert count_parameters(wide) == convolutions + shortcuts + norms + 256 * 10 + 10


@pytest.mark.parametrize("dataset", STATISTICS)
def test_the_first_layer_normalises_and_holds_no_parameter(dataset):
    mean, std = (torch.tensor(values)[:, None, None] for values in STATISTICS[dataset])
    x = uniform(2, len(mean), 4, 4)
    for name, divisor in (("standard", std), ("center", torch.ones_like(std))):
        layer = build_model("cnn", dataset, 10, normalization=name)[0]
        assert torch.allclose(layer(x), (x - mean) / divisor, atol=1e-6)
        assert not layer.state_dict() and not list(layer.parameters())


def test_the_statistics_of_digits_are_those_of_its_training_images(digits):
    assert float(digits.images.mean()) == pytest.approx(STATISTICS["digits"][0][0], abs=1e-4)
    assert float(digits.images.std()) == pytest.approx(STATISTICS["digits"][1][0], abs=5e-5)


@pytest.mark.parametrize("arch, dataset", [("cnn", "digits"), ("strided-cnn", "mnist"), ("resnet20", "cifar10")])
def test_folding_batch_norm_changes_no_logit_and_not_the_model(arch, dataset):
    model = build_model(arch, dataset, 10)
    for number, module in enumerate(model.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(normal(module.num_features, seed=number))
            module.running_var.copy_(0.5 + uniform(module.num_features, seed=number))
    x = uniform(4, *SHAPES[dataset])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_batchnorm(model)
    with torch.no_grad():
        expected = model.eval()(x)
        assert torch.allclose(folded(x), expected, atol=1e-4 * float(expected.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_model_that_cannot_be_traced_is_folded_to_itself():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    model = Branching().train()
    assert fold_batchnorm(model) is model and not model.training


@pytest.mark.parametrize(
    "arguments, name",
    [
        (("vgg16", "digits", 10), "arch"),
        (("cnn", "svhn", 10), "dataset"),
        (("cnn", "digits", 10, "scaled"), "normalization"),
    ],
)
def test_unknown_names_are_refused(arguments, name):
    *arguments, normalization = arguments if len(arguments) == 4 else (*arguments, "standard")
    with pytest.raises(InputError, match=f"^{name}: got .*expected one of"):
        build_model(*arguments, normalization=normalization)
