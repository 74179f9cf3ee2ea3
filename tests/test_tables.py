"""Tables of hand-made logs with known figures, and the published rows from the published logs."""

import math
import sys

import numpy as np
import pandas as pd
import pytest

from rslab.cli import main
from rslab.errors import InputError
from rslab.report import attack_tables, formats, seeds, tables
from rslab.smoothing import bounds
from rslab.store.files import write_json
from rslab.store.logs import settings_path

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
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


def write_attack(folder, name, epsilon, predictions, *, label=3, **settings):
    """An attack log of ours with the settings beside it: one image a prediction."""
    path = folder / name
    rows = [f"{i}\t{label}\t{p}\t{p}\t{int(p == label)}\t0:00:01\n" for i, p in enumerate(predictions)]
    path.write_text(HEADER.replace("radius", "basePredict") + "".join(rows), encoding="utf-8")
    made = {"attack": "pgd", "norm": "l2", "steps": 4, "restarts": 1, "objective": "smoothadv", "samples": 8}
    write_json(settings_path(path), {**made, "epsilon": epsilon, "n": 100, "alpha": 0.001, **settings})
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
    hundredths = (100 * log.radius).round().astype(int)  # both are whole hundredths
    plain = [100 * (log.correct[hundredths >= round(100 * x)] == 1).sum() / 300 for x in radii]
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
    (tmp_path / "notes.txt").write_text("no log", encoding="utf-8")
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
    (tmp_path / "broken").write_text(HEADER + "0\t3\t3\tnan\t1\t0:00:01\n", encoding="utf-8")
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


def test_the_same_images_have_the_same_labels(tmp_path):
    for name, label in (("digits", 9), ("animals", 3), ("animals again", 3), ("letters", 7)):
        write(tmp_path / name, [0.1] * 5, label=label)
    write(tmp_path / "few letters", [0.1] * 3, label=7)
    logs = tables.find_logs([tmp_path]).logs
    used, others = tables.comparable(logs)
    assert sorted(used) == ["animals", "animals again"]
    assert others == {
        "on other images (5 with the idx of most, but other labels)": ["digits", "letters"],
        "on other images (3 images, not the 5 of most)": ["few letters"],
    }
    with pytest.raises(InputError, match="other labels for 5 of 5 idx, expected the same images"):
        tables.paired_difference(logs["digits"], logs["animals"], (0,))
    assert "not on those of most: 2 logs, on other images" in tables.on_other_images(logs)
    assert tables.on_other_images({name: logs[name] for name in ("animals", "animals again")}) == ""


@pytest.mark.parametrize("key, values", [("n", (100, 1000)), ("n0", (10, 100)), ("alpha", (0.001, 0.01))])
def test_logs_made_with_other_settings_are_named(tmp_path, key, values):
    for name, value in zip("ab", values, strict=True):
        counts = {"n": 1000, "n0": 100, "alpha": 0.001} | {key: value}
        tail = f"\t{counts['n']}\t" + "\t".join(str(counts[k]) for k in ("n", "n0", "alpha")) + "\n"
        (tmp_path / name).write_text(HEADER[:-1] + "\tcount_a\tn\tn0\talpha\n" + ROW[:-1] + tail, encoding="utf-8")
    write(tmp_path / "published", [0.1])
    found = tables.find_logs([tmp_path])
    name = "α" if key == "alpha" else key
    assert tables.made_differently(found) == (
        f"These logs were made with different {name} {values[0]} (a), {values[1]} (b)."
    )
    alone = {name: log for name, log in found.logs.items() if name != "b"}
    assert tables.made_differently(tables.Logs(alone, {}, found.files)) == ""


