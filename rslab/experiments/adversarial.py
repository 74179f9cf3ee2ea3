"""Adversarial training under ℓ∞ (robust-training blog): the networks of a recipe trained, watched and attacked.

Of a recipe whose runs are `standard` or `adversarial`, these under ℓ∞ with one ε, in turn:

- each run is trained; after each epoch of an adversarial one its network is attacked on 500 images of either split
  by one step (FGSM) and by PGD with 40 from x: `robust.jsonl`, an epoch a line;
- each network is attacked on 500 test images, every network by FGSM and by PGD of 40 steps and 10 restarts, up the
  cross-entropy and up the margin, the adversarial ones also by what PGD from x makes for the standard one: a log each;
- the loss of each network along lines, over a plane, and where PGD ends from many starts: `landscape.npz`, which
  lecture 01 draws.

`python -m rslab.experiments.adversarial RECIPE [FOLDER]` writes into `runs/RECIPE` or FOLDER, skips what is there, and
goes on after the last whole epoch or row.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rslab.attacks import cross_entropy, fgsm, pgd
from rslab.data.datasets import LabeledImages, load_dataset
from rslab.errors import InputError
from rslab.evaluate.attack import attack_dataset
from rslab.evaluate.settings import AttackSettings
from rslab.experiments.pictures import write_arrays
from rslab.experiments.recipes import RECIPES, RecipeRun, read_recipe
from rslab.lectures.lecture01 import landscape
from rslab.machine.devices import choose_precision
from rslab.networks.inference import InferenceNetwork
from rslab.store import files, logs
from rslab.store.run_folder import load_run
from rslab.training.loop import train

IMAGES, STEPS, RESTARTS, LINES = 500, 40, 10, 150


def step_size(epsilon: float) -> float:
    """η of PGD with 40 steps: 0.02 for ε = 0.3."""
    return epsilon / 15


def chosen(data: LabeledImages) -> tuple[Tensor, Tensor]:
    """`IMAGES` images at equal distances, and their labels."""
    indices = slice(0, IMAGES * (len(data) // IMAGES), len(data) // IMAGES)
    return data.images[indices], data.labels[indices]


def attacked(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> dict[str, dict[str, float]]:
    """Mean loss and accuracy (a share) without attack, under FGSM, and under PGD with 40 steps."""
    perturbed = {
        "clean": images,
        "FGSM": fgsm(network, images, labels, epsilon),
        "PGD": pgd(network, images, labels, epsilon, norm="linf", steps=STEPS, step_size=step_size(epsilon)),
    }
    with torch.no_grad():
        scores = {attack: network(x) for attack, x in perturbed.items()}
    return {
        attack: {
            "loss": round(float(cross_entropy(z, labels).mean()), 4),
            "accuracy": round(float((z.argmax(1) == labels).float().mean()), 4),
        }
        for attack, z in scores.items()
    }


def watch(run: RecipeRun, folder: Path) -> None:
    """Train a run, or go on with it; an adversarial one's network is attacked after each epoch: `robust.jsonl`."""
    config, log = run.train, folder / "robust.jsonl"
    watched = config.method == "adversarial"
    shown = {split: chosen(load_dataset(config.dataset, split)) for split in ("train", "test") if watched}
    if log.exists():
        logs.drop_torn_row(log)
    done = len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0
    for record in train(config, folder, resume=folder.exists()):
        network, epoch = record.pop("model", None), record["epoch"]
        if network is not None:
            print(folder.name, json.dumps(record), flush=True)
        if not watched or epoch < done:
            continue
        if epoch == config.epochs - 1:
            network = load_run(folder)[0]  # as it is kept
        if network is None:
            raise InputError(
                f"{log}: got {done} epochs, and the network after the next is gone: expected a new FOLDER."
            )
        fast = InferenceNetwork(network, choose_precision(config.precision, "cpu"))
        found = {split: attacked(fast, *pair, config.epsilon) for split, pair in shown.items()}
        files.append_text(log, json.dumps({"epoch": epoch, "trained on": record["loss"], **found}) + "\n")


