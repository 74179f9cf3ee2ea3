"""Several processes on the real command line, under torchrun: what they write is what one process writes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import subset, uniform
from train_methods import RUNS, train_all

from rslab.config import TrainConfig
from rslab.errors import InputError, WorkError
from rslab.evaluate import certify, settings
from rslab.machine import distributed, parallel
from rslab.machine.devices import choose_device
from rslab.networks.inference import InferenceNetwork
from rslab.networks.models import build_model
from rslab.store import files, logs, run_folder
from rslab.store.run_folder import read_history
from rslab.training.loop import train

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = settings.CertifySettings(sigma=0.25, n0=100, n=8000, batch_size=500, max=16)
CERTIFY = "--n 8000 --batch-size 500 --max 16 --device cpu".split()


def torchrun(processes: int, *arguments, module: str = "rslab") -> subprocess.Popen:
    """`torchrun … -m -- rslab ARGUMENTS` on this machine, one thread a process."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "--", module, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def finished(process: subprocess.Popen) -> tuple[int, str, list[str]]:
    """(exit code, standard output, the sentences that rslab said) of a job."""
    out, err = process.communicate(timeout=240)
    assert "rslab/" not in err, err  # no traceback of ours
    return process.returncode, out, re.findall(r"^rslab: .*$", err, re.MULTILINE)


def rank_pid(job: subprocess.Popen, rank: int) -> int:
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text(encoding="utf-8").split()
    return next(int(pid) for pid in children if f"RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes())


def kill_when(job: subprocess.Popen, rank: int, ready) -> None:
    """SIGKILL one process of the job as soon as `ready()`."""
    deadline = time.monotonic() + 120
    while not ready():
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()
        time.sleep(0.01)
    os.kill(rank_pid(job, rank), signal.SIGKILL)


def rows_in(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0


def without_time(log: Path):
    return logs.read_log(log).drop(columns="time")


@pytest.fixture(scope="module")
def single(tmp_path_factory, trained_run, digits_test) -> Path:
    """The log that one process writes."""
    log = tmp_path_factory.mktemp("single") / "log.tsv"
    list(certify.certify_dataset(run_folder.load_run(trained_run)[0], digits_test, SETTINGS, log))
    return log


# -- under torchrun ------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process in Linux' /proc")
def test_a_rank_that_is_killed_ends_the_job_and_a_resume_by_three_gives_the_log_of_one(tmp_path, trained_run, single):
    log = tmp_path / "log.tsv"
    parts = [tmp_path / f".log.tsv.part-{rank}" for rank in range(2)]
    job = torchrun(2, "certify", trained_run, *CERTIFY, "--out", log)
    kill_when(job, 1, lambda: all(rows_in(part) for part in parts))
    code, out, said = finished(job)
    assert code != 0 and out == ""
    assert said == [f"rslab: rank 0 of 2: {distributed.ENDED}"]
    assert len(logs.read_log(log)) == 0 and 2 <= sum(map(rows_in, parts)) < 16

    code, out, said = finished(torchrun(3, "certify", trained_run, *CERTIFY, "--out", log, "--resume"))
    assert (code, out.strip(), said) == (0, str(log), [])
    assert without_time(log).equals(without_time(single))
    assert log.with_suffix(".json").read_bytes() == single.with_suffix(".json").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"log.tsv", "log.json"}


def test_more_processes_than_images_is_one_sentence(tmp_path, trained_run):
    job = torchrun(3, "attack", trained_run, "--max", 2, "--device", "cpu", "--out", tmp_path / "log.tsv")
    code, _, said = finished(job)
    assert code != 0
    assert said == ["rslab: processes: got 3 for 2 images, expected at most one an image."]
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def trained_alone(tmp_path_factory, trained_run) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train_all(folder, str(trained_run))
    return folder


def test_three_processes_train_what_one_trains_by_every_method(tmp_path, trained_run, trained_alone):
    code, _, said = finished(torchrun(3, tmp_path, trained_run, module="train_methods"))
    assert (code, said) == (0, [])
    for name in RUNS:
        ours, theirs = files.load_tensors(tmp_path / name), files.load_tensors(trained_alone / name)
        assert ours.keys() == theirs.keys()  # shared batch norm keeps names and shapes
        for tensor in ours:
            difference = float((ours[tensor].float() - theirs[tensor].float()).abs().max())
            # Rounding gives 1e-6; without shared batch norm or common noise it is 5e-3 to 2e-2.
            assert difference < 2e-5, (name, tensor, difference)


TRAINED = {"method": "smoothadv", "steps": 1, "samples": 2, "batch_size": 324, "lr": 0.05, "epochs": 3}
TRAIN = "train --method smoothadv --steps 1 --samples 2 --batch-size 324 --lr 0.05 --epochs 3 --device cpu".split()


def test_two_processes_train_what_one_trains_and_anybody_loads_it(tmp_path):
    code, out, said = finished(torchrun(2, *TRAIN, "--out", tmp_path / "two"))
    assert (code, out.strip(), said) == (0, str(tmp_path / "two"), [])
    assert {file.name for file in (tmp_path / "two").iterdir()} == {"config.json", "train.jsonl", "weights.safetensors"}
    two, config = run_folder.load_run(tmp_path / "two")
    *_, record = train(config, tmp_path / "one")
    one, _ = run_folder.load_run(tmp_path / "one")
    assert files.read_json(tmp_path / "one/config.json") == files.read_json(tmp_path / "two/config.json")
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-3)
    said_by_two = read_history(tmp_path / "two")[-1]
    assert said_by_two["loss"] == pytest.approx(record["loss"], abs=1e-3)
    assert said_by_two["accuracy"] == pytest.approx(record["accuracy"], abs=3e-3)


