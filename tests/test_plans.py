"""Plans: what a line may say, and carrying one out, stopped and resumed."""

from pathlib import Path

import pytest

from rslab.config import TrainConfig
from rslab.errors import InputError
from rslab.experiments import plans
from rslab.experiments.plans import PLANS, carry_out, read_plan, stages
from rslab.store import logs, run_folder

SMALL = """
# two small models
defaults dataset=digits epochs=2 labels=64 certify.n0=10 certify.n=50 certify.max=3
gaussian  method=gaussian sigma=0.5   # a remark
defaults epochs=1
smoothadv method=smoothadv steps=1 certify.sigma=0.12
"""


def plan_of(tmp_path, text) -> Path:
    path = tmp_path / "plan.txt"
    path.write_text(text)
    return path


def test_a_plan_names_runs_with_defaults_that_hold_for_the_lines_below(tmp_path):
    gaussian, smoothadv = read_plan(plan_of(tmp_path, SMALL))
    assert gaussian.name == "gaussian" and smoothadv.name == "smoothadv"
    assert gaussian.train == TrainConfig(method="gaussian", sigma=0.5, epochs=2, labels=64)
    assert smoothadv.train == TrainConfig(method="smoothadv", steps=1, epochs=1, labels=64)
    assert (gaussian.certify.sigma, gaussian.certify.n, gaussian.certify.max) == (0.5, 50, 3)
    assert smoothadv.certify.sigma == 0.12


def test_every_kind_of_option_is_converted(tmp_path):
    (run,) = read_plan(
        plan_of(tmp_path, "a method=smoothadv augment=true step_size=0.1 pretrained=runs/x certify.alpha=1e-2")
    )
    assert run.train.augment is True and run.train.step_size == 0.1 and run.train.pretrained == "runs/x"
    assert run.certify.alpha == 0.01


