"""The configuration: visible defaults, a round trip through JSON, and refusals by name."""

import json
import math
from pathlib import Path

import pytest

from rslab import errors
from rslab.config import ATTACKING, METHODS, NOISY, TrainConfig
from rslab.errors import InputError
from rslab.evaluate.settings import AttackSettings
from rslab.training.losses import LOSSES

UNUSED = [
    ({"method": "gaussian", "epsilon": 1.0}, "epsilon"),
    ({"method": "gaussian", "attack": "fgsm"}, "attack"),
    ({"method": "standard", "samples": 4}, "samples"),
    ({"method": "adversarial", "samples": 4}, "samples"),
    ({"method": "standard", "warmup": 0}, "warmup"),
    ({"method": "consistency", "samples": 2, "norm": "linf"}, "norm"),
    ({"method": "combine2", "outer": "log-mean"}, "outer"),
    ({"method": "smoothadv", "consistency": 5.0}, "consistency"),
    ({"method": "smoothadv", "confidence": 0.0}, "confidence"),
    ({"method": "smoothadv", "clean": 0.5}, "clean"),
    ({"method": "smoothadv", "mixing": 1.0}, "mixing"),
    ({"method": "smoothadv", "attack": "fgsm", "steps": 2}, "steps"),
    ({"method": "smoothadv", "attack": "ddn", "step_size": 0.1}, "step_size"),
    ({"method": "adversarial", "attack": "fgsm", "random_start": True}, "random_start"),
    ({"pool_weight": 0.5}, "pool_weight"),
]


@pytest.mark.parametrize("options, name", UNUSED)
def test_an_option_that_does_nothing_is_refused(options, name):
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        TrainConfig(**options)


@pytest.mark.parametrize("options, name", UNUSED)
def test_an_old_run_that_recorded_an_option_without_use_still_loads(options, name):
    values = TrainConfig().to_dict() | options
    rest = {key: value for key, value in options.items() if key != name}
    assert TrainConfig.from_dict(values) == TrainConfig(**rest)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "adversarial", "clean": 0.5, "norm": "linf", "random_start": True, "step_size": 0.1},
        {"method": "combine1", "clean": 0.5, "samples": 2},
        {"method": "smoothadv", "attack": "ddn", "steps": 9, "outer": "log-mean", "warmup": 0},
        {"method": "consistency", "samples": 2, "consistency": 5.0, "confidence": 0.1},
        {"method": "smoothmix", "samples": 2, "mixing": 1.0, "epsilon": 1.0, "steps": 2, "warmup": 0},
    ],
)
def test_an_option_that_is_used_is_taken(options):
    assert TrainConfig(**options).to_dict().items() >= options.items()


@pytest.mark.parametrize(
    "options, name",
    [
        ({"attack": "fgsm", "steps": 5}, "steps"),
        ({"attack": "ddn", "step_size": 0.1}, "step_size"),
        ({"objective": "base", "samples": 4}, "samples"),
        ({"steps": 2.5}, "steps"),
        ({"restarts": True}, "restarts"),
        ({"target": 1.0}, "target"),
    ],
)
def test_attack_options_that_do_nothing_or_do_not_count_are_refused(options, name):
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        AttackSettings(sigma=0.25, **options)


@pytest.mark.parametrize("value", [1.5, 2.0, True, "2", None])
@pytest.mark.parametrize("name", ["epochs", "batch_size", "steps", "samples", "warmup", "seed"])
def test_what_is_counted_is_a_whole_number(name, value):
    with pytest.raises(InputError, match=f"^{name}: got .*expected a whole number"):
        TrainConfig(**{"method": "smoothadv", name: value})


def test_a_momentum_of_1_or_more_is_refused():
    with pytest.raises(InputError, match=r"^momentum: got 1\.0, expected"):
        TrainConfig(momentum=1.0)


def test_every_method_has_a_line_a_loss_and_a_group():
    assert METHODS.keys() == LOSSES.keys()
    assert {*NOISY} | {*ATTACKING} | {"standard"} == {*METHODS}


