"""The grid sampler: its law summed up exactly, its sums without rounding, and what a certificate makes of it."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from helpers import Recorder, normal, subset, uniform
from scipy.stats import chisquare, norm

from rslab.data.datasets import load_dataset
from rslab.errors import InputError
from rslab.evaluate import attack, certify
from rslab.evaluate.settings import AttackSettings, CertifySettings
from rslab.lectures.lecture08.figures import LowBits
from rslab.machine.randomness import generator_for
from rslab.smoothing import bounds
from rslab.smoothing.classifier import ABSTAIN, SmoothedClassifier
from rslab.smoothing.closed_forms import Halfspace
from rslab.smoothing.sampling import (
    LARGEST_IMAGE,
    SLACK,
    STEPS,
    AliasTable,
    noisy_copies,
    on_grid,
    rounded_gaussian,
    whole_steps,
)
from rslab.smoothing.sequential import SequentialPlan
from rslab.store import files, logs

ALPHA = 0.001
S = SLACK["grid"]


def levels(*shape: int, seed: int = 0) -> torch.Tensor:
    """An 8-bit image."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)) / 255


# -- the law of the noise ------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.01, 0.25, 0.5])
def test_the_weights_are_the_rounded_gaussian_to_within_2_to_the_minus_46_in_total_variation(sigma):
    weights = rounded_gaussian(sigma).tolist()
    assert sum(weights) == 2**63
    last = len(weights) // 2
    with mpmath.workdps(50):
        scale = 1 / (STEPS * mpmath.mpf(sigma))
        upper = [mpmath.erfc(-(z + mpmath.mpf(1) / 2) * scale / mpmath.sqrt(2)) / 2 for z in range(-last - 1, 1)]
        gap = 2 * upper[0]  # both tails, which are never drawn
        for z in range(last + 1):  # z − last ≤ 0, and by symmetry its mirror image
            probability = upper[z + 1] - upper[z]
            for drawn in {z, 2 * last - z}:
                gap += abs(mpmath.mpf(weights[drawn]) / 2**63 - probability)
    assert gap / 2 < mpmath.mpf(2) ** -46
    assert 2 * LARGEST_IMAGE * 2.0**-46 == S  # twice: at x and at x′


@pytest.mark.parametrize("sigma", [0.001, 0.12, 1.0, 3.7])
def test_the_alias_table_holds_the_weights_exactly(sigma):
    table, weights = AliasTable(sigma), rounded_gaussian(sigma)
    held = [0] * len(table.own)
    for column, (own, other) in enumerate(zip(table.own.tolist(), table.other.tolist(), strict=True)):
        assert 0 <= own <= 1 << table.bits
        held[column] += own
        held[other] += (1 << table.bits) - own
    assert held[: len(weights)] == weights.tolist() and not any(held[len(weights) :])
    assert len(table.own) << table.bits == 2**63


def test_what_is_drawn_follows_the_weights():
    sigma = 0.001  # four steps: few enough cells to count
    drawn = AliasTable(sigma).draw(400_000, generator_for("certify", 0, 0), torch.device("cpu"))
    assert torch.equal(drawn, drawn.round())
    edges = np.arange(-10, 11)
    cells = norm.cdf((edges + 0.5) / (STEPS * sigma)) - norm.cdf((edges - 0.5) / (STEPS * sigma))
    seen = np.array([int((drawn == edge).sum()) for edge in edges])
    expected = np.append(cells, 1 - cells.sum()) * len(drawn)
    assert chisquare(np.append(seen, len(drawn) - seen.sum()), expected).pvalue > 1e-3


def test_neighbouring_pixels_and_images_are_uncorrelated():
    noise = AliasTable(0.25).draw(100 * 3072, generator_for("certify", 0, 1), torch.device("cpu")).view(100, 3072)
    for lag in (1, 2, 32, 624):  # 624 words are the generator's state
        flat = noise.flatten()
        assert abs(float(torch.corrcoef(torch.stack((flat[:-lag], flat[lag:])))[0, 1])) < 5 / math.sqrt(len(flat))
    assert float(noise.std() / STEPS) == pytest.approx(0.25, rel=0.005)


