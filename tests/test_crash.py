"""No work is lost: killed at any moment, out of space, or two at a time on one run."""

import multiprocessing
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import subset

from rslab.config import TrainConfig
from rslab.data.datasets import load_dataset
from rslab.errors import InputError, WorkError
from rslab.evaluate import certify
from rslab.evaluate.settings import CertifySettings
from rslab.store import files, logs, run_folder
from rslab.store.run_folder import read_history
from rslab.training.loop import train

resource = pytest.importorskip("resource", reason="limits and kills the processes of POSIX")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["rslab.training", "rslab.evaluate", "sklearn.datasets"])
KILLS = 50
CONFIG = TrainConfig(method="smoothadv", sigma=0.25, steps=1, epochs=4, batch_size=32)
SETTINGS = CertifySettings(sigma=0.25, n0=10, n=4000, batch_size=500)


def train_digits(out: Path) -> None:
    torch.set_num_threads(1)
    for _ in train(CONFIG, out, data=subset(load_dataset("digits", "train"), 320), resume=out.exists()):
        pass


def certify_digits(run: Path, log: Path) -> None:
    torch.set_num_threads(1)
    model, _ = run_folder.load_run(run)
    data = subset(load_dataset("digits", "test"), 40)
    for _ in certify.certify_dataset(model, data, SETTINGS, log, resume=log.exists()):
        pass


def started(work, *arguments):
    process = PROCESSES.Process(target=work, args=arguments)
    process.start()
    return process


def kill_at_random_moments(work, arguments_of, check, seconds: float) -> None:
    """Do `work` again and again, killed after up to `seconds`, until `KILLS` kills have hit it; check every result."""
    rng, kills, number = np.random.default_rng(0), 0, 0
    while kills < KILLS:
        arguments = arguments_of(number)
        number += 1
        for attempt in range(12):
            process = started(work, *arguments)
            process.join(rng.uniform(0, seconds) if attempt < 11 else 120)
            if process.is_alive():
                process.kill()
                process.join()
                kills += process.exitcode == -signal.SIGKILL
            elif process.exitcode == 0:
                break
            else:
                raise AssertionError(f"the resumed work ended with {process.exitcode}")
        assert process.exitcode == 0
        check(*arguments)
    assert number > 1


def duration(work, *arguments) -> float:
    """Seconds of an uninterrupted run, once the server that starts processes is warm."""
    began = time.monotonic()
    process = started(work, *arguments)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crash")
    started(train_digits, folder / "warm").join()
    return folder / "whole", duration(train_digits, folder / "whole")


