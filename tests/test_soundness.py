"""The experiments on soundness: that they notice a lie and, with `make soundness`, the experiments themselves."""

import ast
import math
import shutil
from functools import partial
from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import subset
from PIL import Image
from scipy.stats import binomtest, norm

from rslab.data.datasets import load_dataset
from rslab.errors import InputError, WorkError
from rslab.evaluate import certify
from rslab.evaluate.settings import CertifySettings
from rslab.experiments import soundness
from rslab.lectures.results import gap_figure
from rslab.smoothing import bounds
from rslab.smoothing.classifier import SmoothedClassifier
from rslab.store import logs, run_folder

GAUSSIAN = run_folder.RESULTS / "digits" / "gaussian-0.25"


def small_copy(place: Path, change) -> Path:
    """The shipped digits run in a folder of its own; `change(log)` gives the rows of its certify.tsv."""
    folder = place / "digits" / "run"
    folder.mkdir(parents=True)
    for name in ("config.json", "weights.safetensors", "certify.json"):
        shutil.copy(GAUSSIAN / name, folder)
    log = change(logs.read_log(GAUSSIAN / "certify.tsv"))
    rows = [log.columns, *log.itertuples(index=False)]
    (folder / "certify.tsv").write_text("".join(map(logs.log_row, rows)), encoding="utf-8")
    return folder


# -- the experiments notice ------------------------------------------------------------------


def test_the_truth_about_the_known_classifiers_is_the_truth():
    cases = list(soundness.known_cases(0.8))
    assert [case.name.split(",")[0] for case in cases] == ["half-space"] * 4 + ["interval"] + ["ball"] * 4
    for case in cases:
        votes = SmoothedClassifier(case.classifier, 2, soundness.SIGMA).sample_under_noise(
            case.image, 4000, generator=torch.Generator().manual_seed(1)
        )
        assert binomtest(int(votes[1]), 4000, 0.8).pvalue > 1e-4, case.name
        # No certificate can be above the truth when p_A is known: the half-space's is exactly it.
        known = bounds.certified_radius(0.8, soundness.SIGMA)
        assert case.true_radius == pytest.approx(known) if "half" in case.name else case.true_radius > known
    interval = cases[4]
    assert interval.classifier.probability(interval.true_radius, soundness.SIGMA) == pytest.approx(0.5)


def test_the_hardest_p_a_is_as_hard_as_alpha_allows():
    for alpha in soundness.ALPHAS:
        case = next(soundness.known_cases(soundness.hardest_probability(100, alpha, 90)))
        assert 0.999 * alpha < soundness.exact_share(case, 100, alpha) <= alpha


def test_coverage_is_as_promised_and_a_frequency_in_place_of_a_bound_is_noticed(monkeypatch):
    case = next(soundness.known_cases(soundness.hardest_probability(100, 0.05, 90)))
    row = soundness.cover(case, 0.05, times=300)
    assert row["p_value"] > 1e-3 and 0 < row["false"] == row["above"]
    monkeypatch.setattr(bounds, "lower_confidence_bound", lambda count, n, alpha: count / n)
    assert soundness.cover(case, 0.05, times=100)["p_value"] < 1e-12


def test_votes_looked_at_again_and_again_are_noticed(monkeypatch):
    assert soundness.cover_sequentially(0.05, times=100)["p_value"] > 1e-3
    naive = property(lambda plan: np.array([[int(k * miss) for k in plan.looks] for miss in plan.miss_rates]))
    monkeypatch.setattr(soundness.SequentialPlan, "boundaries", naive)
    assert soundness.cover_sequentially(0.05, times=100)["p_value"] < 1e-12


def test_attacks_break_certificates_that_claim_three_times_too_much(tmp_path):
    folder = small_copy(tmp_path, lambda log: log.assign(radius=3 * log.radius))
    rows = pd.DataFrame(soundness.attack_certificates(folder, images=8, steps=20, restarts=1, samples=4, n=1000))
    found = soundness.summary(rows)
    assert found["flipped"] > found["allowed"] and found["least_ratio"] < 1


