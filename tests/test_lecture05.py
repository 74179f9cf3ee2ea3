"""Notebook 05: the plug-in estimate and its bias, figures, the explorer and the checks of its exercises."""

import math

import numpy as np
import pytest
import torch
from drawn import at, heights, line, panels, picture, xy
from explorers import sweep
from helpers import normal
from scipy.stats import binom, norm

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
    given = {"standard": [98, 50], "gaussian": [95, 80]}
    axes, digits = panels(figures.under_noise_figure((0, 0.5), given, images, 0.5))
    for name, values in given.items():
        assert line(axes, name)[0].tolist() == [0, 0.5] and line(axes, name)[1].tolist() == values
    shown = picture(digits)  # clean above, noisy below
    np.testing.assert_allclose(shown[:8], np.concatenate(images[:, 0].numpy(), axis=1))
    assert 0.2 < (shown[8:] - shown[:8]).std() < 0.5
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


@pytest.fixture(scope="module")
def explorer():
    return explorers.PlugInExplorer()


def test_every_slider_changes_the_picture_and_the_numbers(explorer, capsys):
    sweep(explorer, capsys)


def test_the_estimate_is_too_high_and_less_so_with_more_samples(explorer):
    for low in explorers.LOWS[::2]:
        for sigma in explorers.SIGMAS[::3]:
            biases = [explorer.move(low=low, sigma=sigma, m=m).bias for m in explorers.SAMPLES]
            assert min(biases) > 0 and biases == sorted(biases, reverse=True)
            q = norm.cdf(figures.WALL / sigma)
            assert explorer.truth == pytest.approx(-math.log(q * figures.HIGH + (1 - q) * low))


# -- the exercises -----------------------------------------------------------------------------


def radius_with(share, keep_negative=False):
    def answer(loss, sigma):
        p = max(share(loss), 1e-12)
        return sigma * norm.ppf(p) if keep_negative or p > 0.5 else 0.0

    return answer


def good(loss):
    return 1 - loss / math.log(2)


RADIUS = {
    "replace each ...": lambda loss, sigma: ...,
    "at least 0": radius_with(good, keep_negative=True),
    "e^(−loss) bounds G_y": radius_with(lambda loss: math.exp(-loss)),
    "Missing ln 2": radius_with(lambda loss: 1 - loss),
    "σ is missing": lambda loss, sigma: radius_with(good)(loss, 1.0),
    "turn it into a radius": lambda loss, sigma: max(good(loss), 0.0),
    "True but weaker": radius_with(lambda loss: 2 * math.exp(-loss) - 1),
    "Expected σΦ⁻¹": lambda loss, sigma: 7.0,
}


@pytest.mark.parametrize("message", RADIUS)
def test_loss_to_radius_names_the_fault(message):
    with pytest.raises(Wrong) as caught:
        checks.loss_to_radius(RADIUS[message])
    assert message in str(caught.value)


def plug_in_bias(m, q, high, low):
    k = np.arange(m + 1)
    return binom.pmf(k, m, q) @ -np.log((k * high + (m - k) * low) / m) + math.log(q * high + (1 - q) * low)


BIAS = {
    "replace each ...": lambda m, q, high, low: ...,
    "sign is turned": lambda m, q, high, low: -plug_in_bias(m, q, high, low),
    "subtract the truth": lambda m, q, high, low: plug_in_bias(m, q, high, low) - math.log(q * high + (1 - q) * low),
    "This is the truth": lambda m, q, high, low: -math.log(q * high + (1 - q) * low),
    "second-order approximation": lambda m, q, high, low: (
        q * (1 - q) * (high - low) ** 2 / (2 * m * (q * high + (1 - q) * low) ** 2)
    ),
    "Zero: the mean probability": lambda m, q, high, low: 0.0,
    "counts swapped": lambda m, q, high, low: (
        plug_in_bias(m, 1 - q, high, low) - math.log((1 - q) * high + q * low) + math.log(q * high + (1 - q) * low)
    ),
    "Σ over k": lambda m, q, high, low: 3.0,
}


@pytest.mark.parametrize("message", BIAS)
def test_plug_in_bias_names_the_fault(message):
    with pytest.raises(Wrong) as caught:
        checks.plug_in_bias(BIAS[message])
    assert message in str(caught.value)


def test_what_f_says_of_a_wrong_shape_is_said_as_it_is():
    with pytest.raises(Wrong, match="^f wants images"):
        checks.gaussian_loss(lambda f, x, y, sigma, m, generator: f(x[0]))


def noisy_loss(scale=lambda s: s, draw=torch.randn, change=lambda z: z, reduce=None, labels=None, one=False):
    def answer(f, x, y, sigma, m, generator):
        noise = draw(1 if one else m, *x.shape, generator=generator) * scale(sigma)
        log_probs = f(change(x + noise.expand(m, *x.shape)).flatten(0, 1)).log_softmax(1)
        given = (labels or (lambda y, m: y.repeat(m)))(y, m)
        of_label = log_probs.gather(1, given[:, None])[:, 0].unflatten(0, (m, -1))
        return -of_label.mean(0) if reduce is None else reduce(of_label)

    return answer


LOSS = {
    "replace each ...": lambda *arguments: ...,
    "never called": lambda f, x, y, sigma, m, generator: torch.zeros(2),
    "clean images": noisy_loss(scale=lambda s: 0.0),
    "clipped": noisy_loss(change=lambda z: z.clamp(0, 1)),
    "same noise": noisy_loss(one=True),
    "not the variance": noisy_loss(scale=lambda s: s**2),
    "not multiplied by σ": noisy_loss(scale=lambda s: 1.0),
    "do not divide by 255": noisy_loss(scale=lambda s: s / 255),
    "torch.randn, not torch.rand": noisy_loss(draw=torch.rand),
    "−log of the mean": noisy_loss(reduce=lambda lp: -lp.exp().mean(0).log()),
    "take their mean": noisy_loss(reduce=lambda lp: -lp.sum(0)),
    "sign is turned": noisy_loss(reduce=lambda lp: lp.mean(0)),
    "expected one loss an image": noisy_loss(reduce=lambda lp: -lp.mean()),
    "its own image's label": noisy_loss(labels=lambda y, m: y.repeat_interleave(m)),
}


@pytest.mark.parametrize("message", LOSS)
def test_gaussian_loss_names_the_fault(message):
    with pytest.raises(Wrong) as caught:
        checks.gaussian_loss(LOSS[message])
    assert message in str(caught.value)


def test_the_solutions_are_accepted(capsys):
    checks.loss_to_radius(radius_with(good))
    checks.plug_in_bias(plug_in_bias)
    checks.gaussian_loss(noisy_loss())
    assert capsys.readouterr().out.count("✓") == 3
