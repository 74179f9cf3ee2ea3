"""What the tests know of an exercise."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """A check of the course, answers that it accepts, and answers that it refuses."""

    check: Callable[[Callable], None]
    solutions: tuple[Callable, ...]
    faults: dict[str, Callable]  # words of the sentence that is said → the answer that has this fault

    def __str__(self) -> str:
        lecture = self.check.__module__.split(".")[-2]
        return f"{lecture}-{self.check.__name__}"
