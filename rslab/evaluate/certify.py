"""Certify or attack a data set: reproducible, resumable, one log row an image.

Image i's noise comes from a generator seeded by (seed, i), so that a log is the
same whatever the order, and however often the run was stopped. Beside the log
`NAME.tsv`, the settings that made it stand in `NAME.json`; a resume with others
is refused.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

from torch import nn

from rslab.data.datasets import LabeledImages, check_data
from rslab.errors import check_kind, check_path
from rslab.evaluate.preparation import (
    check_classes,
    fast_copy,
    noisy_batch,
    note_softmax,
    note_units,
    plain_number,
    provenance_of,
    settled,
)
from rslab.evaluate.settings import CertifySettings, chosen_indices
from rslab.machine.devices import check_device
from rslab.machine.randomness import generator_for
from rslab.networks.compiled import CompiledNetwork, compiled_or_plain
from rslab.smoothing.bounds import SOFT_BOUNDS
from rslab.smoothing.classifier import SmoothedClassifier
from rslab.smoothing.function import as_module, check_function
from rslab.smoothing.sampling import SLACK
from rslab.store import logs
from rslab.store.shared_log import Share, open_share


def certify_dataset(
    model: nn.Module,
    data: LabeledImages,
    settings: CertifySettings,
    log: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
) -> Iterator[tuple]:
    """Certify the chosen images of `data` and append a row an image to `log`; yields the rows.

    Columns: idx label predict radius correct time count_a n n0 alpha; n is the number of votes taken.
    Of several processes each yields the rows of its share (`store.shared_log`).
    """
    model = as_module(model)
    data = check_data(data)
    check_kind("settings", settings, CertifySettings, "CertifySettings")
    log, device = check_path("log", log, "the path of a log"), check_device(device)
    check_classes(model, data, device)
    note_units(data.shape, sigma=settings.sigma)
    settings = settled(settings, data, device, log, resume)
    chosen = chosen_indices(len(data), settings.skip, settings.max)
    columns, plan = logs.CERTIFY_COLUMNS + logs.COUNT_COLUMNS, settings.plan()
    network, precision = fast_copy(model, data, settings, device)
    check_function(network, data.images[0].to(device), data.num_classes)
    settings = replace(settings, precision=precision)
    size = settings.batch_size or 1
    if settings.compile:
        size = min(size, plan.between) if plan else size  # no look waits for a batch filled up with zeros
        network = compiled_or_plain(network, size, noisy_batch(data, size, settings.sigma, device))
        settings = replace(settings, compile=isinstance(network, CompiledNetwork))
    if settings.bound in SOFT_BOUNDS:
        note_softmax(network, data, device)
    described = asdict(settings)
    described.pop("radii")
    described |= {"slack": SLACK[settings.sampler]}
    described |= {"radii": list(plan.radii), "between": plan.between} if plan else {}
    share = open_share(log, columns, described | provenance_of(model, data, device), chosen, resume)
    smoothed = SmoothedClassifier(network, data.num_classes, settings.sigma, size, settings.sampler)
    return share.during(_certified_rows(smoothed, data, settings, share, device))


def _certified_rows(smoothed, data, settings: CertifySettings, share: Share, device) -> Iterator[tuple]:
    n0, n, alpha, plan = settings.n0, settings.n, settings.alpha, settings.plan()
    for index in share.todo:
        began = time.perf_counter()
        x, generator = data.images[index].to(device), generator_for("certify", settings.seed, index, device)
        if plan is None:
            certificate = smoothed.certify(x, n0, n, alpha, bound=settings.bound, generator=generator)
        else:
            certificate = smoothed.certify_sequential(x, n0, plan, generator=generator)
        label, top = int(data.labels[index]), certificate.selected
        row = (
            index,
            label,
            certificate.prediction,
            certificate.radius,
            int(certificate.prediction == label),
            timedelta(seconds=time.perf_counter() - began),
            plain_number(certificate.counts[top]),
            certificate.n,
            certificate.n0,
            certificate.alpha,
        )
        share.append(row)
        yield row
