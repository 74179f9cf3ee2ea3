"""The explorers without a kernel: a slider changes the picture, and the numbers obey the theory."""

import base64

import numpy as np
import pytest
from explorers import CLASSES, controls, explorer, sweep, values, view
from matplotlib.font_manager import findfont
from PIL import ImageFont

from rslab.lectures.lecture02 import explorers
from rslab.smoothing import bounds

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


# -- lecture 02 --------------------------------------------------------------------------------


def test_g_is_constant_in_every_certified_disc():
    decision_map = explorer("02 DecisionMapExplorer")
    certified = 0
    for sigma in explorers.SIGMAS[1::3]:
        for pixel_1 in explorers.PLACES[::5]:
            for pixel_2 in explorers.PLACES[::5]:
                decision_map.move(sigma=sigma, pixel_1=pixel_1, pixel_2=pixel_2)
                assert decision_map.disc_is_constant()
                assert (decision_map.radius > 0) == (decision_map.lower > 0.5) == (decision_map.prediction >= 0)
                assert decision_map.radius <= bounds.max_certified_radius(explorers.N, explorers.ALPHA, sigma) + 1e-9
                certified += decision_map.prediction >= 0
    assert certified > 50


def test_votes_are_complete_and_drawn_once():
    selected, counts = explorers.plane_votes()
    assert (counts.sum(-1) == explorers.N).all()
    assert selected.shape == counts.shape[:-1]
    assert explorers.plane_votes()[1] is counts


def test_the_radius_grows_with_votes_and_shrinks_with_care():
    bound_explorer = explorer("02 BoundExplorer")
    bound_explorer.move(n=1000, alpha=0.001)
    by_share = [bound_explorer.move(share=share).radius for share in explorers.SHARES]
    assert by_share[0] == 0 and by_share == sorted(by_share)
    assert bound_explorer.radius == pytest.approx(bound_explorer.cap)
    bound_explorer.move(share=0.9)
    by_n = [bound_explorer.move(n=n).radius for n in (10, 100, 1000, 1_000_000)]
    assert by_n == sorted(by_n)
    bound_explorer.move(n=1000)
    by_alpha = [bound_explorer.move(alpha=alpha).radius for _, alpha in explorers.ALPHAS]
    assert by_alpha == sorted(by_alpha, reverse=True)
    assert bound_explorer.move(alpha=0.001).radius == pytest.approx(1.1145, abs=1e-4)


def test_the_curve_goes_through_the_dot():
    bound_explorer = explorer("02 BoundExplorer")
    bound_explorer.move(share=0.99, n=10_000, alpha=1e-4)
    curve = explorers.bound_radii()
    place = (bound_explorer.alpha.index, explorers.SIZES.index(10_000), explorers.SHARES.index(0.99))
    assert curve[place] == pytest.approx(bound_explorer.radius)
    assert curve[place[0], place[1], -1] == pytest.approx(bound_explorer.cap)


def test_abstaining_is_said_in_words():
    bound_explorer = explorer("02 BoundExplorer")
    decision_map = explorer("02 DecisionMapExplorer")
    assert "ABSTAIN" in bound_explorer.move(share=0.5, n=1000).text.value
    assert "ABSTAIN" in decision_map.move(sigma=0.5, pixel_1=0.4, pixel_2=0.5).text.value
