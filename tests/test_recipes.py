"""Recipes: what a table may say, and carrying one out, stopped and resumed."""

import json
from pathlib import Path

import pytest

from rslab.config import TrainConfig
from rslab.errors import InputError
from rslab.experiments import recipes
from rslab.experiments.recipes import RECIPES, carry_out, read_recipe, stages
from rslab.store import logs, run_folder

SMALL = """
# two small models
[defaults]
dataset = "digits"
labels = 64
certify = { n0 = 10, n = 50, max = 3 }

[gaussian]
method = "gaussian"
sigma = 0.5   # a remark
epochs = 2

[smoothadv]
method = "smoothadv"
epochs = 1
steps = 1
certify.sigma = 0.12
"""
SHORT = "[a]\nepochs = 1\nlabels = 64\ncertify.n = 10\n"


def recipe_of(tmp_path, text) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plan_names_runs_with_defaults_that_hold_for_the_lines_below(tmp_path):
    gaussian, smoothadv = read_recipe(recipe_of(tmp_path, SMALL))
    assert gaussian.name == "gaussian" and smoothadv.name == "smoothadv"
    assert gaussian.train == TrainConfig(method="gaussian", sigma=0.5, epochs=2, labels=64)
    assert smoothadv.train == TrainConfig(method="smoothadv", steps=1, epochs=1, labels=64)
    assert (gaussian.certify.sigma, gaussian.certify.n, gaussian.certify.max) == (0.5, 50, 3)
    assert smoothadv.certify.sigma == 0.12


def test_every_kind_of_option_is_converted(tmp_path):
    (run,) = read_recipe(
        recipe_of(
            tmp_path,
            '[a]\nmethod = "smoothadv"\naugment = true\nstep_size = 0.1\npretrained = "runs/x"\ncertify.alpha = 1e-2',
        )
    )
    assert run.train.augment is True and run.train.step_size == 0.1 and run.train.pretrained == "runs/x"
    assert run.certify.alpha == 0.01


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_plan_can_be_read(recipe):
    assert read_recipe(recipe)


@pytest.mark.author
def test_the_recipe_that_the_docs_show_can_be_read(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "reproduce.md").read_text(encoding="utf-8")
    gaussian, smoothadv = read_recipe(recipe_of(tmp_path, page.split("```toml\n")[1].split("```")[0]))
    assert (gaussian.name, gaussian.certify.n) == ("gaussian", 10_000)
    assert smoothadv.train == TrainConfig(method="smoothadv", epsilon=0.5)


