"""`rslab attack`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rslab.cli.shared import (
    Arch,
    Dataset,
    Device,
    Normalization,
    Options,
    Resume,
    Run,
    chosen_sigma,
    finish_rows,
    log_path,
)
from rslab.evaluate.attack import attack_dataset
from rslab.evaluate.settings import AttackSettings, check_counts, chosen_indices
from rslab.evaluate.target import check_arch, check_target, load_target, trained_sigma
from rslab.machine.devices import choose_device
from rslab.smoothing.bounds import top_class_p_value
from rslab.store.logs import check_place, read_log
from rslab.store.run_folder import load_run, read_run


@dataclass(frozen=True)
class Chosen(AttackSettings):
    """What the command line may leave to the run."""

    sigma: float | None = None  # type: ignore[assignment]
    """σ of the noise; 0: none (default: the σ of training)"""
    target: Annotated[int | None, Parameter(name="--target-class")] = None
    """Class to reach (default: any wrong one)"""

    def __post_init__(self):
        pass  # checked when σ is known


def attack(
    run: Run,
    /,
    *,
    chosen: Annotated[Chosen, Options] = Chosen(),
    transfer: Annotated[Path | None, Parameter(help="Run folder of the model to craft the attack on")] = None,
    dataset: Dataset = None,
    normalization: Normalization = "auto",
    arch: Arch = None,
    out: Annotated[Path | None, Parameter(help="Log to write (default RUN/attack.tsv)")] = None,
    device: Device = "auto",
    resume: Resume = False,
):
    """Attack test images and let PREDICT judge: the field's log idx label predict basePredict correct time."""
    settings = AttackSettings(**asdict(chosen) | {"sigma": chosen_sigma(chosen.sigma, trained_sigma(run))})
    n, alpha = settings.n, settings.alpha
    if settings.sigma > 0 and top_class_p_value(n, 0) > alpha:
        print(f"Note: n = {n} votes cannot decide anything at α = {alpha:g}: every image abstains.", file=sys.stderr)
    log, device = log_path(out, run, "attack.tsv"), choose_device(device)
    if transfer is not None:
        read_run(transfer)
    check_target(run, dataset, normalization)
    check_arch(arch, *filter(None, (run, transfer)))
    check_counts(settings, device, read_run(run)[1] if run.is_dir() and not dataset else None)
    check_place(log, resume)
    model, data, _, _ = load_target(run, dataset, normalization, chosen.sigma, arch)
    source = None if transfer is None else load_run(transfer, arch=arch)[0]
    total = len(chosen_indices(len(data), settings.skip, settings.max))
    rows = attack_dataset(model, data, settings, log, source=source, device=device, resume=resume)
    finish_rows(rows, total, log, resume, f"attack {run.name}")
    result = read_log(log)
    g, f = 100 * result.correct.mean(), 100 * (result.basePredict == result.label).mean()
    abstained = f", g abstained on {100 * (result.predict == -1).mean():.1f} %" if settings.sigma > 0 else ""
    print(f"{log}\nUnder attack, {len(result)} images: g correct on {g:.1f} %, f on {f:.1f} %{abstained}")
