"""Notebook 01: its figures and what its explorers compute."""

import json
import math

import numpy as np
import pytest
import torch
from drawn import heights, line, panels, picture, xy
from explorers import explorer

from rslab import attacks
from rslab.attacks import cross_entropy
from rslab.data.datasets import load_dataset
from rslab.errors import InputError
from rslab.experiments import adversarial
from rslab.lectures.lecture01 import explorers, figures, landscape
from rslab.networks.inference import fold_batchnorm
from rslab.store.logs import read_log
from rslab.store.run_folder import RESULTS, load_run, read_history
from rslab.training import loop
from rslab.training.loop import train


@pytest.fixture(scope="module")
def network():
    model, _ = load_run(RESULTS / "digits" / "gaussian-0.25")
    return fold_batchnorm(model)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", "test")


# -- figures ----------------------------------------------------------------------------------


def test_the_balls_show_the_best_step_of_each():
    gradient, epsilon = np.array([1.0, 0.35]), 0.3
    square, disc = panels(figures.balls_figure(tuple(gradient), epsilon))
    tried = np.random.default_rng(0).uniform(-epsilon, epsilon, (20_000, 2))
    for axes, norm in ((square, np.inf), (disc, 2)):
        best = np.ravel(xy(axes.lines[-1]))
        allowed = tried[np.linalg.norm(tried, norm, axis=1) <= epsilon]
        assert np.linalg.norm(best, norm) == pytest.approx(epsilon)
        assert 0.97 * (gradient @ best) < (allowed @ gradient).max() <= gradient @ best
        assert axes.get_title().endswith(f"{gradient @ best:.3f}")
    assert square.patches[0].get_width() == 2 * epsilon and disc.patches[0].get_radius() == epsilon


def test_the_danskin_figure_shows_the_maximum_and_its_tangent():
    theta = 0.5
    (axes,) = panels(figures.danskin_figure(theta))
    thetas, robust = line(axes, "robust loss")
    delta = np.linspace(-1, 1, 20_001)
    expected = [(t**2 / 4 + t * delta - np.cos(5 * delta) / 4).max() for t in thetas]
    np.testing.assert_allclose(robust, expected, atol=1e-6)
    tangent = line(axes, "L(·, δ*)")[1]
    assert (tangent <= robust + 1e-9).all()
    near = abs(thetas - theta) < 0.011
    np.testing.assert_allclose(np.gradient(tangent)[near], np.gradient(robust)[near], atol=1e-4)
    (place,), (height,) = xy(axes.lines[-1])
    assert place == theta and height == pytest.approx(np.interp(theta, thetas, robust), abs=1e-6)


def test_histograms_hold_every_loss_once():
    losses = {"a": [np.arange(9.0)], "b": [np.arange(9.0), np.ones(7)]}
    first, second = panels(figures.histograms_figure(losses, "0.2"))
    assert heights(first).sum() == 9 and heights(second).sum() == 16
    (tall,) = [bar for bar in second.patches if bar.get_height() == 7]
    assert tall.get_x() <= 1 <= tall.get_x() + tall.get_width()


def test_training_and_accuracies_and_transfer_show_the_numbers_given():
    rows = {"a": [(2, 2.1, 2.2), (1, 1.5, 1.6)], "b": [(2, 2, 2), (0.5, 0.6, 0.7)]}
    for axes, expected in zip(panels(figures.training_figure(rows)), rows.values(), strict=True):
        for label, column in zip(("trained on", "FGSM, test", "PGD, test"), np.transpose(expected), strict=True):
            assert line(axes, label)[0].tolist() == [1, 2] and line(axes, label)[1].tolist() == column.tolist()
    (axes,) = panels(figures.accuracies_figure({"a": {"clean": (100, 99), "FGSM": (50, 40), "PGD": (3, 0)}}))
    assert heights(axes).tolist()[:6] == [99, 100, 40, 50, 0, 3]  # each test, then its outline, training
    accuracy = np.array([[0, 50.0], [90, 10]])
    (axes,) = panels(figures.transfer_figure(accuracy, ["a", "b"]))
    assert (picture(axes) == accuracy).all()
    assert {text.get_position(): text.get_text() for text in axes.texts}[1, 0] == "50.0"


