"""PREDICT and CERTIFY against classifiers whose smoothing is known, and the two objectives by hand."""

import math

import numpy as np
import pytest
import torch
from helpers import Recorder, normal, seeded, uniform

from rslab.errors import InputError, WorkError
from rslab.smoothing import bounds
from rslab.smoothing.classifier import ABSTAIN, SmoothedClassifier, log_mean_probs, mean_log_probs
from rslab.smoothing.closed_forms import Halfspace, Interval
from rslab.smoothing.sampling import noisy_copies

ALPHA = 0.001
ASKED = 4  # batches by which a classifier asks, once, whether f is a function of each image by itself


def halfspace_at(distance: float, d: int = 12) -> tuple[Halfspace, torch.Tensor]:
    """A half-space and an image (3, 2, 2) at that distance inside it."""
    normal_vector = normal(d, seed=3)
    x = uniform(3, 2, 2, seed=4)
    bias = distance * float(normal_vector.norm()) - float(x.flatten() @ normal_vector)
    return Halfspace(normal_vector, bias), x


# -- CERTIFY -----------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["clopper-pearson", "two-class"])
@pytest.mark.parametrize("sigma, distance", [(0.25, 0.3), (0.5, 0.8), (1.0, 1.2)])
def test_certified_radius_of_a_halfspace_is_below_the_distance_and_within_3_percent(sigma, distance, bound):
    halfspace, x = halfspace_at(distance)
    smoothed = SmoothedClassifier(halfspace, 2, sigma, batch_size=20_000)
    for seed in range(3):
        certificate = smoothed.certify(x, 100, 100_000, ALPHA, bound=bound, generator=seeded(seed))
        assert certificate.prediction == 1
        assert 0.97 * distance < certificate.radius <= distance


def test_wrong_certificates_are_as_rare_as_alpha_says():
    halfspace, x = halfspace_at(0.2)
    smoothed = SmoothedClassifier(halfspace, 2, 0.5)
    alpha, runs = 0.1, 600
    radii = [smoothed.certify(x, 1, 200, alpha, generator=seeded(seed)).radius for seed in range(runs)]
    # p̲_A > p_A is what makes a radius larger than the distance.
    too_large = sum(radius > 0.2 for radius in radii)
    assert 0.02 * runs < too_large <= alpha * runs + 3 * math.sqrt(alpha * runs)


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_the_boundary_is_never_certified_more_often_than_alpha(bound):
    halfspace, x = halfspace_at(0.0)
    smoothed = SmoothedClassifier(halfspace, 2, 0.5)
    certified = [
        smoothed.certify(x, 1, 100, 0.1, bound=bound, generator=seeded(seed)).prediction for seed in range(300)
    ]
    assert sum(prediction != ABSTAIN for prediction in certified) <= 0.1 * 300 + 3 * math.sqrt(0.1 * 300)


def test_selection_and_estimation_use_different_votes():
    recorder, x = Recorder(), torch.full((1, 2, 2), 0.5)
    certificate = SmoothedClassifier(recorder, 3, 0.25, batch_size=64).certify(x, 100, 1000, ALPHA, generator=seeded())
    seen = torch.cat(recorder.seen[ASKED:])
    assert len(seen) == 1100
    assert len(seen.flatten(1).unique(dim=0)) == 1100
    assert max(map(len, recorder.seen)) == 64
    assert certificate.counts == (1000, 0, 0) and (certificate.n0, certificate.n) == (100, 1000)


def test_the_first_votes_select_although_the_later_ones_disagree():
    x = torch.zeros(1, 2, 2)
    first = noisy_copies("float", x, 0.25)(10, seeded())  # the images that select

    def turncoat(z):  # class 2 for these, class 1 for all others
        known = (z[:, None] == first).flatten(2).all(2).any(1)
        return torch.nn.functional.one_hot(torch.where(known, 2, 1), 3).float()

    certificate = SmoothedClassifier(turncoat, 3, 0.25, batch_size=10).certify(x, 10, 100, ALPHA, generator=seeded())
    assert certificate.selected == 2 and certificate.prediction == ABSTAIN and certificate.radius == 0
    assert certificate.p_a_lower == 0 and certificate.counts == (0, 100, 0)


def test_the_noise_is_gaussian_with_deviation_sigma_and_is_not_clipped():
    recorder, x = Recorder(), torch.full((1, 4, 4), 0.9)
    SmoothedClassifier(recorder, 3, 0.3).sample_under_noise(x, 5000, generator=seeded())
    noise = torch.cat(recorder.seen[ASKED:]) - x
    assert float(noise.mean()) == pytest.approx(0, abs=0.005)
    assert float(noise.std()) == pytest.approx(0.3, abs=0.005)
    assert float(noise.abs().max()) > 1
    shares = [float((noise < edge * 0.3).float().mean()) for edge in (-1, 0, 1, 2)]
    assert shares == pytest.approx([0.1587, 0.5, 0.8413, 0.9772], abs=0.006)


