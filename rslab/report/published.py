"""The certified accuracies that Cohen et al. 2019 and Salman et al. 2019 published, as compact files of this package.

Their logs have a row an image (150 MB in all). Here a model is one line: how it was trained, on how many
images it was certified, its ACR, and how many images are correct and certified at 0, ⅛, ¼ … A line names
its log. Beside it stand the radii of every image, packed (`radii`): 0.9 MB in place of 60.
`python -m rslab.report.published LOGS` rebuilds the files from the logs, exactly; LOGS is the folder that
holds the two publications, `smoothing` and `smoothing-adversarial` (or the latter, with the former beside it).
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from rslab.errors import InputError
from rslab.report.tables import average_certified_radius, find_logs, left_out_sentence, upper_envelope
from rslab.store import files, run_folder

FOLDER = run_folder.RESULTS / "published"
STEP = 0.125  # between the radii at which images are counted: the tables' radii are among them
SETS = {"cifar10-grid": "cifar10", "cifar10-best": "best_models/cifar10", "imagenet": "imagenet"}  # folders of logs
PACKED = ("cifar10-grid", "cifar10-best")  # of these the radii of every image are shipped, too
COHEN = {"cohen-cifar10": "cifar10", "cohen-imagenet": "imagenet"}  # of Cohen et al.'s own logs
GROUPS = {  # the rows of the lecture's table, and the folders of the best models
    "Cohen et al.": "cohen",
    "SmoothAdv": "ours",
    "+ pre-training": "ours_pretraining",
    "+ semi-supervision": "ours_selftraining",
    "+ both": "ours_pretraining_selftraining",
}
# The two texts' tables, in %, as printed: radii, then row → accuracies.
PRINTED: dict[str, dict[str, tuple[int, ...]]] = {
    "lecture 14": {
        "Cohen et al.": (61, 43, 32, 22, 17, 13, 10, 7, 4),
        "SmoothAdv": (73, 58, 48, 38, 33, 29, 24, 18, 16),
        "+ pre-training": (80, 62, 52, 38, 34, 30, 25, 19, 16),
        "+ semi-supervision": (80, 63, 52, 40, 34, 29, 25, 19, 17),
        "+ both": (81, 63, 52, 37, 33, 29, 25, 18, 16),
    },
    "blog": {
        "Cohen et al.": (60, 43, 32, 23, 17, 14, 12, 10, 8),
        "SmoothAdv": (74, 57, 48, 38, 33, 29, 24, 19, 17),
    },
    "ImageNet": {"Cohen et al.": (49, 37, 29, 19, 15, 12, 9), "SmoothAdv": (56, 43, 37, 27, 25, 20, 16)},
}
# The best model of any later method at each of the table's radii, in %, by the number of images counted: rounded from
# the logs that the authors of "Average certified radius is a poor metric for randomized smoothing" (arXiv 2410.06895)
# published. Their networks have σ = 0.25, 0.5 and 1; the rows of 2019 hold σ = 0.12 too, which wins at radius 0.25.
LATER = {500: (68, 59, 48, 38, 34, 30, 24, 21, 19), 10_000: (69, 59, 48, 39, 34, 29, 23, 21, 18)}
CIFAR10_RADII = tuple(np.arange(1, 10) / 4)
IMAGENET_RADII = tuple(np.arange(1, 8) / 2)

# -- the logs themselves -------------------------------------------------------------------


def publication(logs: Path | str, name: str = "smoothing-adversarial") -> Path:
    """The folder of a publication's logs, by the name of its repository.

    `logs`, as in RSLAB_LOGS: the folder above both publications, or `smoothing-adversarial` itself.
    """
    logs = Path(logs)
    beside = logs if name == "smoothing-adversarial" else logs.parent / name
    for folder in (logs / name, beside if (logs / "data").is_dir() else logs / name):
        if (folder / "data").is_dir():
            return folder
    raise InputError(f"LOGS: got {logs}, which holds no {name}/data, expected the folder above the publications.")


# -- building --------------------------------------------------------------------------------


def recipe(path: str) -> dict:
    """How a model was trained, from the published path of its log; a Gaussian model has no attack.

    `epsilon` in 255ths of the pixel range, `weight` of the semi-supervised loss (0: none), `method`
    "base" where the attack was on f alone. `train_sigma` is 0 for a network that saw no noise.
    """

    def number(pattern: str, otherwise: float = 0) -> float:
        found = re.search(pattern, path)
        return float(found.group(1)) if found else otherwise

    attack = re.search(r"(PGD|DDN)_(\d+)steps?", path)
    certified = number(r"sigma_(\d+\.\d+)")
    base = re.search(r"baseAttackExp/(with\w*)_noise", path)
    return {
        "method": f"base, {base.group(1)} noise" if base else "smoothadv" if attack else "gaussian",
        "attack": attack.group(1) if attack else "-",
        "steps": int(attack.group(2)) if attack else 0,
        "samples": int(number(r"(\d+)-multitrain", 1)) if attack else 0,
        "epsilon": int(number(r"/eps_(\d+)")),
        "pretrained": int("finetune" in path),
        "weight": number(r"weight_(\d\.\d)"),
        "train_sigma": number(r"noise_(\d+\.\d+)", certified),
        "sigma": certified,
    }


def certified_counts(log: pd.DataFrame) -> np.ndarray:
    """How many images are correct with a radius of at least 0, ⅛, ¼ … up to the last that counts any."""
    radii = np.sort(log.radius[log.correct == 1])
    grid = np.arange(0, radii[-1] + STEP / 2, STEP) if len(radii) else np.zeros(1)
    counts = len(radii) - np.searchsorted(radii, grid, side="left")
    return np.trim_zeros(counts, "b") if counts.any() else counts[:1]


def summarize(folder: Path, every: int = 1) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """One line a log under `folder`, of its images number 0, every, 2·every …; and the logs left out, with reasons."""
    found = find_logs([folder])
    rows = []
    for name, log in found.logs.items():
        part = log[log.idx % every == 0]
        counts = " ".join(map(str, certified_counts(part)))
        line = {"log": name, **recipe(_full_path(name)), "every": every, "images": len(part)}
        rows.append({**line, "ACR": f"{average_certified_radius(part):.6f}", "certified": counts})
    return pd.DataFrame(rows), found.left_out


def _full_path(name: str) -> str:
    """`find_logs` shortens …/noise_σ/test/sigma_σ to …/noise_σ, where both are the same σ."""
    return name if "sigma_" in name else name + "/sigma_" + name.rsplit("noise_", 1)[1]


def build(logs: Path, folder: Path = FOLDER) -> str:
    """Write the files from the published logs under `logs` (as in `publication`); what was left out, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    source = publication(logs) / "data" / "certify"
    notes = []
    for name, place in SETS.items():
        table, left_out = summarize(source / place)
        if name == "cifar10-best":  # the same models on the images of the grid, too
            table = pd.concat([table, summarize(source / place, every=20)[0]])
        notes.append(_write(folder, name, table, left_out))
    notes += [_write_radii(folder, name, source / SETS[name]) for name in PACKED]
    about = {"what": PACKED_AS, "source": PACKED_FROM, "command": "python -m rslab.report.published LOGS"}
    licence = publication(logs) / "LICENSE"
    about["licence"] = licence.read_text(encoding="utf-8") if licence.is_file() else "no file LICENSE stood in LOGS"
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    files.write_whole(folder / "cifar10-radii.json", lambda file: file.write_text(text, encoding="utf-8"))
    try:
        source = publication(logs, "smoothing") / "data" / "certify"
    except InputError as error:
        return "\n".join([*notes, f"{', '.join(COHEN)}: left as they are. {error}"])
    for name, place in COHEN.items():
        notes.append(_write(folder, name, *summarize(source / place)))
    return "\n".join(notes)