def test_figures_of_a_network_show_its_losses(network, digits):
    x, y = digits.images[:4], digits.labels[:4]

    def loss(images, labels):
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(network(images), labels, reduction="none").numpy()

    adversarial = attacks.fgsm(network, x, y, 0.1)
    axes = np.reshape(panels(figures.examples_figure(network, x, adversarial)), (3, 4))
    for column in range(4):
        shown = [picture(axes[row, column]) for row in range(3)]
        np.testing.assert_allclose(shown[0], x[column, 0])
        np.testing.assert_allclose(shown[1], 5 * (adversarial - x)[column, 0], atol=1e-6)
        np.testing.assert_allclose(shown[2], adversarial[column, 0])
        assert f"“{int(network(x).argmax(1)[column])}”" in axes[0, column].get_title()
    ends = {"FGSM": attacks.fgsm(network, x, y, 0.2), "PGD": attacks.pgd(network, x, y, 0.2, norm="linf", steps=20)}
    for panel in panels(figures.lines_figure(dict.fromkeys("ab", landscape.lines(network, x, y, 0.2)))):
        for attack, end in ends.items():
            mean = line(panel, f"towards {attack}'s end")[1]
            assert panel.get_ylim()[0] == 0 and panel.get_ylim()[1] > max(
                drawn.get_ydata().max() for drawn in panel.lines
            )
            assert [mean[0], mean[-1]] == pytest.approx([loss(x, y).mean(), loss(end, y).mean()], rel=1e-3)
    losses, ends = landscape.final_losses(network, x[0], int(y[0]), 0.2, starts=20)
    first, second, angles = landscape.distinct_ends(ends, x[0])
    assert first != second and losses.shape == (20,) and angles.shape == (190,)
    furthest = (torch.nn.functional.normalize((ends[[first, second]] - x[0]).flatten(1), dim=1)).prod(0).sum()
    assert angles.max() == pytest.approx(math.degrees(math.acos(furthest)), abs=0.1)
    corners = loss(torch.stack((x[0], ends[first], ends[second])), y[[0, 0, 0]])
    plane = landscape.between(network, x[0], int(y[0]), ends[first], ends[second])
    figure = figures.surface_figure({"one": plane, "again": plane})
    right, _, left, again = panels(figure)
    lowest = line(right, "first to second")[1].min()
    assert left.name == again.name == "3d" and f"it is {lowest:.1f} at its lowest" in " ".join(figure.alt.split())
    for label, (start, end) in {"first to second": (1, 2), "x to first": (0, 1), "x to second": (0, 2)}.items():
        drawn = line(right, label)[1]
        assert [drawn[0], drawn[-1]] == pytest.approx([corners[start], corners[end]], abs=1e-3)
    plane = landscape.loss_plane(network, x[0], int(y[0]), ends[first], ends[second], np.array([0.0, 1.0]))
    assert [plane[0, 0], plane[0, 1], plane[1, 0]] == pytest.approx(corners.tolist(), abs=1e-4)


def test_certified_is_below_true_is_below_empirical_and_a_weak_attack_hides_the_truth(digits):
    model, config = load_run(RESULTS / "digits" / "fgsm-linf-0.4")
    f, x, y = fold_batchnorm(model), digits.images[:200], digits.labels[:200]
    figure, radii = figures.three_accuracies_figure(f, x, y, 0.12, config.epsilon)
    left, right = panels(figure)
    for name, values in radii.items():
        epsilon, share = line(left, name)
        assert share[0] == pytest.approx(100 * np.mean(values > 0))
        assert share[100] == pytest.approx(100 * np.mean(values > epsilon[100])) and (np.diff(share) <= 0).all()
    true = radii["true"]
    assert np.all(radii["certified"] <= true) and np.all(true <= radii["one-step attack"] + 1e-9)
    assert np.all(true <= radii["random step"] + 1e-9) and radii["certified"].mean() > 0.8 * true.mean()
    assert np.mean(radii["random step"] > 0.4) > 0.5 > 0.05 > np.mean(true > 0.4)
    for name, attack in (("FGSM", attacks.fgsm), ("PGD", lambda *a: attacks.pgd(*a, norm="linf", steps=20))):
        epsilon, share = line(right, name)
        assert epsilon[-1] == 0.4
        expected = float((f(attack(f, x, y, 0.4)).argmax(1) == y).float().mean())
        assert share[-1] == pytest.approx(100 * expected)
    assert line(right, "PGD")[1][-1] < 2 and line(right, "FGSM")[1][-1] > 75


def test_the_angles_of_all_pairs_are_shown():
    angles, random = np.array([10.5, 11, 30.5, 31]), np.array([90.0, 90, 88.2, 91.8])
    (axes,) = panels(figures.angles_figure(angles, random, 64))
    found, unrelated = axes.patches
    values, edges, _ = found.get_data()
    assert values @ np.diff(edges) == pytest.approx(100) and values[5] * 2 == values[15] * 2 == 50
    values, edges, _ = unrelated.get_data()
    assert values @ np.diff(edges) == pytest.approx(100) and (np.diff(edges) > 0).all()
    place = np.searchsorted(edges, 90)
    assert (values * np.diff(edges))[place - 1] == pytest.approx(50)


