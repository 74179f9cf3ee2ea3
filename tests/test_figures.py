"""Figures are drawn, and what they compute is right."""

import base64

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import binom

from rslab import bounds
from rslab.config import METHODS
from rslab.figures import lecture02 as figures
from rslab.figures import results, style
from rslab.smoothing import Certificate, SmoothedClassifier


def decoded(figure):
    (kind, text), *rest = figure._repr_mimebundle_().items()
    assert not rest
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
    assert "radius" in figure.axes[0].get_xlabel() and "%" in figure.axes[0].get_ylabel()


def test_certified_accuracy_figure_without_a_curve():
    assert decoded(results.certified_accuracy_figure({}))[1]


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
    figure, left_over = figures.noise_resolution_figure(figures.photograph(), sigma=0.5)
    assert left_over == pytest.approx(0.125, abs=0.003)
    kind, picture = decoded(figure)
    assert kind == "image/jpeg" and len(picture) < 200_000


def certificate():
    return Certificate(3, 0.4, 3, 0.9, (0.0,) * 3 + (1000.0,) + (0.0,) * 6, 100, 1000, 0.001, 0.25, "clopper-pearson")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.smoothing_figure((0.42, 0.52), 0.12),
        lambda: figures.noise_strip_figure([torch.rand(1, 8, 8), torch.rand(3, 32, 32)], (0, 0.5, 1)),
        lambda: figures.plug_in_figure(runs=200),
        lambda: figures.abstention_figure(),
        lambda: figures.radius_limit_figure(),
        lambda: figures.halfspace_figure((10, 100), {0.5: [0.1, 0.2], 1.0: [0.2, 0.3]}, 1.2),
        lambda: figures.certificates_figure(torch.rand(2, 1, 8, 8), [3, 4], [certificate()] * 2),
    ],
    ids=["smoothing", "strip", "plug-in", "abstention", "limit", "halfspace", "certificates"],
)
def test_a_figure_shows_itself_in_a_small_picture(draw):
    figure = draw()
    kind, picture = decoded(figure)
    assert kind == "image/png" and 5_000 < len(picture) < 80_000
    assert figure.get_facecolor() == (1, 1, 1, 1)  # opaque: readable in a dark notebook
