"""The course as its tests see it: the exercises of every lecture, with right and wrong answers."""

from importlib import import_module

NUMBERS = tuple(f"{number:02}" for number in range(9))
EXERCISES = tuple(exercise for number in NUMBERS for exercise in import_module(f"lectures.lecture{number}").EXERCISES)
