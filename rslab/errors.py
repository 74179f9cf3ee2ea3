"""One sentence for every mistake: the name, the value and what was expected.

The command line turns `InputError` into exit code 2 and `WorkError` into exit
code 1, both without a traceback; anything else is a bug and shows one.
"""

import math
from collections.abc import Iterable


class InputError(ValueError):
    """The caller gave something that cannot be used."""


class WorkError(RuntimeError):
    """The input was fine, the work could not be done (no network, full disk, NaN loss …)."""


def _finite(value: float) -> bool:
    """Whether `value` is a finite number that fits 64 bits."""
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number above 0, else raise `InputError`."""
    if not (_finite(value) and value > 0):
        raise InputError(f"{name}: got {value}, expected a number above 0.")
    return value


def check_at_least(name: str, value: float, low: float) -> float:
    """Return `value` if it is finite and ≥ `low`, else raise `InputError`."""
    if not (_finite(value) and value >= low):
        raise InputError(f"{name}: got {value}, expected {low} or more.")
    return value


def check_open_unit(name: str, value: float) -> float:
    """Return `value` if 0 < value < 1, else raise `InputError`."""
    if not 0 < value < 1:
        raise InputError(f"{name}: got {value}, expected a number strictly between 0 and 1.")
    return value


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise `InputError` that lists them."""
    choices = list(choices)
    if value not in choices:
        raise InputError(f"{name}: got {value!r}, expected one of {', '.join(choices)}.")
    return value


def check_seed(value: int) -> int:
    """Return `value` if it is in the range that `randomness.generator_for` keeps distinct."""
    if not 0 <= value <= 1000:
        raise InputError(f"seed: got {value}, expected 0 … 1000.")
    return value
