"""Notebook 07: the published tables, its figures and what its explorers compute."""

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import line, panels, xy
from explorers import explorer
from scipy.stats import norm

from rslab.data.datasets import load_dataset
from rslab.errors import InputError
from rslab.experiments import hard_images
from rslab.lectures.lecture07 import checks, explorers, figures
from rslab.report import published, tables
from rslab.smoothing import bounds
from rslab.smoothing.classifier import Certificate
from rslab.store import run_folder

# -- the compact tables ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def best():
    return published.load("cifar10-best")


@pytest.mark.data
@pytest.mark.parametrize("name", ["imagenet", "cifar10-best", "cifar10-grid"])
def test_the_shipped_lines_follow_from_the_published_logs(name, published_logs):
    """Every line but of a sample of folders: the whole grid takes half a minute to read."""
    folder = published_logs / published.SETS[name]
    if name != "imagenet":
        folder = folder / {"cifar10-best": "cohen", "cifar10-grid": "PGD_4steps_multiNoiseSamples"}[name]
    every = 20 if name == "cifar10-best" else 1
    table, left_out = published.summarize(folder, every)
    prefix = folder.relative_to(published_logs / published.SETS[name]).as_posix()
    shipped = published.load(name)
    shipped = shipped[shipped.every == every]
    table.index = table.log if prefix == "." else prefix + "/" + table.log
    assert len(table) == sum(shipped.index.str.startswith("" if prefix == "." else prefix + "/"))
    for log, theirs in table.iterrows():
        mine = shipped.loc[log]
        assert (mine.images, mine.epsilon, mine.sigma) == (theirs.images, theirs.epsilon, theirs.sigma)
        assert mine.ACR == float(theirs.ACR) and mine.certified == tuple(map(int, theirs.certified.split()))
    assert len([n for names in left_out.values() for n in names]) == {"imagenet": 10, "cifar10-best": 0}.get(name, 3)


@pytest.mark.data
def test_the_shipped_radii_follow_from_the_published_logs(published_logs):
    """Of a sample: one folder of the grid, one of the best models."""
    for name, part in (("cifar10-grid", "PGD_4steps_multiNoiseSamples"), ("cifar10-best", "ours")):
        shipped = published.radii(name)
        folder = published_logs / published.SETS[name]
        checked = 0
        for file in (folder / part).rglob("sigma_*"):
            log = file.parent.parent.relative_to(folder).as_posix()
            if log in shipped.index:
                rows = pd.read_csv(file, sep="\t", dtype={"radius": str})
                down = [int(Decimal(text) * 1000) for text in rows.radius]
                expected = np.where(rows.correct == 1, down, -1)
                assert shipped.columns.tolist() == rows.idx.tolist()
                np.testing.assert_array_equal(shipped.loc[log], expected)
                checked += 1
        assert checked >= 10


@pytest.mark.parametrize("name", published.PACKED)
def test_the_shipped_radii_count_what_the_lines_count(name):
    table, radii = published.load(name), published.radii(name)
    table = table[table.every == 1].loc[radii.index]
    for row, values in zip(table.itertuples(), radii.to_numpy(), strict=True):
        counts = [np.sum(values >= 125 * step) for step in range(len(row.certified))]
        assert tuple(counts) == row.certified and np.all(values < 125 * len(row.certified))
        assert row.ACR - 1e-3 < np.maximum(values, 0).mean() / 1000 <= row.ACR + 1e-6  # rounded down
    assert set(radii.columns) == set(range(0, 10_000, 20 if name == "cifar10-grid" else 1))


def test_the_shipped_radii_are_small_and_say_where_they_come_from():
    packed = [published.FOLDER / f"{name}-radii.npz" for name in published.PACKED]
    assert sum(file.stat().st_size for file in packed) < 1e6
    about = json.loads((published.FOLDER / "cifar10-radii.json").read_text(encoding="utf-8"))
    assert "MIT License" in about["licence"] and "Salman" in about["source"] and "published" in about["command"]
    with pytest.raises(InputError, match="cifar10-grid"):
        published.radii("imagenet")


def test_a_radius_is_packed_rounded_down():
    log = pd.DataFrame({"radius": [0.2499, 0.249, 0.25, 0.9529, 0.0], "correct": [1, 1, 1, 0, 0]})
    assert published.packed(log).tolist() == [250, 250, 251, 0, 0]
    every = pd.DataFrame({"radius": [k / 1000 for k in range(4000)], "correct": 1})
    assert published.packed(every).tolist() == list(range(1, 4001))
    below = every[1:].assign(radius=np.nextafter(every.radius[1:], 0))  # the largest number below a thousandth
    assert published.packed(below).tolist() == list(range(1, 4000))