def test_certificate_holds_what_the_bound_says_of_its_counts():
    halfspace, x = halfspace_at(0.3)
    smoothed = SmoothedClassifier(halfspace, 2, 0.5)
    one = smoothed.certify(x, 20, 500, 0.01, generator=seeded(1))
    assert one.p_a_lower == bounds.lower_confidence_bound(one.counts[1], 500, 0.01)
    assert one.radius == bounds.certified_radius(one.p_a_lower, 0.5)
    two = smoothed.certify(x, 20, 500, 0.01, bound="two-class", generator=seeded(1))
    assert two.counts == one.counts and sum(one.counts) == 500
    p_a, p_b = bounds.two_class_bounds(two.counts[1], two.counts[0], 500, 0.01)
    assert two.radius == bounds.certified_radius_two_sided(p_a, p_b, 0.5)
    assert (two.sigma, two.alpha, two.bound) == (0.5, 0.01, "two-class")


def test_two_class_bound_certifies_what_one_class_cannot():
    def of_three(x):  # A on half the noise, B and C on a quarter each
        first = x[:, 0, 0, 0] - 0.5
        return torch.stack((torch.full_like(first, 0.6745 * 0.25), first, -first), 1)

    smoothed = SmoothedClassifier(of_three, 3, 0.25)
    x = torch.full((1, 1, 1), 0.5)
    assert smoothed.certify(x, 1000, 2000, ALPHA, generator=seeded()).prediction == ABSTAIN
    certificate = smoothed.certify(x, 1000, 2000, ALPHA, bound="two-class", generator=seeded())
    # The true radius: where P(B) overtakes P(A), Φ(−(q − r)/σ) = Φ((q − r)/σ) − Φ((−q − r)/σ), is r > q/2.
    assert certificate.prediction == 0 and 0 < certificate.radius < 0.6745 * 0.25


@pytest.mark.parametrize("bound", ["hoeffding", "bernstein"])
def test_soft_bounds_certify_the_mean_of_the_probabilities(bound):
    def probit(x):  # F(x) = Φ(x/τ), τ = 0.5: G(1) = Φ(1/√(τ² + σ²)), MATHS section 3
        p = torch.special.ndtr(x[:, 0, 0, 0].double() / 0.5)
        return torch.stack((1 - p, p), 1).log()

    smoothed = SmoothedClassifier(probit, 2, 0.5)
    certificate = smoothed.certify(torch.ones(1, 1, 1), 100, 10_000, ALPHA, bound=bound, generator=seeded())
    assert certificate.prediction == 1
    assert 0.6 < certificate.radius < 0.7071
    assert certificate.counts[1] / 10_000 == pytest.approx(0.9214, abs=0.01)
    mean, n = certificate.counts[1] / 10_000, 10_000
    if bound == "hoeffding":
        assert certificate.p_a_lower == pytest.approx(mean - math.sqrt(math.log(1000) / 2 / n))
    else:
        assert certificate.p_a_lower > mean - math.sqrt(math.log(1000) / 2 / n)  # the tighter one here


def test_bernstein_uses_the_variance_of_the_sample():
    recorder = Recorder()

    def graded(x):
        recorder(x)
        return torch.stack((torch.zeros(len(x)), x[:, 0, 0, 0]), 1)

    certificate = SmoothedClassifier(graded, 2, 0.5).certify(
        torch.ones(1, 1, 1), 10, 400, ALPHA, bound="bernstein", generator=seeded()
    )
    votes = torch.cat(recorder.seen[ASKED:])[10:, 0, 0, 0].double().sigmoid().numpy()
    by_hand = bounds.soft_lower_bound(votes.mean(), 400, ALPHA, variance=np.var(votes, ddof=1))
    assert certificate.p_a_lower == pytest.approx(by_hand, abs=1e-6)


def test_expected_radius_of_the_interval_has_the_known_value():
    smoothed = SmoothedClassifier(Interval(1.0), 2, 0.4)
    radii = [
        smoothed.certify(torch.zeros(1, 1, 1), 100, 1000, ALPHA, generator=seeded(seed)).radius for seed in range(200)
    ]
    assert np.mean(radii) == pytest.approx(0.7712, abs=0.01)


# -- PREDICT -----------------------------------------------------------------------------


