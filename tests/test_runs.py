"""Certification and attack logs: the same however they were interrupted, with the settings beside them."""

import json

import pytest
import torch
from helpers import Always, subset
from torch import nn

from rslab import attacks
from rslab.data.datasets import LabeledImages
from rslab.errors import InputError, WorkError
from rslab.evaluate.attack import attack_batch, attack_dataset
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import AttackSettings, CertifySettings, chosen_indices
from rslab.machine.randomness import generator_for
from rslab.networks.inference import InferenceNetwork
from rslab.networks.models import STATISTICS, Normalize, build_model
from rslab.smoothing import bounds
from rslab.smoothing.classifier import SmoothedClassifier, mean_log_probs
from rslab.store import files, logs
from rslab.store.logs import SINCE

SETTINGS = CertifySettings(sigma=0.25, n0=20, n=200, alpha=0.01, max=6, precision="float32")


@pytest.fixture(scope="module")
def few(digits_test) -> LabeledImages:
    return subset(digits_test, 40)


def rows_without_time(log) -> list[str]:
    lines = log.read_text(encoding="utf-8").splitlines()
    place = lines[0].split("\t").index("time")
    return ["\t".join(v for i, v in enumerate(line.split("\t")) if i != place) for line in lines]


def changed(settings, **options):
    return type(settings)(**{**settings.__dict__, **options})


# -- certification -----------------------------------------------------------------------


def test_a_log_holds_a_row_an_image_that_its_own_counts_explain(trained, few, tmp_path):
    log = tmp_path / "certify.tsv"
    rows = list(certify_dataset(trained, few, SETTINGS, log))
    read = logs.read_log(log)
    assert list(read.columns) == "idx label predict radius correct time count_a n n0 alpha".split()
    assert len(rows) == 6 and read.idx.tolist() == [0, 1, 2, 3, 4, 5]
    assert read.label.tolist() == few.labels[:6].tolist()
    lower = bounds.lower_confidence_bound(read.count_a.to_numpy(), 200, 0.01)
    assert read.radius.tolist() == bounds.certified_radius(lower, 0.25).tolist()
    assert ((read.predict == -1) == (read.radius == 0)).all()
    assert read.correct.sum() >= 3 and (read.radius > 0.1).any()
    assert (read.n == 200).all() and (read.n0 == 20).all() and (read.alpha == 0.01).all()
    settings = json.loads((tmp_path / "certify.json").read_text(encoding="utf-8"))
    assert (
        settings["sigma"] == 0.25 and settings["precision"] == "float32" and settings["data_checksum"] == few.checksum
    )


def test_each_row_is_the_certificate_by_the_images_own_generator(trained, few, tmp_path):
    list(certify_dataset(trained, few, changed(SETTINGS, seed=4), tmp_path / "a.tsv"))
    smoothed = SmoothedClassifier(InferenceNetwork(trained), 10, 0.25)
    for row in logs.read_log(tmp_path / "a.tsv").itertuples():
        expected = smoothed.certify(few.images[row.idx], 20, 200, 0.01, generator=generator_for("certify", 4, row.idx))
        assert (row.predict, row.radius) == (expected.prediction, expected.radius)
        assert row.count_a == expected.counts[expected.selected]


@pytest.mark.parametrize("torn", ["", "2\t", "2\t7\t7\t0.25\t1\t0:00:01\t190\t200\t20"])
def test_a_log_resumed_after_a_torn_row_equals_one_that_never_stopped(trained, few, tmp_path, torn):
    list(certify_dataset(trained, few, SETTINGS, tmp_path / "whole.tsv"))
    parts = tmp_path / "parts.tsv"
    steps = certify_dataset(trained, few, SETTINGS, parts)
    next(steps), next(steps)
    steps.close()
    with parts.open("a", encoding="utf-8") as file:
        file.write(torn)
    rest = list(certify_dataset(trained, few, SETTINGS, parts, resume=True))
    assert len(rest) == 4
    assert rows_without_time(parts) == rows_without_time(tmp_path / "whole.tsv")
    assert list(certify_dataset(trained, few, SETTINGS, parts, resume=True)) == []


