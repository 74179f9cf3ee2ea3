"""Odd words on the command line and in recipes: one sentence, the exit code, and nothing written."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rslab.config import TrainConfig
from rslab.errors import InputError
from rslab.evaluate.settings import AttackSettings, CertifySettings
from rslab.experiments.recipes import read_recipe

COMMANDS = "lab, demo, train, certify, attack, table, plot, reproduce, bench, data"


def call(monkeypatch, capsys, words):
    """Exit code, output and error output of `rslab` with these words."""
    from rslab.cli import main

    monkeypatch.setattr(sys, "argv", ["rslab", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


SENTENCES = [
    (["trian"], f"command: got 'trian', expected one of {COMMANDS}."),
    (["--version"], f"command: got '--version', expected one of {COMMANDS}."),
    (["certify"], "RUN: got none, expected `rslab certify RUN`."),
    (["table"], "PATH: got none, expected `rslab table PATH`."),
    (["certify", "run", "--n", "--max", "2"], "n: got no value, expected a whole number for --n."),
    (
        ["train", "--out", "-x"],
        "out: got no value, expected a path for --out, after = where it begins with a dash.",
    ),
    (
        ["certify", "run", "--sampel", "grid"],
        "certify: got '--sampel', expected an option that `rslab certify --help` shows (--sampler?).",
    ),
    (["certify", "--nope=3"], "certify: got '--nope', expected an option that `rslab certify --help` shows."),
    (["certify", "-run"], "certify: got '-run', expected an option that `rslab certify --help` shows."),
    (["certify", "--", "-run", "--n", "5"], "got '--n' after --, expected options before it."),
    (["certify", "run", "two"], "got 'two', expected no more words."),
    (["train", "--step-size", "none"], "step_size: got 'none', expected a number for --step-size."),
    (["train", "--labels=None"], "labels: got 'None', expected a whole number for --labels."),
    (["train", "--epochs", "1.5"], "epochs: got '1.5', expected a whole number for --epochs."),
    (["train", "--epochs=" + 5000 * "9"], f"epochs: got '{79 * '9'}, expected a whole number for --epochs."),
    (["train", "--augment=maybe"], "augment: got 'maybe', expected True or False for --augment."),
    (["table", '["run"]'], 'PATH: got ["run"], which does not exist, expected a log, a run or a folder of logs.'),
]


@pytest.mark.parametrize(("words", "sentence"), SENTENCES, ids=[" ".join(words)[:40] for words, _ in SENTENCES])
def test_an_odd_word_is_named_with_what_was_expected(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, capsys, words) == (2, "", f"rslab: {sentence}\n")
    assert list(tmp_path.iterdir()) == []


STOPPED = [
    ("train", "rslab.cli.train.choose_device", "stopped; the same command with --resume goes on."),
    ("demo", "rslab.cli.demo.choose_device", "stopped; the same command goes on."),
    ("data", "rslab.cli.data.data_root", "stopped."),
]


@pytest.mark.parametrize(("command", "place", "sentence"), STOPPED, ids=[command for command, *_ in STOPPED])
def test_who_stops_a_command_is_told_how_it_goes_on(tmp_path, monkeypatch, capsys, command, place, sentence):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.import_module(place.rpartition(".")[0]), place.rpartition(".")[2], stop)
    assert call(monkeypatch, capsys, [command]) == (130, "", f"rslab: {sentence}\n")


@pytest.mark.parametrize("number", ["+0", "0_0", " 0", "-0"])
def test_a_whole_number_is_written_as_in_python(tmp_path, monkeypatch, capsys, number):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, capsys, ["train", "--epochs", number])[2] == "rslab: epochs: got 0, expected 1 or more.\n"


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": code} for code in ("ascii", "cp1252", "utf-8")])
def test_help_is_shown_in_every_encoding_and_has_no_frame_or_colour(environment):
    out = _help(environment)
    assert b"[0, 1]" in out and b"certify" in out
    assert not any(sign in out for sign in (b"\x1b", b"+--", b"PYTHONIOENCODING"))


@pytest.mark.parametrize("columns", ["0", "1", "x"])
def test_help_ends_on_a_terminal_without_width(columns):
    assert b"certify" in _help({"COLUMNS": columns})


def _help(environment):
    command = [sys.executable, "-m", "rslab", "--help"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, timeout=60, check=True).stdout


RECIPES = [
    ("gaussian method=gaussian\n", "line 1, column 10)), expected a table a model: a line [name], below it lines such"),
    (f"[a]\nepochs = {5000 * '9'}\n", "r.toml: got no TOML (Exceeds the limit"),
    ("defaults = 3\n[a]\nepochs = 1\n", "r.toml, line 1: defaults: got 3, expected a table of options."),
    ("[a]\nsigma = 1.0\ncertify = 3\n", "r.toml, line 3: a: certify: got 3, expected a table of options."),
    ("[defaults]\ncertify = 3\n[a]\n", "r.toml, line 2: defaults: certify: got 3, expected a table of options."),
    ("[defaults]\nepochs = 1\n", "which names no run, expected a table a model."),
]


@pytest.mark.parametrize(("text", "sentence"), RECIPES, ids=[sentence[:30] for _, sentence in RECIPES])
def test_a_recipe_that_is_none_is_refused_with_its_line(tmp_path, monkeypatch, capsys, text, sentence):
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(text, encoding="utf-8")
    code, out, err = call(monkeypatch, capsys, ["reproduce", "r.toml", "--list"])
    assert code == 2 and out == "" and err.startswith("rslab: ") and err.count("\n") == 1
    assert sentence in err
    assert [file.name for file in tmp_path.iterdir()] == ["r.toml"]


def test_a_recipe_may_begin_with_the_mark_of_windows(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf[a]\r\nepochs = 3\r\n")
    assert read_recipe(tmp_path / "r.toml")[0].train.epochs == 3


@pytest.mark.parametrize("half", [np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5)])
def test_a_number_of_another_library_becomes_pythons(half):
    for options in (TrainConfig(sigma=half), CertifySettings(sigma=half), AttackSettings(sigma=half)):
        assert isinstance(options.sigma, float) and options.sigma == 0.5
    assert type(TrainConfig(epochs=np.int64(2)).epochs) is int


@pytest.mark.parametrize("several", [np.ones(2), torch.ones(2), torch.ones(1)])
def test_several_numbers_are_no_number(several):
    with pytest.raises(InputError, match="expected a number"):
        TrainConfig(sigma=several)