# -- exact sums ------------------------------------------------------------------------------


def test_noisy_copies_are_whole_steps_and_move_with_the_image():
    """The same noise at x and at x′: their difference, in steps, is that of the images, in every number."""
    x, moved = levels(3, 4, 4), levels(3, 4, 4, seed=1)
    here, there = (noisy_copies("grid", image, 0.25)(500, torch.Generator().manual_seed(0)) for image in (x, moved))
    steps = [(copies.double() * STEPS).round() for copies in (here, there)]
    for copies, whole in zip((here, there), steps, strict=True):
        assert torch.equal(copies, whole.float() / STEPS)  # a function of the whole number alone
    assert ((steps[1] - steps[0]) == (whole_steps(moved) - whole_steps(x)).double()).all()
    floats = [noisy_copies("float", image, 0.25)(500, torch.Generator().manual_seed(0)) for image in (x, moved)]
    assert ((floats[1].double() - floats[0].double()) != (moved - x).double()).any()  # which float32 does not do


def test_every_8_bit_level_and_every_grey_level_of_the_digits_is_a_whole_step(digits_test):
    assert torch.equal(whole_steps(torch.arange(256) / 255), torch.arange(256) * 16.0)
    steps = whole_steps(digits_test.images)
    assert torch.equal(steps, digits_test.images * STEPS)
    assert 4080 == Fraction(1, STEPS).denominator == math.lcm(255, 16)


def test_on_grid_moves_towards_the_original():
    x = levels(5, 3, 4, 4)
    near = (x + normal(5, 3, 4, 4) * 0.1).clamp(0, 1)
    moved = on_grid(x, near)
    whole_steps(moved)
    assert ((moved - x).double().abs() <= (near - x).double().abs() + 1e-7).all()
    assert ((moved - near).abs() < 1 / STEPS + 1e-6).all() and torch.equal(on_grid(x, x), x)


# -- certificates ----------------------------------------------------------------------------


def test_the_certificate_that_float32_gets_wrong_is_gone():
    """Notebook 08: f reads last bits; float32 certifies black, and answers otherwise well within the radius."""
    black, e = torch.zeros(3, 32, 32), 16 / STEPS
    answers = {}
    for sampler in ("float", "grid"):
        smoothed = SmoothedClassifier(LowBits(2.0**-8), 2, 0.25, sampler=sampler)
        certificate = smoothed.certify(black, 50, 500, ALPHA, generator=generator_for("certify", 0, 0))
        assert certificate.radius > 55.5 * 2.0**-8  # of x + 2⁻⁸, or of the next level
        shift = 2.0**-8 if sampler == "float" else e
        votes = smoothed.sample_under_noise(black + shift, 200, generator=generator_for("certify", 0, 1))
        answers[sampler] = int(votes.argmax()) == certificate.prediction
    assert answers == {"float": False, "grid": True}


def test_the_slack_is_taken_from_every_bound():
    recorder, x = Recorder(), levels(1, 2, 2)
    smoothed = SmoothedClassifier(recorder, 3, 0.25, sampler="grid")
    unanimous = bounds.lower_confidence_bound(1000, 1000, ALPHA)
    certificate = smoothed.certify(x, 10, 1000, ALPHA)
    assert certificate.p_a_lower == unanimous - S
    assert certificate.radius == bounds.certified_radius(unanimous - S, 0.25) < bounds.certified_radius(unanimous, 0.25)
    for bound in ("two-class", "hoeffding", "bernstein"):
        grid = smoothed.certify(x, 10, 1000, ALPHA, bound=bound).radius
        assert grid < SmoothedClassifier(recorder, 3, 0.25).certify(x, 10, 1000, ALPHA, bound=bound).radius
    plan = SequentialPlan(0.25, (0.0, 0.25), 1000, ALPHA, S)
    sequential = smoothed.certify_sequential(x, 10, plan)
    assert sequential.radius == 0.25 and sequential.p_a_lower == pytest.approx(norm.cdf(1), abs=1e-15)
    assert plan.miss_rates == pytest.approx(norm.sf([0, 1]) - S, abs=1e-15)
    with pytest.raises(InputError, match="^plan: got slack 0, expected 7.45"):
        smoothed.certify_sequential(x, 10, SequentialPlan(0.25, (0.0, 0.25), 1000, ALPHA))


