"""Predict first: nothing is given away before an answer, and what was said is compared with what is."""

import json

import ipywidgets
import numpy as np
import pytest
from explorers import CLASSES

from rslab.errors import InputError
from rslab.lectures import prediction

SECRET = 0.7318


def sent(box: ipywidgets.Widget) -> str:
    """All that the page and a saved notebook get to see of a box of widgets."""
    members, seen = [box], []
    while members:
        widget = members.pop()
        members += getattr(widget, "children", ())
        seen.append({name: str(value) for name, value in widget.get_state().items()})
    return json.dumps([seen, box._repr_mimebundle_()[0]], ensure_ascii=False)


@pytest.fixture
def share():
    return prediction.number(
        "Which share of the votes is &lt; 1?", answer=lambda: SECRET, tolerance=0.05, why=lambda: f"Because {SECRET:g}."
    )


def test_nothing_is_given_away_before_the_answer(share):
    assert "0.7318" not in sent(share) and "Because" not in sent(share)
    assert share._repr_mimebundle_()[0]["text/plain"] == "Predict first. Which share of the votes is < 1?"


@pytest.mark.parametrize(
    ("typed", "right"), [("0.7", True), ("0,75", True), (" 72 % ", True), ("3/4", True), ("0.9", False), ("7e-1", True)]
)
def test_a_number_is_compared_within_its_tolerance(share, typed, right):
    share.field.value = typed
    share.button.click()
    assert share.right is right and not share.asking
    assert f"You said {share.said:.4g}; it is 0.7318." in share.verdict.value
    assert ("<b>Right</b>" in share.verdict.value) is right and ("<b>Not right</b>" in share.verdict.value) is not right
    assert "0.05 is allowed" in share.verdict.value and "<details open><summary>Why?</summary>Because 0.7318." in (
        share.verdict.value
    )
    assert "0.7318" not in json.dumps(share._repr_mimebundle_()[0])  # a notebook that is saved now asks again
    assert share.button not in share._row.children and share.field.disabled


def test_the_enter_key_answers(share):
    share.field.value = "0.7"
    share.field._handle_custom_msg({"event": "submit"}, [])
    assert share.right


def test_thousands_and_units_are_read():
    votes = prediction.number("How many?", answer=10_000, tolerance=0, unit="votes").give("10,000 votes")
    assert votes.right and "You said 1e+04 votes" in votes.verdict.value
    assert prediction.number("How many?", answer=25, tolerance=1, unit="%").give("25.5 %").right


@pytest.mark.parametrize("typed", ["", "many", "nan", "inf", "1/0", "<b>"])
def test_what_is_no_number_is_said_and_may_be_mended(share, typed):
    share.field.value = typed
    share.button.click()
    assert share.asking and "is no number" in share.verdict.value and "<b>" not in share.verdict.value
    assert "0.7318" not in sent(share)
    assert share.give(0.7).right


def test_who_skips_finds_the_answer_folded(share):
    share.skip_button.click()
    assert share.right is None and share.said is None and not share.asking
    assert "<details><summary>The answer</summary>It is 0.7318." in share.verdict.value
    assert share.give(0.7).said is None  # the question is closed


def test_a_choice_starts_without_one():
    asked = prediction.choice("Is it larger?", options=["larger", "smaller"], answer=lambda: "smaller", why="So it is.")
    assert asked.field.value is None and "So it is" not in sent(asked)
    asked.button.click()
    assert asked.asking and "Choose one" in asked.verdict.value
    asked.field.value = "larger"
    asked.button.click()
    assert asked.right is False and "You said “larger”; it is “smaller”. <b>Not right</b>." in asked.verdict.value


def test_a_sketched_curve_is_compared_on_average_and_the_true_one_appears():
    x = np.linspace(0, 1, 41)
    options = dict(answer=lambda: x**2, ylim=(0, 1), tolerance=0.1, xlabel="p", ylabel="R")
    asked = prediction.curve("How does it grow?", x, **options)
    asked.button.click()
    assert asked.asking and "at least half" in asked.verdict.value
    for place in (0, 0.2, 0.4, 0.6, 0.8, 1):  # a quick hand: what lies between is joined
        asked.field.drag(place, place**2)
    before = asked.field.image.value
    asked.button.click()
    assert asked.right and asked.field.image.value != before and asked.field.image.grips == []
    assert prediction.curve("How does it grow?", x, **options).give(1 - x).right is False
    skipped = prediction.curve("How does it grow?", x, **options).skip()
    assert "dashed" in skipped.verdict.value
    again = prediction.curve("How does it grow?", x, **options)
    blank = again.field.image.value
    again.field.drag(0.5, 0.5).reset_button.click()
    assert again.field.image.value == blank


@pytest.mark.parametrize("ends_by", ["give", "skip"])
def test_an_explorer_is_released_by_the_answer(ends_by):
    explorer = CLASSES["03 StepExplorer"]()
    asked = prediction.number("How steep?", answer=lambda: explorer.slope, tolerance=0.1, explorer=explorer)
    assert explorer.x.disabled and explorer.image.grips == [] and explorer in asked.children
    bundle, metadata = asked._repr_mimebundle_()
    assert bundle["image/png"] and metadata["image/png"]["alt"]
    asked.give(1.0) if ends_by == "give" else asked.skip()
    assert not explorer.x.disabled and len(explorer.image.grips) == 1


def test_run_all_goes_on_and_code_moves_a_locked_explorer():
    explorer = CLASSES["03 StepExplorer"]()
    prediction.number("How steep?", answer=0, tolerance=0.1, explorer=explorer)
    assert explorer.move(x=0.5).x.value == 0.5


def test_an_answer_that_needs_a_cell_not_yet_run_is_said():
    asked = prediction.number("How many?", answer=lambda: {}["votes"], tolerance=0).give(1)
    assert asked.asking and "run the cells above" in asked.verdict.value and "KeyError" in asked.verdict.value


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: prediction.number("?", answer=1, tolerance=-1), "^tolerance: got -1"),
        (lambda: prediction.choice("?", options=["a"], answer="a"), "^options: got"),
        (lambda: prediction.choice("?", options=["a", "b"], answer="c"), "^answer: got 'c'"),
        (
            lambda: prediction.curve("?", [1, 0], answer=[1, 1], ylim=(0, 1), tolerance=1, xlabel="", ylabel=""),
            "^x: got",
        ),
    ],
)
def test_a_question_that_cannot_be_asked(ask, message):
    with pytest.raises(InputError, match=message):
        ask()