def test_a_log_torn_in_its_header_is_begun_anew(trained, few, tmp_path):
    list(certify_dataset(trained, few, SETTINGS, tmp_path / "whole.tsv"))
    parts = tmp_path / "parts.tsv"
    certify_dataset(trained, few, SETTINGS, parts).close()
    parts.write_text("idx\tlab", encoding="utf-8")
    list(certify_dataset(trained, few, SETTINGS, parts, resume=True))
    assert rows_without_time(parts) == rows_without_time(tmp_path / "whole.tsv")


def test_rows_do_not_depend_on_which_other_images_are_taken(trained, few, tmp_path):
    list(certify_dataset(trained, few, SETTINGS, tmp_path / "all.tsv"))
    list(certify_dataset(trained, few, changed(SETTINGS, skip=2, max=3), tmp_path / "second.tsv"))
    every, second = rows_without_time(tmp_path / "all.tsv"), rows_without_time(tmp_path / "second.tsv")
    assert second[1:] == every[1::2]
    # taking more images afterwards adds rows and changes none
    list(certify_dataset(trained, few, SETTINGS, tmp_path / "second.tsv", resume=True))
    assert sorted(rows_without_time(tmp_path / "second.tsv")) == sorted(every)


def test_max_counts_images_whatever_the_skip():
    assert chosen_indices(10_000, 20, 40) == list(range(0, 800, 20))
    assert len(chosen_indices(10_000, 7, 500)) == 500
    assert chosen_indices(10, 3, None) == [0, 3, 6, 9]
    assert chosen_indices(10, 3, 100) == [0, 3, 6, 9]
    assert chosen_indices(10, 100, 5) == [0]


@pytest.mark.parametrize(
    "option, value", [("sigma", 0.5), ("n", 100), ("n0", 10), ("alpha", 0.1), ("seed", 1), ("bound", "two-class")]
)
def test_resuming_with_another_setting_is_refused_and_changes_nothing(trained, few, tmp_path, option, value):
    log = tmp_path / "certify.tsv"
    next(certify_dataset(trained, few, SETTINGS, log))
    before = log.read_bytes(), log.with_suffix(".json").read_bytes()
    with pytest.raises(InputError, match=f"^{option}: got {value!r}, expected"):
        certify_dataset(trained, few, changed(SETTINGS, **{option: value}), log, resume=True)
    assert before == (log.read_bytes(), log.with_suffix(".json").read_bytes())


def test_resuming_with_another_model_or_other_data_is_refused(trained, few, digits_test, tmp_path):
    log = tmp_path / "certify.tsv"
    next(certify_dataset(trained, few, SETTINGS, log))
    with pytest.raises(InputError, match="^weights: got"):
        certify_dataset(build_model("cnn", "digits", 10), few, SETTINGS, log, resume=True)
    with pytest.raises(InputError, match="^data_checksum: got"):
        certify_dataset(trained, subset(digits_test, 41), SETTINGS, log, resume=True)


def test_an_existing_log_is_never_overwritten(trained, few, tmp_path):
    log = tmp_path / "certify.tsv"
    log.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="which exists.*--resume"):
        certify_dataset(trained, few, SETTINGS, log)
    with pytest.raises(InputError, match="without certify.json"):
        certify_dataset(trained, few, SETTINGS, log, resume=True)
    assert log.read_text(encoding="utf-8") == "mine"
    with pytest.raises(InputError, match="expected another ending"):
        certify_dataset(trained, few, SETTINGS, tmp_path / "log.json")


def test_logs_named_like_the_fields_keep_settings_of_their_own(trained, few, tmp_path):
    for sigma in (0.25, 0.5):
        list(certify_dataset(trained, few, changed(SETTINGS, sigma=sigma, max=2), tmp_path / f"sigma_{sigma}"))
    begun = (tmp_path / "sigma_0.25").read_bytes()
    with pytest.raises(InputError, match="^sigma: got 0.5, expected 0.25"):
        certify_dataset(trained, few, changed(SETTINGS, sigma=0.5), tmp_path / "sigma_0.25", resume=True)
    assert (tmp_path / "sigma_0.25").read_bytes() == begun
    assert len(list(certify_dataset(trained, few, SETTINGS, tmp_path / "sigma_0.25", resume=True))) == 4


