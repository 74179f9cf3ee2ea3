"""Each check accepts the solution, rejects the stub, and names the usual mistakes."""

from importlib import import_module

import numpy as np
import pytest
import torch
from lectures import EXERCISES, NUMBERS

from rslab.lectures import answers
from rslab.lectures.spies import Spy

# -- what the checks are made of -----------------------------------------------------------


def test_a_fault_that_a_check_finds_inside_the_readers_function_keeps_its_words():
    """The f that a check hands over may refuse what it is given: that sentence is the answer, not its wrapping."""

    def f(images):
        raise answers.Wrong("f wants a batch.")

    with pytest.raises(answers.Wrong, match="^f wants a batch.$"):
        answers.answer(lambda f, x: f(x), f, torch.zeros(2))
    with pytest.raises(answers.Wrong, match="^Your function stopped with KeyError"):
        answers.answer(lambda: {}["absent"])


def test_a_notebook_shows_the_sentence_without_a_traceback():
    assert answers.Wrong("Use σ.")._render_traceback_() == ["✗ Use σ."]


def said(given, right, *faults, **options) -> str:
    """The sentence about this answer, empty if it is right."""
    try:
        answers.compare(given, right, faults, "No idea.", **options)
    except answers.Wrong as wrong:
        return str(wrong)
    return ""


def test_the_first_mistake_that_explains_an_answer_is_named():
    faults = (2.0, "Doubled."), (4.0, "Squared."), (4.0, "Doubled twice.")
    assert said(1 + 1e-9, 1.0, *faults, case="x = 1") == ""
    assert said(2.0, 1.0, *faults) == "Doubled."
    assert said(4.0, 1.0, *faults, case="x = 1") == "Squared. (x = 1)"
    assert said(3.0, 1.0, *faults, case="x = 1") == said(float("nan"), 1.0, *faults) == "No idea."


@pytest.mark.parametrize("kind", [float, torch.tensor, np.array])
def test_answers_are_compared_as_the_check_wants_it(kind):
    ten, near, far = kind(10.0), kind(10.1), kind(10.3)
    for same in (answers.within(0.02), answers.within(absolute=0.2)):
        assert said(near, ten, same=same) == "" and said(far, ten, same=same) == "No idea."
        assert said(near, kind(0.0), (ten, "Ten."), same=same) == "Ten."


def test_a_spy_remembers_what_it_was_asked_and_refuses_other_shapes():
    spy = Spy(lambda batch: batch.sum(1), (None,), "h was given {shape}.")
    with pytest.raises(answers.Wrong, match="^Never asked.$"):
        spy.seen("Never asked.")
    assert spy(torch.ones(2, 3)).tolist() == [3, 3] and spy(torch.zeros(1, 3)).tolist() == [0]
    assert spy.seen("Never asked.").tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    for wrong, shape in ((torch.ones(3), "(3,)"), (np.ones((2, 3)), "(2, 3)"), (0.5, "()")):
        with pytest.raises(answers.Wrong) as caught:
            spy(wrong)
        assert str(caught.value) == f"h was given {shape}."


# -- the exercises of every lecture ----------------------------------------------------------


@pytest.mark.parametrize(
    "exercise, solution",
    [(each, solution) for each in EXERCISES for solution in each.solutions],
    ids=[f"{each}-{number}" for each in EXERCISES for number in range(len(each.solutions))],
)
def test_a_solution_passes(exercise, solution, capsys):
    exercise.check(solution)
    printed = capsys.readouterr().out
    assert printed.startswith("✓") and printed.count("✓") == 1


@pytest.mark.parametrize("exercise", EXERCISES, ids=str)
def test_an_untouched_stub_is_told_to_be_filled_in(exercise):
    for untouched in (..., None):
        with pytest.raises(answers.Wrong, match=r"replace each \.\.\. of the stub"):
            exercise.check(lambda *arguments, untouched=untouched: untouched)


@pytest.mark.parametrize(
    "exercise, words, answer",
    [(each, words, answer) for each in EXERCISES for words, answer in each.faults.items()],
    ids=[f"{each}-{words}" for each in EXERCISES for words in each.faults],
)
def test_a_mistake_is_named(exercise, words, answer):
    with pytest.raises(answers.Wrong) as caught:
        exercise.check(answer)
    assert words in str(caught.value)


@pytest.mark.parametrize("number", NUMBERS)
def test_no_check_of_a_lecture_is_left_out(number):
    """Public functions that take the reader's function."""
    checks = import_module(f"rslab.lectures.lecture{number}.checks")
    public = {
        name
        for name, value in vars(checks).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == checks.__name__
    }
    assert public == {each.check.__name__ for each in EXERCISES if each.check.__module__ == checks.__name__}