@pytest.mark.parametrize(
    "text, said",
    [
        ("[a]\nsgima = 0.5", "recipe.toml, line 2: a: got unknown key 'sgima', expected keys of TrainConfig"),
        ("[a]\ncertify.nn = 5", "line 2: a: got unknown key 'nn', expected keys of CertifySettings"),
        ("[a]\n\n[a.certify]\nn = 0.5", "line 4: a: n: got 0.5, expected a whole number"),
        ("\na sigma", "recipe.toml: got no TOML (Expected '=' after a key"),
        ("\n[a]\nsigma = 'big'", "line 3: a: sigma: got 'big', expected a number"),
        ("[a]\nepochs = 1.5", "line 2: a: epochs: got 1.5, expected a whole number"),
        ("[a]\naugment = 'yes'", "line 2: a: augment: got 'yes', expected True or False"),
        ("[a]\nsigma = -1", "line 2: a: sigma: got -1"),
        ("[a]\nsigma = nan", "line 2: a: sigma: got nan"),
        ("[a]\nmethod = 'madry'", "line 2: a: method: got 'madry', expected"),
        ("[a]\ncertify.alpha = 2", "line 2: a: alpha: got 2"),
        ("[defaults]\nepochs = 0\n[a]\n[b]", "line 2: a: epochs: got 0"),
        ("['..']", "line 1: got run name '..', expected one of letters"),
        ("['a/b']", "line 1: got run name 'a/b'"),
        ("[a]\n[a]", "got no TOML (Cannot declare ('a',) twice"),
        ("['../a']", "line 1: got run name '../a'"),
        ("a = 3", "line 1: a: got 3, expected a table of options"),
        ("[a]\ncertify = 3", "line 2: a: certify: got 3, expected a table of options"),
        ("[[a]]", "a: got [{}], expected a table of options"),
        ("defaults = 3\n[a]", "line 1: defaults: got 3, expected a table of options"),
        ("gaussian method=gaussian sigma=0.5", "got no TOML"),
        ("", "names no run"),
        ("[defaults]\nepochs = 3", "names no run"),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        read_recipe(recipe_of(tmp_path, text))
    assert said in str(caught.value)


def test_a_plan_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="^recipe: got .*expected one of"):
        read_recipe(tmp_path / "absent.txt")


def without_time(folder) -> list:
    return logs.read_log(folder / "certify.tsv").drop(columns="time").to_numpy().tolist()


def test_a_plan_is_carried_out_stopped_and_resumed_to_the_same_logs(tmp_path, monkeypatch):
    recipe = read_recipe(recipe_of(tmp_path, SMALL))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert carry_out(recipe, whole)
    todo = [(stage.run.name, stage.kind, stage.done, stage.total) for stage in stages(recipe, parts)]
    assert todo == [
        ("gaussian", "train", 0, 2),
        ("gaussian", "certify", 0, 3),
        ("smoothadv", "train", 0, 1),
        ("smoothadv", "certify", 0, 3),
    ]
    rounds = 0
    while not carry_out(recipe, parts, minutes=0):  # stops after each step
        rounds += 1
        assert rounds < 20
    assert rounds >= 4
    for name in ("gaussian", "smoothadv"):
        assert without_time(parts / name) == without_time(whole / name)
        weights = [(out / name / "weights.safetensors").read_bytes() for out in (whole, parts)]
        assert weights[0] == weights[1]
    assert all(stage.complete for stage in stages(recipe, parts))
    monkeypatch.setattr(recipes, "train", None)  # complete stages are not begun again
    monkeypatch.setattr(recipes, "certify_dataset", None)
    assert carry_out(recipe, parts)


def test_a_precision_left_to_the_device_is_what_the_run_says(tmp_path):
    recipe = read_recipe(recipe_of(tmp_path, SHORT.replace("[a]", '[a]\nprecision = "auto"') + "certify.max = 1\n"))
    assert carry_out(recipe, tmp_path / "out") and carry_out(recipe, tmp_path / "out")
    assert run_folder.read_run(tmp_path / "out" / "a")[0].precision in ("float32", "bfloat16")
    other = read_recipe(recipe_of(tmp_path, SHORT.replace("= 64", "= 65") + "certify.max = 1\n"))
    with pytest.raises(InputError, match="other options"):
        carry_out(other, tmp_path / "out")


def test_a_run_with_other_options_is_not_certified(tmp_path):
    recipe = read_recipe(recipe_of(tmp_path, SHORT + "certify.max = 1\n"))
    carry_out(recipe, tmp_path / "out")
    (tmp_path / "out" / "a" / "certify.tsv").unlink()
    other = read_recipe(recipe_of(tmp_path, SHORT.replace("64", "65") + "certify.max = 1\n"))
    with pytest.raises(InputError, match="other options than the recipe's"):
        carry_out(other, tmp_path / "out")


@pytest.mark.parametrize(
    "option", ["certify.n = 11", "certify.sigma = 0.5", 'certify.bound = "sequential"', "labels = 65"]
)
def test_complete_stages_of_another_plan_are_refused_and_not_shown_as_this_ones(tmp_path, option):
    text = SHORT + "certify.max = 1\n"
    carry_out(read_recipe(recipe_of(tmp_path, text)), tmp_path / "out")
    assert carry_out(read_recipe(recipe_of(tmp_path, text + "certify.skip = 3\n")), tmp_path / "out")  # the same image
    other = read_recipe(
        recipe_of(
            tmp_path, "".join(line + "\n" for line in text.splitlines() if not line.startswith(option[:9])) + option
        )
    )
    with pytest.raises(InputError, match="recipe"):
        carry_out(other, tmp_path / "out")
    with pytest.raises(InputError, match="recipe"):
        list(stages(other, tmp_path / "out"))


@pytest.mark.parametrize("left", [0, 20, 50])
def test_a_log_without_a_row_is_begun_anew_by_another_plan(tmp_path, left):
    text = "[a]\nepochs = 1\nlabels = 64\ncertify.max = 1\ncertify.n = "
    carry_out(read_recipe(recipe_of(tmp_path, text + "10")), tmp_path / "out")
    log = tmp_path / "out" / "a" / "certify.tsv"
    log.write_bytes(log.read_bytes()[:left] if left < 50 else log.read_bytes().splitlines(keepends=True)[0])
    assert carry_out(read_recipe(recipe_of(tmp_path, text + "11")), tmp_path / "out")
    assert logs.read_log(log).n.tolist() == [11]


@pytest.mark.parametrize("took", ["15.4", "", "1 day, 0:00:02", "soon"])
def test_whatever_a_log_says_of_its_time_its_rows_count(tmp_path, took):
    recipe = read_recipe(recipe_of(tmp_path, SHORT + "certify.max = 2\n"))
    carry_out(recipe, tmp_path / "out")
    log = tmp_path / "out" / "a" / "certify.tsv"
    header, *rows = (line.split("\t") for line in log.read_text(encoding="utf-8").splitlines())
    rows = [[*row[:5], took, *row[6:]] for row in rows]
    log.write_text("".join("\t".join(row) + "\n" for row in (header, *rows)), encoding="utf-8")
    *_, stage = stages(recipe, tmp_path / "out")
    assert stage.complete and stage.seconds_each == (2 if "0:00:02" in took else None)


def test_a_log_torn_by_a_kill_is_resumed_by_the_plan(tmp_path):
    recipe = read_recipe(recipe_of(tmp_path, SHORT + "certify.max = 3\n"))
    carry_out(recipe, tmp_path / "out")
    log, whole = tmp_path / "out" / "a" / "certify.tsv", without_time(tmp_path / "out" / "a")
    log.write_bytes(log.read_bytes()[:-15])
    assert [stage.done for stage in stages(recipe, tmp_path / "out")] == [1, 2]
    assert carry_out(recipe, tmp_path / "out")
    assert without_time(tmp_path / "out" / "a") == whole


def test_a_run_may_start_from_an_earlier_one_and_without_noise_nothing_is_certified(tmp_path):
    text = """
    [defaults]
    epochs = 1
    labels = 64
    certify = { n = 10, max = 1 }

    [teacher]
    method = "standard"

    [student]
    pretrained = "teacher"
    unlabelled = "hidden"
    pseudo_labels = "teacher"
    """
    recipe, out = read_recipe(recipe_of(tmp_path, text)), tmp_path / "out"
    assert [(stage.run.name, stage.kind) for stage in stages(recipe, out)] == [
        ("teacher", "train"),
        ("student", "train"),
        ("student", "certify"),
    ]
    assert carry_out(recipe, out)
    assert not (out / "teacher" / "certify.tsv").exists()
    config, _ = run_folder.read_run(out / "student")
    assert config.pretrained == config.pseudo_labels == str(out / "teacher")
    assert carry_out(recipe, out)


def test_progress_wraps_every_stage(tmp_path):
    seen = []

    def progress(steps, total, done, title):
        seen.append((title, done, total))
        return steps

    recipe = read_recipe(recipe_of(tmp_path, SHORT + "certify.max = 2\n"))
    assert carry_out(recipe, tmp_path / "out", progress=progress)
    assert seen == [("train a", 0, 1), ("certify a", 0, 2)]


def test_a_default_holds_for_the_lines_that_use_it_and_a_line_says_nothing_without_use(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[defaults]\nsteps = 2\nepsilon = 1.0\n[a]\nmethod = "gaussian"\n[b]\nmethod = "smoothadv"\n', encoding="utf-8"
    )
    a, b = read_recipe(recipe)
    assert a.train == TrainConfig(method="gaussian") and (b.train.steps, b.train.epsilon) == (2, 1.0)
    recipe.write_text('[defaults]\nmethod = "gaussian"\n[a]\nepsilon = 1.0\n', encoding="utf-8")
    with pytest.raises(
        InputError, match=r"^recipe\.toml, line 4: a: epsilon: got 1\.0 with method 'gaussian', expected"
    ):
        read_recipe(recipe)


def test_a_run_without_noise_is_certified_where_the_recipe_says_under_which(tmp_path):
    """A control: what an attacked network is worth under the noise of the others."""
    text = """
    [defaults]
    epochs = 1
    labels = 64
    certify = { n = 10, max = 1 }

    [attacked]
    method = "adversarial"
    steps = 1
    certify.sigma = 0.5
    """
    recipe, out = read_recipe(recipe_of(tmp_path, text)), tmp_path / "out"
    assert carry_out(recipe, out)
    assert json.loads((out / "attacked" / "certify.json").read_text(encoding="utf-8"))["sigma"] == 0.5