def test_the_robust_losses_of_both_splits_are_shown():
    losses = {"train": (2.0, 1.0), "test": (3.0, 2.5)}
    records = [
        {split: {attack: {"loss": (1 + number) * v[epoch]} for number, attack in enumerate(("FGSM", "PGD"))}
         for split, v in losses.items()}
        for epoch in range(2)
    ]  # fmt: skip
    (axes,) = panels(figures.robust_losses_figure({"a": records}))
    assert line(axes, "PGD, training")[1].tolist() == [4, 2] and line(axes, "PGD, test")[1].tolist() == [6, 5]
    assert line(axes, "FGSM, training")[1].tolist() == [2, 1] and line(axes, "FGSM, test")[1].tolist() == [3, 2.5]


LINF = """
[defaults]
dataset = "digits"
arch = "cnn"
batch_size = 512
epochs = 2
[standard]
method = "standard"
[pgd]
method = "adversarial"
attack = "pgd"
norm = "linf"
epsilon = 0.1
steps = 2
"""


def test_a_recipe_is_trained_watched_and_attacked_and_a_stopped_one_goes_on(tmp_path, monkeypatch):
    (tmp_path / "small.toml").write_text(LINF, encoding="utf-8")
    for name, value in {"RECIPES": tmp_path, "IMAGES": 20, "STEPS": 2, "RESTARTS": 2, "LINES": 8}.items():
        monkeypatch.setattr(adversarial, name, value)
    monkeypatch.setattr(landscape, "STARTS", 4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    adversarial.main(["small", str(whole)])
    calls, attacked, finish = [], adversarial.attacked, loop.finish_run

    def killed(*arguments):
        calls.append(1)
        if len(calls) in (2, 5):  # each split of an epoch is a call: in the first epoch, and in the last
            raise KeyboardInterrupt
        return attacked(*arguments)

    def killed_before_the_weights(out, *rest):
        if out.name == "pgd" and len(calls) == 4:
            calls.pop()
            raise KeyboardInterrupt
        finish(out, *rest)

    monkeypatch.setattr(adversarial, "attacked", killed)
    monkeypatch.setattr(loop, "finish_run", killed_before_the_weights)
    for epochs in (0, 1, 1):
        with pytest.raises(KeyboardInterrupt):
            adversarial.main(["small", str(parts)])
        log = parts / "pgd" / "robust.jsonl"
        assert epochs == (len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0)
    with log.open("a", encoding="utf-8") as file:
        file.write('{"epoch": 1, "tra')
    for _ in range(2):  # the second has nothing to do
        adversarial.main(["small", str(parts)])
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(parts) for path in parts.rglob("*") if path.is_file())
    first, second = ((folder / "pgd" / "robust.jsonl").read_text(encoding="utf-8") for folder in (whole, parts))
    assert first == second and [json.loads(row)["epoch"] for row in first.splitlines()] == [0, 1]
    logs = {path.stem: read_log(path) for path in (whole / "pgd").glob("*.tsv")}
    assert set(logs) == {"clean", "under-fgsm", "under-pgd2x2", "under-margin2x2", "under-transfer"}
    assert all(len(log) == 20 for log in logs.values())
    assert not (whole / "standard" / "robust.jsonl").exists()
    studies = landscape.read_studies(whole / "landscape.npz")
    assert set(studies) == {"standard", "pgd"}
    for found in studies.values():
        assert found.lines["PGD"].shape == (41, 8) and [ends.shape for ends in found.ends] == [(4,), (4,)]
        for image in range(2):
            plane = found.between(image)
            assert plane["plane"][0, 0] == plane["x to first"][0] == plane["x to second"][0]


def test_the_median_angle_is_that_of_all_pairs_rounded_down():
    angles = np.array([3.2, 41.1, 41.9, 42.7, 90.0])
    for some in (angles, angles[:3], angles[2:]):
        kept = landscape.Study({"angles, 0": np.histogram(some, np.arange(181))[0]})
        assert kept.median_angle(0) == math.floor(np.median(some))