def evaluate(folder: Path, epsilon: float, source: Path | None) -> None:
    """The logs of the attacks on a run's network; by transfer from `source`, where there is one."""
    model, config = load_run(folder)
    data = load_dataset(config.dataset, "test")
    one_step = AttackSettings(
        sigma=0.0,
        objective="base",
        attack="fgsm",
        norm="linf",
        epsilon=epsilon,
        skip=len(data) // IMAGES,
        max=IMAGES,
        precision=config.precision,
    )
    many_steps = replace(one_step, attack="pgd", steps=STEPS, step_size=step_size(epsilon))
    restarted = replace(many_steps, restarts=RESTARTS)
    planned: dict[str, tuple[AttackSettings, nn.Module | None]] = {
        "clean": (replace(one_step, epsilon=0.0), None),
        "under-fgsm": (one_step, None),
        f"under-pgd{STEPS}x{RESTARTS}": (restarted, None),
        f"under-margin{STEPS}x{RESTARTS}": (replace(restarted, loss="margin"), None),
    }
    if source is not None:
        planned["under-transfer"] = many_steps, load_run(source)[0]
    for name, (settings, other) in planned.items():
        log = folder / f"{name}.tsv"
        for _ in attack_dataset(model, data, settings, log, source=other, resume=log.exists()):
            pass
        print(f"{folder.name}, {name}: {100 * logs.read_log(log).correct.mean():.1f} % right", flush=True)


def survey(place: Path, runs: list[RecipeRun], epsilon: float) -> None:
    """`landscape.npz`: the loss of each network around 150 test images, and around the first two that all get right."""
    networks = {}
    for run in runs:
        model, config = load_run(place / run.name)
        networks[run.name] = InferenceNetwork(model, config.precision)
    x, y = chosen(load_dataset(runs[0].train.dataset, "test"))
    with torch.no_grad():
        right = torch.stack([network(x).argmax(1) == y for network in networks.values()]).all(0)
    shown = right[:LINES].nonzero()[:2, 0].tolist()
    arrays: dict[str, np.ndarray] = {}
    for run_name, network in networks.items():
        found = landscape.study(network, x[:LINES], y[:LINES], shown, epsilon)
        arrays |= {f"{run_name}/{name}": values for name, values in found.arrays.items()}
    files.write_whole(place / "landscape.npz", lambda part: write_arrays(part, **arrays))


def main(arguments: list[str]) -> None:
    """Carry out a recipe."""
    if not 1 <= len(arguments) <= 2:
        raise InputError(f"arguments: got {len(arguments)}, expected RECIPE and, if not runs/RECIPE, a FOLDER.")
    runs = read_recipe(RECIPES / f"{arguments[0]}.toml")
    methods = {run.train.method for run in runs}
    if methods != {"standard", "adversarial"}:
        raise InputError(f"recipe: got the methods {', '.join(sorted(methods))}, expected adversarial and standard.")
    budgets = {(run.train.norm, run.train.epsilon) for run in runs if run.train.method == "adversarial"}
    if len(budgets) > 1 or {norm for norm, _ in budgets} != {"linf"}:
        named = ", ".join(f"{norm} {epsilon:g}" for norm, epsilon in sorted(budgets))
        raise InputError(f"recipe: got the budgets {named}, expected one, of linf.")
    ((_, epsilon),) = budgets
    place = Path(arguments[1]) if len(arguments) == 2 else Path("runs") / arguments[0]
    for run in runs:
        watch(run, place / run.name)
    plain = next(run.name for run in runs if run.train.method == "standard")
    for run in runs:
        evaluate(place / run.name, epsilon, place / plain if run.train.method == "adversarial" else None)
    if not (place / "landscape.npz").exists():
        survey(place, runs, epsilon)


if __name__ == "__main__":
    main(sys.argv[1:])