def test_a_configuration_comes_back_from_json():
    config = TrainConfig(method="smoothadv", sigma=0.5, step_size=0.1, labels=100, lr=1)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_run_may_be_named_by_a_path():
    assert TrainConfig(pretrained=Path("runs") / "a") == TrainConfig(pretrained=str(Path("runs") / "a"))
    with pytest.raises(InputError, match="^method: got 'gaussian/a', expected one of"):
        TrainConfig(method=Path("gaussian/a"))


@pytest.mark.parametrize(
    "options, name",
    [
        ({"method": "madry"}, "method"),
        ({"attack": "cw"}, "attack"),
        ({"norm": "l1"}, "norm"),
        ({"outer": "mean"}, "outer"),
        ({"schedule": "cosine"}, "schedule"),
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": -0.25}, "sigma"),
        ({"sigma": math.nan}, "sigma"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"steps": 0}, "steps"),
        ({"samples": 0}, "samples"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"warmup": -1}, "warmup"),
        ({"momentum": -0.1}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"pool_weight": -1.0}, "pool_weight"),
        ({"seed": -1}, "seed"),
        ({"seed": 1001}, "seed"),
        ({"lr": 0.0}, "lr"),
        ({"step_size": 0.0}, "step_size"),
        ({"clean": 1.0}, "clean"),
        ({"average": 1.0}, "average"),
        ({"average": -0.1}, "average"),
        ({"rise": 1.0}, "rise"),
        ({"rise": 0.3, "schedule": "step"}, "rise"),
        ({"decayed": "some"}, "decayed"),
        ({"clean": -0.1}, "clean"),
        ({"attack": "ddn", "norm": "linf"}, "norm"),
        ({"labels": 0}, "labels"),
        ({"unlabelled": "hidden"}, "unlabelled"),
        ({"pseudo_labels": "runs/x"}, "unlabelled"),
        ({"unlabelled": "hidden", "pseudo_labels": "runs/x"}, "unlabelled"),
    ],
)
def test_bad_options_are_refused_by_name(options, name):
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        TrainConfig(**options)


def test_sigma_is_not_asked_for_where_no_noise_is_used():
    assert TrainConfig(method="standard", sigma=0.0).sigma == 0.0
    assert TrainConfig(method="adversarial", sigma=0.0).sigma == 0.0


@pytest.mark.parametrize(
    "change, said",
    [
        ({"sgima": 0.5}, "got unknown key 'sgima'"),
        ({"sigma": "0.5"}, "sigma: got '0.5', expected a number"),
        ({"epochs": 1.5}, "epochs: got 1.5, expected a whole number"),
        ({"epochs": True}, "epochs: got True, expected a whole number"),
        ({"augment": 1}, "augment: got 1, expected True or False"),
        ({"sigma": None}, "sigma: got None, expected a number"),
        ({"method": 3}, "method: got 3, expected one of standard, gaussian"),
    ],
)
def test_foreign_values_are_refused_with_their_source(change, said):
    with pytest.raises(InputError, match=f"^config.json: {said}"):
        TrainConfig.from_dict(TrainConfig().to_dict() | change, source="config.json")


def test_a_missing_key_and_another_kind_of_file_are_refused():
    values = TrainConfig().to_dict()
    del values["alpha" if "alpha" in values else "sigma"]
    with pytest.raises(InputError, match="got no 'sigma'"):
        TrainConfig.from_dict(values)
    with pytest.raises(InputError, match="got list, expected an object"):
        TrainConfig.from_dict([])


def test_checks_return_what_they_accept_and_refuse_nan():
    assert errors.check_positive("x", 0.1) == 0.1 and errors.check_at_least("x", 3, 3) == 3
    assert errors.check_open_unit("x", 0.5) == 0.5 and errors.check_choice("x", "a", "ab") == "a"
    for check in (errors.check_positive, errors.check_open_unit, lambda n, v: errors.check_at_least(n, v, 0)):
        with pytest.raises(InputError, match="^x: got nan, expected"):
            check("x", math.nan)


@pytest.mark.parametrize("name", ["sigma", "epsilon", "lr", "momentum", "weight_decay", "clean"])
@pytest.mark.parametrize("value", ["0.5", None, True, [0.5]])
def test_what_is_no_number_is_refused_in_one_sentence(name, value):
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        TrainConfig(**{"method": "adversarial", "sigma": 0.25, name: value})
