"""Notebook 05: the plug-in estimate and its bias, figures and what the explorer computes."""

import math

import numpy as np
import pytest
import torch
from drawn import at, heights, line, panels, picture, xy
from explorers import explorer
from helpers import normal
from scipy.stats import norm

from rslab.lectures.answers import Wrong
from rslab.lectures.lecture05 import checks, explorers, figures
from rslab.report import published

# -- figures ----------------------------------------------------------------------------------

CURVE = np.linspace(100, 0, 11)


def test_jensens_gap_is_drawn_where_it_is():
    (axes,) = panels(figures.jensen_figure(0.9, 0.1))
    assert at(axes, "−log p", 0.5) == pytest.approx(math.log(2), abs=1e-3)
    for label, height in (("mean of the losses", -math.log(0.9 * 0.1) / 2), ("loss of the mean", math.log(2))):
        (place,), (drawn,) = line(axes, label)
        assert (place, drawn) == pytest.approx((0.5, height))
    assert line(axes, "two noisy copies")[1] == pytest.approx([-math.log(0.9), -math.log(0.1)])


def test_accuracies_and_curves_are_those_given():
    images = torch.rand(3, 1, 8, 8)
    given = {"standard": [98, 50], "gaussian": [95, 80], "l2-pgd": [94, 79]}
    axes, digits = panels(figures.under_noise_figure((0, 0.5), given, images, 0.5))
    for name, values in given.items():
        places, drawn = line(axes, figures.TITLES.get(name, name))
        assert places.tolist() == [0, 0.5] and drawn.tolist() == values
    shown = picture(digits)  # clean above, noisy below, a white line between two
    assert (shown[8] == 1).all() and (shown[:, 8::9] == 1).all()
    clean, noisy = (np.delete(rows, (8, 17), axis=1) for rows in (shown[:8], shown[9:]))
    np.testing.assert_allclose(clean, np.concatenate(images[:, 0].numpy(), axis=1))
    assert 0.2 < (noisy - clean).std() < 0.5
    curves = {"gaussian": CURVE, "smoothed": CURVE / 2}
    (axes,) = panels(figures.three_methods_figure(np.arange(11), curves, 0.5))
    for name, values in curves.items():
        assert np.array_equal(line(axes, name), (np.arange(11), values))
    bias = {"gaussian": (np.array([0.2, 0.1]), np.array([0.1, 0.05]))}
    (axes,) = panels(figures.network_bias_figure((1, 2), bias))
    assert [xy(drawn)[1].tolist() for drawn in axes.lines[:2]] == [[0.2, 0.1], [0.1, 0.05]]


def test_certainty_bars_count_the_copies():
    shares = {"gaussian": torch.tensor([[0.05, 0.15, 0.15, 0.95]]), "smoothed": torch.full((2, 2), 0.55)}
    (axes,) = panels(figures.certainty_figure(shares))
    assert heights(axes).tolist() == [25, 50, 0, 0, 0, 0, 0, 0, 0, 25] + [0, 0, 0, 0, 0, 100, 0, 0, 0, 0]
    for number, bar in enumerate(axes.patches):
        assert number % 10 / 10 < bar.get_x() + bar.get_width() / 2 < (number % 10 + 1) / 10


def test_the_trade_off_shows_the_curves_given_beside_the_published_counts():
    ours, theirs = panels(figures.trade_off_figure({0.25: (np.arange(11), CURVE)}))
    assert np.array_equal(line(ours, "σ = 0.25"), (np.arange(11), CURVE))
    rows = published.load("cifar10-best")
    rows = rows[(rows.method == "gaussian") & (rows.every == 1) & (rows.train_sigma == rows.sigma)]
    for sigma in (0.12, 0.25, 0.5, 1.0):
        counts = np.array(rows[rows.sigma == sigma].iloc[0].certified)
        radii, drawn = line(theirs, f"σ = {sigma:g}")
        for number in range(0, len(counts), 2):  # at each eighth of a radius
            place = np.flatnonzero(np.isclose(radii, number / 8))
            assert drawn[place] == pytest.approx(counts[number] / 100)  # of 10,000 images, in %


def test_with_one_sample_the_bias_is_jensens_gap_and_later_it_is_the_second_order_term():
    gap = -0.5 * (math.log(0.9) + math.log(0.1)) + math.log(0.5)
    bias, deviation, second = figures.plug_in_moments(0.5, 1)
    assert bias == pytest.approx(gap) and deviation == pytest.approx(math.log(9) / 2)
    bias, _, second = figures.plug_in_moments(0.5, 4096)
    assert bias == pytest.approx(second, rel=1e-3)


def test_the_networks_bias_at_one_sample_is_the_gap_between_the_two_objectives():
    log_f = -normal(400, 6).abs()
    exact, second = figures.network_bias(log_f, (1, 2, 8))
    gap = -log_f.mean() + log_f.exp().mean(0).log().mean()
    assert exact[0] == pytest.approx(float(gap), rel=1e-4)
    assert exact[2] == pytest.approx(second[2], rel=0.25)


def test_the_published_curves_are_one_model_a_sigma_and_cross():
    curves = figures.published_curves()
    assert sorted(curves) == [0.12, 0.25, 0.5, 1.0]
    at_zero = [curves[sigma][1][0] for sigma in sorted(curves)]
    assert at_zero == sorted(at_zero, reverse=True)
    reach = [curves[sigma][0][np.flatnonzero(curves[sigma][1] > 0)[-1]] for sigma in sorted(curves)]
    assert reach == sorted(reach)


# -- the explorer ------------------------------------------------------------------------------


def test_the_estimate_is_too_high_and_less_so_with_more_samples():
    plug_in = explorer("05 PlugInExplorer")
    for low in explorers.LOWS[::2]:
        for sigma in explorers.SIGMAS[::3]:
            biases = [plug_in.move(low=low, sigma=sigma, m=m).bias for m in explorers.SAMPLES]
            assert min(biases) > 0 and biases == sorted(biases, reverse=True)
            q = norm.cdf(figures.WALL / sigma)
            assert plug_in.truth == pytest.approx(-math.log(q * figures.HIGH + (1 - q) * low))


# -- exercises ---------------------------------------------------------------------------


def test_what_f_says_of_a_wrong_shape_is_said_as_it_is():
    with pytest.raises(Wrong, match="^f wants images"):
        checks.gaussian_loss(lambda f, x, y, sigma, m, generator: f(x[0]))


def test_the_networks_without_noise_are_the_published_ones():
    acr = figures.attacked_without_noise(0.25)
    assert list(acr.index) == [64, 127, 255, 512]
    log = "PGD_2steps_baseAttackExp/without_noise/eps_512/cifar10/resnet110/noise_0.00/sigma_0.25"
    assert acr[512] == published.load("cifar10-grid").ACR[log]
