"""Runs on disk: exact resume, refusals, pre-training, hidden labels and pseudo-labels."""

import json
import math
import shutil

import pytest
import torch
from helpers import subset, training_options, uniform

from rslab.config import TrainConfig
from rslab.data.datasets import LabeledImages
from rslab.errors import InputError, WorkError
from rslab.networks.models import build_model
from rslab.store import files, run_folder
from rslab.store.files import load_tensors, save_weights
from rslab.store.run_folder import read_history
from rslab.training.loop import train, train_to_end
from rslab.training.start import pseudo_labels

CONFIG = TrainConfig(method="smoothadv", epochs=4, batch_size=32, steps=2, samples=2, warmup=3, augment=True)


@pytest.fixture(scope="module")
def few(digits) -> LabeledImages:
    return subset(digits, 64)


def finish(config, out, data, **options) -> dict[str, torch.Tensor]:
    """Train to the end; the weights as they stand on disk."""
    for _ in train(config, out, data=data, **options):
        pass
    return load_tensors(out / "weights.safetensors")


def interrupt(config, out, data, epochs: int, **options) -> None:
    """Train and stop after so many epochs, as a kill between two epochs would."""
    steps = train(config, out, data=data, **options)
    for _ in range(epochs):
        next(steps)
    steps.close()


def records_without_seconds(out) -> list[dict]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in read_history(out)]


def changed(config: TrainConfig, **options) -> TrainConfig:
    return training_options(**config.to_dict() | options)


# -- the folder --------------------------------------------------------------------------


def test_a_run_folder_holds_configuration_weights_and_a_record_an_epoch(tmp_path, few):
    out = tmp_path / "runs" / "one"
    weights = finish(CONFIG, out, few)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "train.jsonl", "weights.safetensors"]
    values = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert values["train"] == CONFIG.to_dict() and values["data_checksum"] == few.checksum
    assert values["num_classes"] == 10 and values["torch"] == torch.__version__
    history = [json.loads(line) for line in (out / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["epoch"] for record in history] == [0, 1, 2, 3]
    assert history[0].keys() >= {"loss", "accuracy", "lr", "epsilon", "seconds"}
    model, config = run_folder.load_run(out)
    assert config == CONFIG and not model.training
    in_memory = train_to_end(CONFIG, data=few)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in in_memory.state_dict().items())
    assert torch.allclose(model(few.images), in_memory(few.images), atol=1e-5)


