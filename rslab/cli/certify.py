"""`rslab certify`."""

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
from rslab.errors import InputError
from rslab.evaluate.certify import certify_dataset
from rslab.evaluate.settings import CertifySettings, check_counts, chosen_indices
from rslab.evaluate.target import check_arch, check_target, load_target, trained_sigma
from rslab.machine.devices import choose_device
from rslab.smoothing.bounds import max_certified_radius
from rslab.store.logs import check_place


@dataclass(frozen=True)
class Chosen(CertifySettings):
    """What the command line may leave to the run."""

    sigma: float | None = None  # type: ignore[assignment]
    """σ of the noise (default: the σ of training)"""

    def __post_init__(self):
        pass  # checked when σ is known


def certify(
    run: Run,
    /,
    *,
    chosen: Annotated[Chosen, Options] = Chosen(),
    sequential: Annotated[
        bool, Parameter(help="Stop once all radii are decided: short for --bound sequential")
    ] = False,
    dataset: Dataset = None,
    normalization: Normalization = "auto",
    arch: Arch = None,
    out: Annotated[Path | None, Parameter(help="Log to write (default RUN/certify.tsv)")] = None,
    device: Device = "auto",
    resume: Resume = False,
):
    """Certify test images: CERTIFY of Cohen et al., a row an image."""
    if sequential and chosen.bound not in ("clopper-pearson", "sequential"):
        raise InputError(f"bound: got {chosen.bound!r} with --sequential, expected one of the two.")
    trained = trained_sigma(run)
    sigma = chosen_sigma(chosen.sigma, trained)
    settings = CertifySettings(**asdict(chosen) | {"sigma": sigma} | ({"bound": "sequential"} if sequential else {}))
    log, device = log_path(out, run, "certify.tsv"), choose_device(device)
    check_target(run, dataset, normalization)
    check_arch(arch, run)
    check_counts(settings, device)
    check_place(log, resume)
    model, data, _, _ = load_target(run, dataset, normalization, chosen.sigma, arch)
    if trained is not None and trained != sigma:
        print(f"Note: σ = {sigma:g} here, {trained:g} in training.", file=sys.stderr)
    n, alpha = settings.n, settings.alpha
    cap = max_certified_radius(n, alpha, sigma)
    print(f"Largest radius that n = {n} and α = {alpha:g} allow at σ = {sigma:g}: {cap:.3f}", file=sys.stderr)
    if cap == 0:
        print(f"Note: n = {n} votes cannot certify anything at α = {alpha:g}: every image abstains.", file=sys.stderr)
    total = len(chosen_indices(len(data), settings.skip, settings.max))
    rows = certify_dataset(model, data, settings, log, device=device, resume=resume)
    finish_rows(rows, total, log, resume, f"certify {run.name}")
    print(log)