def test_only_certified_images_are_attacked_and_the_nearest_success_is_found_on_the_way(tmp_path):
    folder = small_copy(tmp_path, lambda log: log[log.idx.isin([0, 1, 2])])
    rows = pd.DataFrame(soundness.attack_certificates(folder, images=8, steps=20, restarts=1, samples=4, n=1000))
    assert list(rows.columns) == list(soundness.ATTACK_COLUMNS) and list(rows.idx) == [0, 1, 2]
    assert (rows.nearest > rows.radius).all() and np.isfinite(rows.nearest).all()
    folder = small_copy(tmp_path / "none", lambda log: log.assign(predict=-1, radius=0.0, correct=0))
    with pytest.raises(InputError, match="no certified image"):
        next(soundness.attack_certificates(folder))


class HalfwayJudge:
    """Flips beyond 0.3 from black, whatever the direction."""

    def __init__(self):
        self.x = torch.zeros(1, 2, 2)

    def flips(self, image, n):
        return float((image - self.x).norm()) > 0.3


@pytest.mark.parametrize("length", [0.1, 0.28, 0.31, 0.9])
def test_the_search_on_a_line_ends_within_2_percent(length):
    target = torch.full((1, 2, 2), length / 2)
    assert 0.3 < soundness.nearest_on_the_way(HalfwayJudge(), target, 0.05, 1000) < 0.3 * 1.02
    assert soundness.nearest_on_the_way(HalfwayJudge(), torch.zeros(1, 2, 2), 0.05, 1000) == math.inf
    assert soundness.nearest_on_the_way(HalfwayJudge(), target / length / 100, 0.001, 1000) == math.inf


def test_a_summary_counts_an_image_once_and_lets_abstentions_pass():
    rows = pd.DataFrame(
        [(0, 3, 0.5, 3, -1, 0.6), (1, 3, 0.5, 2, 2, 0.4), (2, 3, 0.5, -1, 1, math.inf), (3, 1, 0.2, 1, 1, 0.4)],
        columns=soundness.ATTACK_COLUMNS,
    )
    found = soundness.summary(rows)
    assert (found["images"], found["flipped"], found["reached"]) == (4, 2, 3)
    assert (found["least_ratio"], found["median_ratio"]) == (pytest.approx(0.8), pytest.approx(1.2))


def test_the_command_attacks_so_many_images_of_the_runs_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soundness, "PLACE", tmp_path)
    quick = partial(soundness.attack_certificates, steps=3, restarts=1, samples=2, n=200)
    monkeypatch.setattr(soundness, "attack_certificates", quick)
    soundness.main(["attacks", "3", str(GAUSSIAN)])
    assert len(pd.read_csv(tmp_path / "attacks-digits-gaussian-0.25.tsv", sep="\t")) == 3
    with Image.open(tmp_path / "gap.png") as plot:
        assert plot.format == "PNG" and "'images': 3" in capsys.readouterr().out


def test_other_arguments_are_refused():
    for arguments in ([], ["cover"], ["coverage", "more"]):
        with pytest.raises(InputError, match="^arguments: got .*expected coverage"):
            soundness.main(arguments)
    with pytest.raises(InputError, match="^IMAGES: got 0"):
        soundness.main(["attacks", "0"])


# -- what is shipped ---------------------------------------------------------------------------


def test_the_shipped_coverage_keeps_the_promise():
    table = pd.read_csv(soundness.PLACE / "coverage.tsv", sep="\t")
    assert len(table) == 26 and set(table.alpha) == set(soundness.ALPHAS) and (table.certifications == 10_000).all()
    assert (table.p_value > 1e-3).all()
    assert (table.false[table.classifier.str.startswith("ball")] == 0).all()


def test_the_shipped_attacks_broke_nothing(digits_test):
    attacks = soundness.read_attacks()
    assert {"digits-gaussian-0.25", "digits-smoothadv-0.25"} <= set(attacks)
    assert sum(map(len, attacks.values())) >= 500
    for rows in attacks.values():
        assert soundness.summary(rows)["flipped"] == 0 and (rows.nearest >= rows.radius).all()
    assert gap_figure(attacks).axes[0].get_xlabel() == "certified radius (ℓ2)"


# -- rounding ----------------------------------------------------------------------------------