def _write(folder: Path, name: str, table: pd.DataFrame, left_out: dict[str, list[str]]) -> str:
    files.write_whole(
        folder / f"{name}.tsv", lambda file: table.to_csv(file, sep="\t", index=False, lineterminator="\n")
    )
    return f"{name}: {len(table)} lines. {left_out_sentence(left_out)}"


PACKED_AS = (
    "cifar10-*-radii.npz: the certified radius of every image in thousandths, rounded down, plus 1; 0 where g was wrong"
    " or abstained. `low` and `high` are the two bytes of this number, a row an image of `images`, a column a model:"
    " the line `models` of the .tsv beside, counted from 0. Neighbouring columns are alike, which packs well."
)
PACKED_FROM = (
    "The certification logs (data/certify) that H. Salman et al. published with 'Provably robust deep learning via"
    " adversarially trained smoothed classifiers', NeurIPS 2019, in their repository smoothing-adversarial."
)


def packed(log: pd.DataFrame) -> np.ndarray:
    """Radius in thousandths, rounded down, plus 1; 0 where the prediction is wrong or withheld: (images,) uint16."""
    radius = log.radius.to_numpy(float)
    nearest = np.round(1e3 * radius)  # not their floor: 1e3 * 0.249 is 248.99999999999997
    thousandths = np.where(nearest / 1e3 <= radius, nearest, nearest - 1)
    return np.where(log.correct == 1, thousandths + 1, 0).astype(np.uint16)


