"""Notebook 06: its figures, what its explorers compute, and the published attacks."""

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import at, line, panels, xy
from explorers import explorer
from scipy.stats import norm, ttest_1samp

from rslab.lectures.lecture06 import explorers, figures
from rslab.report import attack_tables, published, tables
from rslab.smoothing.closed_forms import STEP_TOY, SmoothToy
from rslab.store.run_folder import RESULTS

# -- figures ----------------------------------------------------------------------------------


def test_the_toy_figure_shows_where_either_loss_is_largest():
    sigma, epsilon = 0.5, 0.75
    left, naive, smoothadv = panels(figures.toy_figure(STEP_TOY, sigma, epsilon))
    z = np.linspace(-8, 8, 320_001)
    weight = norm.pdf(z) * (z[1] - z[0])
    for x in (-1.2, -0.5, 0.0, 0.7):
        values = np.asarray(STEP_TOY.values)[np.searchsorted(STEP_TOY.edges, x + sigma * z)]
        assert at(left, "G_y", x) == pytest.approx(weight @ values, abs=1e-3)
        for axes, loss in ((naive, -weight @ np.log(values)), (smoothadv, -np.log(weight @ values))):
            assert np.interp(x, *xy(axes.lines[0])) == pytest.approx(loss, rel=1e-2)
    for axes in (naive, smoothadv):
        places, loss = xy(axes.lines[0])
        (best,), (height,) = xy(axes.lines[1])
        assert abs(best) <= epsilon and height == pytest.approx(loss[abs(places) <= epsilon].max(), rel=1e-3)


def test_the_price_of_one_lost_copy_is_that_of_a_hundred_copies():
    (axes,) = panels(figures.price_figure())
    for falling in (1e-12, 1e-4, 0.5):
        copies = np.array([0.9] * 99 + [falling])
        places, naive = line(axes, "naive")
        number = abs(np.log(places / falling)).argmin()
        copies[-1] = places[number]
        assert naive[number] == pytest.approx(-np.log(copies).mean())
        assert line(axes, "SmoothAdv")[1][number] == pytest.approx(-np.log(copies.mean()))


def test_figures_of_attacks_show_the_numbers_given():
    (axes,) = panels(figures.success_figure((1, 4), {"naive": [0.5, 0.1], "SmoothAdv": [0.5, 1.0]}))
    assert line(axes, "naive")[1].tolist() == [50, 10] and line(axes, "SmoothAdv")[1].tolist() == [50, 100]
    given = {"clean": [[1.0, 0.8]], "base": [[0.6, 0.4]], "naive": [[0.5, 0.7], [0.2, 0.6]]}
    given = {name: torch.tensor(rows) for name, rows in given.items()}
    given["SmoothAdv"] = torch.tensor([[0.5, 0.7], [0.1, 0.2]])
    means = {"naive": [0.6, 0.4], "SmoothAdv": [0.6, 0.15]}
    *above, first, second = panels(figures.digits_attack_figure((1, 4), {"a": given, "b": given}, 0.5))
    for axes in above:
        assert line(axes, "no attack")[1][0] == pytest.approx(0.9) and line(axes, "attack on f")[1][0] == 0.5
        for name in ("naive", "SmoothAdv"):
            assert line(axes, f"{name} attack on G")[1].tolist() == pytest.approx(means[name])
    interval = ttest_1samp([0.1, 0.4], 0).confidence_interval(0.95)
    for axes in (first, second):
        (drawn,) = (drawn for drawn in axes.lines if drawn.get_marker() == "D")
        assert xy(drawn)[1] == pytest.approx([0, 0.25], abs=1e-6)
        (bars,) = (part for part in axes.collections if part.get_segments())
        assert bars.get_segments()[1][:, 1] == pytest.approx([interval.low, interval.high], rel=1e-4)
    (axes,) = panels(figures.ddn_figure([0.1, 0.2], [0.3, 0.5], of=3))
    assert np.array_equal(line(axes, "one digit"), ([0.1, 0.2], [0.3, 0.5])) and "(2 of 3" in axes.get_title()
    places, diagonal = line(axes, "distance = certified radius")
    assert np.array_equal(places, diagonal)
    cosine = {"a": np.array([[0.1, 0.3], [0.5, 0.7]]), "b": np.zeros((2, 2))}
    (axes,) = panels(figures.stein_figure((1, 4), cosine))
    assert line(axes, "a")[1] == pytest.approx([0.2, 0.6]) and line(axes, "b")[1].tolist() == [0, 0]