def test_predict_abstains_between_two_classes_and_answers_inside_one():
    halfspace, x = halfspace_at(0.0)
    prediction = SmoothedClassifier(halfspace, 2, 0.5).predict(x, 1000, ALPHA, generator=seeded())
    assert prediction.prediction == ABSTAIN and prediction.p_value > ALPHA
    halfspace, x = halfspace_at(0.5)
    prediction = SmoothedClassifier(halfspace, 2, 0.5).predict(x, 1000, ALPHA, generator=seeded())
    assert prediction.prediction == 1 and prediction.p_value <= ALPHA
    assert prediction.p_value == bounds.top_class_p_value(*sorted(prediction.counts, reverse=True))
    assert sum(prediction.counts) == 1000 and prediction.counts[1] / 1000 == pytest.approx(0.8413, abs=0.04)


def test_an_exact_tie_abstains_in_both():
    def tie(x):  # alternates, whatever the noise
        return torch.eye(2)[torch.arange(len(x)) % 2]

    smoothed = SmoothedClassifier(tie, 2, 0.5, batch_size=100)
    prediction = smoothed.predict(torch.zeros(1, 2, 2), 1000, ALPHA)
    assert prediction.counts == (500, 500) and prediction.prediction == ABSTAIN and prediction.p_value == 1
    certificate = smoothed.certify(torch.zeros(1, 2, 2), 100, 1000, ALPHA)
    assert certificate.prediction == ABSTAIN and certificate.radius == 0


def test_predict_is_wrong_no_more_often_than_alpha():
    halfspace, x = halfspace_at(0.0125)  # p_A = 0.51: the hard case
    smoothed = SmoothedClassifier(halfspace, 2, 0.5)
    answers = [smoothed.predict(x, 100, 0.1, generator=seeded(seed)).prediction for seed in range(400)]
    assert answers.count(0) <= 0.1 * 400 and answers.count(ABSTAIN) > 300


# -- reproducibility ---------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [16, 160, 5000])
def test_votes_do_not_depend_on_the_batch_size_on_a_cpu(batch_size):
    """torch fills normal numbers 16 at a time, so this holds where a batch is a multiple of 16 numbers."""
    halfspace, x = halfspace_at(0.1)

    def count(size):
        return SmoothedClassifier(halfspace, 2, 0.5, size).sample_under_noise(x, 4000, generator=seeded(7)).tolist()

    assert count(batch_size) == count(4000)


def test_the_same_generator_gives_the_same_certificate_and_another_does_not():
    halfspace, x = halfspace_at(0.3)
    smoothed = SmoothedClassifier(halfspace, 2, 0.5)
    first, again, other = (smoothed.certify(x, 10, 1000, ALPHA, generator=seeded(seed)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_certify_on_cuda_gives_the_distance_of_a_halfspace():
    halfspace, x = halfspace_at(0.8)
    smoothed = SmoothedClassifier(halfspace, 2, 0.5, batch_size=10_000)
    generator = torch.Generator("cuda").manual_seed(0)
    certificate = smoothed.certify(x.cuda(), 100, 100_000, ALPHA, generator=generator)
    assert certificate.prediction == 1 and 0.97 * 0.8 < certificate.radius <= 0.8
    again = smoothed.certify(x.cuda(), 100, 100_000, ALPHA, generator=torch.Generator("cuda").manual_seed(0))
    assert certificate == again


# -- bad input ---------------------------------------------------------------------------


def test_nan_logits_stop_the_work_even_in_one_image_of_thousands():
    def nearly_sound(x):
        logits = torch.zeros(len(x), 2)
        logits[0, 0] = torch.nan if nearly_sound.calls == 3 else 1.0
        nearly_sound.calls += 1
        return logits

    for method in ("certify", "predict"):
        nearly_sound.calls = 0
        arguments = (10, 1000, ALPHA) if method == "certify" else (1000, ALPHA)
        with pytest.raises(WorkError, match="NaN"):
            getattr(SmoothedClassifier(nearly_sound, 2, 0.5, batch_size=100), method)(torch.zeros(1, 2, 2), *arguments)


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, math.nan, math.inf])
def test_images_outside_the_unit_interval_are_refused(value):
    x = torch.full((1, 2, 2), 0.5)
    x[0, 1, 1] = value
    smoothed = SmoothedClassifier(Recorder(), 3, 0.5)
    with pytest.raises(InputError, match=r"^image.*\[0, 1\]"):
        smoothed.certify(x, 10, 100, ALPHA)
    with pytest.raises(InputError, match=r"^image.*\[0, 1\]"):
        smoothed.predict(x, 100, ALPHA)


def test_another_number_of_classes_or_a_batch_of_images_is_refused():
    smoothed = SmoothedClassifier(Recorder(num_classes=10), 3, 0.5)
    with pytest.raises(InputError, match=r"shape \(4, 10\), expected \(4, 3\)"):
        smoothed.predict(torch.zeros(1, 2, 2), 100, ALPHA)
    with pytest.raises(InputError, match=r"shape .*expected \(C, H, W\), one image"):
        smoothed.predict(torch.zeros(5, 1, 2, 2), 100, ALPHA)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_sigma_must_be_a_positive_number(sigma):
    with pytest.raises(InputError, match="^sigma"):
        SmoothedClassifier(Recorder(), 3, sigma)


