"""Files that someone else wrote, and places that are no files: a sentence or a sound result, never a traceback.

10,000 generated files in all: valid ones that were cut, stretched, reordered, doubled, re-encoded, or filled
with NULs and huge numbers, and plain noise.
"""

import io
import json
import math
import os
import pickle
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import symlink
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from rslab.config import TrainConfig
from rslab.errors import InputError, WorkError
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import CertifySettings
from rslab.experiments.recipes import RECIPES, carry_out, read_recipe
from rslab.networks.models import build_model
from rslab.report import tables
from rslab.store import checkpoints, files, logs, run_folder
from rslab.store.run_folder import read_history
from rslab.training.loop import train

many = settings(max_examples=34 * settings().max_examples)
ODD = ("", "\0", "nan", "inf", "-1", "1e999", "9" * 400, "0x10", "½", "true", "null", "-", "\u202e", "[", "{", "\ud7ff")


def mangle(content: bytes, draw) -> bytes:
    """One to three injuries, each drawn at random."""
    for _ in range(draw(st.integers(1, 3))):
        cut = draw(st.integers(0, len(content)))
        end = draw(st.integers(cut, min(len(content), cut + 200)))
        odd = draw(st.sampled_from(ODD)).encode()
        lines = content.split(b"\n")
        row = draw(st.integers(0, len(lines) - 1))
        fields = lines[row].split(b"\t")
        fields[draw(st.integers(0, len(fields) - 1))] = odd
        content = draw(
            st.sampled_from(
                (
                    content[:cut],
                    content[:cut] + content[end:],
                    content[:cut] + odd + content[end:],
                    content[:cut] + content[cut:end] * 3 + content[end:],
                    b"\n".join((*lines[:row], b"\t".join(fields), *lines[row + 1 :])),
                    b"\n".join((*lines[:row], lines[row], *lines[row:])),
                    b"\n".join((lines[0], *reversed(lines[1:]))),
                    content.decode("utf-8", "replace").encode(draw(st.sampled_from(("utf-16", "utf-8-sig")))),
                    content[:cut] + draw(st.binary(max_size=30)) + content[cut:],
                )
            )
        )
    return content


@st.composite
def injured(draw, whole: bytes) -> bytes:
    return mangle(whole, draw) if draw(st.integers(0, 9)) else draw(st.binary(max_size=300))


def sound_or_refused(read, path, content: bytes):
    """What `read` gives, or None with one sentence; the file itself stays as it is."""
    path.write_bytes(content)
    try:
        result = read(path)
    except (InputError, WorkError) as error:
        sentence = str(error)
        assert sentence.endswith((".", "…")) and len(sentence) < 2000
        result = None
    assert path.read_bytes() == content
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


# -- logs --------------------------------------------------------------------------------

OURS = (
    "idx\tlabel\tpredict\tradius\tcorrect\ttime\tcount_a\tn\tn0\talpha\n"
    "0\t3\t3\t0.7263129\t1\t0:00:01.5\t9990\t10000\t100\t0.001\n"
    "20\t5\t-1\t0.0\t0\t0:00:01.25\t5010\t10000\t100\t0.001\n"
    "40\t1\t2\t0.125\t0\t1 day, 0:00:01\t8000\t10000\t100\t0.001\n"
)
PUBLISHED = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.953\t1\t0:00:14.5\n20\t5\t-1\t0.0\t0\t0:00:14.6\n"


@pytest.mark.parametrize("whole", [OURS, PUBLISHED])
def test_a_log_gives_sound_numbers_or_a_sentence(place, whole):
    @many
    @given(injured(whole.encode()))
    def check(content):
        log = sound_or_refused(logs.read_log, place / "log.tsv", content)
        if log is None or not len(log):
            return
        row = tables.accuracy_table({"log": log}, (0.0, 0.25)).iloc[0]
        assert 0 <= row[0.25] <= row[0.0] <= 100
        assert math.isfinite(row["ACR"]) and row["ACR"] >= 0

    check()