@pytest.mark.soundness
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_training_ends_with_a_sentence_and_is_resumed_by_three(tmp_path, killed):
    many = [*TRAIN, "--epochs", 30]
    *_, last = train(TrainConfig(**{**TRAINED, "epochs": 30}))
    job = torchrun(2, *many, "--out", tmp_path / "run")
    kill_when(job, killed, lambda: rows_in(tmp_path / "run/train.jsonl") >= 2)
    code, _, said = finished(job)
    assert code != 0 and said == [f"rslab: rank {1 - killed} of 2: {distributed.ENDED}"]
    assert not (tmp_path / "run/weights.safetensors").exists()
    code, _, said = finished(torchrun(3, *many, "--out", tmp_path / "run", "--resume"))
    assert (code, said) == (0, [])
    resumed = read_history(tmp_path / "run")
    assert [record["epoch"] for record in resumed] == list(range(30))
    assert resumed[-1]["loss"] == pytest.approx(last["loss"], abs=0.02)


# -- without ---------------------------------------------------------------------------------


def pretend(monkeypatch, rank: int = 0, size: int = 2) -> None:
    """The environment of a process that torchrun started."""
    for name in distributed.TOLD:
        monkeypatch.setenv(name, "1")
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}.items():
        monkeypatch.setenv(name, str(value))