# -- exact resume --------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.0}, {"average": 0.9, "decayed": "matrices"}])
def test_a_resumed_run_gives_the_same_weights_and_records_bit_for_bit(tmp_path, few, stop, options):
    config = changed(CONFIG, **options)
    whole = finish(config, tmp_path / "whole", few)
    interrupt(config, tmp_path / "parts", few, stop)
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    torch.manual_seed(99)  # the global generator plays no part
    resumed = finish(config, tmp_path / "parts", few, resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert records_without_seconds(tmp_path / "whole") == records_without_seconds(tmp_path / "parts")
    assert not (tmp_path / "parts" / "resume.safetensors").exists()


def test_a_run_stopped_twice_and_with_a_torn_record_still_gives_the_same(tmp_path, few):
    whole = finish(CONFIG, tmp_path / "whole", few)
    out = tmp_path / "parts"
    interrupt(CONFIG, out, few, 1)
    steps = train(CONFIG, out, data=few, resume=True)
    next(steps)  # the finished epoch's record again
    next(steps)
    steps.close()
    with (out / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"epoch": 2, "lo')
    resumed = finish(CONFIG, out, few, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert records_without_seconds(tmp_path / "whole") == records_without_seconds(out)


def test_a_kill_between_record_and_state_loses_no_record(tmp_path, few):
    """The record of an epoch is on disk before its state: at a resume it may be one too many."""
    finish(CONFIG, tmp_path / "whole", few)
    out = tmp_path / "parts"
    interrupt(CONFIG, out, few, 2)
    with (out / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"epoch": 2, "loss": 7.0, "seconds": 1.0}\n')
    records = list(train(CONFIG, out, data=few, resume=True))
    assert [record["epoch"] for record in records] == [0, 1, 2, 3] and "model" in records[1]
    assert records_without_seconds(out) == records_without_seconds(tmp_path / "whole")


def test_a_finished_run_of_which_only_the_records_are_kept_is_not_trained_over(tmp_path, few):
    finish(CONFIG, tmp_path / "run", few)
    (tmp_path / "run" / "weights.safetensors").unlink()
    before = (tmp_path / "run" / "train.jsonl").read_bytes()
    with pytest.raises(InputError, match="a finished run without its weights, expected a new folder"):
        train(CONFIG, tmp_path / "run", data=few, resume=True)
    assert (tmp_path / "run" / "train.jsonl").read_bytes() == before


def test_a_run_stopped_between_its_last_state_and_its_weights_is_finished(tmp_path, few):
    whole = finish(CONFIG, tmp_path / "whole", few)
    interrupt(CONFIG, tmp_path / "part", few, epochs=3)
    steps = train(CONFIG, tmp_path / "part", data=few, resume=True)
    save = files.save_weights

    def full_disk(path, *rest):
        if path.name == "weights.safetensors":
            raise WorkError("disk: full")
        save(path, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(WorkError, match="full"):
        patch.setattr(files, "save_weights", full_disk)
        list(steps)
    assert not (tmp_path / "part" / "weights.safetensors").exists()
    again = finish(CONFIG, tmp_path / "part", few, resume=True)
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    assert not (tmp_path / "part" / "resume.safetensors").exists() and len(read_history(tmp_path / "part")) == 4


def test_a_run_killed_before_its_first_epoch_ended_begins_anew(tmp_path, few):
    whole = finish(CONFIG, tmp_path / "whole", few)
    out = tmp_path / "parts"
    train(CONFIG, out, data=few)  # writes config.json at the call
    assert (out / "config.json").exists()
    resumed = finish(CONFIG, out, few, resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_resuming_a_finished_run_trains_nothing_and_gives_its_records_again(tmp_path, few):
    finish(CONFIG, tmp_path / "run", few)
    before = (tmp_path / "run" / "weights.safetensors").read_bytes()
    again = list(train(CONFIG, tmp_path / "run", data=few, resume=True))
    assert again == read_history(tmp_path / "run") and len(again) == 4
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option, value", [("epsilon", 0.25), ("epochs", 5), ("seed", 1), ("method", "naive"), ("lr", 0.01)]
)
def test_a_changed_option_is_refused_on_resume(tmp_path, few, option, value):
    interrupt(CONFIG, tmp_path / "run", few, 1)
    files = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError, match=f"^{option}: got {value!r}, expected"):
        list(train(changed(CONFIG, **{option: value}), tmp_path / "run", data=few, resume=True))
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}


def test_the_folder_of_another_run_may_be_written_in_another_way(trained_run, tmp_path, few, monkeypatch):
    interrupt(changed(CONFIG, pretrained=str(trained_run)), tmp_path / "run", few, 1)
    monkeypatch.chdir(trained_run.parent)
    again = changed(CONFIG, pretrained=trained_run.name)
    assert len(list(train(again, tmp_path / "run", data=few, resume=True))) == 4


def test_other_data_are_refused_on_resume(tmp_path, few, digits):
    interrupt(CONFIG, tmp_path / "run", few, 1)
    with pytest.raises(InputError, match="^data: got checksum"):
        list(train(CONFIG, tmp_path / "run", data=subset(digits, 65), resume=True))


def test_an_existing_run_is_not_overwritten_without_resume(tmp_path, few):
    interrupt(CONFIG, tmp_path / "run", few, 1)
    with pytest.raises(InputError, match="holds a run already.*--resume"):
        list(train(CONFIG, tmp_path / "run", data=few))


@pytest.mark.parametrize("kind", ["folder with other files", "file"])
def test_a_place_that_holds_something_else_is_refused(tmp_path, few, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.mkdir()
        (out / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="^out: got .*holds other files"):
        list(train(CONFIG, out, data=few))


def test_bad_input_is_refused_at_the_call_and_writes_nothing(tmp_path, few):
    with pytest.raises(InputError, match="labels"):
        train(changed(CONFIG, labels=65), tmp_path / "run", data=few)
    assert not (tmp_path / "run").exists()


def test_a_broken_state_is_refused(tmp_path, few):
    interrupt(CONFIG, tmp_path / "run", few, 1)
    state = tmp_path / "run" / "resume.safetensors"
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="resume.safetensors"):
        list(train(CONFIG, tmp_path / "run", data=few, resume=True))
    save_weights(state, {"epoch": torch.tensor(0), "model.other": torch.zeros(1)})
    with pytest.raises(InputError, match="resume.safetensors: got another model's state"):
        list(train(CONFIG, tmp_path / "run", data=few, resume=True))
    state.write_bytes(content)
    whole = load_tensors(state)
    momentum = next(name for name in whole if name.startswith("momentum"))
    for odd in (
        {"epoch": torch.tensor(-3)},
        {"epoch": torch.tensor(math.nan)},
        {"epoch": torch.tensor(math.inf)},
        {momentum: torch.zeros(2, 2)},
    ):
        save_weights(state, whole | odd)
        with pytest.raises(InputError, match="resume.safetensors: got another model's state"):
            list(train(CONFIG, tmp_path / "run", data=few, resume=True))


def test_a_loss_of_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, few):
    """The learning rate climbs over the first fifth: two good epochs, then the weights burst."""
    config = changed(CONFIG, method="standard", epochs=10, lr=1e30, augment=False, batch_size=64)
    out = tmp_path / "run"
    with pytest.raises(WorkError, match="^loss: got .* in epoch"):
        list(train(config, out, data=few))
    history = read_history(out)
    assert history and all(math.isfinite(record["loss"]) for record in history)
    state = load_tensors(out / "resume.safetensors")
    assert int(state["epoch"]) == history[-1]["epoch"]
    assert not (out / "weights.safetensors").exists()


# -- pre-training --------------------------------------------------------------------------


def test_a_pretrained_run_starts_from_its_weights(trained_run, digits):
    config = TrainConfig(epochs=1, lr=1e-9, pretrained=str(trained_run), batch_size=64, momentum=0.0)
    started = train_to_end(config, data=subset(digits, 64)).state_dict()
    source = run_folder.load_run(trained_run)[0].state_dict()
    assert all(torch.allclose(started[name], source[name], atol=1e-6) for name in source if "weight" in name)


def test_a_pretrained_run_gets_a_new_head_where_the_classes_differ(trained_run, digits):
    three = digits.labels < 3
    data = LabeledImages("digits", digits.images[three][:64], digits.labels[three][:64], ("0", "1", "2"), "three")
    config = TrainConfig(epochs=1, lr=1e-9, pretrained=str(trained_run), batch_size=64, momentum=0.0)
    started = train_to_end(config, data=data).state_dict()
    source = run_folder.load_run(trained_run)[0].state_dict()
    *body, weight, bias = [name for name in source if "weight" in name or "bias" in name]
    assert all(torch.allclose(started[name], source[name], atol=1e-6) for name in body)
    assert started[weight].shape == (3, 64) and started[bias].shape == (3,)


def test_a_pretrained_run_of_another_architecture_or_other_channels_is_refused(trained_run, few, digits):
    with pytest.raises(InputError, match="^pretrained: got a run of arch 'cnn', expected 'resnet20'"):
        train_to_end(TrainConfig(arch="resnet20", epochs=1, pretrained=str(trained_run)), data=few)
    with pytest.raises(InputError, match="^pretrained: got '1.0.weight' of shape"):
        colour = LabeledImages("cifar10", uniform(8, 3, 32, 32), digits.labels[:8], digits.classes, "colour")
        train_to_end(TrainConfig(dataset="cifar10", epochs=1, pretrained=str(trained_run)), data=colour)


def test_a_pretrained_run_that_is_none_is_refused(tmp_path, few):
    with pytest.raises(InputError, match="expected a run folder"):
        train_to_end(TrainConfig(epochs=1, pretrained=str(tmp_path)), data=few)


# -- fewer labels, and a pool ----------------------------------------------------------------


def batches_of(monkeypatch, config, data) -> list[tuple]:
    """The batches (x, y) that the loss saw."""
    from rslab.training import loop

    seen = []
    plain = loop.LOSSES[config.method]

    def counting(model, x, y, step):
        seen.append((x, y))
        return plain(model, x, y, step)

    monkeypatch.setitem(loop.LOSSES, config.method, counting)
    train_to_end(config, data=data)
    return seen


def test_labels_keep_that_many_images_the_same_for_a_seed(monkeypatch, few):
    config = TrainConfig(method="standard", epochs=1, labels=20, seed=3)
    ((x, y),) = batches_of(monkeypatch, config, few)
    assert len(y) == 20
    of_image = {image.numpy().tobytes(): int(label) for image, label in zip(few.images, few.labels, strict=True)}
    assert all(of_image[image.contiguous().numpy().tobytes()] == int(label) for image, label in zip(x, y, strict=True))
    ((again, _),) = batches_of(monkeypatch, config, few)
    assert torch.equal(x, again)


def test_a_hidden_pool_is_trained_on_with_pseudo_labels(monkeypatch, few, trained_run):
    config = TrainConfig(
        method="standard", epochs=1, labels=20, unlabelled="hidden", pseudo_labels=str(trained_run), batch_size=64
    )
    ((x, y),) = batches_of(monkeypatch, config, few)
    assert len(y) == 64
    model = run_folder.load_run(trained_run)[0]
    with torch.no_grad():
        guessed = model(few.images).argmax(1)
    of_image = [image.numpy().tobytes() for image in few.images]
    guesses = dict(zip(of_image, guessed.tolist(), strict=True))
    truth = dict(zip(of_image, few.labels.tolist(), strict=True))
    keys = [image.contiguous().numpy().tobytes() for image in x]
    assert sum(int(k) == guesses[key] for key, k in zip(keys, y, strict=True)) >= 44
    assert sum(int(k) == truth[key] for key, k in zip(keys, y, strict=True)) >= 20
    assert set(keys) == set(of_image)


def test_a_pool_of_weight_zero_adds_nothing_to_the_loss(few, trained_run):
    pool = {"unlabelled": "hidden", "pseudo_labels": str(trained_run), "batch_size": 64}
    losses = {
        weight: next(train(TrainConfig(method="standard", epochs=1, labels=20, pool_weight=weight, **pool), data=few))
        for weight in (0.0, 0.5, 1.0)
    }
    assert len({record["loss"] for record in losses.values()}) == 3
    alone = next(train(TrainConfig(method="standard", epochs=1, labels=20, batch_size=64), data=few))
    # Batch norm sees the pool either way: near, not equal.
    assert losses[0.0]["loss"] == pytest.approx(alone["loss"], rel=0.25)


def test_pseudo_labels_are_the_argmax_of_the_run(trained_run, few):
    model = run_folder.load_run(trained_run)[0]
    with torch.no_grad():
        assert torch.equal(pseudo_labels(str(trained_run), few.images, 10), model(few.images).argmax(1))


def test_a_hidden_pool_without_an_image_is_refused(few, trained_run):
    config = changed(CONFIG, labels=64, unlabelled="hidden", pseudo_labels=str(trained_run))
    with pytest.raises(InputError, match="^unlabelled: got hidden with all 64 images labelled"):
        train(config, data=few)


def test_pseudo_labels_beyond_the_classes_are_refused(trained_run, few):
    with pytest.raises(InputError, match="^pseudo_labels: got a run of 10 classes, expected 3"):
        pseudo_labels(str(trained_run), few.images, 3)


def test_a_pool_of_other_images_is_refused(monkeypatch, trained_run, few):
    pool = LabeledImages("mnist", uniform(4, 1, 28, 28), torch.zeros(4, dtype=torch.long), few.classes, "pool")
    monkeypatch.setattr("rslab.training.loop.load_dataset", lambda name, split: pool)
    config = TrainConfig(epochs=1, unlabelled="mnist", pseudo_labels=str(trained_run))
    with pytest.raises(InputError, match=r"^unlabelled: got images of shape \(1, 28, 28\), expected \(1, 8, 8\)"):
        train_to_end(config, data=few)
    with pytest.raises(InputError, match="^unlabelled: got 'imagenet22k', expected one of hidden"):
        train_to_end(changed(config, unlabelled="imagenet22k"), data=few)


def test_a_trained_model_is_a_fresh_one_moved(few):
    """Training starts from the weights that the seed gives to `build_model`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        fresh = build_model("cnn", "digits", 10)
    started = train_to_end(TrainConfig(method="standard", epochs=1, lr=1e-9, seed=4), data=few)
    for before, after in zip(fresh.parameters(), started.parameters(), strict=True):
        assert torch.allclose(before, after, atol=1e-6)


def test_pseudo_labels_are_of_images_in_our_units_and_of_numbers(trained_run, few, tmp_path):
    for wrong in (255 * few.images, (few.images - 0.5) / 0.25, few.images * math.nan):
        with pytest.raises(InputError, match="^pool: got "):
            pseudo_labels(str(trained_run), wrong, 10)
    broken = tmp_path / "broken"
    shutil.copytree(trained_run, broken)
    model, _ = run_folder.load_run(broken)
    list(model.parameters())[-1].data[3] = math.nan
    save_weights(broken / "weights.safetensors", model.state_dict())
    with pytest.raises(WorkError, match="^pseudo_labels: the network of .* gave NaN"):
        pseudo_labels(str(broken), few.images, 10)


@pytest.mark.parametrize("left", [".config.json.123", ".weights.safetensors.9", ".resume.safetensors.4711"])
def test_what_a_kill_inside_a_write_left_is_no_other_file(few, tmp_path, left):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / left).write_bytes(b"half")
    assert len(list(train(changed(CONFIG, epochs=1), tmp_path / "run", data=few))) == 1
    assert not (tmp_path / "run" / left).exists()