@pytest.mark.parametrize(
    "n0, n, alpha, bound, name",
    [
        (0, 10, ALPHA, "two-class", "n0"),
        (9.5, 10, ALPHA, "two-class", "n0"),
        (10, 99.5, ALPHA, "two-class", "n"),
        (10, True, ALPHA, "two-class", "n"),
        (10, 0, ALPHA, "two-class", "n"),
        (10, 10, 0.0, "two-class", "alpha"),
        (10, 10, 1.0, "two-class", "alpha"),
        (10, 10, math.nan, "two-class", "alpha"),
        (10, 10, ALPHA, "hoefding", "bound"),
    ],
)
def test_bad_numbers_are_refused_before_sampling(n0, n, alpha, bound, name):
    recorder = Recorder()
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        SmoothedClassifier(recorder, 3, 0.5).certify(torch.zeros(1, 2, 2), n0, n, alpha, bound=bound)
    assert not recorder.seen


@pytest.mark.parametrize("classes, batch", [(1, 10), (3, 0)])
def test_one_class_and_empty_batches_are_refused(classes, batch):
    with pytest.raises(InputError, match="^(num_classes|batch_size)"):
        SmoothedClassifier(Recorder(), classes, 0.5, batch)


# -- the two objectives ------------------------------------------------------------------


def linear(x: torch.Tensor) -> torch.Tensor:
    """Four classes, linear in the pixels."""
    return x.flatten(1) @ normal(12, 4, seed=9) * 3


def test_objectives_are_log_of_mean_and_mean_of_log():
    x, noise = uniform(5, 3, 2, 2), normal(7, 5, 3, 2, 2, seed=1) * 0.5
    probs = torch.stack([linear(x + delta).softmax(1) for delta in noise])  # (7, 5, 4)
    assert torch.allclose(log_mean_probs(linear, x, noise), probs.mean(0).log(), atol=1e-5)
    assert torch.allclose(mean_log_probs(linear, x, noise), probs.log().mean(0), atol=1e-5)


def test_objectives_agree_with_one_noise_sample_and_differ_with_two():
    x, noise = uniform(5, 3, 2, 2), normal(2, 5, 3, 2, 2, seed=1) * 0.5
    assert torch.allclose(log_mean_probs(linear, x, noise[:1]), mean_log_probs(linear, x, noise[:1]), atol=1e-6)
    # Jensen: the log of the mean is the larger one.
    assert (log_mean_probs(linear, x, noise) > mean_log_probs(linear, x, noise) + 1e-6).all()


def test_log_of_mean_stays_finite_where_every_probability_underflows():
    x, noise = torch.zeros(1, 1, 1, 1), torch.zeros(3, 1, 1, 1, 1)
    log_probs = log_mean_probs(lambda z: torch.tensor([[0.0, -500.0]]).expand(len(z), 2), x, noise)
    assert log_probs[0].tolist() == pytest.approx([0.0, -500.0])


@pytest.mark.parametrize("m, bias", [(1, 0.5108), (2, 0.2554), (4, 0.1074), (8, 0.0459), (16, 0.0213), (64, 0.00508)])
def test_bias_of_the_plug_in_falls_with_m_as_jensen_says(m, bias):
    """F is 0.9 or 0.1 with equal probability: E of the estimate against log ½."""
    sign = normal(m, 20_000, 1, 1, 1, seed=m)

    def two_valued(x):
        p = torch.where(x[:, 0, 0, 0] > 0, 0.9, 0.1)
        return torch.stack((p, 1 - p), 1).log()

    estimate = log_mean_probs(two_valued, torch.zeros(20_000, 1, 1, 1), sign)[:, 0]
    spread = float(estimate.std()) / math.sqrt(20_000)
    assert math.log(0.5) - float(estimate.mean()) == pytest.approx(bias, abs=4 * spread)


def test_noise_of_another_shape_is_refused():
    for noise in (torch.zeros(5, 3, 2, 2), torch.zeros(2, 4, 3, 2, 2)):
        with pytest.raises(InputError, match=r"^noise: got shape .*expected \(m, 5, 3, 2, 2\)"):
            log_mean_probs(linear, torch.zeros(5, 3, 2, 2), noise)


@pytest.mark.parametrize("bound", ["hoeffding", "bernstein"])
def test_infinite_logits_under_a_soft_bound_are_the_networks_fault(bound):
    def infinite(x):
        return torch.stack((x.flatten(1).sum(1) * torch.inf, x.flatten(1).sum(1)), 1)

    with pytest.raises(WorkError, match="infinite logits"):
        SmoothedClassifier(infinite, 2, 0.25).certify(torch.full((1, 2, 2), 0.5), 10, 100, ALPHA, bound=bound)