@pytest.mark.parametrize("name, there", [("config.tsv", "config.json"), ("a", "a.tsv"), ("a.tsv", "a"), ("a", "a.txt")])
def test_settings_replace_nothing_that_is_not_theirs(trained, few, tmp_path, name, there):
    if there.endswith(".json"):
        (tmp_path / there).write_text('{"epochs": 3}', encoding="utf-8")
    else:
        list(certify_dataset(trained, few, SETTINGS, tmp_path / there))
        logs.settings_path(tmp_path / there).rename(tmp_path / "a.json")  # a.txt had its settings there until 0.1
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="^out: got .* whose settings would replace"):
        certify_dataset(trained, few, changed(SETTINGS, sigma=0.5), tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_log_without_a_row_is_begun_anew_with_other_settings(trained, few, tmp_path):
    log = tmp_path / "a.tsv"
    certify_dataset(trained, few, SETTINGS, log).close()
    rows = list(certify_dataset(trained, few, changed(SETTINGS, n=100), log))
    assert len(rows) == 6 and json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["n"] == 100
    (tmp_path / "b.tsv").write_text("my notes\n", encoding="utf-8")
    with pytest.raises(InputError, match="exists"):
        certify_dataset(trained, few, SETTINGS, tmp_path / "b.tsv")


def test_a_folder_of_the_same_name_is_no_log(trained, few, tmp_path):
    (tmp_path / "first").mkdir()
    log = tmp_path / "first.tsv"
    certify_dataset(trained, few, SETTINGS, log).close()
    log.unlink()
    assert len(list(certify_dataset(trained, few, changed(SETTINGS, n=100), log))) == 6


def test_who_comes_second_to_a_log_leaves_its_settings_alone(trained, few, tmp_path):
    log = tmp_path / "a.tsv"
    first = certify_dataset(trained, few, SETTINGS, log)  # holds the log, has no row yet
    settings = logs.settings_path(log).read_bytes()
    for resume in (False, True):
        with pytest.raises(WorkError, match="another process is writing"):
            certify_dataset(trained, few, changed(SETTINGS, sigma=0.5), log, resume=resume)
    assert logs.settings_path(log).read_bytes() == settings and len(list(first)) == 6


def test_an_older_log_stays_silent_on_what_nobody_recorded(trained, few, tmp_path):
    log = tmp_path / "a.tsv"
    list(certify_dataset(trained, few, changed(SETTINGS, max=2), log))
    settings = json.loads(logs.settings_path(log).read_text(encoding="utf-8"))
    older = {key: value for key, value in settings.items() if key not in SINCE}
    assert len(older) == len(settings) - 2  # normalization and slack
    files.write_json(logs.settings_path(log), older)
    assert len(list(certify_dataset(trained, few, SETTINGS, log, resume=True))) == 4
    assert json.loads(logs.settings_path(log).read_text(encoding="utf-8")) == older | {"max": 6}


def test_another_normalisation_layer_is_another_network(few, tmp_path):
    networks = [build_model("cnn", "digits", 10, normalization=name).eval() for name in ("standard", "center")]
    networks[1].load_state_dict(networks[0].state_dict())
    list(certify_dataset(networks[0], few, changed(SETTINGS, max=1), tmp_path / "a.tsv"))
    with pytest.raises(InputError, match="^normalization: got"):
        certify_dataset(networks[1], few, SETTINGS, tmp_path / "a.tsv", resume=True)


def test_a_model_for_another_number_of_channels_is_refused(few, tmp_path):
    colour = nn.Sequential(Normalize(*STATISTICS["cifar10"]), nn.Flatten(), nn.Linear(3 * 64, 10))
    with pytest.raises(InputError, match="^model: got one for 3 channels, expected the 1 of the images"):
        certify_dataset(colour, few, SETTINGS, tmp_path / "a.tsv")


def test_a_model_of_other_classes_or_images_is_refused_before_anything_is_written(few, tmp_path):
    with pytest.raises(InputError, match="got 7 classes, expected the 10 classes of digits"):
        certify_dataset(build_model("cnn", "digits", 7), few, SETTINGS, tmp_path / "a.tsv")
    with pytest.raises(InputError, match=r"does not take digits images of shape \(1, 8, 8\)"):
        certify_dataset(nn.Sequential(nn.Conv2d(4, 4, 3)), few, SETTINGS, tmp_path / "a.tsv")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_gives_nan_stops_the_work(few, tmp_path):
    broken = build_model("cnn", "digits", 10)
    with torch.no_grad():
        broken[1][-1].bias[3] = torch.nan
    with pytest.raises(WorkError, match="NaN"):
        list(certify_dataset(broken, few, SETTINGS, tmp_path / "a.tsv"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [{"sigma": 0.0}, {"alpha": 1.0}, {"n": 0}, {"n0": 0}, {"skip": 0}, {"max": 0}, {"batch_size": 0}, {"seed": -1}]
    + [{"bound": "sequential?"}, {"sigma": float("nan")}],
)
def test_bad_certification_settings_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(InputError, match=f"^{name}: got"):
        changed(SETTINGS, **options)


# -- attacks -----------------------------------------------------------------------------


def seeded(number: int) -> list[torch.Generator]:
    """A generator for each of so many images."""
    return [torch.Generator().manual_seed(seed) for seed in range(number)]


ATTACK = AttackSettings(sigma=0.25, epsilon=0.5, steps=4, samples=4, n=100, alpha=0.01, max=5, precision="float32")


def test_an_attack_log_has_the_fields_columns_and_resumes_exactly(trained, few, tmp_path):
    whole = list(attack_dataset(trained, few, changed(ATTACK, skip=3), tmp_path / "whole.tsv"))
    read = logs.read_log(tmp_path / "whole.tsv")
    assert list(read.columns) == "idx label predict basePredict correct time".split()
    assert read.idx.tolist() == [0, 3, 6, 9, 12] and len(whole) == 5
    assert read.label.tolist() == few.labels[[0, 3, 6, 9, 12]].tolist()
    steps = attack_dataset(trained, few, changed(ATTACK, skip=3), tmp_path / "parts.tsv")
    next(steps), next(steps)
    steps.close()
    with (tmp_path / "parts.tsv").open("a", encoding="utf-8") as file:
        file.write("6\t3")
    list(attack_dataset(trained, few, changed(ATTACK, skip=3), tmp_path / "parts.tsv", resume=True))
    assert rows_without_time(tmp_path / "parts.tsv") == rows_without_time(tmp_path / "whole.tsv")


def test_a_strong_attack_fools_and_one_of_epsilon_zero_does_not(trained, few, tmp_path):
    list(attack_dataset(trained, few, changed(ATTACK, epsilon=0.0), tmp_path / "none.tsv"))
    list(attack_dataset(trained, few, changed(ATTACK, epsilon=2.0), tmp_path / "strong.tsv"))
    none, strong = (logs.read_log(tmp_path / f"{name}.tsv").correct.sum() for name in ("none", "strong"))
    assert none >= 3 and strong == 0
    with torch.no_grad():
        assert logs.read_log(tmp_path / "none.tsv").basePredict.tolist() == trained(few.images[:5]).argmax(1).tolist()


def test_a_transfer_attack_is_crafted_on_the_source(trained, few, tmp_path):
    source, settings = build_model("cnn", "digits", 10), changed(ATTACK, epsilon=0.6, max=40)
    list(attack_dataset(trained, few, settings, tmp_path / "a.tsv", source=source))
    beside = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert beside["source_weights"] != beside["weights"]
    list(attack_dataset(trained, few, settings, tmp_path / "b.tsv"))
    of_source, own = (logs.read_log(tmp_path / f"{name}.tsv").correct.sum() for name in "ab")
    assert of_source > own + 5
    with pytest.raises(InputError, match="^source_weights: got None"):
        attack_dataset(trained, few, settings, tmp_path / "a.tsv", resume=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "naive"},
        {"objective": "base", "samples": 32},
        {"attack": "ddn"},
        {"attack": "fgsm", "steps": 20, "norm": "linf", "epsilon": 0.1},
        {"norm": "linf", "epsilon": 0.1, "restarts": 2},
        {"loss": "margin"},
        {"stein": True},
        {"target": 3},
        {"attack": "ddn", "target": 3, "objective": "naive"},
    ],
)
def test_every_attack_stays_in_its_ball_and_follows_its_generator(trained, few, options):
    settings, x, y = changed(ATTACK, **options), few.images[:3], few.labels[:3]
    adversarial = attack_batch(trained, x, y, settings, seeded(3))
    delta = (adversarial - x).flatten(1)
    size = delta.norm(dim=1) if settings.norm == "l2" else delta.abs().amax(1)
    assert (size <= settings.epsilon).all() and size.max() > 0 and not adversarial.requires_grad
    assert torch.equal(adversarial, attack_batch(trained, x, y, settings, seeded(3)))
    if settings.target is not None:
        before, after = trained(x).softmax(1)[:, 3], trained(adversarial).softmax(1)[:, 3]
        assert after.mean() > before.mean()