def _write_radii(folder: Path, name: str, source: Path) -> str:
    """The radii of the models of `name` that were certified on as many images as most, from the logs in `source`."""
    table = pd.read_csv(folder / f"{name}.tsv", sep="\t")
    table = table[table.every == 1]
    kept, _ = most_images(table)
    found = find_logs([source]).logs
    order = kept.sort_values(["sigma", "epsilon"], kind="stable").index
    first = found[table.log[order[0]]].idx.to_numpy()
    columns = []
    for log in (found[table.log[line]] for line in order):
        if not np.array_equal(log.idx, first):
            raise InputError(f"{source}: got logs of different images, expected the same in all that are packed.")
        columns.append(packed(log))
    radii = np.stack(columns, 1)
    arrays = {"low": (radii & 255).astype(np.uint8), "high": (radii >> 8).astype(np.uint8)}
    arrays |= {"images": first.astype(np.uint16), "models": order.to_numpy(np.uint16)}

    def write(place: Path) -> None:
        with place.open("wb") as file:  # a name would get a second ending
            np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]

    place = folder / f"{name}-radii.npz"
    files.write_whole(place, write)
    return f"{place.name}: {len(order)} models on {len(first)} images, {place.stat().st_size:,} bytes."


# -- reading ---------------------------------------------------------------------------------


def load(name: str) -> pd.DataFrame:
    """One of `SETS` or `COHEN`, a line a model, `log` as index; `certified` becomes a tuple of counts."""
    if name not in SETS | COHEN:
        raise InputError(f"name: got {name!r}, expected one of {', '.join(SETS | COHEN)}.")
    table = pd.read_csv(FOLDER / f"{name}.tsv", sep="\t", index_col="log")
    table["certified"] = [tuple(map(int, text.split())) for text in table.certified.astype(str)]
    return table


def radii(name: str) -> pd.DataFrame:
    """Certified radii of every image in thousandths, rounded down; −1 where g was wrong or abstained.

    A row a model (of `load(name)`, those on as many images as most), a column a test image (its number): int16. A
    radius of the tables is a multiple of 250 here, so counts of "at least r" are those of the logs.
    """
    if name not in PACKED:
        raise InputError(f"name: got {name!r}, expected one of {', '.join(PACKED)}.")
    with np.load(FOLDER / f"{name}-radii.npz", allow_pickle=False) as file:
        values = (file["high"].astype(np.int16) << 8) + file["low"] - np.int16(1)
        models, images = file["models"], file["images"]
    order = np.argsort(models)
    return pd.DataFrame(values.T[order], index=load(name).index[models[order]], columns=images.astype(int))