@pytest.mark.soundness
def test_training_killed_at_50_moments_ends_with_the_same_weights(tmp_path, whole):
    folder, seconds = whole

    def check(out):
        assert (out / "weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()
        assert {file.name for file in out.iterdir() if not file.name.startswith(".")} == {
            "config.json", "train.jsonl", "weights.safetensors",
        }  # fmt: skip
        ours, theirs = ([(row["epoch"], row["loss"]) for row in read_history(run)] for run in (out, folder))
        assert ours == theirs and len(ours) == CONFIG.epochs

    kill_at_random_moments(train_digits, lambda number: (tmp_path / str(number),), check, seconds)


@pytest.mark.soundness
def test_certification_killed_at_50_moments_ends_with_the_same_log(tmp_path, whole):
    seconds = duration(certify_digits, whole[0], tmp_path / "whole.tsv")
    expected = logs.read_log(tmp_path / "whole.tsv").drop(columns="time")

    def check(_, log):
        assert logs.read_log(log).drop(columns="time").equals(expected)
        assert files.read_json(log.with_suffix(".json")) == files.read_json(tmp_path / "whole.json")

    kill_at_random_moments(certify_digits, lambda number: (whole[0], tmp_path / f"{number}.tsv"), check, seconds)


# -- no space, no permission ---------------------------------------------------------------


def with_little_space(work, *arguments, space: int) -> None:
    """`work` in a process whose files may not grow beyond `space` bytes; exits with 3 on a `WorkError`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (space, space))
    try:
        work(*arguments)
    except WorkError as error:
        assert "could not be written" in str(error)
        raise SystemExit(3) from None


def end(process) -> int:
    process.join()
    return process.exitcode


@pytest.mark.parametrize("space", [100, 2000, 40_000])
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_space(tmp_path, whole, space):
    out = tmp_path / "run"
    process = PROCESSES.Process(target=with_little_space, args=(train_digits, out), kwargs={"space": space})
    process.start()
    assert end(process) == 3
    assert not list(out.glob(".*")) if out.exists() else True  # no temporary file stays
    assert end(started(train_digits, out)) == 0
    assert (out / "weights.safetensors").read_bytes() == (whole[0] / "weights.safetensors").read_bytes()


def test_a_log_on_a_full_disk_loses_no_row_that_it_holds(tmp_path, whole):
    log = tmp_path / "log.tsv"
    process = PROCESSES.Process(target=with_little_space, args=(certify_digits, whole[0], log), kwargs={"space": 700})
    process.start()
    assert end(process) == 3
    kept = log.read_bytes()
    assert 0 < len(kept) <= 700
    assert end(started(certify_digits, whole[0], log)) == 0
    assert log.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1]) and len(logs.read_log(log)) == 40


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, digits):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for out in (tmp_path / "file" / "run", Path("/proc/rslab/run")):
        with pytest.raises((InputError, WorkError), match="could not be written|is a file, expected a folder") as error:
            train(CONFIG, out, data=subset(digits, 32))
        assert str(error.value).count("\n") == 0
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


@pytest.mark.soundness
def test_a_small_file_system_that_is_full_is_said_and_loses_nothing(tmp_path, whole):
    """A real one of 2 MB, where the machine lets one be mounted: it fills up with what others left there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        log, weight = disk / "log.tsv", disk / "others"
        weight.write_bytes(bytes((2048 - 12) * 1024))
        with pytest.raises(WorkError, match="could not be written .*No space left") as error:
            train_digits(disk / "run")
        assert "\n" not in str(error.value)
        shutil.rmtree(disk / "run", ignore_errors=True)
        model, data = run_folder.load_run(whole[0])[0], subset(load_dataset("digits", "test"), 400)
        settings = replace(SETTINGS, n=10)
        with pytest.raises(WorkError, match="could not be written .*No space left"):
            for _ in certify.certify_dataset(model, data, settings, log):
                pass
        kept = log.read_bytes()
        weight.unlink()
        for _ in certify.certify_dataset(model, data, settings, log, resume=True):
            pass
        assert log.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1]) and len(logs.read_log(log)) == 400
        train_digits(disk / "run")
        assert (disk / "run" / "weights.safetensors").read_bytes() == (whole[0] / "weights.safetensors").read_bytes()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, whole, monkeypatch):
    """Daylight saving, or a machine that asks for the time at last: durations come from a clock that only goes on."""
    hours = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: 3600.0 * next(hours))
    train_digits(tmp_path / "run")
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (whole[0] / "weights.safetensors").read_bytes()
    assert all(record["seconds"] >= 0 for record in read_history(tmp_path / "run"))
    for log, run in (("one.tsv", tmp_path / "run"), ("two.tsv", whole[0])):
        certify_digits(run, tmp_path / log)
    one, two = (logs.read_log(tmp_path / name).drop(columns="time") for name in ("one.tsv", "two.tsv"))
    assert one.equals(two) and len(one) == 40


# -- two at a time -------------------------------------------------------------------------


def test_a_second_training_on_the_same_run_is_refused_until_the_first_ends(tmp_path, digits):
    few = subset(digits, 64)
    first = train(CONFIG, tmp_path / "run", data=few)
    next(first)
    with pytest.raises(WorkError, match="another process is writing here"):
        train(CONFIG, tmp_path / "run", data=few, resume=True)
    first.close()
    assert len(list(train(CONFIG, tmp_path / "run", data=few, resume=True))) == CONFIG.epochs


def test_a_second_certification_into_the_same_log_is_refused_until_the_first_ends(tmp_path, trained, digits_test):
    few, log = subset(digits_test, 4), tmp_path / "log.tsv"
    first = certify.certify_dataset(trained, few, SETTINGS, log)
    next(first)
    before = log.read_bytes()
    with pytest.raises(WorkError, match="another process is writing here"):
        certify.certify_dataset(trained, few, SETTINGS, log, resume=True)
    assert log.read_bytes() == before
    first.close()
    assert len(list(certify.certify_dataset(trained, few, SETTINGS, log, resume=True))) == 3