def test_a_rebuilt_file_is_what_load_reads(tmp_path, monkeypatch):
    header = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
    rows = "0\t3\t3\t0.3\t1\t0:00:01\n1\t3\t2\t0.9\t0\t0:00:01\n20\t3\t3\t0.25\t1\t0:00:01\n"
    for place in published.SETS.values():
        log = tmp_path / "data" / "certify" / place / "PGD_4steps_30epochs/eps_127/noise_0.25/test/sigma_0.25"
        log.parent.mkdir(parents=True)
        log.write_text(header + rows, encoding="utf-8")
        (log.parent / "sigma_0.50").write_text(header, encoding="utf-8")
    notes = published.build(tmp_path, tmp_path / "out")
    assert notes.count("empty") == 3 and "cohen-cifar10, cohen-imagenet: left as they are" in notes
    monkeypatch.setattr(published, "FOLDER", tmp_path / "out")
    assert published.radii("cifar10-best").to_numpy().tolist() == [[300, -1, 250]]
    assert published.radii("cifar10-grid").columns.tolist() == [0, 1, 20]
    whole, part = (published.load("cifar10-best").iloc[k] for k in (0, 1))
    assert whole.certified == (2, 2, 2) and whole.images == 3 and whole.ACR == pytest.approx(0.55 / 3, abs=1e-6)
    assert (part.every, part.images, part.epsilon, part.steps, part.sigma) == (20, 2, 127, 4, 0.25)


@pytest.mark.parametrize(
    "path, expected",
    [
        ("cohen/resnet110/noise_0.50/sigma_0.50", ("gaussian", "-", 0, 0, 0, 0, 0.0)),
        ("DDN_10steps_multiNoiseSamples/16-multitrain/eps_1024/x/sigma_1.00", ("smoothadv", "DDN", 10, 16, 1024, 0, 0)),
        ("finetune_x/PGD_4steps_30epochs/eps_64/x/sigma_0.12", ("smoothadv", "PGD", 4, 1, 64, 1, 0.0)),
        ("finetune_x/self_training_PGD_8steps/weight_0.5/eps_255/sigma_0.25", ("smoothadv", "PGD", 8, 1, 255, 1, 0.5)),
        ("PGD_2steps_baseAttackExp/without_noise/eps_255/sigma_0.25", ("base, without noise", "PGD", 2, 1, 255, 0, 0)),
    ],
)
def test_a_path_says_how_a_model_was_trained(path, expected):
    assert tuple(list(published.recipe(path).values())[:7]) == expected


def test_the_lectures_tables_follow_in_every_cell():
    for name in ("lecture 14", "ImageNet"):
        rows = published.table_rows(name)
        for row in rows.index:
            assert np.all(abs(rows.loc[row] - list(published.PRINTED[name][row])) <= 0.5), (name, row)


def test_the_blogs_row_is_the_grid_without_the_unfinished_folder():
    grid = published.most_images(published.load("cifar10-grid"))[0]
    plain = grid[(grid.method == "smoothadv") & (grid.pretrained == 0) & (grid.weight == 0)]
    finished = plain[~plain.index.str.startswith("PGD_4steps_multiNoiseSamples")]
    row = published.accuracies(finished, published.CIFAR10_RADII).max()
    assert np.all(abs(row - list(published.PRINTED["blog"]["SmoothAdv"])) <= 0.5)
    cohen = published.table_rows("blog").loc["Cohen et al."]
    assert np.all(abs(cohen - list(published.PRINTED["blog"]["Cohen et al."])) <= 0.5)
    assert cohen.tolist() == pytest.approx([60.0, 42.8, 32.0, 23.4, 17.4, 14.0, 11.8, 10.0, 7.6])


def test_imagenets_row_of_cohen_follows_from_their_own_logs_though_one_is_short():
    row = published.table_rows("ImageNet").loc["Cohen et al."]
    assert row.tolist() == pytest.approx([49.4, 37.2, 28.6, 19.4, 14.8, 12.2, 9.0], abs=0.02)
    assert published.cohen("cohen-imagenet").set_index("sigma").images.to_dict() == {0.25: 427, 0.5: 500, 1.0: 500}