def test_the_world_is_one_process_unless_torchrun_says_otherwise(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # of another tool
    assert distributed.world_told() == distributed.World()
    pretend(monkeypatch, 1, 4)
    assert distributed.world_told() == distributed.World(1, 4, 1)


def test_a_command_that_is_not_shared_out_is_refused_by_rank_0_alone(monkeypatch):
    pretend(monkeypatch)
    with pytest.raises(InputError, match="^reproduce: got 2 processes, expected one"), distributed.joined("reproduce"):
        raise AssertionError("entered")
    pretend(monkeypatch, 1)
    with pytest.raises(SystemExit) as exit, distributed.joined("reproduce"):
        raise AssertionError("entered")
    assert exit.value.code == 2


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    pretend(monkeypatch, 1)
    assert choose_device("auto") == choose_device("cuda") == "cuda:1"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(InputError, match="^device: got 'cuda:0' with 2 processes"):
        choose_device("cuda:0")
    pretend(monkeypatch, 2, 3)
    with pytest.raises(InputError, match="^device: got 'cuda:2', expected one of the 2 CUDA devices"):
        choose_device("auto")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_parts_of_a_batch_are_the_batch(monkeypatch, size):
    for batch in (size, 17, 128):
        cut = []
        for rank in range(size):
            place = distributed.World(rank, size)
            monkeypatch.setattr(distributed, "world", lambda place=place: place)
            part = distributed.part_of(batch)
            assert part.whole == batch and abs((part.stop - part.start) - batch / size) < 1
            cut += range(batch)[part.slice]
        assert cut == list(range(batch))


# -- the parts that a dead job left --------------------------------------------------------


@pytest.fixture
def left(tmp_path, single) -> Path:
    """A log of one row with two parts of a dead job: rows 1 and 3, one of them torn, and 0 (merged already) and 2."""
    log = tmp_path / "log.tsv"
    log.with_suffix(".json").write_bytes(single.with_suffix(".json").read_bytes())
    header, *rows = single.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text(header + rows[0], encoding="utf-8")
    (tmp_path / ".log.tsv.part-0").write_text(rows[3] + rows[1] + rows[4][:9], encoding="utf-8")
    (tmp_path / ".log.tsv.part-1").write_text(rows[0] + rows[2], encoding="utf-8")
    return log


def certified(trained, digits_test, log: Path) -> list[tuple]:
    return list(certify.certify_dataset(trained, digits_test, SETTINGS, log, resume=True))


def test_one_process_gathers_the_parts_and_does_the_rest(left, single, trained, digits_test):
    assert [row[0] for row in certified(trained, digits_test, left)] == list(range(4, 16))
    assert without_time(left).equals(without_time(single))
    assert {file.name for file in left.parent.iterdir()} == {"log.tsv", "log.json"}
    assert [row for row in certified(trained, digits_test, left)] == []


@pytest.mark.parametrize("held, parts", [(0, (1, 1)), (0, (2, 0)), (1, (1,)), (2, (0, 0)), (3, (-2,))])
def test_parts_in_order_after_the_log_lose_no_row(left, single, trained, digits_test, held, parts):
    """The first `held` rows in the log, then parts of so many rows, in order; −2: two that the log holds already."""
    header, *rows = single.read_text(encoding="utf-8").splitlines(keepends=True)
    left.write_text("".join([header, *rows[:held]]), encoding="utf-8")
    for part in left.parent.glob(".log.tsv.part-*"):
        part.unlink()
    next_row = held
    for rank, count in enumerate(parts):
        first = next_row if count >= 0 else held + count
        (left.parent / f".log.tsv.part-{rank}").write_text("".join(rows[first : first + abs(count)]), encoding="utf-8")
        next_row += max(count, 0)
    assert [row[0] for row in certified(trained, digits_test, left)] == list(range(next_row, 16))
    assert without_time(left).equals(without_time(single))


def test_while_the_gathered_log_is_written_nobody_else_may(left, trained, digits_test):
    rows = certify.certify_dataset(trained, digits_test, SETTINGS, left, resume=True)
    next(rows)
    with pytest.raises(WorkError, match="another process is writing here"):
        certified(trained, digits_test, left)
    rows.close()


@pytest.mark.parametrize("foreign", ["nonsense\n", "1e3\t0\n", "5\t0\t0\t0.1\n", "\n"])
def test_a_part_that_is_no_part_is_one_sentence_and_changes_nothing(left, foreign, trained, digits_test):
    before = left.read_bytes()
    with (left.parent / ".log.tsv.part-0").open("r+", encoding="utf-8") as file:
        file.write(foreign)
    with pytest.raises(InputError) as error:
        certified(trained, digits_test, left)
    assert "\n" not in str(error.value) and left.read_bytes() == before


def test_parts_without_their_log_belong_to_nobody(left, trained, digits_test):
    left.unlink()
    with pytest.raises(InputError, match=r"part-0 without log.tsv beside it, expected both, or neither"):
        list(certify.certify_dataset(trained, digits_test, SETTINGS, left))


def test_parts_are_no_logs_of_their_own(left):
    assert not any(logs.is_log(part) for part in left.parent.glob(".log.tsv.part-*"))


def test_a_share_of_a_small_set(single, trained, digits_test, tmp_path):
    rows = list(certify.certify_dataset(trained, subset(digits_test, 1), SETTINGS, tmp_path / "log.tsv"))
    assert [row[0] for row in rows] == [0]


def test_a_copy_of_its_own_has_the_very_tensors_in_plain_batch_norms(monkeypatch):
    monkeypatch.setattr(parallel, "world", lambda: distributed.World(0, 2))
    plain = build_model("cnn", "digits", 10)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    shared = parallel.share_batch_norm(plain, "cpu")
    assert sum(isinstance(module, parallel.SharedBatchNorm) for module in shared.modules()) == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.state_dict().items())
    copied = InferenceNetwork(shared)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in copied.modules())  # all are folded
    with torch.no_grad():
        for tensor in shared.state_dict().values():
            tensor.copy_(tensor * 3 / 4 if tensor.is_floating_point() else tensor)
    x = uniform(5, 1, 8, 8)
    assert torch.allclose(copied.follow()(x), shared.eval()(x), rtol=1e-4, atol=1e-5)
