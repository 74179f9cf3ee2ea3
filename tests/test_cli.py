"""The command line from outside: output shapes, exit codes, one sentence for every mistake."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from rslab.store import files, run_folder
from rslab.store.logs import read_log, settings_path


def rslab(*arguments, cwd=None, code=0):
    """Run the command in a process of its own; returns (stdout, stderr)."""
    command = [sys.executable, "-m", "rslab", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def call(monkeypatch, capsys, *arguments):
    """The same in this process, for the many cases that a process each would make slow."""
    from rslab.cli import main

    monkeypatch.setattr(sys, "argv", ["rslab", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run on digits: trained for two epochs, five images certified with n = 100."""
    folder = tmp_path_factory.mktemp("cli") / "small"
    out, _ = rslab("train", "--epochs", 2, "--out", folder)
    assert out.strip() == str(folder)
    rslab("certify", folder, "--n0", 10, "--n", 100, "--max", 5)
    return folder


def test_train_leaves_a_run_folder(run):
    assert {"config.json", "weights.safetensors", "train.jsonl"} <= {file.name for file in run.iterdir()}
    config = files.read_json(run / "config.json")
    assert config["train"]["epochs"] == 2 and config["train"]["dataset"] == "digits"
    assert config["torch"] == torch.__version__ and len(config["data_checksum"]) == 64