@pytest.mark.data
@pytest.mark.parametrize("name", published.COHEN)
def test_the_shipped_lines_of_cohen_follow_from_their_logs(name, cohens_logs, tmp_path):
    table, left_out = published.summarize(cohens_logs / published.COHEN[name])
    assert left_out == {} and (published.FOLDER / f"{name}.tsv").read_text(encoding="utf-8") == table.to_csv(
        sep="\t", index=False, lineterminator="\n"
    )


@pytest.mark.data
def test_the_envelope_of_cohens_logs_is_the_blogs_row(cohens_logs):
    logs = [file for file in cohens_logs.glob("cifar10/*/*/test/*") if file.match(f"noise_{file.name[6:]}/test/*")]
    used, others = tables.comparable(tables.find_logs(logs).logs)
    best, _ = tables.upper_envelope(tables.accuracy_table(used, published.CIFAR10_RADII)[[*published.CIFAR10_RADII]])
    assert others == {} and best.round().tolist() == list(published.PRINTED["blog"]["Cohen et al."])


def test_a_publication_is_found_below_or_beside_the_folder_that_is_given(tmp_path):
    theirs, cohens = tmp_path / "smoothing-adversarial", tmp_path / "smoothing"
    with pytest.raises(InputError, match="expected the folder above the publications"):
        published.publication(tmp_path)
    (theirs / "data").mkdir(parents=True)
    assert published.publication(tmp_path) == published.publication(theirs) == theirs
    for logs in (tmp_path, theirs):
        with pytest.raises(InputError, match="holds no smoothing/data"):
            published.publication(logs, "smoothing")
    (cohens / "data").mkdir(parents=True)
    assert published.publication(tmp_path, "smoothing") == published.publication(theirs, "smoothing") == cohens


def test_figures_of_the_reference(best):
    gaussian = published.group(best, "Cohen et al.")
    at_two = published.accuracies(gaussian[gaussian.sigma == 1], (2.0,))[2.0].tolist()
    assert [round(share, 1) for share in at_two] == [6.6, 10.2]  # all, every 20th
    whole = published.group(best[best.every == 1], "SmoothAdv")
    assert {s: round(a, 3) for s, a in whole.groupby("sigma").ACR.max().items() if s > 0.2} == {
        0.25: 0.551,
        0.5: 0.738,
        1.0: 0.790,
    }
    row = whole.loc[whole[whole.sigma == 0.5].ACR.idxmax()]
    for n, acr in ((100, 0.335), (1000, 0.534), (10_000, 0.657), (100_000, 0.737)):
        assert figures.acr_with(row, n) == pytest.approx(acr, abs=0.002)


def test_unknown_names_and_radii_are_refused(best):
    for wrong in (lambda: published.load("mnist"), lambda: published.table_rows("slides")):
        with pytest.raises(InputError):
            wrong()
    with pytest.raises(InputError, match="multiples"):
        published.accuracies(best, (0.3,))
    assert published.accuracies(best, (0.75 + 1e-13,)).to_numpy().tolist() == (
        published.accuracies(best, (0.75,)).to_numpy().tolist()
    )


# -- figures -------------------------------------------------------------------------------------


def counted(row, radii) -> np.ndarray:
    """Certified accuracy in % of a published model at multiples of ⅛, from its counts."""
    counts = np.append(np.array(row.certified), np.zeros(200))
    return 100 * counts[np.round(8 * np.asarray(radii)).astype(int)] / row.images


def test_the_envelope_figure_draws_every_model_and_the_best_at_each_radius(best):
    (axes,) = panels(figures.envelope_figure({"SmoothAdv": best.iloc[:5]}))
    radii, envelope = line(axes, "SmoothAdv: envelope of 5 models")
    expected = np.array([counted(row, radii) for _, row in best.iloc[:5].iterrows()])
    np.testing.assert_allclose([xy(drawn)[1] for drawn in axes.lines[:5]], expected)
    np.testing.assert_allclose(envelope, expected.max(0))


def test_the_twenty_subsets_are_drawn_above_the_whole(best):
    radii = published.radii("cifar10-best").loc[published.group(best[best.every == 1], "Cohen et al.").index]
    rows = figures.subset_rows(radii)
    part = published.group(best[best.every == 20], "Cohen et al.")
    assert rows.iloc[0].tolist() == pytest.approx(published.accuracies(part, published.CIFAR10_RADII).max().tolist())
    assert rows[2.0].min() == pytest.approx(4.2) and rows[2.0].max() == rows[2.0][0] == pytest.approx(10.2)
    (axes,) = panels(figures.subsets_figure({"Cohen et al.": radii}))
    at, official = line(axes, "images 0, 20, 40 … (published)")
    whole = published.accuracies(best[best.every == 1].loc[radii.index], at).max()
    np.testing.assert_allclose(official, rows.iloc[0] - whole.to_numpy(), atol=1e-9)
    assert len(axes.lines) == 21