def test_published_attacks_are_drawn_from_their_table():
    lines = (figures.RESULTS / "published" / "attacks.tsv").read_text(encoding="utf-8").splitlines()
    header, *rows = (text.split("\t") for text in lines if not text.startswith("#"))
    for axes in panels(figures.published_attacks_figure(figures.published_attacks())):
        column = header.index(next(name for name in header[2:] if f"ε = {float(name):g}" == axes.get_title()))
        for label, attack in (("SmoothAdv", "smoothadv"), ("gradient-free", "gradient-free")):
            expected = {int(row[1]): float(row[column]) for row in rows if row[0] == attack}
            assert dict(zip(*map(np.ndarray.tolist, line(axes, label)), strict=True)) == expected
        (base,) = (float(row[column]) for row in rows if row[0] == "base")
        assert set(line(axes, "attack on f")[1]) == {base}


def test_combinations_are_the_mean_of_their_seeds_counted_image_by_image():
    folders = {"combinations-order": "digits", "combinations-mnist": "MNIST"}
    for axes, folder in zip(panels(figures.combinations_figure(folders)), folders, strict=True):
        for way in figures.combination_logs(folder):
            label = figures.WAYS[way]
            radii, drawn = line(axes, label)
            logs = [pd.read_csv(path, sep="\t") for path in (RESULTS / folder).glob(f"{way}-?/certify.tsv")]
            for number in (0, 40, 90):
                counted = [100 * ((log.correct == 1) & (log.radius >= radii[number])).mean() for log in logs]
                assert drawn[number] == pytest.approx(np.mean(counted))


def test_the_ways_on_cifar10_are_the_published_networks_of_these_names():
    table, grid = figures.ways_on_cifar10(), published.load("cifar10-grid")
    for way, folder in (("(2)", "baseAttackExp/without_noise"), ("(3)", "baseAttackExp/with_noise")):
        for epsilon, sigma in ((64, 0.12), (255, 0.5), (512, 1.0)):
            log = f"PGD_2steps_{folder}/eps_{epsilon}/cifar10/resnet110/noise_{sigma:.2f}"
            assert table[way][sigma, epsilon] == grid.ACR[log]
    assert table.shape == (16, 6) and table.isna().sum().sum() == 1  # one network collapsed
    for axes, sigma in zip(panels(figures.ways_figure(table)), (0.12, 0.25, 0.5, 1.0), strict=True):
        epsilons, acr = line(axes, "(3)")
        assert np.array_equal(epsilons, np.array([64, 127, 255, 512]) / 255)
        assert np.array_equal(acr, table["(3)"][sigma])


