"""The explorers without a kernel: a slider changes the picture, and all of it fits its space."""

import base64
import io

import numpy as np
import pytest
from drawn import panels
from explorers import CLASSES, controls, explorer, sweep, values, view
from matplotlib.font_manager import findfont
from PIL import Image, ImageFont

from rslab.lectures.picture import png

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


def test_the_picture_has_twice_the_pixels_of_its_place_on_screen(shown):
    width, height = np.frombuffer(bytes(shown.image.value)[16:24], ">u4")
    assert (2 * shown.image.width, 2 * shown.image.height) == (width, height)


def test_the_alt_text_describes_the_picture_and_follows_the_numbers(shown):
    for control in controls(shown):
        control.value = values(control)[-1]
        described, numbers = shown.image.alt[: -len(shown.text.value)], shown.text.value
        assert shown.image.alt.endswith(numbers) and len(described) > 20


def test_nothing_in_the_picture_covers_a_label_or_leaves_it(shown):
    panels(shown.figure)
    for control in controls(shown):
        before = control.value
        for value in (values(control)[0], values(control)[-1]):
            control.value = value
            panels(shown.figure)
        control.value = before


def test_reset_puts_every_slider_back_in_one_redraw(shown):
    start, pictures = view(shown), []
    for control in controls(shown):
        control.value = next(value for value in values(control) if value != control.value)
    shown.image.observe(pictures.append, "value")
    shown.reset_button.click()
    shown.image.unobserve_all("value")
    assert view(shown) == start and len(pictures) == 1


def test_a_locked_explorer_cannot_be_moved_by_hand_and_is_released(shown):
    grips = shown.image.grips
    shown.lock()
    assert all(control.disabled for control in (*controls(shown), shown.reset_button)) and shown.image.grips == []
    shown.lock(False)
    assert not any(control.disabled for control in controls(shown)) and shown.image.grips == grips


def test_labels_fit_their_space(shown):
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)  # wider than the Helvetica of a notebook
    assert controls(shown)
    for control in controls(shown):
        assert font.getlength(control.description) <= int(control.style.description_width.removesuffix("px"))


def test_a_saved_notebook_has_the_picture_the_numbers_and_the_alt_text(shown):
    bundle, metadata = shown._repr_mimebundle_()
    assert metadata == {"image/png": {"alt": shown.image.alt}}
    assert bundle["text/plain"] == shown.text.value
    assert "application/vnd.jupyter.widget-view+json" in bundle
    saved = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert saved.width == shown.image.width and saved.height > shown.image.height  # below: how to get the sliders


# -- what is dragged ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "slider"), [("02 DecisionMapExplorer", "pixel_1")])
def test_a_drag_moves_the_slider_to_the_nearest_value_and_stays_within(name, slider):
    shown = explorer(name)
    control = getattr(shown, slider)
    options = values(control)
    shown.drag(0.513, 0.2)
    assert control.value == min(options, key=lambda value: abs(value - 0.513))
    assert f"{control.value:g}" in shown.text.value
    shown.drag(-100, 0)
    assert control.value == options[0]


def test_what_a_browser_sends_back_with_other_last_bits_draws_nothing(monkeypatch):
    danskin, beat = explorer("01 DanskinExplorer"), explorer("04 BeatTheoremExplorer")
    danskin.theta.value = 0.41
    for shown in (danskin, beat):
        monkeypatch.setattr(shown, "update", lambda: pytest.fail("drawn once more"))
    danskin.theta.value = 0.41000000000000003
    low, high = beat.first.value
    beat.first.value = (low, float(np.nextafter(high, 9)))
    monkeypatch.undo()
    danskin.theta.value = 0.42
    assert danskin.text.value.startswith("θ = 0.42:")


def test_a_drag_on_a_closed_formula_goes_where_the_hand_is_to_two_digits():
    danskin = explorer("01 DanskinExplorer")
    danskin.drag(0.513, 0.2)
    assert danskin.theta.value == 0.51 and danskin.text.value.startswith("θ = 0.51:")
    danskin.drag(-100, 0)
    assert danskin.theta.value == -1
    danskin.theta.value = 1e-17  # a browser's 0
    assert danskin.text.value.startswith("θ = 0:") and "kink" in danskin.text.value


def test_what_the_browser_sends_is_turned_into_data_coordinates():
    shown = explorer("03 StepExplorer")
    ((left, top, width, height),) = shown.image.grips
    shown.image._handle_custom_msg({"drag": [0, left + width / 2, top + height / 2]}, [])
    name, x, y = shown.image.place
    (low, high), (bottom, ceiling) = shown.figure.axes[0].get_xlim(), shown.figure.axes[0].get_ylim()
    assert (name, x, y) == (
        "",
        pytest.approx((low + high) / 2, abs=1e-3),
        pytest.approx((bottom + ceiling) / 2, abs=1e-3),
    )
    shown.image._handle_custom_msg({"drag": [0, 1.5, -3]}, [])  # the hand left the picture
    assert shown.image.place[1:] == (high, ceiling)
    shown.image._handle_custom_msg({"ask": True}, [])


def test_a_picture_is_written_without_loss():
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17, 4), np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(png(pixels)))) == pixels).all()