def test_the_ecdf_counts_images_and_the_acr_that_they_earn():
    radii = np.array([-1, 0, 250, 500])
    left, right = panels(figures.ecdf_figure({"Gaussian": (radii, 0.5)}))
    p, share = line(left, "Gaussian")
    assert p.tolist() == pytest.approx([0.5, 0.5, norm.cdf(0.5), norm.cdf(1)]) and share.tolist() == [25, 50, 75, 100]
    assert line(right, "Gaussian")[1].tolist() == pytest.approx([0, 0, 100 / 3, 100])


def test_the_hard_images_are_those_of_which_few_noisy_copies_are_right():
    digits = load_dataset("digits", "train")
    some = hard_images.subset(digits, torch.arange(len(digits)) < 12)
    assert len(some) == 12 and torch.equal(some.labels, digits.labels[:12])
    scores = torch.nn.functional.one_hot(some.labels, 10).float()

    def right_on_the_first_half(x):
        return torch.where((torch.arange(12) < 6)[:, None], scores, 1 - scores)

    shares = hard_images.share_of_copies_right(right_on_the_first_half, some, 0.5, seed=0)
    assert shares.tolist() == [1.0] * 6 + [0.0] * 6


def test_without_the_hard_images_as_the_shipped_logs_count():
    found = figures.hard_images_logs()
    assert [len(logs) for logs in found.values()] == [3, 3]
    left, right = panels(figures.hard_images_figure(found))
    for name, logs in found.items():
        acr = np.mean([(log.radius * log.correct).mean() for log in logs])
        curve = next(one for one in left.lines if f"ACR {acr:.3f}" in str(one.get_label()))
        at, mean = xy(curve)
        expected = [np.mean([100 * ((log.correct == 1) & (log.radius >= r)).mean() for log in logs]) for r in at]
        np.testing.assert_allclose(mean, expected), name
    assert len(right.lines) == 5


def test_the_area_under_a_curve_is_its_acr(best):
    pair = {name: best[best.every == 1].iloc[k] for k, name in enumerate(("a", "b"))}
    (axes,) = panels(figures.acr_figure(pair))
    for name, row in pair.items():
        radii, accuracy = line(axes, f"{name}: ACR {row.ACR:.3f}")
        steps = np.diff(radii)
        assert (steps * accuracy[1:]).sum() / 100 <= row.ACR + 1e-3  # between the sums below and above
        assert row.ACR <= (steps * accuracy[:-1]).sum() / 100 + steps[-1] * accuracy[-1] / 100 + 1e-3


def test_weight_budget_and_rows_show_what_they_say():
    left, right = panels(figures.weight_figure())
    miss, radius = line(left, "exact p_A")
    assert norm.sf(radius) == pytest.approx(miss, rel=1e-6)
    for n in (1000, 100_000, 10_000_000):
        assert line(left, f"cap, n = {n:,}")[1][0] == pytest.approx(norm.ppf(0.001 ** (1 / n)), rel=1e-6)
    share, gain = xy(right.lines[0])
    assert gain == pytest.approx(norm.ppf(share / 100 + 0.01) - norm.ppf(share / 100))
    (axes,) = panels(figures.budget_figure((100, 1000), {"Gaussian": [0.1, 0.2], "SmoothAdv": [0.2, 0.3]}))
    assert np.array_equal(line(axes, "Gaussian"), ([100, 1000], [0.1, 0.2]))
    assert np.array_equal(line(axes, "SmoothAdv"), ([100, 1000], [0.2, 0.3]))
    rows = published.table_rows("lecture 14")
    (axes,) = panels(figures.rows_figure(rows))
    for name in rows.index.drop("SmoothAdv"):
        radii, points = line(axes, name)
        assert np.array_equal(radii, rows.columns) and points == pytest.approx(rows.loc[name] - rows.loc["SmoothAdv"])


def test_own_runs_are_drawn_as_their_logs_count():
    runs = figures.own_runs()
    labels = figures.run_labels(runs)
    drawn = [container for axes in panels(figures.own_figure(runs)) for container in axes.containers]
    assert len(drawn) == len(runs) == len(labels)
    heights = [xy(container[0])[1] for container in drawn]
    for log in runs.values():
        radii = [radius for radius in bounds.RADII if radius <= log.radius.max()]
        expected = [100 * ((log.correct == 1) & (log.radius >= radius)).mean() for radius in radii]
        assert any(len(seen) == len(expected) and np.allclose(seen, expected) for seen in heights)


