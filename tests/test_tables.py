"""Tables of hand-made logs with known figures, and the published rows from the published logs."""

import numpy as np
import pandas as pd
import pytest

from rslab import tables
from rslab.errors import InputError

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


def frame(*rows: tuple[float, int]) -> pd.DataFrame:
    """A log of (radius, correct)."""
    return pd.DataFrame({"idx": range(len(rows)), "radius": [r for r, _ in rows], "correct": [c for _, c in rows]})


LOG = frame((0.0, 0), (0.1, 1), (0.25, 1), (0.4, 0), (0.5, 1), (0.75, 1), (2.0, 0), (0.0, 1))


def write(path, radii, *, label=3, first=0, step=1, wrong=()):
    """A published log: correct at the given radii but for the indices in `wrong`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{first + step * i}\t{label}\t{9 if i in wrong else label}\t{radius}\t{int(i not in wrong)}\t0:00:01\n"
        for i, radius in enumerate(radii)
    ]
    path.write_text(HEADER + "".join(rows))
    return path


# -- figures by hand ---------------------------------------------------------------------


def test_certified_accuracy_counts_correct_images_with_at_least_the_radius():
    # of 8 images: 5 correct; 0.1, 0.25, 0.5, 0.75 and an image certified at radius 0
    assert tables.certified_accuracy(LOG, [0, 0.1, 0.25, 0.26, 0.5, 0.75, 0.76, 5]).tolist() == [
        62.5,
        50.0,
        37.5,
        25.0,
        25.0,
        12.5,
        0.0,
        0.0,
    ]


def test_a_radius_on_the_boundary_counts_and_just_below_it_does_not():
    edge = 0.25
    assert tables.certified_accuracy(frame((edge, 1)), [edge]).tolist() == [100.0]
    assert tables.certified_accuracy(frame((np.nextafter(edge, 0), 1)), [edge]).tolist() == [0.0]


def test_certified_accuracy_is_the_plain_count():
    rng = np.random.default_rng(0)
    log = frame(*((round(float(r), 2), int(c)) for r, c in zip(rng.random(300), rng.random(300) < 0.7, strict=True)))
    radii = np.arange(0, 1.2, 0.05)
    plain = [100 * sum(1 for r, c in zip(log.radius, log.correct, strict=True) if c and r >= x) / 300 for x in radii]
    assert tables.certified_accuracy(log, radii) == pytest.approx(plain)


def test_acr_is_the_mean_over_all_images_of_the_radius_where_correct():
    assert tables.average_certified_radius(LOG) == pytest.approx((0.1 + 0.25 + 0.5 + 0.75) / 8)


def test_envelope_takes_the_best_model_at_each_radius():
    accuracies = pd.DataFrame({0.0: [80.0, 60.0], 0.5: [30.0, 40.0], 1.0: [0.0, 20.0]}, index=["small σ", "large σ"])
    best, model = tables.upper_envelope(accuracies)
    assert best.tolist() == [80.0, 40.0, 20.0]
    assert model.tolist() == ["small σ", "large σ", "large σ"]


def test_table_holds_images_accuracies_and_acr_by_model():
    table = tables.accuracy_table({"a": LOG, "b": frame((1.0, 1))}, (0.0, 0.5))
    assert table.index.tolist() == ["a", "b"] and table.columns.tolist() == ["images", 0.0, 0.5, "ACR"]
    assert table.loc["a"].tolist() == pytest.approx([8, 62.5, 25.0, 0.2])
    assert table.loc["b"].tolist() == [1, 100.0, 100.0, 1.0]


def test_curves_reach_beyond_the_largest_radius():
    grid = tables.curve_grid({"a": LOG}, 5)
    assert grid[0] == 0 and grid[-1] == pytest.approx(2.04) and len(grid) == 5
    assert tables.curve_grid({"a": frame((0.0, 0))}, 3)[-1] == 1.0


# -- finding logs ------------------------------------------------------------------------


def test_a_folder_of_published_logs_is_named_by_what_tells_the_models_apart(tmp_path):
    for sigma in ("0.25", "0.50"):
        write(tmp_path / f"eps_64/cifar10/resnet110/noise_{sigma}/test/sigma_{sigma}", [0.1, 0.2])
    write(tmp_path / "eps_64/cifar10/resnet110/noise_0.25/test/sigma_1.00", [0.1, 0.2])
    (tmp_path / "notes.txt").write_text("no log")
    found = tables.find_logs([tmp_path])
    assert sorted(found.logs) == [
        "eps_64/cifar10/resnet110/noise_0.25",
        "eps_64/cifar10/resnet110/noise_0.25/sigma_1.00",
        "eps_64/cifar10/resnet110/noise_0.50",
    ]
    assert found.left_out == {}


def test_a_run_is_named_by_its_folder(tmp_path):
    write(tmp_path / "gaussian" / "certify.tsv", [0.1])
    write(tmp_path / "smoothadv" / "certify.tsv", [0.1])
    assert list(tables.find_logs([tmp_path]).logs) == ["gaussian", "smoothadv"]
    assert list(tables.find_logs([tmp_path / "gaussian"]).logs) == ["gaussian"]
    assert len(tables.find_logs([tmp_path / "gaussian", tmp_path / "smoothadv"]).logs) == 2


def test_two_folders_with_the_same_names_inside_stay_apart(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "noise_0.25/test/sigma_0.25", [0.1])
    assert sorted(tables.find_logs([tmp_path / "a", tmp_path / "b"]).logs) == ["a/noise_0.25", "b/noise_0.25"]


def test_empty_and_broken_logs_of_a_folder_are_left_out_with_the_reason(tmp_path):
    write(tmp_path / "good", [0.1, 0.2])
    write(tmp_path / "empty", [])
    (tmp_path / "broken").write_text(HEADER + "0\t3\t3\tnan\t1\t0:00:01\n")
    found = tables.find_logs([tmp_path])
    assert list(found.logs) == ["good"]
    sentence = tables.left_out_sentence(found.left_out)
    assert "1 log, empty (no row after the header): empty" in sentence
    assert "broken" in sentence and "radius" in sentence and "line 2" in sentence


def test_short_logs_and_logs_of_other_images_are_left_out_of_an_envelope(tmp_path):
    for name in ("one", "two", "three"):
        write(tmp_path / name, [0.1] * 5, step=20)
    write(tmp_path / "short", [0.9] * 3, step=20)
    write(tmp_path / "other", [0.9] * 5, step=10)
    write(tmp_path / "longer", [0.9] * 6, step=20)
    used, others = tables.comparable(tables.find_logs([tmp_path]).logs)
    assert sorted(used) == ["one", "three", "two"]
    assert others == {
        "short (3 images, not the 5 of most)": ["short"],
        "on other images (5 images, not the 5 of most)": ["other"],
        "on other images (6 images, not the 5 of most)": ["longer"],
    }


def test_at_a_tie_the_larger_set_of_images_is_compared(tmp_path):
    write(tmp_path / "short", [0.1] * 3)
    write(tmp_path / "long", [0.1] * 5)
    assert list(tables.comparable(tables.find_logs([tmp_path]).logs)[0]) == ["long"]


def test_the_sentence_names_some_and_counts_the_others():
    assert tables.left_out_sentence({}) == ""
    sentence = tables.left_out_sentence({"empty": list("ab"), "short": list("cdefgh")})
    assert sentence == "Left out: 2 logs, empty: a, b; 6 logs, short: c, d, e, f and 2 more."


@pytest.mark.parametrize("name, content", [("foreign", "hello"), ("torn", HEADER + "0\t3"), ("empty", HEADER)])
def test_a_named_file_that_is_no_log_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name):
        tables.find_logs([tmp_path / name])


def test_an_attack_log_and_a_place_without_logs_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no certification log"):
        tables.find_logs([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        tables.find_logs([tmp_path / "absent"])
    attack = tmp_path / "attack.tsv"
    attack.write_text("idx\tlabel\tpredict\tbasePredict\tcorrect\ttime\n0\t3\t3\t3\t1\t0:00:01\n")
    with pytest.raises(InputError, match="attack"):
        tables.find_logs([attack])


# -- formats -----------------------------------------------------------------------------

TABLE = tables.accuracy_table({"a_b": LOG, "c": frame((1.0, 1))}, (0.0, 0.25))


def test_text_is_aligned():
    assert tables.format_table(TABLE).split("\n") == [
        "model  images      0   0.25    ACR",
        "a_b         8   62.5   37.5  0.200",
        "c           1  100.0  100.0  1.000",
    ]


def test_markdown_csv_and_latex_hold_the_same_figures():
    assert tables.format_table(TABLE, "markdown").split("\n") == [
        "| model | images |     0 |  0.25 |   ACR |",
        "| ----- | -----: | ----: | ----: | ----: |",
        "| a_b   |      8 |  62.5 |  37.5 | 0.200 |",
        "| c     |      1 | 100.0 | 100.0 | 1.000 |",
    ]
    csv = tables.format_table(TABLE, "csv").split("\n")
    assert csv[0] == "model,images,0.0,0.25,ACR" and len(csv) == 3
    name, images, *figures = csv[1].split(",")
    assert (name, images) == ("a_b", "8") and [float(f) for f in figures] == pytest.approx([62.5, 37.5, 0.2])
    latex = tables.format_table(TABLE, "latex")
    assert r"a\_b & 8 & 62.5 & 37.5 & 0.200 \\" in latex and latex.startswith(r"\begin{tabular}{lrrrr}")


def test_a_missing_figure_is_an_empty_cell():
    table = TABLE.copy()
    table.loc["envelope"] = {"images": pd.NA, 0.0: 100.0, 0.25: 100.0, "ACR": np.nan}
    assert tables.format_table(table, "text").split("\n")[-1] == "envelope          100.0  100.0"


def test_one_image_of_ten_thousand_shows():
    log = frame(*[(1.0, 1)] * 9999, (0.0, 0))
    assert "99.99" in tables.format_table(tables.accuracy_table({"a": log}, (0.5,)))


def test_an_unknown_format_and_bad_radii_are_refused():
    with pytest.raises(InputError, match="format: got 'html', expected one of text"):
        tables.format_table(TABLE, "html")
    assert tables.parse_radii("0,0.25, 1") == (0.0, 0.25, 1.0)
    for text in ("", "a", "0,nan", "-1", "0.5,0.25", "1,1", "inf", "0;1"):
        with pytest.raises(InputError, match="^radii: got"):
            tables.parse_radii(text)


# -- the published rows ------------------------------------------------------------------

QUARTERS = tuple(np.arange(1, 10) / 4)


def envelope(paths, radii, drop=()):
    """(rounded envelope in %, best models, the sentence on logs left out)."""
    found = tables.find_logs(paths)
    logs = {name: log for name, log in found.logs.items() if not name.startswith(drop)} if drop else found.logs
    used, others = tables.comparable(logs)
    best, model = tables.upper_envelope(tables.accuracy_table(used, radii)[list(radii)])
    return best, model, tables.left_out_sentence({**found.left_out, **others})


@pytest.mark.data
@pytest.mark.parametrize(
    "folder, exact, printed",
    [
        ("cohen", [61.2, 42.8, 32.4, 22.1, 17.2, 13.3, 9.7, 6.6, 4.3], [61, 43, 32, 22, 17, 13, 10, 7, 4]),
        ("ours", [73.0, 57.6, 47.8, 38.3, 33.2, 29.1, 24.0, 18.4, 15.9], [73, 58, 48, 38, 33, 29, 24, 18, 16]),
    ],
)
def test_the_lectures_cifar10_rows_follow_from_the_best_models(published_logs, folder, exact, printed):
    best, model, left_out = envelope([published_logs / "best_models" / "cifar10" / folder], QUARTERS)
    assert best.tolist() == pytest.approx(exact, abs=0.06)
    assert best.round().tolist() == printed
    assert left_out == ""
    assert "noise_1.00" in model[2.25] and "noise_1.00" in model[2.0]


@pytest.mark.data
def test_the_best_models_are_those_that_the_authors_list(published_logs):
    listed = published_logs.parent.parent / "analysis" / "radii_to_best_models" / "cifar10_ours"
    theirs = pd.read_csv(listed, sep="\t").set_index("radius")
    best, model, _ = envelope([published_logs / "best_models" / "cifar10" / "ours"], tuple(theirs.index))
    assert best.tolist() == pytest.approx((100 * theirs.best_cert_accuracy).tolist(), abs=1e-9)
    assert model.tolist() == theirs.best_model.tolist()


@pytest.mark.data
def test_the_blogs_smoothadv_row_follows_from_the_complete_grids_without_extra_data(published_logs):
    """Without the unfinished grid (250 images), the base-attack experiment and those trained on more data."""
    extra = ("finetune_cifar_from_imagenetPGD2steps", "self_training")
    unfinished = ("PGD_2steps_baseAttackExp", "PGD_4steps_multiNoiseSamples")
    folders = [path for path in sorted((published_logs / "cifar10").iterdir()) if path.name not in extra + unfinished]
    best, _, left_out = envelope(folders, QUARTERS)
    assert best.round().tolist() == [74, 57, 48, 38, 33, 29, 24, 19, 17]
    assert "short (100 images, not the 500 of most)" in left_out


@pytest.mark.data
def test_unfinished_logs_of_a_grid_are_left_out_with_a_sentence(published_logs):
    *_, left_out = envelope([published_logs / "cifar10" / "PGD_4steps_multiNoiseSamples"], QUARTERS)
    assert "3 logs, empty" in left_out and "18 logs, short (250 images, not the 500 of most)" in left_out


@pytest.mark.data
def test_the_imagenet_row_follows_from_the_logs_and_says_which_are_empty(published_logs):
    halves = tuple(np.arange(1, 8) / 2)
    best, _, left_out = envelope([published_logs / "imagenet"], halves, drop=("replication",))
    assert best.tolist() == pytest.approx([55.5, 43.3, 36.8, 26.9, 24.6, 19.7, 16.2], abs=0.06)
    assert "empty (no row after the header)" in left_out and "noise_0.12" in left_out


@pytest.mark.data
@pytest.mark.parametrize("sigma, acr", [("0.25", 0.424), ("0.50", 0.525), ("1.00", 0.511)])
def test_acr_of_the_published_gaussian_models(published_logs, sigma, acr):
    folder = published_logs / "best_models/cifar10/cohen/resnet110" / f"noise_{sigma}"
    ((_, log),) = tables.find_logs([folder]).logs.items()
    assert len(log) == 10_000
    assert tables.average_certified_radius(log) == pytest.approx(acr, abs=5e-4)


def test_runs_that_differ_in_their_seed_become_mean_and_deviation():
    """Sample standard deviation, by hand: of 60, 70, 80 it is 10, of two equal numbers 0."""
    logs = {f"a-{seed}": frame(*[(0.6, 1)] * hits, *[(0.6, 0)] * (10 - hits)) for seed, hits in enumerate((6, 7, 8))}
    logs["alone"] = frame(*[(0.6, 1)] * 10)
    table = tables.spread_table(tables.accuracy_table(logs, (0.5,)))
    assert table.loc["a"].tolist() == ["3", "70.0 ± 10.0", "0.420 ± 0.060"]
    assert table.loc["alone"].tolist() == ["1", "100.0", "0.600"]
    assert "70.0 ± 10.0" in tables.format_table(table)


# -- differences image by image ----------------------------------------------------------------


def test_a_paired_difference_is_that_of_the_accuracies_with_the_interval_of_its_mean():
    other = frame((0.3, 1), (0.1, 1), (0.0, 1), (0.4, 0), (0.5, 1), (0.1, 1), (2.0, 1), (0.0, 1))
    found = tables.paired_difference(LOG, other.sample(frac=1, random_state=0), (0, 0.25, 1))
    expected = tables.certified_accuracy(LOG, (0, 0.25, 1)) - tables.certified_accuracy(other, (0, 0.25, 1))
    assert found.difference.tolist() == pytest.approx(expected.tolist())
    at_quarter = np.array([-1, 0, 1, 0, 0, 1, -1, 0])  # image by image
    half = 196 * np.sqrt(at_quarter.var(ddof=1) / 8)
    assert found.high[0.25] - found.difference[0.25] == pytest.approx(half)
    assert found.difference[0.25] - found.low[0.25] == pytest.approx(half)


def test_a_paired_interval_covers():
    """Two methods that differ by 10 points on correlated images: 95 % of intervals hold that difference."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        hardness = rng.random(500)
        logs = [frame(*((1.0, int(h < p)) for h in hardness + rng.normal(0, 0.01, 500))) for p in (0.6, 0.5)]
        row = tables.paired_difference(*logs, (0.5,)).loc[0.5]
        inside += row.low <= 10 <= row.high
    assert 0.92 <= inside / 400 <= 0.98


def test_a_paired_difference_needs_the_same_images():
    with pytest.raises(InputError, match="expected the same images"):
        tables.paired_difference(LOG, LOG.iloc[1:], (0,))
    with pytest.raises(InputError, match="expected the same images"):
        tables.paired_difference(LOG.iloc[1:], LOG, (0,))
