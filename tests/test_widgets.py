"""The explorers without a kernel: a slider changes the picture, and all of it fits its space."""

import base64

import numpy as np
import pytest
from explorers import CLASSES, controls, explorer, sweep, values, view
from matplotlib.font_manager import findfont
from PIL import ImageFont

# -- what every explorer does ------------------------------------------------------------------


@pytest.fixture(params=CLASSES)
def shown(request):
    return explorer(request.param)


def test_every_slider_changes_the_picture_and_the_numbers(shown, capsys):
    milliseconds = sweep(shown)
    with capsys.disabled():  # reported, not asserted: the machine may be busy
        print(f"\n{type(shown).__name__}: slider to picture {milliseconds:.0f} ms (median)")


def test_another_value_of_a_slider_is_another_picture_with_other_numbers(shown):
    for slider in controls(shown):
        before, (picture, line) = slider.value, view(shown)
        slider.value = next(value for value in values(slider) if value != before)
        assert shown.image.value != picture and bytes(shown.image.value).startswith(b"\x89PNG")
        assert shown.text.value != line
        slider.value = before
        assert view(shown) == (picture, line)


def test_the_size_on_screen_is_that_of_the_picture(shown):
    width, height = np.frombuffer(bytes(shown.image.value)[16:24], ">u4")
    assert (int(shown.image.width), int(shown.image.height)) == (width, height)


def test_labels_fit_their_space(shown):
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)  # wider than the Helvetica of a notebook
    assert controls(shown)
    for control in controls(shown):
        assert font.getlength(control.description) <= int(control.style.description_width.removesuffix("px"))


def test_a_saved_notebook_has_the_picture_and_the_numbers(shown):
    bundle = shown._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/plain"] == shown.text.value
    assert "application/vnd.jupyter.widget-view+json" in bundle