def test_our_row_is_the_best_run_at_each_radius_with_its_interval():
    runs = figures.own_runs()
    (axes,) = panels(figures.row_figure(runs))
    drawn = {}
    for container in axes.containers:
        heights, (bars,) = xy(container[0])[1], container[2]
        for radius, height, ((_, low), (_, high)) in zip(
            xy(container[0])[0], heights, bars.get_segments(), strict=True
        ):
            drawn[float(radius)] = height
            assert (low, high) == pytest.approx(figures.interval(round(5 * height), 500))
    others = [log for name, log in runs.items() if "gaussian" not in name]
    for radius in published.CIFAR10_RADII:
        best = max(100 * ((log.correct == 1) & (log.radius >= radius)).mean() for log in others)
        assert drawn.get(radius, 0) == pytest.approx(best)


def test_one_image_is_shown_with_its_votes():
    image, counts = torch.full((3, 4, 4), 0.5), (10.0, 0.0, 30.0)
    certificate = Certificate(2, 0.1, 2, 0.6, counts, 100, 40, 0.001, 0.25, "sequential")
    figure = figures.live_figure(image, certificate, ("cat", "dog", "ship"))
    plain, noisy, votes = panels(figure)
    assert [bar.get_width() for bar in votes.patches] == [0.25, 0, 0.75] and "40 noisy copies" in figure.alt
    assert (plain.images[0].get_array() == 0.5).all() and noisy.images[0].get_array().std() > 0.1


def test_a_network_that_gives_one_answer_has_collapsed():
    models = pd.DataFrame({"certified": [np.array([50, 50, 50]), np.array([90, 50, 50]), np.array([7])]})
    assert published.collapsed(models).tolist() == [True, False, True]


def test_intervals_cover():
    low, high = figures.interval(np.array([0, 250, 500]), 500)
    assert low[0] == 0 and high[2] == 100 and low[1] == pytest.approx(45.53, abs=0.01)


