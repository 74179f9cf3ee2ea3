"""Checks for the notebooks' exercises: they say what is wrong, not only that it is.

A check takes the reader's function, calls it on cases where the usual mistakes give
different answers, and compares what comes back with those mistakes. It prints one
line when all is well and raises `Wrong` with one sentence when not.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np


class Wrong(AssertionError):
    """The answer is not right yet; the message names the fault. Shown in a notebook without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


def answer(function: Callable, *arguments):
    """function(*arguments); an untouched stub or an exception becomes a `Wrong`."""
    try:
        result = function(*arguments)
    except Wrong:  # a check's own word, of what the reader's code did with what it was given
        raise
    except Exception as error:  # whatever the reader's code raises
        raise Wrong(f"Your function stopped with {type(error).__name__}: {error}") from error
    if result is None or result is ...:
        raise Wrong("Nothing is returned yet: replace each ... of the stub by your code.")
    return result


def passed(message: str) -> None:
    """Say that an answer is right, and what is right about it."""
    print(f"✓ {message}")


def close(value: float, expected: float) -> bool:
    """Equal up to rounding: 10⁻⁶ relative, 10⁻⁹ near 0."""
    return math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-9)


def within(relative: float = 0.0, absolute: float = 0.0) -> Callable[..., bool]:
    """A comparison for `compare`: |given − expected| ≤ absolute + relative · |expected|, in every number.

    For numbers, tensors and arrays of one shape.
    """
    return lambda given, expected: bool(np.allclose(given, expected, rtol=relative, atol=absolute))


def compare(
    given, right, faults: Iterable[tuple], otherwise: str, case: str = "", same: Callable[..., bool] = close
) -> None:
    """Nothing when `given` is right; else a `Wrong` that names the mistake.

    faults: pairs (what a usual mistake gives here, the sentence about it). Several may agree on one
    case: the first one speaks. `case` follows its sentence in brackets; `otherwise` is said of an
    answer that no usual mistake explains. same(given, expected) tells whether two answers are equal.
    """
    if same(given, right):
        return
    for wrong, message in faults:
        if same(given, wrong):
            raise Wrong(f"{message} ({case})" if case else message)
    raise Wrong(otherwise)