def accuracies(table: pd.DataFrame, radii) -> pd.DataFrame:
    """Certified accuracy in %, a row a model, a column a radius (multiples of `STEP`)."""
    places = np.round(np.asarray(radii, float) / STEP, 9)  # computed radii may miss a multiple by rounding
    if np.any(places != np.round(places)) or np.any(places < 0):
        raise InputError(f"radii: got {list(radii)}, expected multiples of {STEP}.")
    deepest = int(places.max()) + 1
    counts = np.zeros((len(table), max(deepest, max(map(len, table.certified)))))
    for row, certified in enumerate(table.certified):
        counts[row, : len(certified)] = certified
    shares = 100 * counts[:, places.astype(int)] / table.images.to_numpy()[:, None]
    return pd.DataFrame(shares, index=table.index, columns=[float(radius) for radius in radii])


def curve(row: pd.Series, stop: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """(radii, certified accuracy in %) of one line, on the whole grid of radii up to `stop`."""
    radii = np.arange(0, stop + STEP / 2, STEP)
    counts = np.zeros(len(radii))
    known = row.certified[: len(radii)]
    counts[: len(known)] = known
    return radii, 100 * counts / row.images


def collapsed(models: pd.DataFrame) -> pd.Series:
    """Which networks give one answer to every image: they certify as many at their last radius as at radius 0."""
    return models.certified.map(lambda counts: counts[0] == counts[-1]).astype(bool)


def group(table: pd.DataFrame, row: str) -> pd.DataFrame:
    """The models behind a row of the lecture's table, from `cifar10-best`."""
    return table[table.index.str.startswith(GROUPS[row] + "/")]


def most_images(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the logs on as many images as most have, the shorter ones): an envelope needs one set of images."""
    most = table.images.mode().max()
    return table[table.images == most], table[table.images != most]


def cohen(name: str) -> pd.DataFrame:
    """Cohen et al.'s own models from one of `COHEN`, each certified with the σ that it was trained with."""
    models = load(name)
    return models[models.sigma == models.train_sigma]


def table_rows(name: str) -> pd.DataFrame:
    """The rows of a printed table ("lecture 14", "blog", "ImageNet"), computed: upper envelopes in %.

    Of the row "Cohen et al." on ImageNet the first cell counts 427 images and the others 500: one of the
    three logs stops early. None of them are the images of the row SmoothAdv, whose numbers (idx) they share.
    """
    if name == "ImageNet":
        models = load("imagenet")
        ours = models[(models.method == "smoothadv") & (models.images == models.images.max())]
        return _envelopes({"Cohen et al.": cohen("cohen-imagenet"), "SmoothAdv": ours}, IMAGENET_RADII)
    if name == "lecture 14":
        best = load("cifar10-best")
        return _envelopes({row: group(best[best.every == 1], row) for row in GROUPS}, CIFAR10_RADII)
    if name == "blog":
        grid = most_images(load("cifar10-grid"))[0]
        plain = grid[(grid.method == "smoothadv") & (grid.pretrained == 0) & (grid.weight == 0)]
        return _envelopes({"Cohen et al.": cohen("cohen-cifar10"), "SmoothAdv": plain}, CIFAR10_RADII)
    raise InputError(f"name: got {name!r}, expected one of {', '.join(PRINTED)}.")


def _envelopes(rows: dict[str, pd.DataFrame], radii) -> pd.DataFrame:
    return pd.DataFrame({row: upper_envelope(accuracies(models, radii))[0] for row, models in rows.items()}).T


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python -m rslab.report.published LOGS: the folder above smoothing and smoothing-adversarial")
    print(build(Path(sys.argv[1])))


# -- fewer votes -----------------------------------------------------------------------------


def published_top_probabilities() -> dict[str, np.ndarray]:
    """p_A as the best published CIFAR-10 models imply it: "gaussian-0.25" → 1,000 quantiles, increasing.

    Counts out of n = 100,000 votes that Clopper–Pearson turns into the radii of the logs of Cohen et
    al. 2019 ("gaussian") and Salman et al. 2019 ("smoothadv"), as Salman et al. published them: every tenth of the
    10,000 test images, sorted. An abstention says p_A ≤ ½ only: these are spread evenly over ¼ … ½.
    """
    with np.load(run_folder.RESULTS / "published_votes.npz") as file:
        return {name: file[name] / 100_000 for name in sorted(file.files)}