def test_the_naive_objective_maximises_the_mean_cross_entropy_of_the_copies(trained, few):
    settings, x, y = changed(ATTACK, objective="naive"), few.images[:3], few.labels[:3]
    noise = torch.cat([torch.randn(4, 1, *x.shape[1:], generator=own) for own in seeded(3)], 1) * 0.25
    expected = attacks.pgd(
        lambda z: mean_log_probs(trained, z, noise),
        x,
        y,
        0.5,
        steps=4,
        objective=lambda scores, labels: -scores[range(3), labels],
    )
    assert torch.allclose(attack_batch(trained, x, y, settings, seeded(3)), expected, atol=1e-6)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"attack": "cw"}, "attack"),
        ({"objective": "both"}, "objective"),
        ({"loss": "hinge"}, "loss"),
        ({"norm": "l1"}, "norm"),
        ({"attack": "ddn", "norm": "linf"}, "norm"),
        ({"attack": "fgsm", "steps": 20, "restarts": 2}, "restarts"),
        ({"attack": "ddn", "loss": "margin"}, "loss"),
        ({"stein": True, "objective": "base"}, "stein"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"restarts": 0}, "restarts"),
        ({"samples": 0}, "samples"),
        ({"steps": 0}, "steps"),
        ({"step_size": 0.0}, "step_size"),
        ({"sigma": -1.0}, "sigma"),
        ({"max": 0}, "max"),
    ],
)
def test_bad_attack_settings_are_refused_by_name(options, name):
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        changed(ATTACK, **options)