def test_two_ways_are_compared_over_the_settings_that_both_have():
    table = pd.DataFrame({"a": [0.3, 0.5, 0.4, np.nan], "b": [0.1, 0.4, 0.5, 0.2]})
    mean, half, ahead, settings = figures.compare_ways(table, "a", "b")
    expected = ttest_1samp([0.2, 0.1, -0.1], 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((expected.low, expected.high))
    assert (ahead, settings) == (2, 3)


def test_the_toys_objectives_part_where_the_tests_of_the_toys_say():
    best = figures.best_places(STEP_TOY, 0.5, 0.75)
    assert best["naive"] == pytest.approx(-0.5823, abs=1e-3) and best["SmoothAdv"] == 0.75
    curves = figures.objectives(STEP_TOY, np.array([0.0]), 0.5)
    assert curves["G"][0] == pytest.approx(0.76374, abs=5e-6)
    assert curves["naive"][0] > curves["SmoothAdv"][0]  # Jensen


def test_the_paths_in_the_plane_end_where_the_attack_does_over_contours_of_the_exact_g():
    toy = SmoothToy(angle=30)
    few, many = panels(figures.plane_figure(toy, ms=(1, 64), seeds=2))
    for axes, m in ((few, 1), (many, 64)):
        marks = [xy(drawn) for drawn in axes.lines if drawn.get_marker() in "v*" and len(drawn.get_xdata()) == 1]
        ends = torch.cat([figures.plane_attack(toy, name, m, seeds=2) for name in ("naive", "SmoothAdv")])
        assert np.ravel(marks) == pytest.approx(ends.numpy().ravel())
        assert all(np.hypot(*xy(drawn)).max() <= 0.75 + 1e-6 for drawn in axes.lines)
        half = axes.collections[1].get_paths()[0].vertices[::7]  # the dashed contour
        assert all(
            figures.plane_probability(toy, torch.tensor(place)) == pytest.approx(0.5, abs=0.02) for place in half
        )


def test_in_the_plane_more_samples_help_smoothadv_and_hurt_the_naive_attack():
    toy, share = SmoothToy(angle=30), {}
    for name in figures.OBJECTIVES:
        for m in (1, 64):
            ends = figures.plane_attack(toy, name, m, seeds=20)
            share[name, m] = np.mean([figures.plane_probability(toy, x) < 0.5 for x in ends])
    assert share["naive", 1] == share["SmoothAdv", 1]
    assert share["naive", 64] < 0.5 < 0.8 < share["SmoothAdv", 64]


def test_the_logs_of_the_combinations_are_three_seeds_each_and_their_order_is_as_the_notebook_says():
    acr = {}
    for folder in ("combinations-order", "combinations-mnist"):
        for way, runs in figures.combination_logs(folder).items():
            assert len(runs) == 3
            acr[folder, way] = np.mean([tables.average_certified_radius(log) for log in runs])
    order = [acr["combinations-order", way] for way in list(figures.WAYS)[1:5]]
    assert order == sorted(order) and "4-smoothadv-log-mean" not in figures.combination_logs("combinations-mnist")
    assert acr["combinations-mnist", "3-combine3"] < acr["combinations-mnist", "2-combine2"]


@pytest.mark.data
def test_the_shipped_attacks_follow_from_the_published_logs(published_attacks):
    theirs, _ = attack_tables.attack_table([published_attacks / "N10000", published_attacks / "N10000_nogradtrick"])
    shipped = figures.published_attacks()
    assert len(shipped) == len(theirs) == 14
    for attack, samples in shipped.index:
        group = "N10000_nogradtrick" if attack == "gradient-free" else "N10000"
        row = theirs.loc[f"{group} base" if attack == "base" else f"{group} m = {samples}"]
        assert shipped.loc[(attack, samples)].tolist() == pytest.approx(row[shipped.columns].tolist(), abs=1e-9)


# -- explorers ---------------------------------------------------------------------------------


def test_smoothadv_never_does_worse_than_the_naive_attack_on_the_toy():
    toy = explorer("06 ToyExplorer")
    for depth in (1e-12, 1e-6, 0.1):
        for sigma in explorers.SIGMAS[::5]:
            for epsilon in explorers.EPSILONS[::3]:
                e = toy.move(depth=depth, sigma=sigma, epsilon=epsilon)
                assert e.g_smoothadv <= min(e.g_naive, e.g_clean) + 1e-9
                assert max(abs(e.naive), abs(e.smoothadv)) <= epsilon + 1e-9
    assert "not flipped" in toy.move(depth=1e-9, sigma=0.5, epsilon=0.75).text.value


def test_the_digits_votes_add_up_and_one_sample_makes_the_two_attacks_one():
    digit = explorer("06 AttackExplorer")
    e = digit.move(epsilon=0.75, samples=1, steps=10)
    assert e.votes["naive"] == pytest.approx(e.votes["SmoothAdv"], abs=5)
    for epsilon in explorers.DIGIT_EPSILONS:
        assert {sum(votes) for votes in digit.move(epsilon=epsilon, samples=16).votes.values()} == {explorers.VOTES}
    assert digit.move(epsilon=0.0).votes["naive"] == digit.votes["clean"]
    kept = [digit.move(epsilon=epsilon).votes["SmoothAdv"][digit.label] for epsilon in (0.0, 0.5, 1.0)]
    assert kept == sorted(kept, reverse=True)