def test_a_whole_log_is_read(place):
    assert len(sound_or_refused(logs.read_log, place / "log.tsv", OURS.encode())) == 3


# -- runs --------------------------------------------------------------------------------


def config_json() -> bytes:
    values = ("0.1", "3.11", "2", 10, "0" * 64, TrainConfig().to_dict())
    return json.dumps(dict(zip(run_folder.RUN_KEYS, values, strict=True)), indent=1).encode()


@many
@given(injured(config_json()))
def test_a_config_is_one_of_ours_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "config"
    folder.mkdir(exist_ok=True)
    found = sound_or_refused(lambda path: run_folder.read_run(path.parent), folder / "config.json", content)
    if found is not None:
        config, classes = found
        assert isinstance(config, TrainConfig) and 2 <= classes <= 100_000


def test_weights_are_whole_or_refused(place):
    model = build_model("cnn", "digits", 10)
    whole = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    fresh = build_model("cnn", "digits", 10)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}

    @settings(max_examples=16 * settings().max_examples)
    @given(injured(whole[:4000]), st.booleans())
    def check(head, complete):
        content = head + whole[4000:] if complete else head
        result = sound_or_refused(lambda path: files.load_weights(path, fresh), place / "w.safetensors", content)
        if result is None:  # refused: nothing was filled in
            assert all(torch.equal(before[name], tensor) for name, tensor in fresh.state_dict().items())
        else:
            fresh.load_state_dict(before)

    check()


@many
@given(injured(b'{"epoch": 0, "loss": 1.5, "seconds": 2.0}\n{"epoch": 1, "loss": 1.2, "seconds": 2.0}\n'))
def test_a_history_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "train.jsonl"
    found = sound_or_refused(lambda file: read_history(file.parent), path, content)
    assert found is None or all(isinstance(record, dict) for record in found)


@many
@given(injured((RECIPES / "digits.toml").read_bytes()))
def test_a_plan_is_carried_out_as_written_or_refused(tmp_path_factory, content):
    plan = sound_or_refused(read_recipe, tmp_path_factory.getbasetemp() / "recipe.toml", content)
    if plan is not None:
        names = [run.name for run in plan]
        assert plan and len(set(names)) == len(names)
        assert not any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names)


# -- checkpoints -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint_bytes():
    state = {f"module.{k[2:]}": v for k, v in build_model("resnet20", "cifar10", 10).state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"arch": "cifar_resnet20", "state_dict": state, "epoch": 1}, buffer)
    return buffer.getvalue()


def test_a_checkpoint_is_whole_or_refused(place, checkpoint_bytes):
    @settings(max_examples=6 * settings().max_examples)
    @given(st.integers(0, len(checkpoint_bytes)), st.integers(0, 400), st.binary(max_size=50))
    def check(at, length, filling):
        content = checkpoint_bytes[:at] + filling + checkpoint_bytes[at + length :]
        result = sound_or_refused(checkpoints.import_checkpoint, place / "checkpoint.pth.tar", content)
        assert result is None or result[1] == "cifar10"

    check()