def test_a_radius_read_back_from_a_log_is_the_one_computed(trained, digits_test, tmp_path):
    settings = CertifySettings(sigma=0.25, n0=10, n=777, alpha=0.0013)
    rows = list(certify.certify_dataset(trained, subset(digits_test, 100), settings, tmp_path / "log.tsv"))
    log = logs.read_log(tmp_path / "log.tsv")
    assert [row[3] for row in rows] == log.radius.tolist() and log.radius.nunique() > 20
    again = bounds.certified_radius(bounds.lower_confidence_bound(log.count_a.to_numpy(), 777, 0.0013), 0.25)
    assert (log.radius == np.where(log.predict == -1, 0.0, again)).all()


@pytest.mark.parametrize("n", [1000, 100_000, 10_000_000])
@pytest.mark.parametrize("missing", [0, 1, 20])
def test_a_radius_near_p_a_of_one_is_that_of_50_digits(n, missing):
    """float32 has no number between 1 − 6·10⁻⁸ and 1: a radius computed in it would be wrong, or ∞."""
    alpha = 0.001
    p = bounds.lower_confidence_bound(n - missing, n, alpha)
    radius = bounds.certified_radius(p, 1.0)
    with mpmath.workdps(50):
        q = 1 - mpmath.mpf(p)  # the miss rate; P(at most `missing` misses) must be α
        tail = sum(mpmath.binomial(n, k) * q**k * (1 - q) ** (n - k) for k in range(missing + 1))
        assert abs(tail / alpha - 1) < 1e-6 * max(1, n / 10**5)  # p itself is a float64
        true = -mpmath.sqrt(2) * mpmath.erfinv(2 * q - 1)
        assert abs(radius / true - 1) < 1e-12


def test_no_radius_is_computed_in_float32():
    """Φ⁻¹ comes from scipy in float64; torch's, in float32 by default, does not occur in the package."""
    for file in Path(bounds.__file__).parent.rglob("*.py"):
        names = {
            node.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert not names & {"erfinv", "erfinv_", "ndtri", "icdf"}, file
    halfspace = next(soundness.known_cases(1 - 1e-9)).classifier
    certificate = SmoothedClassifier(halfspace, 2, 0.25).certify(torch.full((1, 1, 2), 0.5), 10, 50_000, 0.001)
    exact = 0.25 * float(norm.ppf(bounds.lower_confidence_bound(50_000, 50_000, 0.001)))
    assert (1 - 1e-14) * exact <= certificate.radius <= exact


# -- the experiments themselves ------------------------------------------------------------------


@pytest.mark.soundness
def test_ten_thousand_certifications_of_each_known_classifier_err_no_more_often_than_alpha():
    rows = list(soundness.coverage(seed=1))
    assert len(rows) == 26
    for row in rows:  # 52 tests of which one in 10,000 may fail by chance
        assert row["p_value"] > 1e-4 / len(rows), row
        if row["exact"] > 1e-4:
            assert binomtest(row["false"], row["certifications"], row["exact"]).pvalue > 1e-4 / len(rows), row


@pytest.mark.soundness
@pytest.mark.parametrize("folder", soundness.trained_runs(), ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_no_attack_breaks_a_certificate(folder):
    """250 images of the digits; of CIFAR-10 so many as a CPU attacks in minutes."""
    few = {"images": 250} if folder.parent.name == "digits" else {"images": 4, "restarts": 1, "samples": 8, "n": 2000}
    try:
        load_dataset(run_folder.read_run(folder)[0].dataset, "test", download=False)
    except WorkError as error:
        pytest.skip(str(error))
    rows = pd.DataFrame(soundness.attack_certificates(folder, seed=1, **few))
    found = soundness.summary(rows)
    print(found)
    assert found["flipped"] <= found["allowed"]
    assert (rows.nearest < rows.radius).sum() <= found["allowed"]


@pytest.mark.soundness
def test_no_attack_breaks_a_certificate_of_the_grid_sampler(tmp_path):
    folder = small_copy(tmp_path, lambda log: log.head(0))
    model, data = run_folder.load_run(folder)[0], load_dataset("digits", "test")
    for name in ("certify.tsv", "certify.json"):
        (folder / name).unlink()
    settings = CertifySettings(sigma=0.25, n=10_000, max=50, skip=10, sampler="grid")
    for _ in certify.certify_dataset(model, data, settings, folder / "certify.tsv"):
        pass
    found = soundness.summary(pd.DataFrame(soundness.attack_certificates(folder, images=50)))
    assert found["images"] >= 45 and found["flipped"] <= found["allowed"] and found["least_ratio"] > 1
