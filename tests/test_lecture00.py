"""Notebook 00: its figures and its explorer."""

import pytest
from drawn import line, panels, xy
from explorers import explorer
from scipy.stats import norm

from rslab.lectures import pictures
from rslab.lectures.lecture00 import explorers, figures
from rslab.smoothing import bounds

# -- figures ----------------------------------------------------------------------------------


def test_the_price_figure_shows_shares_bounds_and_the_best_radius():
    rows = [(1.0, 0.99, 0.2), (0.9, 0.8, 0.3), (0.6, 0.5, 0.1)]
    left, right = panels(figures.price_figure((0.1, 0.2, 0.4), rows))
    assert line(left, "share of votes")[0].tolist() == [0.1, 0.2, 0.4]
    assert line(left, "share of votes")[1].tolist() == [1.0, 0.9, 0.6]
    assert line(left, "what may be claimed")[1].tolist() == [0.99, 0.8, 0.5]
    curve, star = map(xy, right.lines)
    assert curve[1].tolist() == [0.2, 0.3, 0.1] and (star[0].tolist(), star[1].tolist()) == ([0.2], [0.3])
    assert "σ = 0.2: R = 0.300" in [text.get_text() for text in right.texts]
    said = figures.price_figure((0.1, 0.2, 0.4), [(1.0, 0.99, 0.2), (0.9, 0.8, 0.3), (0.3, 0.2, 0.0)]).alt
    assert "largest at σ = 0.2" in said and "it is 0 at σ = 0.4." in said and "falls to" in said


def test_the_map_shows_a_box_a_lecture_and_an_arrow_a_need():
    (axes,) = panels(figures.map_figure())
    numbers = {text.get_text(): text.get_position() for text in axes.texts if text.get_text().isdecimal()}
    assert sorted(numbers) == sorted(figures.LECTURES) and len(axes.patches) == len(figures.LECTURES)
    for (number, (_, column, row)), box in zip(figures.LECTURES.items(), axes.patches, strict=True):
        left, bottom, width, height = box.get_bbox().bounds
        assert left < numbers[number][0] < left + width and bottom < numbers[number][1] < bottom + height
        assert (left + width / 2, bottom + height / 2) == pytest.approx((1.5 * column, row))
    arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    solid = [arrow.arrow_patch.get_linestyle() in ("-", "solid") for arrow in arrows]
    assert solid == [bool(strong) for _, _, strong in figures.NEEDS]


def test_more_noise_costs_votes_and_the_best_sigma_lies_between():
    rows = figures.vote_shares(explorers.SIGMAS)
    shares, lowers, radii = zip(*rows, strict=True)
    assert list(shares) == sorted(shares, reverse=True)
    assert all(lower < share for share, lower in zip(shares, lowers, strict=True))
    best = max(range(len(radii)), key=radii.__getitem__)
    assert explorers.SIGMAS[best] == 0.25 and radii[-1] == 0
    assert radii[best] == pytest.approx(bounds.certified_radius(lowers[best], 0.25))


def test_the_distances_are_those_of_the_text():
    distances = list(figures.distances().values())
    assert distances[:2] == [0.5, 1.0] and distances[2] == pytest.approx(2.11, abs=0.005)


def test_the_map_names_every_lecture_and_only_earlier_ones_are_needed():
    assert sorted(figures.LECTURES) == [f"{number:02}" for number in range(1, 9)]
    assert all(start < end for start, end, _ in figures.NEEDS)


# -- the explorer ------------------------------------------------------------------------------


def test_an_arrow_key_moves_either_slider_both_ways():
    promise = explorer("00 PromiseExplorer")
    for slider in (promise.sigma, promise.p_A):
        assert 0 < slider.index < len(slider.options) - 1


def test_one_step_to_the_right_changes_the_picture_and_the_numbers():
    promise = explorer("00 PromiseExplorer")
    before = bytes(promise.image.value), promise.text.value
    promise.sigma.index += 1
    assert bytes(promise.image.value) != before[0] and promise.text.value != before[1]
    promise.sigma.index -= 1
    assert (bytes(promise.image.value), promise.text.value) == before


def test_the_radius_is_proportional_to_sigma_and_needs_a_majority():
    promise = explorer("00 PromiseExplorer")
    for p in explorers.SHARES:
        small = promise.move(sigma=0.25, p_A=p).radius
        assert promise.move(sigma=1.0).radius == pytest.approx(4 * small)
        assert (small > 0) == (p > 0.5)
    assert "nothing is promised" in promise.move(p_A=0.5).text.value
    assert promise.move(sigma=0.5, p_A=0.9).radius == pytest.approx(0.5 * norm.ppf(0.9))


# -- σ against ε -------------------------------------------------------------------------------


def test_more_votes_prove_more_and_less_alpha_proves_less():
    moved = explorer("00 SigmaEpsilonExplorer")
    radii = [moved.move(picture="coffee", sigma=0.25, n=n).radius for n in (10, 100, 1000, 2000)]
    assert radii == sorted(radii) and radii[0] > 0 and radii[-1] == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 2000)))
    assert moved.move(alpha=1e-6).radius < moved.move(alpha=0.1).radius


@pytest.mark.parametrize("picture", ["coffee", "digit-2", "digit-8"])
def test_the_line_is_safe_then_unknown_then_broken(picture):
    moved = explorer("00 SigmaEpsilonExplorer").move(picture=picture, n=2000)
    for sigma in (0.0, 0.12, 0.25, 0.5):
        moved.move(sigma=sigma)
        verdicts = [moved.move(epsilon=epsilon).verdict for epsilon in pictures.EPSILONS]
        order = ["proven safe", "unknown", "broken"]
        assert [order.index(verdict) for verdict in verdicts] == sorted(order.index(verdict) for verdict in verdicts)
        assert (verdicts[0] == "proven safe") == (moved.radius > 0) and moved.radius < moved.nearest
        assert verdicts.count("broken") == sum(epsilon >= moved.nearest for epsilon in pictures.EPSILONS)


def test_without_noise_nothing_is_proven_and_the_coffee_is_broken_at_once():
    moved = explorer("00 SigmaEpsilonExplorer").move(picture="coffee", sigma=0.0, epsilon=0.2)
    assert (moved.radius, moved.verdict) == (0, "broken") and "nothing is proven" in moved.text.value
    moved.move(sigma=0.25)
    assert moved.verdict == "proven safe" and moved.nearest > 10 * moved.radius


def test_the_coffee_figure_rounds_its_certificate_down_and_the_table_lists_every_sigma():
    titles = [panel.get_title() for panel in panels(figures.coffee_figure())]
    said = " ".join(figures.coffee_figure().alt.split())
    assert all(title.replace("\n", " ") in said for title in titles)
    assert titles[0] == "f: espresso" and "espresso" not in titles[1] and titles[3].endswith("below 0.67")
    table = figures.study_table("coffee", "digit-2")
    assert len(table) == 2 * len(pictures.SIGMAS) and list(table.R)[:3] == ["–", "0.324", "0.675"]