def test_a_target_beyond_the_classes_is_refused(trained, few, tmp_path):
    with pytest.raises(InputError, match="^target: got 10, expected a class 0 … 9"):
        attack_dataset(trained, few, changed(ATTACK, target=10), tmp_path / "a.tsv")


# -- CUDA --------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_certification_and_attack_run_on_cuda_and_the_log_says_so(trained, few, tmp_path):
    list(certify_dataset(trained, few, SETTINGS, tmp_path / "gpu.tsv", device="cuda"))
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["device"] == "cuda"
    list(attack_dataset(trained, few, ATTACK, tmp_path / "attack.tsv", device="cuda"))
    assert len(logs.read_log(tmp_path / "gpu.tsv")) == 6 and len(logs.read_log(tmp_path / "attack.tsv")) == 5
    with pytest.raises(InputError, match="^device: got 'cpu', expected 'cuda'"):
        certify_dataset(trained.cpu(), few, SETTINGS, tmp_path / "gpu.tsv", resume=True)


@pytest.mark.parametrize("limit, refused", [(2, False), (4, True)])
def test_the_grid_asks_only_the_chosen_images_to_be_of_whole_steps(trained, digits_test, tmp_path, limit, refused):
    pixels = (subset(digits_test, 4).images * 255).round() / 255  # 8-bit levels
    pixels[3, 0, 0, 0] = 0.5001
    data = LabeledImages("digits", pixels, digits_test.labels[:4], digits_test.classes, "checksum")
    settings = changed(SETTINGS, sampler="grid", n=20, max=limit)
    if refused:
        with pytest.raises(InputError, match="off the grid"):
            certify_dataset(trained, data, settings, tmp_path / "a.tsv")
    else:
        assert len(list(certify_dataset(trained, data, settings, tmp_path / "a.tsv"))) == limit


