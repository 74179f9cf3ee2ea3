"""Notebook 03: its figures and what its explorers compute."""

import math

import numpy as np
import pytest
import torch
from drawn import at, line, panels, picture, xy
from explorers import explorer
from scipy.stats import norm

from rslab.lectures.lecture03 import explorers, figures

# -- figures ----------------------------------------------------------------------------------


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # E h(z) = Σ weight · h(node), z ~ N(0, 1)


def test_the_step_figure_shows_the_staircase_and_its_averages():
    (axes,) = panels(figures.step_figure((0.3, 1.0)))
    places, steps = line(axes, "h: a staircase")
    for x, expected in ((-2, 0.1), (-1, 0.9), (-0.5, 0.3), (0, 1.0), (1, 0.0)):
        assert steps[abs(places - x).argmin()] == expected
    z = np.linspace(-8, 8, 160_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    for sigma in (0.3, 1.0):
        for x in (-1.5, -0.2, 0.6):
            average = weight @ np.interp(x + sigma * z, places, steps)
            assert at(axes, f"H, σ = {sigma:g}", x) == pytest.approx(average, abs=0.01)


def test_the_wave_figure_shows_what_noise_leaves_of_a_wave():
    sigma = 0.5
    left, right = panels(figures.wave_figure(sigma))
    for k in (1, 2, 6):
        places, smoothed = line(left, f"k = {k}")
        for number in (10, 200, 470):
            average = WEIGHTS @ (0.5 + 0.5 * np.sin(k * (places[number] + sigma * NODES)))
            assert smoothed[number] == pytest.approx(average, abs=1e-6)
        steepest = abs(np.gradient(smoothed, places)).max()
        assert at(right, "steepest slope of H", k * sigma) == pytest.approx(sigma * steepest, abs=0.01)
        assert at(right, "steepest slope of h", k * sigma) == pytest.approx(k * sigma / 2, abs=1e-9)
    ceiling = line(right, "1/√(2π)")[1][0]
    assert ceiling == pytest.approx(0.398942, abs=1e-6) and line(right, "steepest slope of H")[1].max() < ceiling


def test_the_simulated_errors_lie_on_the_exact_lines():
    (axes,) = panels(figures.error_figure(runs=2000))
    clouds = [drawn for drawn in axes.lines if drawn.get_linestyle() == "None"]
    for name, cloud in zip(figures.ESTIMATORS, clouds, strict=True):
        budgets, errors = xy(cloud)
        np.testing.assert_allclose(errors, line(axes, name)[1], rtol=0.1)
        assert errors[0] / errors[-1] == pytest.approx((budgets[-1] / budgets[0]) ** 0.5, rel=0.15)
    z = np.linspace(-9, 9, 1_800_001)
    weight, inside = norm.pdf(z) * (z[1] - z[0]), 0.2 + 0.5 * z > 0
    variance = weight @ (z * inside / 0.5) ** 2 - (weight @ (z * inside / 0.5)) ** 2
    assert line(axes, "plain")[1][0] == pytest.approx((variance / 10) ** 0.5, rel=1e-3)


def test_the_variance_figure_shows_who_pays_for_the_dimension():
    sigma = 0.5
    (axes,) = panels(figures.variance_figure(sigma))
    h = norm.cdf(sigma * NODES)
    slope = WEIGHTS @ (NODES * h) / sigma
    for name, values, cost in (("plain", h, 1), ("centred", h - 0.5, 1), ("antithetic", h - 0.5, 2)):
        dimensions, drawn = line(axes, f"Stein, {name}")
        expected = cost * (
            WEIGHTS @ (NODES * values / sigma) ** 2 - slope**2 + (dimensions - 1) * (WEIGHTS @ values**2) / sigma**2
        )
        np.testing.assert_allclose(drawn, expected, rtol=1e-3)
    gradients = norm.pdf(sigma * NODES)
    plug_in = WEIGHTS @ gradients**2 - (WEIGHTS @ gradients) ** 2
    assert line(axes, "plug-in")[1][0] == pytest.approx(plug_in, rel=1e-3)
    assert line(axes, "‖∇H‖²")[1][0] == pytest.approx(slope**2, rel=1e-3)


def test_gradients_are_shown_on_a_scale_with_0_in_the_middle():
    image, gradient = torch.rand(1, 8, 8), torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    digit, axes = panels(figures.gradient_images_figure(image, {"a": gradient}))
    np.testing.assert_allclose(picture(digit), image[0])
    np.testing.assert_allclose(picture(axes), gradient[0])
    low, high = axes.images[0].get_clim()
    assert -low == high == pytest.approx(float(gradient.abs().max()))


@pytest.mark.parametrize("x, sigma", [(-0.3, 0.3), (0.9, 1.0), (-1.6, 0.1)])
def test_the_staircase_is_smoothed_in_closed_form(x, sigma):
    z = np.linspace(-8, 8, 160_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    values = figures.staircase(x + sigma * z)
    assert figures.smoothed(x, sigma) == pytest.approx(weight @ values, abs=1e-4)
    assert figures.smoothed_slope(x, sigma) == pytest.approx(weight @ (z * values) / sigma, abs=1e-3)


def test_variances_are_those_of_the_closed_forms():
    """Half-space at 0, σ = 1: plain d/2 − 1/2π, centred d/4 − 1/2π, pairs (for each value) twice the centred."""
    parts, slope = figures.variance_parts(lambda t: (t > 0).astype(float), 0.0, 1.0)
    for d in (1, 100):
        plain, centred, pairs = (figures.total_variance(parts[name], d) for name in figures.ESTIMATORS)
        assert plain == pytest.approx(d / 2 - 1 / (2 * math.pi), abs=0.02)
        assert centred == pytest.approx(d / 4 - 1 / (2 * math.pi), abs=0.02)
        assert pairs == pytest.approx(2 * centred, abs=0.02)
    assert slope == pytest.approx(norm.pdf(0), abs=1e-3)


def test_the_dimension_costs_what_the_notes_say():
    parts, _ = figures.variance_parts(norm.cdf, 0.0, 0.5)
    assert [figures.total_variance(parts["plain"], d) for d in (1, 10, 100, 1000)] == pytest.approx(
        [1.21, 11.36, 112.9, 1128], rel=2e-3
    )
    assert figures.total_variance(parts["centred"], 1000) == pytest.approx(128.3, abs=0.1)
    assert figures.plug_in_variance(0.0, 0.5) == pytest.approx(0.002626, abs=1e-6)


def test_pairs_win_on_a_hill_and_the_baseline_on_a_slope():
    for h, better in ((lambda t: (abs(t) < 1) * 1.0, "antithetic"), (lambda t: (t > 0) * 1.0, "centred")):
        parts, _ = figures.variance_parts(h, 0.2, 0.5)
        assert min(parts, key=lambda name: parts[name][0]) == better


def test_the_split_adds_up_and_its_parts_are_even_and_odd():
    for axes in panels(figures.split_figure()):
        delta, whole = line(axes, "h(x + δ)")
        even, odd = line(axes, "even part")[1], line(axes, "odd part")[1]
        inner = abs((abs(delta) + 0.1) % 0.2 - 0.1) > 0.01  # away from the jumps
        np.testing.assert_allclose((even + odd)[inner], whole[inner])
        np.testing.assert_allclose(even[inner], even[::-1][inner])
        np.testing.assert_allclose(odd[inner], -odd[::-1][inner])


def test_the_table_of_variances_adds_up_and_names_the_best_constant():
    table = figures.variance_table(sigma=0.5)
    np.testing.assert_allclose(table["plain"], table["V_even(0)"] + table["V_odd"], atol=2e-3)
    np.testing.assert_allclose(table["centred"], table["V_even(H)"] + table["V_odd"], atol=2e-3)
    np.testing.assert_allclose(table["antithetic"], 2 * table["V_odd"], atol=2e-3)
    z = np.linspace(-9, 9, 360_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    for name, (h, x) in figures.EXAMPLES.items():
        values, best = h(x + 0.5 * z), table["best c"][name]
        cost = [weight @ (z * (values - c)) ** 2 for c in (best - 0.01, best, best + 0.01)]
        assert cost[1] < min(cost[0], cost[2]) and table["H(x)"][name] == pytest.approx(weight @ values, abs=1e-3)


# -- explorers ---------------------------------------------------------------------------------


def test_steins_area_is_the_slope_and_no_slope_is_too_steep():
    steps = explorer("03 StepExplorer")
    for sigma in (explorers.SIGMAS[0], 0.2, 0.5, explorers.SIGMAS[1]):
        for x in np.linspace(*explorers.PLACES, 37):
            steps.move(x=x, sigma=sigma)
            assert steps.integral == pytest.approx(steps.slope, abs=0.01 / sigma)
            assert abs(steps.slope) <= 1 / (sigma * math.sqrt(2 * math.pi))


def test_a_hand_moves_x_by_hundredths_and_a_drag_ends_where_the_slider_does():
    steps = explorer("03 StepExplorer")
    pictures = set()
    for x in (0.3, 0.31, 0.32):
        pictures.add(bytes(steps.drag(x + 0.003, 0.2).image.value))
        assert steps.x.value == pytest.approx(x) and f"x = {x:g}," in steps.text.value
        assert steps.level == pytest.approx(figures.smoothed(x, steps.sigma.value))
    assert len(pictures) == 3
    for beyond, end in zip((-100, 100), explorers.PLACES, strict=True):
        assert steps.drag(beyond, 0).x.value == end
    assert steps.move(x=-0.29999999999999982).text.value.startswith("x = -0.3, σ = 0.3: h(x) = 0.3,")
    assert steps.x.continuous_update and steps.sigma.continuous_update
    assert steps.reset().x.value == -0.3 and "H(x) = 0.7046" in steps.text.value


def test_what_is_drawn_by_hand_is_smoothed_and_its_slope_has_a_limit():
    drawn = explorer("03 DrawExplorer")
    z = np.linspace(-10, 10, 400_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    rng, limit = np.random.default_rng(0), norm.pdf(0)
    for sigma in (0.05, 0.5, 1.0):
        for x, y in zip(np.linspace(-2.9, 2.9, 30), rng.random(30), strict=True):
            drawn.drag(x, y)
        drawn.move(sigma=sigma)
        cells = np.clip(np.searchsorted(explorers.CELLS, sigma * z) - 1, 0, 59)
        values = drawn.heights[cells]
        assert drawn.level == pytest.approx(weight @ values, abs=1e-4)
        assert sigma * drawn.slope == pytest.approx(weight @ (z * values), abs=1e-3)
        assert abs(sigma * drawn.slope) < limit
        assert sigma * drawn.draw(lambda t: t < 0).slope == pytest.approx(-limit)
    assert sigma * drawn.move(shape="a step at 0").slope == pytest.approx(limit)
    assert drawn.reset().slope == pytest.approx(0, abs=1e-12) and drawn.sigma.value == 0.5


def test_a_stroke_fills_the_cells_between_two_messages_and_a_new_one_begins_anew():
    drawn = explorer("03 DrawExplorer").draw(lambda t: 0 * t)
    drawn.drag(-1.95, 0.2).drag(-1.45, 0.7)
    np.testing.assert_allclose(drawn.heights[10:16], np.linspace(0.2, 0.7, 6))
    drawn.drag(2.05, 1.2)  # far away, and above 1
    assert drawn.heights[50] == 1 and drawn.heights[16:50].max() == drawn.heights[51:].max() == 0
    drawn.drag(1.85, 0.5)
    np.testing.assert_allclose(drawn.heights[48:51], [0.5, 0.75, 1.0])
    drawn.drag(3.0, 0.1)
    drawn.reset()


def test_only_stein_pays_for_the_dimension():
    dimensions = explorer("03 DimensionExplorer")
    for sigma in explorers.NOISES[::2]:
        low, high = (dict(dimensions.move(d=d, sigma=sigma).errors) for d in (1, 3072))
        assert all(high[name] > 10 * low[name] for name in figures.ESTIMATORS)
        assert high["plug-in"] == low["plug-in"]
        more = dict(dimensions.move(n=100_000).errors)
        assert more["plain"] == pytest.approx(high["plain"] / 10)
        dimensions.move(n=1000)
