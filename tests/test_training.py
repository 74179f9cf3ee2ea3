"""The training loop: an epoch of each method, steps, schedules, augmentation, failures."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import normal, seeded, subset, training_options, uniform
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from rslab.config import METHODS, TrainConfig
from rslab.data.datasets import LabeledImages
from rslab.errors import InputError, WorkError
from rslab.machine.randomness import generator_for
from rslab.networks.models import build_model
from rslab.store import files, run_folder
from rslab.training.loop import crop_and_flip, train, train_to_end

SIGMA = 0.25


@pytest.fixture(scope="module")
def few(digits) -> LabeledImages:
    return subset(digits, 48)


# -- one epoch of each ---------------------------------------------------------------------


def tiny(method: str, **options) -> TrainConfig:
    options = {"epochs": 1, "batch_size": 16, "steps": 2, "samples": 2, "sigma": SIGMA, "warmup": 0} | options
    return training_options(method=method, **options)


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
    rate = 0.05  # the only step is in the middle of the run, after the first third
    with torch.no_grad():
        for before, after in zip(expected.parameters(), trained.parameters(), strict=True):
            error = (after - (before - rate * before.grad)).norm() / (rate * before.grad).norm()
            assert error < 0.05  # channels-last rounds in another order, which may tip a ReLU at 0


def test_the_running_average_is_kept_and_changes_nothing_of_the_training(few):
    """After each step t: average ← d average + (1 − d) weights, d = min(0.8, (1 + t)/(10 + t)), buffers too."""
    config = tiny("gaussian", epochs=3)
    seen: list[dict] = []

    def look(optimizer, *_):
        seen.append([parameter.detach().clone() for group in optimizer.param_groups for parameter in group["params"]])

    hook = register_optimizer_step_post_hook(look)
    try:
        records = list(train(replace(config, average=0.8), data=few))
    finally:
        hook.remove()
    expected = seen[0]
    for t, weights in enumerate(seen[1:], start=1):
        decay = min(0.8, (1 + t) / (10 + t))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, weights, strict=True)]
    kept = records[-1]["model"]
    for ours, theirs in zip(kept.parameters(), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    plain = list(train(config, data=few))
    assert [record["loss"] for record in records] == [record["loss"] for record in plain]
    last, average = (dict(model.named_buffers()) for model in (plain[-1]["model"], kept))
    moved = [name for name in last if name.endswith("running_mean") and not torch.equal(last[name], average[name])]
    assert moved and all(average[name].isfinite().all() for name in average)


def test_decay_can_spare_biases_and_batch_norm(few):
    """One step: a decayed weight w moves by lr (1 + momentum) decay w more, by Nesterov; the others by nothing more."""
    base = tiny("standard", batch_size=48, schedule="step", lr=0.5, momentum=0.5, weight_decay=0.0)
    plain, sparing, all_of_them = (
        dict(train_to_end(replace(base, **options), data=few).named_parameters())
        for options in ({}, {"weight_decay": 0.1, "decayed": "matrices"}, {"weight_decay": 0.1})
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(base.seed)
        start = dict(build_model("cnn", "digits", 10).named_parameters())
    for name, weight in plain.items():
        decay = 0.05 * 1.5 * 0.1 * start[name]
        assert torch.allclose(all_of_them[name], weight - decay, atol=1e-6)
        assert torch.allclose(sparing[name], weight - decay if weight.ndim > 1 else weight, atol=1e-6)
    assert any(start[name].ndim == 1 and start[name].any() for name in start)


def test_epsilon_warms_up_linearly_to_its_full_size(few):
    config = tiny("smoothadv", epochs=6, epsilon=0.8, warmup=4, steps=1, samples=1)
    epsilons = [record["epsilon"] for record in train(config, data=subset(few, 16))]
    assert epsilons == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_learning_rates_follow_the_schedules(few):
    one_cycle = tiny("standard", epochs=10, batch_size=48, lr=0.2)
    rates = [record["lr"] for record in train(one_cycle, data=few)]
    assert rates == pytest.approx(
        [0.2 * s for s in (0.25, 0.75, 0.9375, 0.8125, 0.6875, 0.5625, 0.4375, 0.3125, 0.1875, 0.0625)]
    )
    early = tiny("standard", epochs=4, batch_size=48, lr=0.2, rise=0.5)
    rates = [record["lr"] for record in train(early, data=few)]
    assert rates == pytest.approx([0.2 * s for s in (0.25, 0.75, 0.75, 0.25)])
    falling = tiny("standard", epochs=2, batch_size=48, lr=0.2, rise=0.0)
    assert [record["lr"] for record in train(falling, data=few)] == pytest.approx([0.15, 0.05])
    step = tiny("standard", epochs=6, batch_size=48, lr=0.2, schedule="step")
    rates = [record["lr"] for record in train(step, data=few)]
    assert rates == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


@pytest.mark.parametrize("schedule", ["one-cycle", "step"])
@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_every_step_has_a_learning_rate_above_0(few, schedule, epochs):
    config = tiny("standard", epochs=epochs, batch_size=48, schedule=schedule)
    assert all(record["lr"] > 0 for record in train(config, data=few))


def test_a_run_of_one_step_changes_the_weights(few):
    config = tiny("standard", epochs=1, batch_size=48)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        before = build_model("cnn", "digits", 10)
    after = train_to_end(config, data=few)
    assert all((a - b).norm() > 0 for a, b in zip(after.parameters(), before.parameters(), strict=True))


def test_a_warm_up_longer_than_the_run_reaches_epsilon_in_the_last_epoch(few):
    config = tiny("smoothadv", epochs=2, epsilon=0.8, warmup=10, steps=1, samples=1)
    assert [record["epsilon"] for record in train(config, data=subset(few, 16))] == pytest.approx([0.4, 0.8])


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


# -- a caller's data, and folders without an epoch -----------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: {"images": d.images * 255}, "^data: got pixels"),
        (lambda d: {"images": (d.images * 255).byte()}, "^data: got torch.uint8"),
        (lambda d: {"images": d.images / 0}, "^data: got NaN"),
        (lambda d: {"labels": d.labels + 1}, "^labels: got 10"),
        (lambda d: {"labels": d.labels - 1}, "^labels: got -1"),
        (lambda d: {"labels": d.labels[:-1]}, "^labels: got shape"),
        (lambda d: {"images": d.images[:0], "labels": d.labels[:0]}, "^data: got no image"),
    ],
)
def test_a_callers_data_are_checked_before_the_first_step(few, change, message):
    with pytest.raises(InputError, match=message):
        train(tiny("standard"), data=replace(few, **change(few)))


def test_labels_and_images_of_other_types_train_alike(few):
    other = replace(few, images=few.images.double(), labels=few.labels.to(torch.uint8))
    (one,), (two,) = (train(tiny("standard"), data=data) for data in (few, other))
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_that_failed_in_its_first_epoch_may_begin_anew_with_a_lower_lr(few, tmp_path, resume):
    with pytest.raises(WorkError, match="lower lr"):
        list(train(tiny("standard", lr=1e30), tmp_path / "run", data=few))
    records = list(train(tiny("standard", lr=0.01), tmp_path / "run", data=few, resume=resume))
    assert len(records) == 1 and (tmp_path / "run" / "weights.safetensors").exists()


def test_a_kill_inside_the_first_write_leaves_a_usable_folder(few, tmp_path):
    (tmp_path / ".config.json.12345").write_text("{", encoding="utf-8")
    list(train(tiny("standard"), tmp_path, data=few))
    assert not list(tmp_path.glob(".config*")) and (tmp_path / "weights.safetensors").exists()


def test_of_two_starters_on_one_folder_one_trains(few, tmp_path):
    first = train(tiny("standard"), tmp_path / "run", data=few)
    with pytest.raises(WorkError, match="another process is writing here"):
        train(tiny("standard", lr=0.01), tmp_path / "run", data=few)
    assert len(list(first)) == 1


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda data: replace(data, images=data.images.permute(0, 2, 3, 1)), "model: got one for 1 channels"),
        (lambda data: replace(data, labels=0 * data.labels, classes=("0",)), "data: got 1 class, expected 2 or more"),
        (lambda data: replace(data, images=data.images[:0], labels=data.labels[:0]), "data: got no image"),
        (lambda data: replace(data, images=255 * data.images), "data: got pixels from 0 to 255"),
    ],
    ids=["channels last", "one class", "none", "bytes"],
)
def test_data_that_no_network_could_learn_from_are_refused(few, change, said):
    with pytest.raises(InputError, match=said):
        list(train(TrainConfig(epochs=1), data=change(few)))


def test_distances_beyond_the_cube_are_noted(few, capsys):
    train(tiny("gaussian", sigma=64.0), data=few)
    assert "Note: sigma = 64, but images in [0, 1] lie within 8 of each other." in capsys.readouterr().err
    train(tiny("adversarial", epsilon=128.0), data=few)
    assert "Note: epsilon = 128, but images in [0, 1] lie within 8 of each other." in capsys.readouterr().err
    train(tiny("gaussian"), data=few)
    assert capsys.readouterr().err == ""


def test_weights_may_be_stored_in_half_of_the_size(few, tmp_path):
    """The matrices rounded to bfloat16, vectors whole; the run folder gives the rounded model."""
    config = tiny("gaussian", epochs=1)
    for stored in ("float32", "bfloat16"):
        list(train(replace(config, stored=stored), tmp_path / stored, data=few))
    whole, half = (files.load_tensors(tmp_path / name / "weights.safetensors") for name in ("float32", "bfloat16"))
    assert whole.keys() == half.keys() and {value.ndim > 1 for value in whole.values()} == {True, False}
    for name, value in whole.items():
        assert half[name].dtype == (torch.bfloat16 if value.ndim > 1 else value.dtype)
        assert torch.equal(half[name], value.to(half[name].dtype))
    model, _ = run_folder.load_run(tmp_path / "bfloat16")
    assert all(torch.equal(value, half[name].to(value.dtype)) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match="^stored: got 'float16', expected one of float32, bfloat16"):
        replace(config, stored="float16")
