"""Every method's loss against the formula written out, and one epoch of each; how ε, η and pixels move."""

import math

import pytest
import torch
from helpers import normal, subset, uniform
from torch import nn

from rslab import attacks
from rslab.config import METHODS, TrainConfig
from rslab.data import LabeledImages
from rslab.errors import InputError, WorkError
from rslab.models import build_model
from rslab.randomness import generator_for
from rslab.losses import LOSSES, Step, frozen
from rslab.training import crop_and_flip, train, train_to_end

SIGMA, EPSILON = 0.25, 0.3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def few(digits) -> LabeledImages:
    return subset(digits, 48)


# -- the losses by hand --------------------------------------------------------------------


@pytest.fixture
def model():
    """Linear, three classes, so that batch norm plays no part: 12 pixels."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        network[1].weight.copy_(normal(3, 12, seed=5))
        network[1].bias.copy_(normal(3, seed=6))
    return network.train()


X, Y = 0.5 + 0.1 * normal(4, 3, 2, 2, seed=7), torch.tensor([0, 1, 2, 0])


def loss_of(model, method, samples=4, seed=3, **options) -> torch.Tensor:
    """The loss of each image by the package: (B,)."""
    config = TrainConfig(method=method, sigma=SIGMA, epsilon=EPSILON, samples=samples, steps=3, **options)
    loss, scores = LOSSES[method](model, X, Y, Step(config, EPSILON, seeded(seed)))
    assert loss.shape == (4,) and scores.shape == (4, 3) and loss.requires_grad
    return loss.detach()


def noise_of(samples=4, seed=3) -> torch.Tensor:
    return torch.randn(samples, *X.shape, generator=seeded(seed)) * SIGMA


def cross_entropies(model, copies) -> torch.Tensor:
    """The cross-entropy of each copy by itself: (m, B, …) → (m, B)."""
    return torch.stack([nn.functional.cross_entropy(model(copy), Y, reduction="none") for copy in copies]).detach()


def probabilities(model, copies) -> torch.Tensor:
    """p_y of each copy: (m, B)."""
    return (-cross_entropies(model, copies)).exp()


def ascent(loss) -> torch.Tensor:
    """Three ℓ2 steps of 2.5 ε / 3 on `loss(x)`, in the ball and the box: plainly written PGD."""
    x = X.clone()
    for _ in range(3):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x).sum(), x)
        step = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None] * 2.5 * EPSILON / 3
        x = (X + (x.detach() - X + step).renorm(2, 0, EPSILON)).clamp(0, 1)
    return x


def losses_under(model, noise):
    """−mean log F and −log mean F at x, as functions of x."""

    def mean_log(x):
        return -torch.stack([model(x + d).log_softmax(1) for d in noise]).mean(0)[range(4), Y]

    def log_mean(x):
        return -torch.stack([model(x + d).softmax(1) for d in noise]).mean(0)[range(4), Y].log()

    return mean_log, log_mean


def test_standard_is_the_cross_entropy(model):
    assert torch.allclose(loss_of(model, "standard"), cross_entropies(model, [X])[0], atol=1e-6)


def test_gaussian_is_the_mean_cross_entropy_of_the_noisy_copies(model):
    expected = cross_entropies(model, X + noise_of()).mean(0)
    assert torch.allclose(loss_of(model, "gaussian"), expected, atol=1e-5)


def test_smoothed_is_minus_log_of_the_mean_probability(model):
    expected = -probabilities(model, X + noise_of()).mean(0).log()
    assert torch.allclose(loss_of(model, "smoothed"), expected, atol=1e-5)
    assert (expected < loss_of(model, "gaussian")).all()


@pytest.mark.parametrize("outer", ["mean-ce", "log-mean"])
def test_smoothadv_attacks_g_and_updates_by_either_loss_on_the_same_noise(model, outer):
    noise = noise_of()
    _, log_mean = losses_under(model, noise)
    copies = ascent(log_mean) + noise
    by_mean_ce, by_log_mean = cross_entropies(model, copies).mean(0), -probabilities(model, copies).mean(0).log()
    expected = by_mean_ce if outer == "mean-ce" else by_log_mean
    assert torch.allclose(loss_of(model, "smoothadv", outer=outer), expected, atol=1e-4)
    assert not torch.allclose(by_mean_ce, by_log_mean, atol=1e-3)


def test_naive_attacks_the_mean_of_the_logs(model):
    noise = noise_of()
    mean_log, log_mean = losses_under(model, noise)
    expected = cross_entropies(model, ascent(mean_log) + noise).mean(0)
    assert torch.allclose(loss_of(model, "naive"), expected, atol=1e-4)
    assert not torch.allclose(expected, cross_entropies(model, ascent(log_mean) + noise).mean(0), atol=1e-4)


def attack_on_f(model) -> torch.Tensor:
    return ascent(lambda x: nn.functional.cross_entropy(model(x), Y, reduction="none"))


def test_adversarial_is_the_loss_at_the_attack_on_f_mixed_with_the_clean_one(model):
    adversarial = cross_entropies(model, [attack_on_f(model)])[0]
    assert torch.allclose(loss_of(model, "adversarial"), adversarial, atol=1e-4)
    clean = cross_entropies(model, [X])[0]
    expected = 0.75 * adversarial + 0.25 * clean
    assert torch.allclose(loss_of(model, "adversarial", clean=0.25), expected, atol=1e-4)


def test_combination_1_is_the_mean_of_adversarial_and_gaussian(model):
    expected = (loss_of(model, "adversarial") + loss_of(model, "gaussian")) / 2
    assert torch.allclose(loss_of(model, "combine1"), expected, atol=1e-6)


def test_combination_2_adds_the_noise_after_the_attack_on_f(model):
    expected = cross_entropies(model, attack_on_f(model) + noise_of()).mean(0)
    assert torch.allclose(loss_of(model, "combine2"), expected, atol=1e-4)


def test_combination_3_attacks_f_at_each_noisy_copy_by_itself(model):
    noise = noise_of()
    copies = torch.stack(
        [ascent(lambda x, d=d: nn.functional.cross_entropy(model(x + d), Y, reduction="none")) + d for d in noise]
    )
    assert torch.allclose(loss_of(model, "combine3"), cross_entropies(model, copies).mean(0), atol=1e-4)


def test_combinations_3_and_4_and_naive_are_one_with_a_single_noise_sample(model):
    of_4 = loss_of(model, "smoothadv", samples=1)
    assert torch.allclose(loss_of(model, "combine3", samples=1), of_4, atol=1e-5)
    assert torch.allclose(loss_of(model, "naive", samples=1), of_4, atol=1e-5)


def test_fgsm_training_takes_one_linf_step(model):
    found = loss_of(model, "adversarial", attack="fgsm", norm="linf")
    adversarial = attacks.fgsm(model, X, Y, EPSILON)
    assert torch.allclose(found, cross_entropies(model, [adversarial])[0], atol=1e-6)


def test_ddn_training_takes_the_loss_at_the_nearest_example(model):
    found = loss_of(model, "adversarial", attack="ddn")
    assert torch.allclose(found, cross_entropies(model, [attacks.ddn(model, X, Y, EPSILON, steps=3)])[0], atol=1e-5)
    clean, right = cross_entropies(model, [X])[0], model(X).argmax(1) == Y
    # What f gets wrong already is its own nearest adversarial example.
    assert right.any() and (found[right] > clean[right]).all() and torch.allclose(found[~right], clean[~right])


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_reaches_all_weights_and_leaves_the_model_as_it_was(method):
    network = build_model("cnn", "digits", 10).train()
    config = TrainConfig(method=method, sigma=SIGMA, epsilon=EPSILON, samples=2, steps=2)
    x, y = uniform(6, 1, 8, 8), torch.arange(6)
    loss, scores = LOSSES[method](network, x, y, Step(config, EPSILON, seeded()))
    loss.mean().backward()
    assert scores.shape == (6, 10) and loss.isfinite().all()
    assert network.training
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_attack_sees_batch_norm_in_eval_mode_and_frozen_restores():
    network = build_model("cnn", "digits", 10).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with frozen(network) as inside:
        assert not any(module.training for module in inside.modules())
        assert not any(parameter.requires_grad for parameter in inside.parameters())
        inside(uniform(4, 1, 8, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(RuntimeError), frozen(network.eval()):
        raise RuntimeError
    assert not network.training and all(parameter.requires_grad for parameter in network.parameters())


# -- one epoch of each ---------------------------------------------------------------------


def tiny(method: str, **options) -> TrainConfig:
    options = {"epochs": 1, "batch_size": 16, "steps": 2, "samples": 2, "sigma": SIGMA, "warmup": 0} | options
    return TrainConfig(method=method, **options)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_an_epoch(method, few):
    (record,) = train(tiny(method), data=few)
    assert math.isfinite(record["loss"]) and 0 <= record["accuracy"] <= 1
    assert (record["epoch"], record["epsilon"]) == (0, 0.5)
    assert record["model"](few.images).shape == (48, 10)


@pytest.mark.parametrize(
    "options",
    [
        {"attack": "ddn"},
        {"attack": "fgsm", "norm": "linf"},
        {"norm": "linf", "epsilon": 0.1, "random_start": True},
        {"outer": "log-mean"},
        {"step_size": 0.1},
        {"augment": True},
        {"schedule": "step", "momentum": 0.0},
        {"normalization": "center"},
    ],
)
def test_every_option_of_smoothadv_trains_an_epoch(options, few):
    (record,) = train(tiny("smoothadv", **options), data=few)
    assert math.isfinite(record["loss"])


def test_training_learns_the_digits(trained, digits_test):
    noisy = digits_test.images + normal(*digits_test.images.shape, seed=1) * 0.25
    assert (trained(digits_test.images).argmax(1) == digits_test.labels).float().mean() > 0.9
    assert (trained(noisy).argmax(1) == digits_test.labels).float().mean() > 0.7


def test_training_is_the_same_for_the_same_seed_and_untouched_by_the_global_one(few):
    def weights(seed, global_seed):
        torch.manual_seed(global_seed)
        return train_to_end(tiny("smoothadv", seed=seed), data=few)[1][0].weight

    assert torch.equal(weights(1, 0), weights(1, 5))
    assert not torch.equal(weights(1, 0), weights(2, 0))


def test_one_step_is_one_batch_with_all_its_copies(few):
    """Without momentum and decay the first step moves by lr times the gradient of the mean loss."""
    config = tiny("gaussian", batch_size=48, momentum=0.0, weight_decay=0.0, schedule="step", lr=0.5, samples=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        expected = build_model("cnn", "digits", 10).train()
    generator = generator_for("train", config.seed, 0)
    order = torch.randperm(48, generator=generator)
    x, y = few.images[order], few.labels[order]
    noise = torch.randn(3, *x.shape, generator=generator) * SIGMA
    nn.functional.cross_entropy(expected((x + noise).flatten(0, 1)), y.repeat(3)).backward()
    trained = train_to_end(config, data=few)
    for before, after in zip(expected.parameters(), trained.parameters(), strict=True):
        assert float((after - (before - 0.5 * before.grad)).abs().max()) < 1e-4


def test_epsilon_warms_up_linearly_to_its_full_size(few):
    config = tiny("smoothadv", epochs=6, epsilon=0.8, warmup=4, steps=1, samples=1)
    epsilons = [record["epsilon"] for record in train(config, data=subset(few, 16))]
    assert epsilons == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_learning_rates_follow_the_schedules(few):
    one_cycle = tiny("standard", epochs=10, batch_size=48, lr=0.2)
    rates = [record["lr"] for record in train(one_cycle, data=few)]
    assert rates == pytest.approx([0.2 * s for s in (0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)])
    step = tiny("standard", epochs=6, batch_size=48, lr=0.2, schedule="step")
    rates = [record["lr"] for record in train(step, data=few)]
    assert rates == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


def test_a_last_batch_of_one_image_is_left_out(few):
    (record,) = train(tiny("standard", batch_size=16), data=subset(few, 33))
    assert math.isfinite(record["loss"])


def test_a_loss_of_nan_stops_the_work(few):
    with pytest.raises(WorkError, match="loss: got nan in epoch .*lr"):
        list(train(tiny("standard", lr=1e30, epochs=3), data=few))


# -- crop and flip -----------------------------------------------------------------------


def test_crop_and_flip_only_move_pixels():
    """Each image is one of the 81 crops of its padded self, or the mirror image of one."""
    x = 0.1 + 0.9 * uniform(40, 3, 6, 6)
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    moved = crop_and_flip(x, seeded())
    seen = set()
    for i in range(40):
        crops = {
            (row, column): padded[i, :, row : row + 6, column : column + 6] for row in range(9) for column in range(9)
        }
        plain = [(*place, False) for place, crop in crops.items() if torch.equal(moved[i], crop)]
        mirrored = [(*place, True) for place, crop in crops.items() if torch.equal(moved[i], crop.flip(2))]
        assert len(plain + mirrored) == 1
        seen |= {*plain, *mirrored}
    assert len({row for row, _, _ in seen}) > 5 and len({flip for *_, flip in seen}) == 2


def test_crop_and_flip_take_another_place_for_each_image_and_the_same_for_a_seed():
    x = uniform(1, 1, 8, 8).expand(30, 1, 8, 8)
    moved = crop_and_flip(x, seeded())
    assert len(moved.flatten(1).unique(dim=0)) > 15
    assert torch.equal(moved, crop_and_flip(x, seeded()))


# -- CUDA --------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_an_epoch_on_cuda(method, few):
    (record,) = train(tiny(method, augment=True), device="cuda", data=few)
    assert math.isfinite(record["loss"])
    assert next(record["model"].parameters()).is_cuda


# -- bad options ---------------------------------------------------------------------------


def test_more_labels_than_images_are_refused(few):
    with pytest.raises(InputError, match="labels.*at most the 48 training images"):
        train_to_end(tiny("standard", labels=49), data=few)