def test_certify_writes_the_columns_of_the_field(run):
    lines = (run / "certify.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == "idx label predict radius correct time count_a n n0 alpha".split()
    assert len(lines) == 6


def test_certify_again_needs_resume_and_then_adds_only_what_is_missing(run, monkeypatch, capsys):
    before = (run / "certify.tsv").read_text(encoding="utf-8")
    again = ("certify", run, "--n0", 10, "--n", 100, "--max", 7)
    code, _, err = call(monkeypatch, capsys, *again)
    assert code == 2 and "--resume" in err
    assert (run / "certify.tsv").read_text(encoding="utf-8") == before
    assert call(monkeypatch, capsys, *again, "--resume")[0] == 0
    after = (run / "certify.tsv").read_text(encoding="utf-8")
    assert after.startswith(before) and len(after.splitlines()) == 8


def test_attack_writes_the_prediction_log(run, tmp_path):
    log = tmp_path / "attack.tsv"
    options = ("--steps", 2, "--samples", 2, "--n", 100, "--max", 3, "--skip", 2)
    out, _ = rslab("attack", run, *options, "--out", log)
    table = pd.read_csv(log, sep="\t")
    assert list(table.columns) == "idx label predict basePredict correct time".split()
    assert list(table.idx) == [0, 2, 4]
    assert "g correct on" in out


@pytest.mark.parametrize("attack", ["pgd", "ddn", "fgsm"])
@pytest.mark.parametrize("objective", ["smoothadv", "naive", "base"])
def test_every_attack_and_objective_runs(run, tmp_path, monkeypatch, capsys, attack, objective):
    options = ["--attack", attack, "--objective", objective, "--n", 50, "--max", 1]
    steps, samples = ["--steps", 2] * (attack != "fgsm"), ["--samples", 2] * (objective != "base")
    call_ours = partial(call, monkeypatch, capsys, "attack", run, *options, *steps, *samples)
    assert call_ours("--out", tmp_path / "a.tsv")[0] == 0
    for used, option in ((steps, "--steps"), (samples, "--samples")):
        if not used:  # refused where it would do nothing
            code, _, said = call_ours(option, 2, "--out", tmp_path / "b.tsv")
            assert (
                code == 2 and said.startswith(f"rslab: {option[2:]}: got 2 with") and not (tmp_path / "b.tsv").exists()
            )


@pytest.mark.parametrize("bound", ["clopper-pearson", "two-class", "hoeffding", "bernstein"])
def test_every_bound_certifies(run, tmp_path, monkeypatch, capsys, bound):
    log = tmp_path / "log.tsv"
    assert call(monkeypatch, capsys, "certify", run, "--bound", bound, "--n", 500, "--max", 2, "--out", log)[0] == 0
    assert len(read_log(log)) == 2
    assert files.read_json(log.with_suffix(".json"))["bound"] == bound


def test_table_of_seeds_gives_mean_and_deviation(monkeypatch, capsys, run, tmp_path):
    for seed in (0, 1):
        shutil.copytree(run, tmp_path / f"model-{seed}")
        call(monkeypatch, capsys, "certify", tmp_path / f"model-{seed}", "--n", 100, "--max", 5, "--seed", seed)
    code, out, _ = call(monkeypatch, capsys, "table", tmp_path, "--seeds", "--radii", "0")
    assert code == 0
    header, row = out.splitlines()
    assert header.split() == ["model", "runs", "0", "ACR"] and row.split()[:2] == ["model", "2"] and "±" in row


def test_table_with_recipe_says_how_a_run_was_made_and_nothing_of_other_logs(monkeypatch, capsys, run, tmp_path):
    shutil.copytree(run, tmp_path / "ours")
    (tmp_path / "theirs").write_text(
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.5\t1\t0:00:01\n", encoding="utf-8"
    )
    code, out, _ = call(monkeypatch, capsys, "table", tmp_path, "--recipe", "--radii", "0", "--format", "csv")
    assert code == 0
    rows = {line.split(",")[0]: line for line in out.splitlines()}
    assert rows["model"].startswith("model,network,weights,epochs,passes,minutes,device,images")
    config, _ = run_folder.read_run(run)
    assert rows["ours"].startswith(f'ours,{config.arch},"') and rows["ours"].split(",")[4] == str(config.epochs)
    assert ",cpu," in rows["ours"]
    assert rows["theirs"].startswith("theirs,,,,,,,1,")
    code, _, err = call(monkeypatch, capsys, "table", tmp_path, "--recipe", "--seeds")
    assert code == 2 and "--recipe" in err


def test_table_formats(run, monkeypatch, capsys):
    for fmt, begin in (("text", "model"), ("markdown", "| model"), ("csv", "model,"), ("latex", r"\begin{tabular}")):
        code, out, _ = call(monkeypatch, capsys, "table", run, "--format", fmt, "--radii", "0,0.5")
        assert code == 0 and out.startswith(begin)


def test_sigma_other_than_in_training_is_allowed_said_and_recorded(run, tmp_path, monkeypatch, capsys):
    log = tmp_path / "other.tsv"
    code, _, err = call(monkeypatch, capsys, "certify", run, "--sigma", 0.5, "--n", 50, "--max", 1, "--out", log)
    assert code == 0 and "0.25 in training" in err
    assert files.read_json(log.with_suffix(".json"))["sigma"] == 0.5


def test_too_few_votes_are_announced_before_sampling(run, tmp_path, monkeypatch, capsys):
    log = tmp_path / "few.tsv"
    code, _, err = call(monkeypatch, capsys, "certify", run, "--n", 9, "--max", 1, "--out", log)
    assert code == 0 and "cannot certify anything" in err
    assert read_log(log).predict.tolist() == [-1]


def test_a_published_checkpoint_is_certified(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torchvision")
    from rslab.data.datasets import data_root
    from rslab.networks.models import build_model

    if not (data_root() / "cifar-10-batches-py").is_dir():
        pytest.skip("CIFAR-10 is not under RSLAB_DATA")
    torch.manual_seed(0)
    state = {f"1.module.{k[2:]}": v for k, v in build_model("resnet20", "cifar10", 10).state_dict().items()}
    checkpoint = tmp_path / "checkpoint.pth.tar"
    torch.save({"arch": "cifar_resnet20", "state_dict": state, "epoch": 1}, checkpoint)
    log = tmp_path / "log.tsv"
    options = ("--sigma", 0.25, "--n", 20, "--n0", 5, "--max", 2, "--out", log)
    code, _, err = call(monkeypatch, capsys, "certify", checkpoint, *options)
    assert code == 0 and "Normalization" in err
    assert len(read_log(log)) == 2


# command, part of the sentence, and the files that may not appear
MISTAKES = [
    ("train --sigma 0", "sigma: got 0.0"),
    ("train --sigma nan", "sigma: got nan"),
    ("train --sigma nan --method standard", "sigma: got nan"),
    ("train --epochs 1" + 400 * "0", "epochs: got 1000"),
    ("train --dataset imaginary", "dataset: got 'imaginary'"),
    ("train --method imaginary", "method: got 'imaginary'"),
    ("train --arch imaginary", "arch: got 'imaginary'"),
    ("train --arch resnet50", "arch: got 'resnet50'"),
    ("train --epsilon -1 --method smoothadv", "epsilon: got -1.0"),
    ("train --seed 5000", "seed: got 5000"),
    ("train --attack ddn --norm linf", "norm: got 'linf'"),
    ("train --pretrained nowhere", "nowhere: got no config.json"),
    ("train --unlabelled mnist", "unlabelled: got 'mnist'"),
    ("train --device quantum", "device: got 'quantum'"),
    ("certify RUN --alpha 0", "alpha: got 0.0"),
    ("certify RUN --alpha 1", "alpha: got 1.0"),
    ("certify RUN --n 0", "n: got 0"),
    ("certify RUN --n0 0", "n0: got 0"),
    ("certify RUN --n 1" + 400 * "0", "n: got 1000"),
    ("certify RUN --bound bernstein --n 1", "n: got 1, expected 2"),
    ("certify " + 300 * "a", 70 * "a"),  # too long, or not there: Pythons differ
    ("table " + 300 * "a", 70 * "a"),
    ("certify RUN --sigma -1", "sigma: got -1.0"),
    ("certify RUN --bound imaginary", "bound: got 'imaginary'"),
    ("certify RUN --skip 0", "skip: got 0"),
    ("certify RUN --sequential --radii 0,9", "radii: got 9, expected at most"),
    ("certify RUN --sequential --radii x", "radii: got 'x'"),
    ("certify RUN --sequential --bound two-class", "bound: got 'two-class' with --sequential"),
    ("certify RUN --sequential --n 9", "n: got 9"),
    ("certify RUN --radii 0.5", "radii: got '0.5'"),
    ("certify nowhere", "nowhere, which does not exist"),
    ("certify .", "got no config.json"),
    ("attack RUN --attack imaginary", "attack: got 'imaginary'"),
    ("attack RUN --restarts 0", "restarts: got 0"),
    ("attack RUN --epsilon -0.5", "epsilon: got -0.5"),
    ("attack RUN --attack ddn --norm linf", "norm: got 'linf'"),
    ("attack RUN --samples 0", "samples: got 0"),
    ("attack RUN --target-class 10", "target: got 10"),
    ("table nowhere", "nowhere, which does not exist"),
    ("table .", "holds no certification log"),
    ("table RUN --radii 1,x", "radii: got '1,x'"),
    ("table RUN --format imaginary", "format: got 'imaginary'"),
    ("reproduce imaginary", "recipe: got"),
    ("reproduce demo --minutes nan", "minutes: got nan"),
    ("bench imaginary", "what: got 'imaginary'"),
    ("bench certify --precision half", "precision: got 'half'"),
    ("certify RUN --precision half", "precision: got 'half', expected one of auto, float32, bfloat16"),
    ("attack RUN --precision half", "precision: got 'half'"),
    ("attack RUN --batch 0", "batch: got 0"),
    ("train --precision half --out new", "precision: got 'half'"),
    ("data imaginary", "dataset: got 'imaginary'"),
    ("imaginary", "command: got 'imaginary', expected one of lab, "),
    ("certify RUN --n many", "--n"),
]


@pytest.mark.parametrize(("command", "sentence"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_writes_nothing(run, tmp_path, monkeypatch, capsys, command, sentence):
    monkeypatch.chdir(tmp_path)
    words = [str(run) if word == "RUN" else word for word in command.split()]
    before = {file: file.read_bytes() for file in run.iterdir()}
    if "RUN" in command and words[0] in ("certify", "attack"):
        words += ["--out", "new.tsv"]
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 2 and out == ""
    *_, last = err.strip().splitlines()
    assert last.startswith("rslab: ") and sentence in last
    assert list(Path().iterdir()) == []
    assert {file: file.read_bytes() for file in run.iterdir()} == before


def test_broken_files_are_refused_in_one_sentence(run, tmp_path, monkeypatch, capsys):
    whole = (run / "certify.tsv").read_text(encoding="utf-8")
    broken = {
        "torn": whole[:-25],
        "foreign": "a,b\n1,2\n",
        "nan": whole.replace("0.0\t", "nan\t", 1)
        if "0.0\t" in whole
        else whole + "9\t1\t1\tnan\t1\t0:00:01\t1\t1\t1\t0.1\n",
        "twice": whole + whole.splitlines()[1] + "\n",
    }
    for name, text in broken.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        code, out, err = call(monkeypatch, capsys, "table", tmp_path / name)
        assert (code, out) == (2, ""), name
        assert err.startswith(f"rslab: {tmp_path / name}: got") and err.count("\n") == 1


def test_missing_data_is_one_sentence_that_names_the_variable(tmp_path, monkeypatch, capsys):
    import torchvision.datasets.utils as utils

    def no_network(*_, **__):
        raise OSError("no network here")

    monkeypatch.setenv("RSLAB_DATA", str(tmp_path / "data"))
    for name in ("download_url", "_urlretrieve"):
        if hasattr(utils, name):
            monkeypatch.setattr(utils, name, no_network)
    code, _, err = call(monkeypatch, capsys, "train", "--dataset", "cifar10", "--out", tmp_path / "run")
    assert code == 1 and "RSLAB_DATA" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_rslab_data_says_what_is_absent_and_where_it_belongs_without_a_try(tmp_path, monkeypatch, capsys):
    import torchvision.datasets.utils as utils

    def asked(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(utils, "_urlretrieve", asked)
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path))
    code, out, err = call(monkeypatch, capsys, "data")
    assert code == 0 and err == ""
    assert "could not be downloaded" not in out and "download=True" not in out
    for place in ("MNIST/raw: train-images-idx3-ubyte", "cifar-10-batches-py: data_batch_1", "imagenet: train/CLASS"):
        assert f"Expected in {tmp_path / place}" in out
    assert call(monkeypatch, capsys, "data", "mnist")[0] == 1


# -- options come first --------------------------------------------------------------------------


@pytest.fixture
def unreadable(run, tmp_path, monkeypatch):
    """A run whose weights are broken, of a data set that is not there: whoever loads either says so."""
    folder = tmp_path / "unreadable"
    shutil.copytree(run, folder)
    (folder / "weights.safetensors").write_bytes(b"broken")
    config = files.read_json(folder / "config.json")
    config["train"] |= {"dataset": "cifar10"}
    files.write_json(folder / "config.json", config)
    monkeypatch.setenv("RSLAB_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", None)
    return folder


@pytest.mark.parametrize(
    "command, name",
    [
        ("certify RUN --alpha 2", "alpha"),
        ("certify RUN --n 0", "n"),
        ("certify RUN --n 99999999999999999999999", "n"),
        ("certify RUN --sequential --radii x", "radii"),
        ("certify RUN --bound imaginary", "bound"),
        ("certify RUN --device quantum", "device"),
        ("certify RUN --dataset imaginary", "dataset"),
        ("certify RUN --normalization imaginary", "normalization"),
        ("certify RUN --normalization center", "normalization"),
        ("certify RUN --sampler grid --sigma 5", "sigma"),
        ("certify RUN", "out"),  # its log is there already
        ("certify RUN --out .", "out"),
        ("attack RUN --steps 0", "steps"),
        ("attack RUN --batch-size 0", "batch_size"),
        ("attack RUN --target-class -1", "target"),
        ("attack RUN --normalization standard", "normalization"),
        ("attack RUN --stein --loss margin", "stein"),
        ("attack RUN --samples 1000000000000", "samples"),
        ("attack RUN --target-class 12", "target"),
        ("certify RUN --batch-size 1000000000000 --n 1000000000000", "batch_size"),
        ("certify RUN --batch-size 1000000000000 --n0 1000000000000 --n 20", "batch_size"),
        ("train --method standard --sigma 0.5", "sigma"),
        ("attack RUN --transfer nowhere", "nowhere"),
        ("attack RUN --device quantum", "device"),
        ("train --dataset cifar10 --arch imaginary", "arch"),
        ("train --dataset cifar10 --normalization imaginary", "normalization"),
        ("train --dataset cifar10 --device quantum", "device"),
        ("train --dataset cifar10 --pretrained nowhere", "nowhere"),
        ("train --dataset cifar10 --unlabelled imaginary --pseudo-labels RUN", "unlabelled"),
        ("train --dataset cifar10 --out RUN", "out"),
        ("train --dataset mnist --arch resnet50", "arch"),
        ("reproduce cifar10 --minutes nan", "minutes"),
        ("reproduce cifar10 --device quantum", "device"),
        ("reproduce cifar10 --out .", "out"),
        ("demo --device quantum", "device"),
        ("table RUN --format imaginary", "format"),
        ("table RUN --attacks --seeds", "attacks"),
        ("table RUN --attacks --envelope", "attacks"),
        ("table RUN --attacks --radii 0.5", "attacks"),
        ("reproduce demo --list --minutes 3", "minutes"),
    ],
)
def test_a_bad_option_is_refused_before_model_or_data_are_loaded(unreadable, monkeypatch, capsys, command, name):
    words = [str(unreadable) if word == "RUN" else word for word in command.split()]
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2 and err.startswith(f"rslab: {name}: got "), err


def test_a_count_that_is_too_large_is_told_the_largest(run, tmp_path, monkeypatch, capsys):
    for words in (("certify", run, "--out", tmp_path / "log"), ("attack", run, "--out", tmp_path / "log")):
        _, _, err = call(monkeypatch, capsys, *words, "--n", 99999999999999999999999)
        assert "n: got 99999999999999999999999, expected at most 9223372036854775807." in err


@pytest.mark.parametrize(
    "command, name",
    [
        ("attack RUN --samples 10000000000 --max 1 --out NEW", "samples"),
        ("attack RUN --samples 1 --batch-size 10000000000 --n 10000000000 --max 1 --out NEW", "batch_size"),
        ("certify RUN --batch-size 10000000000 --n 10000000000 --max 1 --out NEW", "batch_size"),
        ("train --samples 10000000000 --out NEW", "samples"),
    ],
)
def test_more_than_the_memory_holds_is_refused_and_nothing_is_begun(run, tmp_path, monkeypatch, capsys, command, name):
    words = [{"RUN": run, "NEW": tmp_path / "new"}.get(word, word) for word in command.split()]
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2 and f"rslab: {name}: got 10000000000, expected at most" in err
    assert list(tmp_path.iterdir()) == []


def test_attack_has_the_batch_size_that_its_message_recommends_and_sequential_is_one_thing(
    run, tmp_path, monkeypatch, capsys
):
    options = ("--steps", 1, "--samples", 2, "--n", 50, "--max", 1, "--batch-size", 16)
    assert call(monkeypatch, capsys, "attack", run, *options, "--out", tmp_path / "a.tsv")[0] == 0
    assert files.read_json(tmp_path / "a.json")["batch_size"] == 16
    logs = []
    for number, words in enumerate((["--sequential"], ["--bound", "sequential"], ["--bound", "sequential"] * 2)):
        words += ["--sequential"] if number == 2 else []
        log = tmp_path / f"{number}.tsv"
        assert call(monkeypatch, capsys, "certify", run, *words, "--n", 200, "--max", 2, "--out", log)[0] == 0
        logs.append((files.read_json(log.with_suffix(".json")), read_log(log).drop(columns="time")))
    assert all(settings == logs[0][0] and rows.equals(logs[0][1]) for settings, rows in logs)
    _, out, _ = call(monkeypatch, capsys, "certify", "--help")
    assert "short for --bound sequential" in " ".join(out.split())


def test_sigma_0_attacks_and_judges_the_network_itself(run, tmp_path, monkeypatch, capsys):
    log = tmp_path / "attack.tsv"
    options = ("--sigma", 0, "--objective", "base", "--norm", "linf", "--epsilon", 0.1, "--steps", 3, "--max", 4)
    assert call(monkeypatch, capsys, "attack", run, *options, "--out", log)[0] == 0
    table = read_log(log)
    assert table.predict.tolist() == table.basePredict.tolist()
    code, _, err = call(monkeypatch, capsys, "attack", run, "--sigma", 0, "--max", 1, "--out", tmp_path / "b.tsv")
    assert code == 2 and "expected 'base'" in err


def test_table_of_attacks(run, tmp_path, monkeypatch, capsys):
    for epsilon in (0.0, 2.0):
        options = (
            "--objective",
            "base",
            "--epsilon",
            epsilon,
            "--n",
            50,
            "--max",
            6,
            "--out",
            tmp_path / f"{epsilon}.tsv",
        )
        assert call(monkeypatch, capsys, "attack", run, *options)[0] == 0
    code, out, _ = call(monkeypatch, capsys, "table", "--attacks", tmp_path, "--format", "csv")
    assert code == 0
    header, row = out.splitlines()
    assert header.split(",")[1:] == ["0.0", "2.0"]
    clean, attacked = map(float, row.split(",")[1:])
    assert attacked <= clean
    other = ("--objective", "base", "--epsilon", 2.0, "--loss", "margin", "--n", 50, "--max", 6)
    assert call(monkeypatch, capsys, "attack", run, *other, "--out", tmp_path / "margin.tsv")[0] == 0
    _, out, _ = call(monkeypatch, capsys, "table", "--attacks", tmp_path, "--format", "csv")
    names = [row.rpartition('"')[0] for row in out.splitlines()[1:]]  # no cell replaced another
    assert len(names) == 2 and "loss cross-entropy" in names[0] and "loss margin" in names[1]


@pytest.mark.data
def test_more_noise_samples_make_the_published_attack_stronger(published_attacks):
    from rslab.report.attack_tables import attack_table

    table, left_out = attack_table([published_attacks / "N10000"])
    assert not left_out
    assert list(table.index) == [
        f"N10000 {k}" for k in ("base", "m = 1", "m = 4", "m = 8", "m = 16", "m = 64", "m = 128")
    ]
    # At ε = 0 nothing is attacked; from ε = 0.125 on each row is at most the row above, m = 1 and base aside.
    assert table[0.0].between(81.8, 82.0).all()
    samples = table.drop(index="N10000 base").drop(columns=0.0)
    assert (samples.diff().iloc[1:].max() <= 0.4).all()  # two images in 500, for the noise of PREDICT
    assert table.loc["N10000 m = 128", 0.5] == pytest.approx(52.4)
    assert table.loc["N10000 base", 0.5] == pytest.approx(62.2)


def published_log(path, radii, label=3):
    """A log of another group: their columns, these radii, all correct."""
    rows = [f"{20 * i}\t{label}\t{label}\t{radius}\t1\t15.4\n" for i, radius in enumerate(radii)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n" + "".join(rows), encoding="utf-8")
    return path


def test_an_envelope_leaves_out_other_images_of_the_same_numbers(tmp_path, monkeypatch, capsys):
    published_log(tmp_path / "animals", [0.3, 0.3])
    published_log(tmp_path / "animals-2", [0.6, 0.1])
    published_log(tmp_path / "digits", [0.9, 0.9], label=8)
    code, out, err = call(monkeypatch, capsys, "table", tmp_path, "--envelope", "--radii", "0,0.25,0.5")
    assert code == 0 and err == ""
    (row,) = [line.split() for line in out.splitlines() if line.startswith("envelope")]
    assert row == ["envelope", "100.0", "100.0", "50.0"]
    assert "on other images (2 with the idx of most, but other labels): digits." in out
    code, out, _ = call(monkeypatch, capsys, "table", tmp_path, "--radii", "0")
    assert "Compare rows only on the same images" in out and "digits" in out.splitlines()[-1]


def test_logs_made_with_other_settings_are_named_on_the_error_output(tmp_path, monkeypatch, capsys):
    for name, n in (("a", 100), ("b", 1000)):
        files.write_json(settings_path(published_log(tmp_path / name, [0.3])), {"n": n, "alpha": 0.001})
    code, out, err = call(monkeypatch, capsys, "table", tmp_path, "--radii", "0")
    assert code == 0 and len(out.splitlines()) == 3
    assert err == "These logs were made with different n 100 (a), 1000 (b).\n"


def test_seeds_of_other_groups_are_averaged_and_said(tmp_path, monkeypatch, capsys):
    for name in ("cohen_4067", "cohen_31", "21/macer", "22/macer"):
        published_log(tmp_path / name, [0.3])
    code, out, err = call(monkeypatch, capsys, "table", tmp_path, "--seeds", "--radii", "0")
    assert code == 0 and [line.split()[:2] for line in out.splitlines()[1:]] == [["macer", "2"], ["cohen", "2"]]
    assert "macer: mean of 21/macer, 22/macer" in err and "cohen: mean of cohen_31, cohen_4067" in err


def test_a_run_that_is_called_envelope_keeps_its_row(tmp_path, monkeypatch, capsys):
    published_log(tmp_path / "envelope", [0.3, 0.3])
    published_log(tmp_path / "other", [0.6, 0.1])
    code, out, _ = call(monkeypatch, capsys, "table", tmp_path, "--envelope", "--radii", "0,0.5")
    rows = [line.split("  ")[0] for line in out.splitlines()]
    assert code == 0 and rows[1:4] == ["envelope", "other", "envelope of all"]


def test_votes_too_few_for_predict_are_noted_and_abstentions_counted(run, tmp_path, monkeypatch, capsys):
    words = ("attack", run, "--steps", 1, "--samples", 1, "--max", 4, "--epsilon", 0.1)
    for n, noted in ((5, True), (200, False)):
        code, out, err = call(monkeypatch, capsys, *words, "--n", n, "--out", tmp_path / f"{n}.tsv")
        said = f"Note: n = {n} votes cannot decide anything at α = 0.001: every image abstains."
        assert code == 0 and (said in err) == noted
        abstained = 100 * (read_log(tmp_path / f"{n}.tsv").predict == -1).mean()
        assert f"g abstained on {abstained:.1f} %" in out and (abstained == 100) == noted
