"""The explorers of the course, each made once, and what every one must do when its sliders move."""

import statistics
import time
from functools import cache
from importlib import import_module

import ipywidgets
from lectures import NUMBERS

from rslab.data.datasets import load_dataset
from rslab.lectures.explorer import Explorer
from rslab.networks.inference import fold_batchnorm
from rslab.store.run_folder import RESULTS, load_run

RANGES = ipywidgets.FloatSlider | ipywidgets.IntSlider | ipywidgets.Play
CONTROLS = ipywidgets.SelectionSlider | ipywidgets.Dropdown | RANGES


def _of_lecture(number: str) -> dict[str, type[Explorer]]:
    module = import_module(f"rslab.lectures.lecture{number}.explorers")
    found = (value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__)
    classes = (value for value in found if isinstance(value, type) and not value.__name__.startswith("_"))
    return {f"{number} {value.__name__}": value for value in classes}


CLASSES = {name: value for number in NUMBERS for name, value in _of_lecture(number).items()}


def _arguments(name: str) -> tuple:
    """What an explorer is made with; most need nothing."""
    if not name.endswith("AttackExplorer"):
        return ()
    network = fold_batchnorm(load_run(RESULTS / "digits" / "gaussian-0.25")[0]).requires_grad_(False)
    digits = load_dataset("digits", "test")
    if name.startswith("01"):
        networks = {"first": network, "second": lambda z: -network(z)}
        return networks, digits.images[[0, 3, 7]], digits.labels[[0, 3, 7]]
    return network, digits.images[25], int(digits.labels[25]), 0.25, 1


@cache
def _made(name: str) -> tuple[Explorer, list]:
    explorer = CLASSES[name](*_arguments(name))
    return explorer, [(control, control.value) for control in controls(explorer)]


def explorer(name: str) -> Explorer:
    """The explorer of that name, "03 StepExplorer", its sliders where they are at the start."""
    made, start = _made(name)
    for control, value in start:
        control.value = value
    return made


def controls(explorer: Explorer) -> list:
    """Its sliders and menus."""
    return [child for child in explorer.children if isinstance(child, CONTROLS)]


def values(control) -> list:
    """All that a slider or menu can be set to; of a continuous one, its ends and its middle."""
    if isinstance(control, RANGES):
        middle = (control.min + control.max) / 2
        return [control.min, int(middle) if isinstance(control.min, int) else middle, control.max]
    return [option[1] if isinstance(option, tuple) else option for option in control.options]


def sweep(explorer: Explorer) -> float:
    """Move each control to its low, middle and high value: picture or numbers change, and all comes back.

    The median time from slider to picture in ms.
    """
    seconds = []
    for control in controls(explorer):
        before, start_view = control.value, view(explorer)
        options, seen = values(control), set()
        chosen = {options[0], options[len(options) // 2], options[-1]}
        for value in chosen:
            began = time.perf_counter()
            control.value = value
            seconds.append(time.perf_counter() - began)
            seen.add(view(explorer))
        # A middle value may look like an end one (a curve the published grid does not have); two ends may not.
        assert len(seen) >= min(len(chosen), 2), control.description
        control.value = before
        assert view(explorer) == start_view, control.description
    return 1000 * statistics.median(seconds)


def view(explorer: Explorer) -> tuple[bytes, str]:
    """The picture and the line of numbers."""
    return bytes(explorer.image.value), explorer.text.value