@pytest.mark.parametrize(
    "p_a, p_b", [(0.2, 0.016), (0.2, 0.19), (0.52, 0.48), (0.52, 0.01), (0.9, 0.1), (0.9, 0.002), (0.999, 0.001)]
)
def test_what_is_taken_pays_for_the_law_of_the_noise_at_both_ends(p_a, p_b):
    """The half-spaces of `sampling`'s proof, just inside R: the machine's probabilities, s off at x and at x′."""
    s = 1e-5
    radius = bounds.certified_radius_two_sided(p_a - 2 * s, p_b + 2 * s, 1.0)
    assert radius > 0
    at_moved = norm.cdf(norm.ppf(p_a - s) - radius) - s, norm.cdf(norm.ppf(p_b + s) + radius) + s
    assert at_moved[0] >= at_moved[1] - 1e-12
    once = bounds.certified_radius_two_sided(p_a - s, p_b + s, 1.0)  # paid for at x only
    assert norm.cdf(norm.ppf(p_a - s) - once) - s < norm.cdf(norm.ppf(p_b + s) + once) + s


def test_predict_pays_for_its_votes():
    x, tie = levels(1, 2, 2), bounds.top_class_p_value(1000, 0)
    prediction = SmoothedClassifier(Recorder(), 3, 0.25, sampler="grid").predict(x, 1000, ALPHA)
    assert prediction.prediction == 0 and prediction.p_value == tie + 1000 * S


def test_selection_and_estimation_use_different_noise_on_the_grid():
    recorder = Recorder()
    smoothed = SmoothedClassifier(recorder, 3, 0.25, 64, "grid")
    smoothed.certify(levels(1, 4, 4), 100, 1000, ALPHA, generator=generator_for("certify", 0, 0))
    seen = torch.cat(recorder.seen[4:]).flatten(1)  # after four batches that ask whether f is a function
    assert len(seen) == 1100 == len(seen.unique(dim=0))


@pytest.mark.parametrize("batch_size", [1, 77, 5000])
def test_votes_on_the_grid_do_not_depend_on_the_batch_size(batch_size):
    halfspace, x = Halfspace(normal(12), -0.5), levels(3, 2, 2)

    def count(size):
        smoothed = SmoothedClassifier(halfspace, 2, 0.5, size, "grid")
        return smoothed.sample_under_noise(x, 3000, generator=generator_for("certify", 0, 0)).tolist()

    assert count(batch_size) == count(1000)


@pytest.mark.parametrize("distance", [0.0, 0.8])
def test_a_halfspace_is_certified_as_with_real_noise(distance):
    vector, x = normal(12, seed=3), levels(3, 2, 2)
    halfspace = Halfspace(vector, distance * float(vector.norm()) - float(x.flatten() @ vector))
    smoothed = SmoothedClassifier(halfspace, 2, 0.5, sampler="grid")
    certificate = smoothed.certify(x, 100, 50_000, ALPHA, generator=generator_for("certify", 0, 0))
    if distance:
        assert 0.97 * distance < certificate.radius <= distance
    else:
        assert certificate.prediction == ABSTAIN


# -- logs ------------------------------------------------------------------------------------