def test_an_envelope_takes_a_log_that_lacks_few_images(tmp_path, monkeypatch, capsys):
    """As Cohen et al. did with 427 of 500; the log is named, and so is one that lacks many, which is left out."""
    write(tmp_path / "a", [0.1] * 10)
    write(tmp_path / "b", [0.1] * 10)
    write(tmp_path / "lacks-two", [0.9] * 8)
    write(tmp_path / "lacks-three", [1.9] * 7)
    logs = tables.find_logs([tmp_path]).logs
    assert set(tables.comparable(logs)[0]) == {"a", "b"}
    assert set(tables.comparable(logs, tables.MOSTLY)[0]) == {"a", "b", "lacks-two"}
    monkeypatch.setattr(sys, "argv", ["rslab", "table", str(tmp_path), "--envelope", "--radii", "0.5,1"])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    assert "envelope" in out and "Best at 0.5: lacks-two" in out
    assert "Left out: 1 log, short (7 images, not the 10 of most): lacks-three" in out
    assert "not on those of most: 1 log, short (8 images, not the 10 of most): lacks-two" in out


@pytest.mark.data
def test_cohens_imagenet_row_follows_from_three_logs_by_command(cohens_logs, monkeypatch, capsys):
    place = cohens_logs / "imagenet" / "resnet50"
    logs = [str(place / f"noise_{sigma}" / "test" / f"sigma_{sigma}") for sigma in ("0.25", "0.50", "1.00")]
    words = ["rslab", "table", *logs, "--envelope", "--radii", "0.5,1,1.5,2,2.5,3,3.5", "--format", "csv"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        main()
    out, err = capsys.readouterr()
    row = next(line for line in out.splitlines() if line.startswith("envelope"))
    assert [round(float(cell)) for cell in row.split(",")[2:9]] == [49, 37, 29, 19, 15, 12, 9]
    assert "short (427 images, not the 500 of most)" in err


@pytest.mark.parametrize("radius", [-0.1, math.nan, math.inf])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(InputError, match="^radii: got .*expected finite numbers, 0 or more"):
        tables.certified_accuracy(LOG, (0, radius))


def test_logs_certified_under_other_radii_are_named(tmp_path):
    for name, radii in (("a", [0, 0.25]), ("b", [0, 0.5]), ("c", [0, 0.5])):
        write(tmp_path / name, [0.1])
        write_json(tmp_path / f"{name}.json", {"n": 100, "n0": 10, "alpha": 0.001, "radii": radii})
    found = tables.find_logs([tmp_path])
    assert tables.made_differently(found).endswith("different radii 0 0.25 (a), 0 0.5 (b, c).")


def test_radii_that_were_computed_are_the_decimals_that_they_mean():
    log = frame((0.3, 1), (0.7, 1), (0.15, 1), (np.nextafter(0.3, 0), 1))
    computed = [3 * 0.1, 0.1 + 0.2, float(np.arange(0, 1, 0.1)[3]), float(np.arange(0, 1, 0.05)[6])]
    assert max(computed) > 0.3
    assert tables.certified_accuracy(log, computed).tolist() == [50.0] * 4
    difference = tables.paired_difference(log, frame((0.3, 0), (0.7, 0), (0.15, 0), (0.3, 0)), (3 * 0.1,))
    assert difference.difference[3 * 0.1] == 50.0
    third = frame((1 / 3, 1), (float(np.nextafter(1 / 3, 0)), 1))  # no decimal: compared exactly
    assert tables.certified_accuracy(third, [1 / 3]).tolist() == [50.0]
    just_above = 0.3 + 2e-12
    assert tables.certified_accuracy(log, [just_above]).tolist() == [25.0]


def test_at_a_tie_the_larger_set_of_images_is_compared(tmp_path):
    write(tmp_path / "short", [0.1] * 3)
    write(tmp_path / "long", [0.1] * 5)
    assert list(tables.comparable(tables.find_logs([tmp_path]).logs)[0]) == ["long"]


def test_the_sentence_names_some_and_counts_the_others():
    assert tables.left_out_sentence({}) == ""
    sentence = tables.left_out_sentence({"empty": list("ab"), "short": list("cdefgh")})
    assert sentence == "Left out: 2 logs, empty: a, b; 6 logs, short: c, d, e, f and 2 more."


ROW = "0\t3\t3\t0.61\t1\t0:00:01\n"


def test_a_folder_names_every_file_that_is_like_a_log_and_passes_over_the_others(tmp_path):
    write(tmp_path / "good.tsv", [0.1, 0.2])
    (tmp_path / "no-header.txt").write_text(ROW, encoding="utf-8")
    (tmp_path / "commas.csv").write_text((HEADER + ROW).replace("\t", ","), encoding="utf-8")
    (tmp_path / "spaces").write_text((HEADER + ROW).replace("\t", " "), encoding="utf-8")
    (tmp_path / "attack.tsv").write_text(
        HEADER.replace("radius", "basePredict") + "0\t3\t3\t3\t1\t0:00:01\n", encoding="utf-8"
    )
    (tmp_path / ".other.tsv.part-1").write_text(ROW, encoding="utf-8")
    (tmp_path / "README.md").write_text("idx label predict radius correct\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("The columns are idx, label and predict; radii are l2.\n", encoding="utf-8")
    (tmp_path / "train.jsonl").write_text('{"epoch": 0}\n', encoding="utf-8")
    (tmp_path / "weights.safetensors").write_bytes(bytes(range(256)))
    found = tables.find_logs([tmp_path])
    assert list(found.logs) == ["good.tsv"]
    assert tables.left_out_sentence(found.left_out, 1) == (
        "Left out: .other.tsv.part-1 (a part of a log that is not complete), "
        "commas.csv (fields separated by commas in the first line), no-header.txt (no header line), "
        "spaces (fields separated by spaces in the first line); "
        "1 log, of attacks (`--attacks` reads them): attack.tsv."
    )


def test_a_folder_of_unreadable_logs_alone_is_refused_with_the_reason(tmp_path):
    (tmp_path / "no-header.txt").write_text(ROW, encoding="utf-8")
    with pytest.raises(InputError, match="no-header.txt .no header line"):
        tables.find_logs([tmp_path])


def test_rows_are_told_apart_by_the_shortest_ends_that_do_so_for_all(tmp_path):
    files = [write(tmp_path / name / "noise_0.25/test/noise_0.25.tsv", [0.1]) for name in ("one", "two", "three")]
    expected = [f"{name}/noise_0.25/test/noise_0.25.tsv" for name in ("one", "two", "three")]
    assert list(tables.find_logs(files).logs) == expected
    runs = [tmp_path / place / "runs" for place in "ab"]
    for folder in runs:
        write(folder / "gaussian/certify.tsv", [0.1])
    assert list(tables.find_logs(runs).logs) == ["a/runs/gaussian", "b/runs/gaussian"]
    assert list(tables.find_logs([folder / "gaussian/certify.tsv" for folder in runs]).logs) == [
        "a/runs/gaussian",
        "b/runs/gaussian",
    ]
    assert len(tables.find_logs([files[0], files[0]]).logs) == 1


@pytest.mark.parametrize("name, content", [("foreign", "hello"), ("torn", HEADER + "0\t3"), ("empty", HEADER)])
def test_a_named_file_that_is_no_log_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=name):
        tables.find_logs([tmp_path / name])


def test_an_attack_log_and_a_place_without_logs_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no certification log"):
        tables.find_logs([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        tables.find_logs([tmp_path / "absent"])
    attack = tmp_path / "attack.tsv"
    attack.write_text("idx\tlabel\tpredict\tbasePredict\tcorrect\ttime\n0\t3\t3\t3\t1\t0:00:01\n", encoding="utf-8")
    with pytest.raises(InputError, match="attack"):
        tables.find_logs([attack])


# -- formats -----------------------------------------------------------------------------

TABLE = tables.accuracy_table({"a_b": LOG, "c": frame((1.0, 1))}, (0.0, 0.25))


def test_text_is_aligned():
    assert formats.format_table(TABLE).split("\n") == [
        "model  images      0   0.25    ACR",
        "a_b         8   62.5   37.5  0.200",
        "c           1  100.0  100.0  1.000",
    ]


def test_markdown_csv_and_latex_hold_the_same_figures():
    assert formats.format_table(TABLE, "markdown").split("\n") == [
        "| model | images |     0 |  0.25 |   ACR |",
        "| ----- | -----: | ----: | ----: | ----: |",
        "| a_b   |      8 |  62.5 |  37.5 | 0.200 |",
        "| c     |      1 | 100.0 | 100.0 | 1.000 |",
    ]
    csv = formats.format_table(TABLE, "csv").split("\n")
    assert csv[0] == "model,images,0.0,0.25,ACR" and len(csv) == 3
    name, images, *figures = csv[1].split(",")
    assert (name, images) == ("a_b", "8") and [float(f) for f in figures] == pytest.approx([62.5, 37.5, 0.2])
    latex = formats.format_table(TABLE, "latex")
    assert r"a\_b & 8 & 62.5 & 37.5 & 0.200 \\" in latex and latex.startswith(r"\begin{tabular}{lrrrr}")


def test_latex_holds_nothing_that_it_would_not_typeset(tmp_path):
    names = [r"a\b", "c^d~e", "{f}", "g & h_i", "[0.25] σ", "* m = 4 × 2", "50 % #1 $", "T<2|3>"]
    table = tables.accuracy_table({name: LOG for name in names}, (0.0,))
    rows = [line.split(" & 8 & ")[0] for line in formats.format_table(table, "latex").split("\n")[4:-2]]
    assert rows == [
        r"a\textbackslash{}b",
        r"c\textasciicircum{}d\textasciitilde{}e",
        r"\{f\}",
        r"g \& h\_i",
        r"{}[0.25] $\sigma$",
        r"{}* m = 4 $\times$ 2",
        r"50 \% \#1 \$",
        r"T\textless{}2\textbar{}3\textgreater{}",
    ]
    greek = formats.format_table(tables.accuracy_table({"γ θΓΩ ΡΧ 10⁻² x₂ → √2 ϵ": LOG}, (0.0,)), "latex")
    assert r"$\gamma$ $\theta$$\Gamma$$\Omega$ PX 10$^{-}$$^{2}$ x$_{2}$ $\to$ $\surd$2" in greek
    attack = write_attack(tmp_path, "a.tsv", 0.5, [3, 9])
    latex = formats.format_table(attack_tables.attack_table([attack])[0], "latex", corner="attack \\ ε")
    assert r"attack \textbackslash{} $\varepsilon$ & 0.5 \\" in latex and latex.isascii()
    spread = seeds.spread_table(tables.accuracy_table({"a-0": LOG, "a-1": LOG}, (0.0,)))
    assert r"$\pm$" in formats.format_table(spread, "latex") and formats.format_table(spread, "latex").isascii()


def test_a_bar_in_a_name_does_not_break_a_markdown_row():
    assert r"| a\|b" in formats.format_table(tables.accuracy_table({"a|b": LOG}, (0.0,)), "markdown")


def test_a_missing_figure_is_an_empty_cell():
    table = TABLE.copy()
    table.loc["envelope"] = {"images": pd.NA, 0.0: 100.0, 0.25: 100.0, "ACR": np.nan}
    assert formats.format_table(table, "text").split("\n")[-1] == "envelope          100.0  100.0"


def test_one_image_of_ten_thousand_shows():
    log = frame(*[(1.0, 1)] * 9999, (0.0, 0))
    assert "99.99" in formats.format_table(tables.accuracy_table({"a": log}, (0.5,)))


def test_an_unknown_format_and_bad_radii_are_refused():
    with pytest.raises(InputError, match="format: got 'html', expected one of text"):
        formats.format_table(TABLE, "html")
    assert bounds.parse_radii("0,0.25, 1") == (0.0, 0.25, 1.0)
    for text in ("", "a", "0,nan", "-1", "0.5,0.25", "1,1", "inf", "0;1"):
        with pytest.raises(InputError, match="^radii: got"):
            bounds.parse_radii(text)


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
    table = seeds.spread_table(tables.accuracy_table(logs, (0.5,)))
    assert table.loc["a"].tolist() == ["3", "70.0 ± 10.0", "0.420 ± 0.060"]
    assert table.loc["alone"].tolist() == ["1", "100.0", "0.600"]
    assert "70.0 ± 10.0" in formats.format_table(table)


def test_seeds_are_known_by_a_number_at_the_end_or_a_folder(tmp_path):
    names = ["cohen_4067", "cohen_31", "21/noise_0.25", "22/noise_0.25", "macer-0.tsv", "macer-1.tsv", "alone-3"]
    names += ["eps_64", "eps_127", "noise_1", "noise_2", "sigma-0.25", "sigma-0.50"]
    table = tables.accuracy_table({name: frame((0.6, 1), (0.2, 1)) for name in names}, (0.5,))
    spread = seeds.spread_table(table)
    assert {name: runs for name, runs in spread.runs.items() if runs != "1"} == {
        "cohen": "2",
        "noise_0.25": "2",
        "macer.tsv": "2",
    }
    assert len(spread) == 3 + 1 + 6


def run(folder, name, **options):
    """A run with options and a log of five images."""
    images = options.pop("images", 5)
    write(folder / name / "certify.tsv", [0.3] * images)
    write_json(folder / name / "config.json", {"train": options})


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(tmp_path):
    run(tmp_path, "gaussian-1", sigma=1.0, seed=0)
    run(tmp_path, "gaussian-2", sigma=2.0, seed=0)
    run(tmp_path, "macer-1", sigma=0.5, seed=1, pretrained="runs/start-1")
    run(tmp_path, "macer-2", sigma=0.5, seed=2, pretrained="runs/start-2")
    write(tmp_path / "cohen-1/certify.tsv", [0.3])
    write(tmp_path / "cohen-2/certify.tsv", [0.3])
    for name, sigma in (("cohen-1", 0.25), ("cohen-2", 0.5)):
        write_json(tmp_path / name / "certify.json", {"sigma": sigma})
    groups, left_out = seeds.seed_groups(tables.find_logs([tmp_path]))
    assert left_out == {} and groups == {
        name: [name] for name in ("cohen-1", "cohen-2", "gaussian-1", "gaussian-2")
    } | {"macer": ["macer-1", "macer-2"]}


def test_seeds_on_other_images_are_left_out_of_their_mean(tmp_path):
    for seed, images in enumerate((5, 5, 3)):
        run(tmp_path, f"gaussian-{seed}", sigma=1.0, seed=seed, images=images)
    groups, left_out = seeds.seed_groups(tables.find_logs([tmp_path]))
    assert groups == {"gaussian": ["gaussian-0", "gaussian-1"]}
    assert left_out == {"short (3 images, not the 5 of most)": ["gaussian-2"]}


# -- attacks -----------------------------------------------------------------------------------


def test_attack_logs_of_one_row_are_on_the_same_images_and_rows_on_others_are_named(tmp_path):
    write_attack(tmp_path, "a.tsv", 0.25, [3, 3, 9])
    write_attack(tmp_path, "b.tsv", 0.5, [3, 9, 9])
    write_attack(tmp_path, "c.tsv", 0.75, [7, 7, 7], label=7)
    write_attack(tmp_path, "d.tsv", 1.0, [3, 9])
    (tmp_path / "other").mkdir()
    other = write_attack(tmp_path / "other", "e.tsv", 0.25, [7, 7, 7], label=7, n=1000)
    write(tmp_path / "certify.tsv", [0.1])
    (tmp_path / "no-header.txt").write_text("0\t3\t3\t3\t1\t0:00:01\n", encoding="utf-8")
    found, rows = attack_tables.find_attacks([tmp_path])
    table = attack_tables.attack_cells(rows)
    assert table.loc[f"{tmp_path.name}: pgd l2 T = 4 m = 8 smoothadv"].dropna().tolist() == pytest.approx(
        [200 / 3, 100 / 3]
    )
    left_out = tables.left_out_sentence(found.left_out)
    assert "on other images (3 with the idx of most, but other labels)" in left_out and "c.tsv" in left_out
    assert "short (2 images, not the 3 of most)" in left_out and "d.tsv" in left_out
    assert "no-header.txt (no header line)" in left_out and "of certification" in left_out
    assert str(other) in tables.on_other_images(found.logs)
    assert f"n 100 ({tmp_path / 'a.tsv'}, {tmp_path / 'b.tsv'}), 1000 ({other})" in tables.made_differently(found)
    assert attack_tables.attack_table([tmp_path])[0].equals(table)


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
