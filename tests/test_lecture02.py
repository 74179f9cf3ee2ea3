"""Notebook 02: its figures and what its explorers compute."""

import numpy as np
import pytest
import torch
from drawn import at, dots, heights, line, panels, picture, xy
from explorers import explorer
from matplotlib.colors import to_hex
from scipy.stats import beta, binom, binomtest, norm

from rslab.lectures import style
from rslab.lectures.lecture02 import explorers, figures
from rslab.smoothing import bounds
from rslab.smoothing.classifier import Certificate, SmoothedClassifier

# -- figures ----------------------------------------------------------------------------------


def test_probabilities_by_sums_agree_with_sampling():
    x, sigma = (0.42, 0.52), 0.12
    exact = figures.plane_probabilities_at(x, sigma)
    g = SmoothedClassifier(figures.two_pixel_classifier, 4, sigma, batch_size=50_000)
    votes = g.sample_under_noise(torch.tensor([[x]]), 50_000, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(votes / 50_000, exact, atol=0.008)
    axis = np.array([x[1], x[0]])
    np.testing.assert_allclose(figures.plane_probabilities(axis, sigma)[0, 1], exact, atol=0.01)


def test_the_sound_bound_fails_less_often_than_alpha_and_the_plug_in_half_of_the_time():
    for p in (0.5, 0.7, 0.9, 0.99):
        bad = bounds.lower_confidence_bound(np.arange(201), 200, 0.01) > p
        by_sum = binom.pmf(np.arange(201)[bad], 200, p).sum()
        assert figures.too_large_probability(p, 200, 0.01) == pytest.approx(by_sum, abs=1e-12)
        assert by_sum < 0.01
    assert binom.sf(9000, 10_000, 0.9) == pytest.approx(0.495, abs=5e-4)
    assert 2 * figures.too_large_probability(0.5, 1000, 0.001) == pytest.approx(0.00173, abs=5e-6)


def test_least_top_count_is_where_the_test_begins_to_answer():
    assert [figures.least_top_count(n, 0.001) for n in (100, 1000, 10_000)] == [67, 553, 5166]
    for n in (1, 5, 10, 11, 57):
        for alpha in (0.05, 0.001):
            answers = [k for k in range(n // 2, n + 1) if bounds.top_class_p_value(k, n - k) <= alpha]
            assert figures.least_top_count(n, alpha) == min(answers, default=n + 1)


def test_averaging_four_by_four_divides_the_noise_by_four():
    photo = figures.photograph()
    figure, left_over = figures.noise_resolution_figure(photo, sigma=0.5)
    assert left_over == pytest.approx(0.125, abs=0.003)
    small, large, _, noisy_small, noisy_large, pooled = panels(figure)
    assert picture(small).shape[:2] == picture(pooled).shape[:2] == (56, 56)
    np.testing.assert_allclose(picture(large), photo.movedim(0, -1))
    for clean, noisy in ((small, noisy_small), (large, noisy_large)):  # clipped to [0, 1] for the eye
        assert 0.25 < (picture(noisy) - picture(clean)).std() < 0.5
    assert (picture(pooled) - picture(small)).std() == pytest.approx(0.125, abs=0.02)


def test_the_smoothing_figure_paints_g_and_the_radius_of_its_votes():
    x, sigma = (0.42, 0.52), 0.12
    left, right = panels(figures.smoothing_figure(x, sigma))
    top = figures.plane_probabilities_at(x, sigma).max()
    for axes in (left, right):
        (circle,) = axes.patches
        assert circle.get_center() == x and circle.get_radius() == pytest.approx(sigma * norm.ppf(top), rel=1e-6)
    noisy = dots(left)
    assert len(noisy) == 300
    assert noisy.mean(0) == pytest.approx(x, abs=0.03) and noisy.std(0) == pytest.approx([sigma] * 2, rel=0.15)
    axis = np.linspace(0, 1, 201)
    for row, column in ((30, 40), (100, 84), (170, 150), (60, 190)):  # row: the second pixel
        point = torch.tensor([[axis[column], axis[row]]])
        assert picture(left)[row, column] == int(figures.two_pixel_classifier(point).argmax())
        smoothed = figures.plane_probabilities_at((axis[column], axis[row]), sigma)
        assert smoothed[int(picture(right)[row, column])] > smoothed.max() - 0.01


def test_a_strip_of_noise_has_the_sigma_of_its_column():
    sigmas = (0, 0.05, 0.1)
    grey = torch.full((1, 40, 40), 0.5)
    drawn = [picture(axes) - 0.5 for axes in panels(figures.noise_strip_figure([grey, grey.expand(3, -1, -1)], sigmas))]
    assert [values.std() for values in drawn] == pytest.approx(2 * list(sigmas), rel=0.1)
    for row in (drawn[:3], drawn[3:]):
        np.testing.assert_allclose(row[2], 2 * row[1], atol=1e-6)  # the same noise along a row


def test_the_plug_in_figure_counts_its_runs_and_the_false_claims():
    n, alpha, p, runs = 10_000, 0.001, 0.9, 200
    left, middle, right = panels(figures.plug_in_figure(n, alpha, p, runs))
    (true,) = set(line(left, "the true radius")[0])
    assert true == pytest.approx(norm.ppf(p))
    for drawn, false in zip(left.patches, ((0.35, 0.65), (0, 0.02)), strict=True):
        bins = drawn.get_path().vertices
        tall, edge = bins[1::2, 1][: len(bins) // 4], bins[::2, 0][: len(bins) // 4]
        assert tall.sum() == pytest.approx(runs)
        assert false[0] <= tall[edge > true].sum() / runs <= false[1]  # the plug-in half of the time
    assert at(middle, "plug-in claims ∞", 1e-4) == pytest.approx((1 - 1e-4) ** n, rel=1e-2)
    sizes = (100, 1000, 10_000, 100_000)
    for bar, size in zip(right.patches, sizes, strict=False):
        need = min(k for k in range(size // 2, size + 1) if beta.ppf(alpha, k, size - k + 1) > 0.5)
        assert bar.get_height() == pytest.approx(binom.sf(need - 1, size, 0.5), rel=1e-6)
    fresh, twice = heights(right)[:4], heights(right)[4:]
    assert (fresh <= alpha).all() and twice == pytest.approx(2 * fresh)


def test_the_abstention_figure_shows_how_often_predict_answers():
    p, alpha = 0.52, 0.001
    left, right = panels(figures.abstention_figure(p, alpha))
    sizes = line(left, "binomial test")[0].astype(int)
    answers = [xy(drawn)[1] for drawn in right.lines]
    for place in (0, 20, 35):
        n = int(sizes[place])
        count, chance = np.arange(n + 1), binom.pmf(np.arange(n + 1), n, p)
        answered = np.array([binomtest(int(k), n).pvalue <= alpha for k in count])
        assert answers[1][place] == pytest.approx(chance[answered].sum(), abs=1e-12)
        assert answers[0][place] == pytest.approx(chance[2 * count != n].sum())
        wrong = chance[answered & (2 * count < n)].sum(), chance[2 * count < n].sum()
        for label, expected in zip(("binomial test", "tempting"), wrong, strict=True):
            assert line(left, label)[1][place] == pytest.approx(max(expected, 1e-12), rel=1e-9)


def test_the_limit_figure_shows_the_cap_and_radii_that_climb_to_the_true_one():
    left, right = panels(figures.radius_limit_figure())
    for alpha in (0.05, 0.001, 1e-6):
        sizes, caps = line(left, f"α = {alpha:g}")
        np.testing.assert_allclose(caps, norm.ppf(alpha ** (1 / sizes)).clip(0), rtol=1e-6, atol=1e-9)
    for (places, radii), (_, true), p in zip(
        map(xy, right.lines[::2]), map(xy, right.lines[1::2]), (0.999, 0.99, 0.9, 0.6), strict=True
    ):
        assert true[0] == pytest.approx(norm.ppf(p)) and radii[-1] == pytest.approx(true[0], abs=0.03)
        counts = np.round(p * places)
        lower = beta.ppf(0.001, counts, places - counts + 1)
        np.testing.assert_allclose(radii, norm.ppf(lower).clip(0), rtol=1e-6, atol=1e-9)


def test_half_space_and_certificates_show_the_numbers_given():
    (axes,) = panels(figures.halfspace_figure((10, 100), {0.5: [0.1, 0.2], 1.0: [0.2, 0.3]}, 1.2))
    for sigma, values in ((0.5, [0.1, 0.2]), (1, [0.2, 0.3])):
        places, radii = line(axes, f"certified with σ = {sigma:g}")
        assert (places.tolist(), radii.tolist()) == ([10, 100], values)
    assert set(line(axes, "true distance")[1]) == {1.2}
    votes = (200.0, 0, 50, 700, 50, 0, 0, 0, 0, 0)
    certificate = Certificate(3, 0.4, 3, 0.9, votes, 100, 1000, 0.001, 0.25, "clopper-pearson")
    images = torch.rand(2, 1, 8, 8)
    first, second, votes_of_first, votes_of_second = panels(
        figures.certificates_figure(images, [3, 0], [certificate] * 2)
    )
    for axes, image, label in ((first, images[0], 3), (second, images[1], 0)):
        np.testing.assert_allclose(picture(axes), image[0])
        assert axes.get_title() == f"a {label}\nsays 3\nR = 0.400"
    for axes, label in ((votes_of_first, 3), (votes_of_second, 0)):
        assert heights(axes) == pytest.approx(np.array(votes) / 1000)
        green = [to_hex(bar.get_facecolor()).upper() == style.GREEN for bar in axes.patches]
        assert np.flatnonzero(green).tolist() == [label]


# -- explorers ---------------------------------------------------------------------------------


def test_g_is_constant_in_every_certified_disc():
    decision_map = explorer("02 DecisionMapExplorer")
    certified = 0
    for sigma in explorers.SIGMAS[1::3]:
        for pixel_1 in explorers.PLACES[::25]:
            for pixel_2 in explorers.PLACES[::25]:
                decision_map.move(sigma=sigma, pixel_1=pixel_1, pixel_2=pixel_2)
                assert decision_map.disc_is_constant()
                assert (decision_map.radius > 0) == (decision_map.lower > 0.5) == (decision_map.prediction >= 0)
                assert decision_map.radius <= bounds.max_certified_radius(explorers.N, explorers.ALPHA, sigma) + 1e-9
                certified += decision_map.prediction >= 0
    assert certified > 50


def test_votes_are_complete_and_come_from_one_noise():
    selected, counts = explorers.votes_at(0.12, (0.42, 0.52))
    assert counts.sum() == explorers.N and selected == counts.argmax()
    assert explorers.votes_at(0.12, (0.42, 0.52))[1] is counts  # looked up
    exact = figures.plane_probabilities_at((0.42, 0.52), 0.12)
    np.testing.assert_allclose(counts / explorers.N, exact, atol=0.03)


@pytest.mark.parametrize("name", ["02 DecisionMapExplorer", "02 InsideDiscExplorer"])
def test_a_drag_on_either_map_moves_the_point_to_the_nearest_hundredth(name):
    maps = explorer(name)
    assert len(maps.image.grips) == 2
    for axes, x, y in (("f", 0.304, 0.697), ("g", 0.996, 0.001)):
        pictures = []
        maps.image.observe(pictures.append, "value")
        maps.drag(x, y, axes)
        maps.image.unobserve_all("value")
        assert (maps.pixel_1.value, maps.pixel_2.value) == (round(x, 2), round(y, 2)) and len(pictures) == 1
        assert f"({maps.pixel_1.value:g}, {maps.pixel_2.value:g})" in maps.text.value


def test_inside_the_disc_f_changes_and_g_does_not():
    maps = explorer("02 InsideDiscExplorer")
    assert maps.distance == 0 and maps.inside and maps.f_says == maps.g_says == 0
    said = set()
    for sigma in (0.08, 0.12, 0.2):
        maps.move(sigma=sigma)
        for pixel_1 in explorers.PLACES[27:58:3]:
            for pixel_2 in explorers.PLACES[37:68:3]:
                maps.move(pixel_1=pixel_1, pixel_2=pixel_2)
                assert maps.inside == (np.hypot(pixel_1 - 0.42, pixel_2 - 0.52) < maps.radius)
                said |= {(maps.f_says, maps.g_says)} if maps.inside else set()
    assert said == {(0, 0), (2, 0)}
    maps.move(sigma=0.12, pixel_1=0.46, pixel_2=0.54)
    top = figures.plane_probabilities_at((0.42, 0.52), 0.12).max()
    assert maps.radius == pytest.approx(0.12 * norm.ppf(top)) and maps.f_says == 2
    shares = figures.plane_probabilities_at((0.46, 0.54), 0.12)
    assert [bar.get_height() for bar in maps._bars] == pytest.approx(shares, abs=0.01)


def test_every_region_is_named_by_the_digit_of_its_class():
    axis = np.linspace(0, 1, 201)
    classes = figures.plane_classes(axis)
    marks = figures.region_marks(classes)
    assert len(marks) == 7  # four regions and three pockets
    for value, x, y, depth in marks:
        assert classes[round(200 * y), round(200 * x)] == value and 0.01 < depth < 0.4
    drawn = [text for axes in panels(figures.smoothing_figure((0.42, 0.52), 0.12)) for text in axes.texts]
    assert [text.get_text() for text in drawn if text.get_text()] == [str(mark[0]) for mark in marks] + list("0123")


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


# -- the votes fall ----------------------------------------------------------------------------


def test_the_votes_fall_in_order_and_the_bound_is_that_of_certify():
    falling = explorer("02 FallingVotesExplorer")
    for _, number in explorers.PICTURES:
        for sigma in explorers.FALLING_SIGMAS:
            selected, counts, copies, votes = explorers.falling_votes()[number, sigma]
            assert counts.sum(1).tolist() == list(explorers.STEPS)
            ones = np.diff(counts[:11], axis=0)  # the first ten fall one at a time
            assert (ones.argmax(1) == votes[1:11]).all() and len(copies) == len(votes) == len(explorers.STEPS)
            falling.move(picture=number, sigma=sigma)
            for n in (0, 1, 9, 10, 100, 10_000):
                falling.move(n=n)
                lower = beta.ppf(0.001, falling.count, n - falling.count + 1) if falling.count else 0.0
                assert falling.lower == pytest.approx(lower) and falling.selected == selected
                assert falling.radius == pytest.approx(max(sigma * norm.ppf(lower), 0.0), abs=1e-9)
                assert (falling.radius > 0) == (falling.prediction >= 0) == ("ABSTAIN" not in falling.text.value)
    noise = copies[1:] - copies[0]  # the last: σ = 1
    assert noise.std() == pytest.approx(1.0, rel=0.05) and abs(noise.mean()) < 0.05


def test_ten_unanimous_votes_are_the_first_that_certify():
    falling = explorer("02 FallingVotesExplorer")
    assert falling.n.value == 0 and falling.prediction == -1  # it starts by abstaining
    assert falling.move(n=9).radius == 0 < falling.move(n=10).radius
    assert falling.lower == pytest.approx(0.001**0.1)
    radii = [falling.move(n=n).radius for n in (10, 100, 1000, 10_000)]
    assert radii == sorted(radii)


def test_the_play_button_and_the_slider_move_together_from_none_to_all():
    falling = explorer("02 FallingVotesExplorer")
    assert falling.play in falling.children and falling.play.interval * falling.play.max == pytest.approx(
        20_000, rel=0.1
    )
    before = falling.image.value
    falling.play.value = falling.play.max
    assert falling.n.value == 10_000 and falling.image.value != before
    falling.n.value = 0
    assert falling.play.value == 0 and falling.image.value == before