def test_a_run_that_nobody_watched_and_another_recipe_are_refused(tmp_path, monkeypatch):
    (tmp_path / "small.toml").write_text(LINF, encoding="utf-8")
    monkeypatch.setattr(adversarial, "RECIPES", tmp_path)
    run = adversarial.read_recipe(tmp_path / "small.toml")[1]
    for _ in train(run.train, tmp_path / "out" / "pgd"):
        pass
    with pytest.raises(InputError, match="robust.jsonl: got 0 epochs, and the network after the next is gone"):
        adversarial.watch(run, tmp_path / "out" / "pgd")
    (tmp_path / "small.toml").write_text(LINF.split("[pgd]")[0], encoding="utf-8")
    with pytest.raises(InputError, match="recipe: got the methods standard, expected adversarial and standard"):
        adversarial.main(["small", str(tmp_path / "other")])
    for norm, found in (("l2", "l2 0.1"), ("linf", "linf 0.1, linf 0.2")):
        another = LINF.replace('norm = "linf"', f'norm = "{norm}"')
        second = another[another.index("[pgd]") :].replace("[pgd]", "[second]").replace("0.1", "0.2")
        (tmp_path / "small.toml").write_text(another + second * (norm == "linf"), encoding="utf-8")
        with pytest.raises(InputError, match=f"recipe: got the budgets {found}, expected one, of linf"):
            adversarial.main(["small", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("recipe", "epochs"), [("mnist-linf", 8), ("cifar10-linf", 14)])
@pytest.mark.parametrize("run", ["pgd", "fgsm"])
def test_the_shipped_robust_losses_are_those_of_the_shipped_runs(recipe, epochs, run):
    folder = RESULTS / recipe / run
    records = [json.loads(row) for row in (folder / "robust.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["epoch"] for row in records] == list(range(epochs))
    assert [row["trained on"] for row in records] == [row["loss"] for row in read_history(folder)]
    assert all(row["train"]["PGD"]["loss"] >= row["train"]["FGSM"]["loss"] for row in records)


def test_an_image_under_attack_loses(network, digits):
    found = adversarial.attacked(network, digits.images[:40], digits.labels[:40], 0.1)
    assert found["clean"]["loss"] < found["FGSM"]["loss"] <= found["PGD"]["loss"] + 1e-3
    assert found["clean"]["accuracy"] > found["PGD"]["accuracy"]


def test_the_toy_loss_fools_fgsm():
    figure, numbers = figures.folded_figure()
    assert numbers["FGSM"] == pytest.approx(-1.99, abs=1e-3) and numbers["maximum"] == pytest.approx(3.25)
    assert numbers["PGD, best"] == pytest.approx(3.25, abs=1e-3) and 0 < numbers["share of starts"] < 1
    assert numbers["highest on FGSM's line"] == pytest.approx(0.3226, abs=1e-3)
    left, right = panels(figure)
    u, v = line(left, "FGSM")  # the gradient at 0 is positive in both pixels
    assert u == pytest.approx([0, 0.5], abs=1e-6) and v == pytest.approx([0, 0.5], abs=1e-6)
    height = 0.5 + 0.45 - 6 * (1 - 0.3) ** 2 + 4 * 0  # of the toy loss at that corner, by hand
    assert line(right, "towards FGSM")[1][-1] == pytest.approx(height, abs=1e-4)
    assert line(right, "towards PGD")[1][-1] == pytest.approx(3.25, abs=1e-3)


def test_the_paths_are_those_of_the_packages_pgd(network, digits):
    x, y = digits.images[:6], digits.labels[:6]
    path = figures.pgd_path(lambda z: cross_entropy(network(z), y), x, 0.1, 0.025, 5)
    expected = attacks.pgd(network, x, y, 0.1, norm="linf", steps=5, step_size=0.025, keep="last")
    assert torch.allclose(path[-1], expected, atol=1e-6) and torch.equal(path[0], x)


# -- what the notebook says of the shipped network ---------------------------------------------


def test_the_collapsed_network_masks_gradients_has_the_bump_and_hardly_reads_labels_off_perturbations():
    model, config = load_run(RESULTS / "digits" / "fgsm-linf-0.4")
    f, epsilon = fold_batchnorm(model), config.epsilon
    assert (config.attack, config.norm, epsilon) == ("fgsm", "linf", 0.4)
    data = load_dataset("digits", "train")
    x, y = data.images, data.labels

    def accuracy(images):
        with torch.no_grad():
            return float((f(images).argmax(1) == y).float().mean())

    one_step = attacks.fgsm(f, x, y, epsilon)
    assert accuracy(one_step) > accuracy(x) + 0.03  # above the clean one, but not because of the label:
    with torch.no_grad():
        own, copied = f(x).argmax(1), f((x + (one_step - x).roll(1, 0)).clamp(0, 1)).argmax(1)
    assert accuracy(attacks.fgsm(f, x, own, epsilon)) > accuracy(x) + 0.01
    other = y.roll(1)
    assert float((copied == other)[other != y].float().mean()) < 0.05
    assert float((copied == y).float().mean()) > 0.8
    assert accuracy(attacks.pgd(f, x, y, epsilon, norm="linf", steps=20)) < 0.02
    assert accuracy(attacks.fgsm(f, x, y, epsilon / 2)) < accuracy(one_step) - 0.1
    line = landscape.losses_along(f, x, y, one_step, np.linspace(0, 1, 11)).mean(1)
    assert 2 <= line.argmax() <= 5 and line.max() > 2 * max(line[0], line[-1])  # the bump


# -- Danskin ------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [-1.0, -0.4, 0.2, 0.9, 1.0])
def test_both_of_the_inner_maxima_are_maxima(theta):
    """No edge of an interval: a little to either side the loss is lower."""
    for delta in figures.inner_maxima(theta):
        near = figures.outer_loss(theta, np.array([delta - 0.01, delta, delta + 0.01]))
        assert near.argmax() == 1 and abs(delta) < 1


@pytest.mark.parametrize("theta", [-0.7, 0.3, 1.0])
def test_the_slope_of_the_robust_loss_is_that_at_the_maximiser(theta):
    def robust(t):
        return figures.outer_loss(t, figures.DELTAS).max()

    h = 1e-3
    star, other = figures.inner_maxima(theta)
    assert (robust(theta + h) - robust(theta - h)) / (2 * h) == pytest.approx(theta / 2 + star, abs=2e-3)
    assert figures.outer_loss(theta, star) > figures.outer_loss(theta, other) and star * other < 0


# -- explorers ---------------------------------------------------------------------------------


def test_an_attack_stays_in_its_ball_and_larger_balls_hold_higher_losses():
    attack_explorer = explorer("01 AttackExplorer")
    for network in (0, 1):
        highest = []
        for epsilon in explorers.EPSILONS[::3]:
            for steps in (0, 7, 20):
                attack_explorer.move(network=network, epsilon=epsilon, steps=steps, step_size=0.1)
                assert attack_explorer.length <= epsilon + 1e-6
            highest.append(max(attack_explorer.losses))
        assert highest == sorted(highest)
    assert "largest change of a pixel 0.000" in attack_explorer.move(network=0, steps=0).text.value


def test_a_weak_attack_can_turn_the_gradient():
    danskin = explorer("01 DanskinExplorer")
    for theta in (-1.0, -0.4, 0.1, 0.8):
        assert danskin.move(theta=theta, found=3).gradient == danskin.slope and danskin.step < 0
        assert np.sign(danskin.move(found=1).gradient) == np.sign(danskin.slope)
    assert danskin.move(theta=0.2, found=2).step > 0 and "raises" in danskin.text.value
    for theta, turned in ((0.9, True), (0.94, False)):  # where the wrong maximum points the right way again
        assert (danskin.move(theta=theta, found=2).gradient * danskin.slope < 0) == turned
    assert danskin.move(theta=0.0, found=3).step > 0 and "kink" in danskin.text.value


def test_smaller_steps_and_the_gradient_itself_leave_the_ridge():
    """The toy has one maximum: what a sign step of 0.1 lacks is not a restart."""
    assert figures.folded_success(0.1, 20) == figures.folded_success(0.1, 200) == 0.5
    assert figures.folded_success(0.003, 2000) == figures.folded_success(0.1, 2000, sign=False) == 1


# -- photographs ------------------------------------------------------------------------------


def test_one_grey_level_changes_all_four_answers():
    titles = [panel.get_title() for panel in panels(figures.photographs_figure(levels=1))]
    before, after = titles[:4], titles[8:]
    assert [title.split("  ")[0] for title in before] == ["espresso", "tripod", "tiger cat", "missile"]
    assert all(b.split("  ")[0] != a.split("  ")[0] for b, a in zip(before, after, strict=True))
    assert [title.split("  ")[1] for title in after] == ["100%"] * 4


def test_one_step_gains_nothing_from_a_larger_epsilon_and_other_networks_keep_some_of_the_answer():
    left, right = panels(figures.steps_and_transfer_figure())
    curves = {levels: line(left, f"ε = {levels}/255")[1] for levels in (1, 2, 4, 8)}
    assert curves[8][0] < curves[1][0] and all(curve[-1] > 0.999 for curve in curves.values())
    assert all(0 < bar.get_height() < 1 or bar.get_facecolor()[:3] == right.patches[0].get_facecolor()[:3]
               for bar in right.patches)  # fmt: skip
    assert figures.left_on_each(8, 50) == {"lite0": "0.00", "lite1": "0.14", "lite2": "0.34"}