# -- what is said beside the rows --------------------------------------------------------


def attacked(model, data, log, **options) -> list[tuple]:
    settings = dict(sigma=0.25, epsilon=0.1, steps=1, samples=2, n=50, max=2, precision="float32") | options
    return list(attack_dataset(model, data, AttackSettings(**settings), log))


def test_probabilities_where_logits_are_expected_are_noted(trained, few, tmp_path, capsys):
    """A softmax at the end flattens soft votes and losses; a hard vote is the same with it."""
    ends_in_softmax = nn.Sequential(trained, nn.Softmax(1))
    said = "Note: the model's outputs look like probabilities"
    for number, (f, bound, noted) in enumerate(
        [
            (ends_in_softmax, "hoeffding", True),
            (trained, "hoeffding", False),
            (ends_in_softmax, "clopper-pearson", False),
        ]
    ):
        list(certify_dataset(f, few, changed(SETTINGS, bound=bound), tmp_path / f"{number}.tsv"))
        assert (said in capsys.readouterr().err) == noted
    for number, (f, noted) in enumerate([(ends_in_softmax, True), (trained, False)]):
        attacked(f, few, tmp_path / f"attack-{number}.tsv")
        assert (said in capsys.readouterr().err) == noted


def test_distances_beyond_the_cube_are_noted(trained, few, tmp_path, capsys):
    list(certify_dataset(trained, few, changed(SETTINGS, sigma=64.0, max=1), tmp_path / "far.tsv"))
    assert "Note: sigma = 64, but images in [0, 1] lie within 8 of each other." in capsys.readouterr().err
    attacked(trained, few, tmp_path / "attack.tsv", epsilon=128)
    assert "Note: epsilon = 128, but images in [0, 1] lie within 8 of each other." in capsys.readouterr().err
    list(certify_dataset(trained, few, changed(SETTINGS, max=1), tmp_path / "near.tsv"))
    assert capsys.readouterr().err == ""


def test_attacks_on_f_draw_no_noise_and_take_as_many_images_as_fit(trained, few, tmp_path):
    x, y, settings = few.images[:3], few.labels[:3], AttackSettings(sigma=0.25, objective="base", steps=2)
    generators = [torch.Generator().manual_seed(number) for number in range(3)]
    attack_batch(InferenceNetwork(trained), x, y, settings, generators)
    assert all(
        torch.equal(g.get_state(), torch.Generator().manual_seed(n).get_state()) for n, g in enumerate(generators)
    )
    attacked(trained, few, tmp_path / "base.tsv", objective="base", batch_size=64, samples=32)
    attacked(trained, few, tmp_path / "smooth.tsv", batch_size=64, samples=32)
    batches = [
        json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["batch"] for name in ("base", "smooth")
    ]
    assert batches == [64, 2]


def test_an_attack_may_be_made_on_a_random_network_but_none_is_judged(trained, few, tmp_path):
    random = nn.Sequential(trained, Always(lambda x: nn.functional.dropout(x, 0.1)))
    settings = changed(ATTACK, max=2, steps=1)
    assert len(list(attack_dataset(trained, few, settings, tmp_path / "a.tsv", source=random))) == 2
    with pytest.raises(InputError, match="two answers to one batch"):
        list(attack_dataset(random, few, settings, tmp_path / "b.tsv", source=trained))


def test_nan_for_an_attacked_image_alone_stops_the_work(trained, few, tmp_path):
    class Breaking(nn.Module):
        """NaN for what is near an image of the data set but not that image: the attacked, not the noisy."""

        def __init__(self):
            super().__init__()
            self.model = trained

        def forward(self, x):
            apart = (x[:, None] - few.images).flatten(2).norm(dim=2).amin(1)
            return self.model(x) + torch.where((apart > 0) & (apart < 0.2), torch.nan, 0.0)[:, None]

    with pytest.raises(WorkError, match="NaN for an attacked image, which is no class: nothing is judged"):
        attacked(Breaking(), few, tmp_path / "attack.tsv", objective="smoothadv", sigma=1.0, batch=1)