@pytest.mark.parametrize("plan", sorted(PLANS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_shipped_plan_can_be_read(plan):
    assert read_plan(plan)


@pytest.mark.parametrize(
    "text, said",
    [
        ("a sgima=0.5", "plan.txt, line 1: got 'sgima=0.5', expected key=value"),
        ("\na sigma", "line 2: got 'sigma', expected key=value"),
        ("a sigma=big", "line 1: got sigma=big, expected float"),
        ("a epochs=1.5", "line 1: got epochs=1.5, expected int"),
        ("a augment=yes", "line 1: got augment=yes, expected bool"),
        ("a sigma=-1", "line 1: sigma: got -1.0"),
        ("a certify.alpha=2", "line 1: alpha: got 2.0"),
        ("..", "line 1: got run name '..', expected a new one"),
        ("a/b", "line 1: got run name 'a/b'"),
        ("a\na", "line 2: got run name 'a', expected a new one"),
        ("../a", "line 1: got run name '../a'"),
        ("", "names no run"),
        ("defaults epochs=3", "names no run"),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        read_plan(plan_of(tmp_path, text))
    assert said in str(caught.value)


def test_a_plan_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="^plan: got .*expected one of"):
        read_plan(tmp_path / "absent.txt")


def without_time(folder) -> list:
    return logs.read_log(folder / "certify.tsv").drop(columns="time").to_numpy().tolist()


def test_a_plan_is_carried_out_stopped_and_resumed_to_the_same_logs(tmp_path, monkeypatch):
    plan = read_plan(plan_of(tmp_path, SMALL))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert carry_out(plan, whole)
    todo = [(stage.run.name, stage.kind, stage.done, stage.total) for stage in stages(plan, parts)]
    assert todo == [
        ("gaussian", "train", 0, 2),
        ("gaussian", "certify", 0, 3),
        ("smoothadv", "train", 0, 1),
        ("smoothadv", "certify", 0, 3),
    ]
    rounds = 0
    while not carry_out(plan, parts, minutes=0):  # stops after each step
        rounds += 1
        assert rounds < 20
    assert rounds >= 4
    for name in ("gaussian", "smoothadv"):
        assert without_time(parts / name) == without_time(whole / name)
        weights = [(out / name / "weights.safetensors").read_bytes() for out in (whole, parts)]
        assert weights[0] == weights[1]
    assert all(stage.complete for stage in stages(plan, parts))
    monkeypatch.setattr(plans, "train", None)  # complete stages are not begun again
    monkeypatch.setattr(plans, "certify_dataset", None)
    assert carry_out(plan, parts)


def test_a_run_with_other_options_is_not_certified(tmp_path):
    plan = read_plan(plan_of(tmp_path, "a epochs=1 labels=64 certify.n=10 certify.max=1"))
    carry_out(plan, tmp_path / "out")
    (tmp_path / "out" / "a" / "certify.tsv").unlink()
    other = read_plan(plan_of(tmp_path, "a epochs=1 labels=65 certify.n=10 certify.max=1"))
    with pytest.raises(InputError, match="other options than the plan's"):
        carry_out(other, tmp_path / "out")


@pytest.mark.parametrize("option", ["certify.n=11", "certify.sigma=0.5", "certify.bound=sequential", "labels=65"])
def test_complete_stages_of_another_plan_are_refused_and_not_shown_as_this_ones(tmp_path, option):
    text = "a epochs=1 labels=64 certify.n=10 certify.max=1"
    carry_out(read_plan(plan_of(tmp_path, text)), tmp_path / "out")
    assert carry_out(read_plan(plan_of(tmp_path, text + " certify.skip=3")), tmp_path / "out")  # the same image
    other = read_plan(plan_of(tmp_path, f"{text} {option}"))
    with pytest.raises(InputError, match="plan"):
        carry_out(other, tmp_path / "out")
    with pytest.raises(InputError, match="plan"):
        list(stages(other, tmp_path / "out"))


@pytest.mark.parametrize("left", [0, 20, 50])
def test_a_log_without_a_row_is_begun_anew_by_another_plan(tmp_path, left):
    text = "a epochs=1 labels=64 certify.max=1 certify.n="
    carry_out(read_plan(plan_of(tmp_path, text + "10")), tmp_path / "out")
    log = tmp_path / "out" / "a" / "certify.tsv"
    log.write_bytes(log.read_bytes()[:left] if left < 50 else log.read_bytes().splitlines(keepends=True)[0])
    assert carry_out(read_plan(plan_of(tmp_path, text + "11")), tmp_path / "out")
    assert logs.read_log(log).n.tolist() == [11]


@pytest.mark.parametrize("took", ["15.4", "", "1 day, 0:00:02", "soon"])
def test_whatever_a_log_says_of_its_time_its_rows_count(tmp_path, took):
    plan = read_plan(plan_of(tmp_path, "a epochs=1 labels=64 certify.n=10 certify.max=2"))
    carry_out(plan, tmp_path / "out")
    log = tmp_path / "out" / "a" / "certify.tsv"
    header, *rows = (line.split("\t") for line in log.read_text().splitlines())
    rows = [[*row[:5], took, *row[6:]] for row in rows]
    log.write_text("".join("\t".join(row) + "\n" for row in (header, *rows)))
    *_, stage = stages(plan, tmp_path / "out")
    assert stage.complete and stage.seconds_each == (2 if "0:00:02" in took else None)


def test_a_log_torn_by_a_kill_is_resumed_by_the_plan(tmp_path):
    plan = read_plan(plan_of(tmp_path, "a epochs=1 labels=64 certify.n=10 certify.max=3"))
    carry_out(plan, tmp_path / "out")
    log, whole = tmp_path / "out" / "a" / "certify.tsv", without_time(tmp_path / "out" / "a")
    log.write_bytes(log.read_bytes()[:-15])
    assert [stage.done for stage in stages(plan, tmp_path / "out")] == [1, 2]
    assert carry_out(plan, tmp_path / "out")
    assert without_time(tmp_path / "out" / "a") == whole


def test_a_run_may_start_from_an_earlier_one_and_without_noise_nothing_is_certified(tmp_path):
    text = """
    defaults epochs=1 labels=64 certify.n=10 certify.max=1
    teacher method=standard
    student pretrained=teacher unlabelled=hidden pseudo_labels=teacher
    """
    plan, out = read_plan(plan_of(tmp_path, text)), tmp_path / "out"
    assert [(stage.run.name, stage.kind) for stage in stages(plan, out)] == [
        ("teacher", "train"),
        ("student", "train"),
        ("student", "certify"),
    ]
    assert carry_out(plan, out)
    assert not (out / "teacher" / "certify.tsv").exists()
    config, _ = run_folder.read_run(out / "student")
    assert config.pretrained == config.pseudo_labels == str(out / "teacher")
    assert carry_out(plan, out)


def test_progress_wraps_every_stage(tmp_path):
    seen = []

    def progress(steps, total, done, title):
        seen.append((title, done, total))
        return steps

    plan = read_plan(plan_of(tmp_path, "a epochs=1 labels=64 certify.n=10 certify.max=2"))
    assert carry_out(plan, tmp_path / "out", progress=progress)
    assert seen == [("train a", 0, 1), ("certify a", 0, 2)]


def test_a_default_holds_for_the_lines_that_use_it_and_a_line_says_nothing_without_use(tmp_path):
    plan = tmp_path / "plan.txt"
    plan.write_text("defaults steps=2 epsilon=1.0\na method=gaussian\nb method=smoothadv\n")
    a, b = read_plan(plan)
    assert a.train == TrainConfig(method="gaussian") and (b.train.steps, b.train.epsilon) == (2, 1.0)
    plan.write_text("defaults method=gaussian\na epsilon=1.0\n")
    with pytest.raises(InputError, match=r"^plan\.txt, line 2: epsilon: got 1\.0 with method 'gaussian', expected"):
        read_plan(plan)
