"""What every figure keeps to: its colours, its names, its size."""

import base64
import io
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from drawn import panels, unreadable, xy
from lectures import NUMBERS
from matplotlib.figure import Figure
from PIL import Image

from rslab.config import METHODS
from rslab.lectures import results, style


def decoded(figure):
    bundle, metadata = figure._repr_mimebundle_()
    ((kind, text),) = bundle.items()
    assert metadata == {kind: {"alt": figure.alt}}
    return kind, base64.b64decode(text)


def test_every_method_has_its_own_color():
    assert style.COLORS.keys() == METHODS.keys()
    assert len(set(style.COLORS.values())) == len(METHODS)


@pytest.mark.parametrize(
    "label, method",
    [
        ("gaussian-0.25", "gaussian"),
        ("SmoothAdv, σ = 0.5", "smoothadv"),
        ("smoothed", "smoothed"),
        ("combine3-x", "combine3"),
        ("model 7", None),
    ],
)
def test_a_label_names_its_method(label, method):
    assert style.method_of(label) == method


def test_certified_accuracy_figure_keeps_colors_and_tells_curves_apart():
    radii = np.linspace(0, 1, 11)
    labels = ("gaussian-0.25", "gaussian-0.5", "smoothadv-0.25", "other")
    figure = results.certified_accuracy_figure({label: (radii, 90 - 80 * radii) for label in labels}, "title")
    assert isinstance(figure, Figure)
    lines = figure.axes[0].lines
    colors = [line.get_color() for line in lines]
    assert colors[:3] == [style.BLUE, style.BLUE, style.GREEN]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 4
    for drawn, label in zip(lines, labels, strict=True):
        assert drawn.get_label() == label and np.array_equal(xy(drawn), (radii, 90 - 80 * radii))
        assert drawn.get_drawstyle() == "steps-pre"  # between two radii the lower of the two
    assert "radius" in figure.axes[0].get_xlabel() and "%" in figure.axes[0].get_ylabel()


def test_a_crowded_figure_is_called_unreadable():
    figure, (left, right) = style.new_figure(1, 2, width=4, height=3)
    left.plot([0, 1], [0, 1])
    right.plot([0, 1], [0, 1])
    assert panels(figure) == [left, right]
    right.set_xticks(np.arange(0, 1.01, 0.05))
    figure.canvas.draw()
    assert unreadable(figure)[0].endswith("over each other")
    right.set_xticks([0, 0.5, 1])
    right.plot([0, 1], [1, 0], label="a name that is longer than both panels together are wide")
    right.legend().set_in_layout(False)
    figure.canvas.draw()
    faults = unreadable(figure)
    assert any("over the panel" in fault for fault in faults) and any("outside the picture" in f for f in faults)


def test_certified_accuracy_figure_without_a_curve():
    assert decoded(results.certified_accuracy_figure({}))[1]


@pytest.mark.parametrize("encoding, kind", [("palette", "image/png"), ("png", "image/png"), ("jpeg", "image/jpeg")])
def test_a_figure_shows_itself_in_its_encoding_and_its_size(encoding, kind):
    figure, axes = style.new_figure(width=3.0, height=2.0)
    axes.plot([0, 1], [1, 0])
    figure.encoding, figure.alt = encoding, "a line that falls"
    assert figure.get_facecolor() == (1, 1, 1, 1)  # opaque: readable in a dark notebook
    found, content = decoded(figure)
    shown = Image.open(io.BytesIO(content))
    assert found == kind and shown.size == (300, 200)
    assert (np.asarray(shown.convert("L")) < 200).any()  # the line and the frame


@pytest.mark.parametrize("number", NUMBERS)
def test_every_figure_of_a_lecture_is_looked_at_by_a_test(number):
    figures = import_module(f"rslab.lectures.lecture{number}.figures")
    tests = (Path(__file__).parent / f"test_lecture{number}.py").read_text(encoding="utf-8")
    drawn = {name for name, value in vars(figures).items() if getattr(value, "__module__", "") == figures.__name__}
    missed = [name for name in drawn if name.endswith("_figure") and f"figures.{name}(" not in tests]
    assert drawn and not missed