def certified(model, data, log, resume=False, **options):
    settings = CertifySettings(sigma=0.25, n0=10, n=500, **options)
    return list(certify.certify_dataset(model, data, settings, log, resume=resume))


def test_the_settings_beside_the_log_name_the_sampler_and_it_is_not_mixed(trained, digits_test, tmp_path):
    few, log = subset(digits_test, 4), tmp_path / "log.tsv"
    certified(trained, few, log, sampler="grid", max=2)
    assert files.read_json(log.with_suffix(".json"))["sampler"] == "grid"
    with pytest.raises(InputError, match="^sampler: got 'float', expected 'grid'"):
        certified(trained, few, log, resume=True)
    assert len(certified(trained, few, log, resume=True, sampler="grid")) == 2
    certified(trained, few, tmp_path / "whole.tsv", sampler="grid")
    assert logs.read_log(log).drop(columns="time").equals(logs.read_log(tmp_path / "whole.tsv").drop(columns="time"))


def test_a_log_from_before_samplers_goes_on_as_float(trained, digits_test, tmp_path):
    few, log = subset(digits_test, 4), tmp_path / "log.tsv"
    certified(trained, few, log, max=2)
    settings = files.read_json(log.with_suffix(".json"))
    assert settings.pop("sampler") == "float"
    files.write_json(log.with_suffix(".json"), settings)
    with pytest.raises(InputError, match="^sampler: got 'grid', expected 'float'"):
        certified(trained, few, log, resume=True, sampler="grid")
    assert len(certified(trained, few, log, resume=True)) == 2


def test_an_attack_is_judged_on_the_grid(trained, digits_test, tmp_path):
    settings = AttackSettings(sigma=0.25, epsilon=0.5, steps=3, samples=2, n=200, sampler="grid")
    rows = list(attack.attack_dataset(trained, subset(digits_test, 3), settings, tmp_path / "attack.tsv"))
    assert len(rows) == 3 and files.read_json(tmp_path / "attack.json")["sampler"] == "grid"


# -- bad input ---------------------------------------------------------------------------------


def test_images_between_the_steps_are_refused_before_anything_is_written(trained, tmp_path):
    off = subset(load_dataset("digits", "test"), 4)  # one's own: the fixture's images are everybody's
    off.images[3, 0, 0, 0] += 0.4 / STEPS
    with pytest.raises(InputError, match=r"^image: got pixels 0\.4 steps .*expected 8-bit levels"):
        certified(trained, off, tmp_path / "log.tsv", sampler="grid")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="^image: got pixels .*off the grid"):
        SmoothedClassifier(Recorder(), 3, 0.25, sampler="grid").predict(uniform(1, 2, 2), 10, ALPHA)


@pytest.mark.parametrize("sigma", [0.0001, 5.0])
def test_a_sigma_that_the_table_cannot_hold_is_refused(sigma):
    with pytest.raises(InputError, match=rf"^sigma: got {sigma:g} with sampler 'grid', expected 0.001 to 3.8"):
        noisy_copies("grid", levels(1, 2, 2), sigma)


def test_other_mistakes_are_refused_by_name():
    with pytest.raises(InputError, match="^sampler: got 'gird', expected one of float, grid"):
        SmoothedClassifier(Recorder(), 3, 0.25, sampler="gird")
    with pytest.raises(InputError, match="^sampler: got 'gird'"):
        CertifySettings(sigma=0.25, sampler="gird")
    with pytest.raises(InputError, match="^sampler: got 'grid' with σ = 0"):
        AttackSettings(sigma=0.0, objective="base", sampler="grid")
    with pytest.raises(InputError, match="^image: got 262145 numbers, expected at most 262144"):
        noisy_copies("grid", torch.zeros(1, 1, 2**18 + 1), 0.25)
    with pytest.raises(InputError, match="^slack"):
        SequentialPlan(0.25, (0.0,), 1000, ALPHA, -0.1)