def test_own_runs_prefer_cifar10(monkeypatch, tmp_path):
    header = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.3\t1\t0:00:01\n"
    for name in ("digits/gaussian", "cifar10-small/smoothadv-0.5"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "certify.tsv").write_text(header, encoding="utf-8")
        if name.startswith("digits"):
            (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(run_folder, "RESULTS", Path(tmp_path))
    assert list(figures.own_runs()) == ["digits/gaussian"]
    (tmp_path / "cifar10-small/smoothadv-0.5/config.json").write_text("{}", encoding="utf-8")
    assert list(figures.own_runs()) == ["cifar10-small/smoothadv-0.5"]


# -- the table as an explorer -----------------------------------------------------------------------


def test_the_first_slider_answers_to_an_arrow_key():
    table = explorer("07 TableExplorer")
    first = table.children[0]
    at = first.index
    seen = table.text.value, bytes(table.image.value)
    first.index = at + 1
    assert table.text.value != seen[0] and bytes(table.image.value) != seen[1]
    first.index = at


def test_the_table_shows_what_was_asked_or_says_so():
    table = explorer("07 TableExplorer")
    for sigma in explorers.SIGMAS:
        for extra in ((0, 0.0), (1, 0.5)):
            for samples in (1, 4, 16):
                e = table.move(sigma=sigma, epsilon=255, samples=samples, steps=4, attack="PGD", extra=extra)
                assert e.exact == ("Not in these logs" not in e.text.value)
                assert np.all(np.diff(e.accuracy) <= 0) and np.all(e.accuracy <= e.envelope + 1e-9)
                assert e.model.sigma == sigma and (e.model.pretrained, e.model.weight) == extra
                assert all(
                    share == 0 for r, share in zip(explorers.RADII, e.accuracy, strict=True) if r > 3.811 * sigma
                )
                if e.exact:
                    assert (e.model.samples, e.model.steps, e.model.attack, e.model.epsilon) == (samples, 4, "PGD", 255)
    assert not table.move(sigma=0.25, samples=16, extra=(0, 0.0)).exact
    assert table.move(attack="DDN").exact


@pytest.mark.parametrize("images", [500, 10_000])
def test_the_recomputed_rows_are_those_of_the_tables(images):
    table = explorer("07 TableExplorer").move(images=images)
    whole = published.table_rows("lecture 14")
    grid = published.table_rows("blog").loc["SmoothAdv"]
    for extra, row in (((0, 0.0), "SmoothAdv"), ((1, 0.0), "+ pre-training"), ((1, 0.5), "+ both")):
        e = table.move(row="SmoothAdv", extra=extra, collapsed=True)
        shown = dict(zip(explorers.RADII, e.envelope, strict=True))
        expected = whole.loc[row] if images == 10_000 else grid
        if images == 10_000 or row == "SmoothAdv":
            assert [shown[r] for r in published.CIFAR10_RADII] == pytest.approx(expected.tolist())
    e = table.move(row="Gaussian training")
    best = published.load("cifar10-best")
    gaussian = published.group(best[best.every == 10_000 // images], "Cohen et al.")
    assert e.envelope == pytest.approx(published.accuracies(gaussian, explorers.RADII).max().tolist())


def test_a_cell_names_its_winner_its_interval_and_the_images_that_part_two_models():
    table = explorer("07 TableExplorer")
    for images in (500, 10_000):
        e = table.move(images=images, row="SmoothAdv", r=1.0, sigma=0.5, epsilon=127)
        radii = published.radii("cifar10-grid" if images == 500 else "cifar10-best")
        winner, model = radii.loc[e.winner] >= 1000, radii.loc[e.model.name] >= 1000
        assert e.count == winner.sum() == round(e.envelope[explorers.RADII.index(1.0)] * images / 100)
        assert e.only_winner == radii.columns[winner & ~model].tolist()
        assert e.only_model == radii.columns[model & ~winner].tolist()
        low, high = figures.interval(e.count, images)
        assert f"{e.count} of {images:,} images, 95 % interval {low:.1f} to {high:.1f} %" in e.text.value
        assert f"winner only: {len(e.only_winner)} (images {e.only_winner[0]}, " in e.text.value
        pair = [pd.DataFrame({"idx": radii.columns, "correct": 1, "radius": part * 1.0}) for part in (winner, model)]
        paired = tables.paired_difference(*pair, [1.0]).iloc[0]
        assert f"{paired.difference:+.1f} points ({paired.low:+.1f} to {paired.high:+.1f}" in e.text.value


def test_collapsed_networks_win_where_nothing_else_reaches():
    e = explorer("07 TableExplorer").move(r=3.5, row="SmoothAdv", collapsed=False)
    without, winner = e.envelope[-1], e.winner
    e.move(collapsed=True)
    assert e.envelope[-1] > without and e.winner != winner
    assert published.collapsed(published.load("cifar10-grid").loc[[e.winner]]).all()


def test_our_runs_stand_in_the_table_where_they_were_certified():
    e = explorer("07 TableExplorer").move(row="our runs", r=0.5)
    assert e.winner in figures.own_runs()
    log = figures.own_runs()[e.winner]
    assert e.count == int(((log.correct == 1) & (log.radius >= 0.5)).sum())
    assert "500 images only" in e.move(images=10_000).text.value


def test_a_cell_is_chosen_by_dragging():
    e = explorer("07 TableExplorer")
    for place, height, radius, row in (
        (0, 2, 0.0, "Gaussian training"),
        (9, 6.2, 2.25, "our runs"),
        (10.4, 3, 3.5, "SmoothAdv"),
    ):
        e.drag(place, height, "table")
        assert (e.r.value, e.row.value) == (radius, row)
    e.drag(4, 5, "table")
    assert (e.r.value, e.row.value) == (1.0, "SmoothAdv")


# -- what ACR rewards -------------------------------------------------------------------------------


def test_acr_is_share_times_cap():
    certain = explorer("07 AcrExplorer")
    for share in (5, 25, 50):
        for n in (100, 10_000, 100_000):
            e = certain.move(share=share, n=n)
            assert e.reference == certain.reference_at(n) <= certain.reference_at(100_000)
            assert e.acr == pytest.approx(share / 100 * bounds.max_certified_radius(n, 0.001, 1.0))
            assert ("more" in e.text.value) == (e.acr > e.reference)


# -- exercises ---------------------------------------------------------------------------


def test_the_exercises_formulas_are_the_packages():
    log = pd.DataFrame({"label": checks.LABEL, "predict": checks.PREDICT, "radius": checks.RADIUS})
    log["correct"] = (log.label == log.predict).astype(int)
    checks.certified_accuracy(lambda y, p, R, r: tables.certified_accuracy(log, [r])[0])
    checks.acr(lambda y, p, R: tables.average_certified_radius(log))