class Payload:
    """What a hostile pickle does when it is opened."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("form", ["legacy", "zip", "plain"])
def test_a_pickle_with_a_payload_is_refused_and_not_run(place, form):
    marker, path = place / f"ran-{form}", place / "payload.pth.tar"
    hostile = {"arch": "cifar_resnet20", "state_dict": Payload(marker)}
    if form == "plain":
        path.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, path, _use_new_zipfile_serialization=form == "zip")
    match = "broken or would run code" if form == "plain" else "contains io.open, which is not loaded"
    with pytest.raises(InputError, match=match):
        checkpoints.import_checkpoint(path)
    assert not marker.exists()
    with path.open("rb") as file, pytest.warns(ResourceWarning):  # and it is a real payload: here it runs
        if form == "plain":
            pickle.load(file)
        else:
            torch.load(file, weights_only=False)
        import gc

        gc.collect()
    assert marker.exists()


def test_a_checkpoint_that_unpacks_to_far_more_than_it_weighs_is_refused(place, checkpoint_bytes):
    bomb = place / "bomb.pth.tar"
    with (
        zipfile.ZipFile(io.BytesIO(checkpoint_bytes)) as whole,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        for name in whole.namelist():
            zipped.writestr(name, whole.read(name))
        zipped.writestr("archive/data/999999", b"\0" * 50_000_000)
    assert bomb.stat().st_size < 5_000_000
    with pytest.raises(InputError):
        checkpoints.import_checkpoint(bomb)


# -- places that are no files ----------------------------------------------------------------
# Each case is a command of its own, ended after a minute: what hangs or eats the memory fails.


@pytest.fixture(scope="module")
def mkfifo():
    """Makes a named pipe; the test is skipped where there are none, or not the devices that stand beside them."""
    if not hasattr(os, "mkfifo") or not Path("/dev/full").exists():
        pytest.skip("needs the named pipes and devices of Linux")
    return os.mkfifo


@pytest.fixture(scope="module")
def odd_places(tmp_path_factory, mkfifo):
    """A folder with one of each: a pipe, a socket, a device, a folder, a file of a terabyte of zeros."""
    folder = Path(tmp_path_factory.mktemp("odd"))
    mkfifo(folder / "pipe")
    symlink(folder / "zero", "/dev/zero")
    symlink(folder / "full", "/dev/full")
    (folder / "folder").mkdir()
    (folder / "folder" / "note").write_text("mine", encoding="utf-8")
    (folder / "file").write_text("?!", encoding="utf-8")
    with (folder / "sparse").open("wb") as file:
        file.truncate(2**40)
    here = Path.cwd()
    os.chdir(folder)  # the name of a socket may be 100 bytes long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    os.chdir(here)
    return folder


def said(*words, cwd) -> str:
    """The one sentence with which the command is refused, with exit code 2 and nothing else said."""
    command = [sys.executable, "-m", "rslab", *map(str, words)]
    with subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as running:
        try:
            out, err = running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            running.kill()
            raise
    assert running.returncode == 2, err
    assert out == "" and err.startswith("rslab: ") and err.count("\n") == 1, err
    return err


def refusal(monkeypatch, capsys, *words) -> str:
    """The same in this process, which is quicker. What is known beforehand, such as the largest radius, may be said."""
    from rslab.cli import main

    monkeypatch.setattr(sys, "argv", ["rslab", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, ""), err
    sentences = [line for line in err.splitlines() if not line.startswith("Largest radius")]
    assert len(sentences) == 1 and sentences[0].startswith("rslab: "), err
    return sentences[0]


@pytest.mark.parametrize("name, kind", [("pipe", "a named pipe"), ("zero", "a device"), ("/dev/stdin", "a named pipe")])
def test_what_would_hang_or_never_end_is_refused_as_a_run(odd_places, name, kind):
    assert f"got {kind}, expected a run folder or a checkpoint" in said("certify", name, cwd=odd_places)


@pytest.mark.parametrize("name", ["pipe", "socket", "zero", "full", "sparse", "folder", "absent", "file", ""])
@pytest.mark.parametrize(
    "before, after",
    [
        (["certify"], []),
        (["certify"], ["--sigma", 0.5, "--out", "new"]),
        (["attack"], []),
        (["attack", "RUN", "--transfer"], ["--out", "new"]),
        (["table"], []),
        (["table", "--attacks"], []),
        (["reproduce"], []),
        (["train", "--pretrained"], ["--out", "new"]),
        (["train", "--labels", 100, "--unlabelled", "hidden", "--pseudo-labels"], ["--out", "new"]),
    ],
    ids=["run", "checkpoint", "attack", "transfer", "log", "attacks", "plan", "pretrained", "labels"],
)
def test_what_is_no_file_to_read_is_refused_in_a_sentence(
    odd_places, trained_run, monkeypatch, capsys, before, after, name
):
    monkeypatch.chdir(odd_places)
    words = [trained_run if word == "RUN" else word for word in before]
    refusal(monkeypatch, capsys, *words, name, *after)
    assert not (odd_places / "new").exists()


PLACES = ["", ".", "/", "..", "pipe", "socket", "full", "/dev/full", "pipe/below", "file/below"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["certify", "attack", "train", "demo", "reproduce", "resume"])
def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(
    odd_places, trained_run, monkeypatch, capsys, command, place
):
    monkeypatch.chdir(odd_places)
    words = {
        "certify": ["certify", trained_run, "--max", 1],
        "attack": ["attack", trained_run, "--max", 1],
        "train": ["train"],
        "demo": ["demo"],
        "reproduce": ["reproduce", "digits"],
        "resume": ["certify", trained_run, "--max", 1, "--resume"],
    }[command]
    before = sorted(odd_places.rglob("*"))
    err = refusal(monkeypatch, capsys, *words, "--out", place)
    assert err.startswith("rslab: out: got ") and "expected" in err
    assert sorted(odd_places.rglob("*")) == before


@pytest.mark.parametrize("place", ["folder", "file"])
def test_a_log_replaces_no_folder_and_a_run_no_file(odd_places, trained_run, monkeypatch, capsys, place):
    monkeypatch.chdir(odd_places)
    words = ["certify", trained_run, "--max", 1] if place == "folder" else ["train"]
    assert f"got {place}, a {place}" in refusal(monkeypatch, capsys, *words, "--out", place)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "train.jsonl", "resume.safetensors"])
@pytest.mark.parametrize("odd", ["pipe", "zero", "folder", "sparse"])
def test_a_run_folder_may_hold_anything_in_the_place_of_its_files(
    odd_places, trained_run, tmp_path, monkeypatch, capsys, name, odd
):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    if name == "resume.safetensors":  # read where there are no weights yet
        (run / "weights.safetensors").unlink()
    (run / name).unlink(missing_ok=True)
    symlink(run / name, odd_places / odd)
    options = ("--method", "gaussian", "--sigma", 0.25, "--epochs", 8)
    words = ["train", *options, "--resume", "--out", run] if name[0] in "tr" else ["certify", run, "--max", 1]
    assert name in refusal(monkeypatch, capsys, *words)


def test_a_pipe_beside_a_log_is_left_alone(odd_places, mkfifo, trained_run, tmp_path, monkeypatch, capsys):
    log = tmp_path / "log.tsv"
    mkfifo(log.with_suffix(".json"))
    assert "log.json: got a named pipe" in refusal(
        monkeypatch, capsys, "certify", trained_run, "--n", 100, "--max", 1, "--out", log
    )
    assert log.with_suffix(".json").is_fifo() and not log.exists()


def test_a_log_is_certified_to_its_end_beside_a_pipe(mkfifo, tmp_path, trained_run, monkeypatch, capsys):
    from rslab.cli import main

    mkfifo(tmp_path / "log")  # of the same settings file
    (tmp_path / "log.json").write_text('{"weights": "of a log that is gone"}', encoding="utf-8")
    words = ["rslab", "certify", str(trained_run), "--n", "100", "--max", "1", "--out", str(tmp_path / "log.tsv")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code and len(logs.read_log(tmp_path / "log.tsv")) == 1


@pytest.mark.parametrize("name", ["pipe", "full", "socket", "pipe/below"])
def test_the_functions_refuse_the_same_places(odd_places, trained, digits_test, name):
    place, settings_of_one = odd_places / name, CertifySettings(0.25, n=100, max=1)
    with pytest.raises(InputError, match="^out: got"):
        certify_dataset(trained, digits_test, settings_of_one, place)
    with pytest.raises(InputError, match="^out: got"):
        train(TrainConfig(epochs=1), place)
    with pytest.raises(InputError, match="^out: got"):
        carry_out(read_recipe(RECIPES / "demo.toml"), place)
    with pytest.raises(WorkError, match="could not be written"):
        files.append_text(place, "a row\n")
    for read in (files.read_json, logs.read_log, files.load_tensors, checkpoints.import_checkpoint, files.Claim):
        with pytest.raises(InputError, match="expected"):
            read(place)
