"""Certify or attack a data set: reproducible, resumable, one log row an image.

Image i's noise comes from a generator seeded by (seed, i), so that a log is the
same whatever the order, and however often the run was stopped. Beside the log
`NAME.tsv`, the settings that made it stand in `NAME.json`; a resume with others
is refused.
"""

import hashlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, nn

from rslab import attacks, records
from rslab.bounds import BOUNDS
from rslab.config import NOISY, UsedBy, check_options, check_whole_numbers
from rslab.data import DATASETS, LabeledImages, beyond_the_cube, check_data, load_dataset
from rslab.devices import PRECISIONS, check_fits, choose_precision
from rslab.errors import (
    InputError,
    WorkError,
    check_at_least,
    check_choice,
    check_file,
    check_open_unit,
    check_positive,
    check_seed,
)
from rslab.inference import (
    CompiledNetwork,
    InferenceNetwork,
    as_module,
    check_function,
    compiled_or_plain,
    failures_in,
    logits_of,
)
from rslab.models import NORMALIZATIONS, Normalize, check_channels
from rslab.randomness import generator_for
from rslab.sampling import SLACK, check_sampler, noisy_copies, on_grid, whole_steps
from rslab.sequential import SequentialPlan, spacing
from rslab.shares import Share, open_share
from rslab.smoothing import SmoothedClassifier, default_batch_size, log_mean_probs, mean_log_probs
from rslab.tables import RADII, parse_radii


@dataclass(frozen=True)
class CertifySettings:
    """What a certification log depends on, beside model and data. σ in [0, 1] pixel units."""

    sigma: float
    n0: int = 100  # votes that select the class
    n: int = 100_000  # fresh votes that bound its probability
    alpha: float = 0.001  # allowed probability of a wrong certificate, an image
    bound: str = "clopper-pearson"  # "sequential": stop once every radius of interest is decided
    radii: str | None = None  # these, separated by commas (default: those of the table that n and α allow)
    seed: int = 0
    skip: int = 1  # take every skip-th image …
    max: int | None = None  # … and at most this many
    batch_size: int | None = None  # noisy images at a time (default: by size and device); orders a GPU's noise, and
    # spaces the looks of a sequential bound (`sequential.spacing`)
    sampler: str = "float"  # "grid": sound in floating point, for 8-bit images
    precision: str = "auto"  # of the network: the fastest that the device runs natively; logs say which
    compile: bool = False  # the network by torch.compile: seconds at first, faster after

    def __post_init__(self):
        check_whole_numbers(self)
        check_positive("sigma", self.sigma)
        check_open_unit("alpha", self.alpha)
        check_choice("bound", self.bound, (*BOUNDS, "sequential"))
        check_sampler(self.sampler, self.sigma)
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("n0", "n", "skip"):
            check_at_least(name, getattr(self, name), 1)
        if self.plan() is None and self.radii is not None:
            raise InputError(f"radii: got {self.radii!r} with bound {self.bound!r}, expected --sequential with them.")
        if self.bound == "bernstein":
            check_at_least("n", self.n, 2)  # a variance
        _check_optional_counts(self)
        check_seed(self.seed)

    def plan(self) -> SequentialPlan | None:
        """When to look at the votes and what to conclude, if that is sequential."""
        if self.bound != "sequential":
            return None
        rest = (self.n, self.alpha, SLACK[self.sampler], spacing(self.batch_size))
        if self.radii is None:
            return SequentialPlan.within_reach(self.sigma, RADII, *rest)
        return SequentialPlan(self.sigma, parse_radii(self.radii), *rest)


ATTACK_USED_BY: UsedBy = {
    "attack": {"steps": ("pgd", "ddn"), "step_size": ("pgd",)},
    "objective": {"samples": ("smoothadv", "naive")},
}


@dataclass(frozen=True)
class AttackSettings:
    """An attack on the smoothed classifier, judged by PREDICT with n votes. ε in [0, 1] pixel units.

    σ = 0 means no smoothing: f itself is attacked and judged (empirical robust accuracy).
    """

    sigma: float
    attack: str = "pgd"
    objective: str = "smoothadv"
    loss: str = "cross-entropy"
    norm: str = "l2"
    epsilon: float = 0.5
    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    samples: int = 32  # m, noisy copies that estimate the gradient
    stein: bool = False  # estimate it from values of f alone
    target: int | None = None  # the class to reach; None: any but the label
    n: int = 10_000
    alpha: float = 0.001
    seed: int = 0
    skip: int = 1
    max: int | None = None
    batch_size: int | None = None
    sampler: str = "float"  # of PREDICT; "grid" judges the attacked image moved onto the grid, towards the original
    precision: str = "auto"  # of the networks, in attack and judgement
    batch: int | None = None  # images attacked at a time (default: by size, m and device); changes rounding only

    def __post_init__(self):
        check_whole_numbers(self)
        check_at_least("sigma", self.sigma, 0)
        check_sampler(self.sampler, self.sigma)
        check_choice("precision", self.precision, PRECISIONS)
        if self.sigma == 0 and self.objective != "base":
            raise InputError(f"objective: got {self.objective!r} with σ = 0, expected 'base': without noise G is F.")
        if self.sigma == 0 and self.sampler != "float":
            raise InputError(f"sampler: got {self.sampler!r} with σ = 0, expected 'float': nothing is sampled.")
        check_choice("attack", self.attack, ("pgd", "ddn", "fgsm"))
        check_choice("objective", self.objective, ("smoothadv", "naive", "base"))
        check_choice("loss", self.loss, attacks.OBJECTIVES)
        check_choice("norm", self.norm, attacks.NORMS)
        check_at_least("epsilon", self.epsilon, 0)
        check_open_unit("alpha", self.alpha)
        for name in ("steps", "restarts", "samples", "n", "skip"):
            check_at_least(name, getattr(self, name), 1)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        _check_optional_counts(self)
        if self.attack == "ddn" and self.norm != "l2":
            raise InputError(f"norm: got {self.norm!r} with attack 'ddn', expected 'l2': DDN minimises an l2 norm.")
        if self.attack != "pgd" and (self.restarts > 1 or self.loss != "cross-entropy" or self.stein):
            raise InputError(f"attack: got {self.attack!r} with restarts, loss or stein, expected 'pgd' for these.")
        if self.stein and self.objective != "smoothadv":
            raise InputError(f"stein: got objective {self.objective!r}, expected 'smoothadv': it estimates ∇G.")
        if self.stein and self.loss != "cross-entropy":
            raise InputError(f"stein: got loss {self.loss!r}, expected 'cross-entropy': it estimates ∇ log G.")
        if self.target is not None:
            check_at_least("target", self.target, 0)
        check_seed(self.seed)
        check_options(self, ATTACK_USED_BY)


def _check_optional_counts(settings: CertifySettings | AttackSettings) -> None:
    for name in ("max", "batch_size", "batch"):
        if getattr(settings, name, None) is not None:
            check_at_least(name, getattr(settings, name), 1)


def trained_sigma(target: Path) -> float | None:
    """σ of the training of a run folder, by its config.json alone; None of a run without noise or a checkpoint."""
    if not target.exists():
        raise InputError(f"RUN: got {target}, which does not exist, expected a run folder or a checkpoint.")
    if not target.is_dir():
        check_file(target, "a run folder or a checkpoint")
        return None
    config, _ = records.read_run(target)
    return config.sigma if config.method in NOISY else None


def check_counts(settings: CertifySettings | AttackSettings, device: str, classes: int | None = None) -> None:
    """What no image is small enough for is refused before anything is loaded, and a target beyond the classes."""
    for name in ("batch_size", "samples"):
        if (count := getattr(settings, name, None)) is not None:
            votes = max(settings.n, getattr(settings, "n0", 0)) if name == "batch_size" else count
            check_fits(name, min(count, votes), 4, device)
    target = getattr(settings, "target", None)
    if target is not None and classes is not None and not 0 <= target < classes:
        raise InputError(f"target: got {target}, expected a class 0 … {classes - 1}.")


def check_target(target: Path, dataset: str | None, normalization: str) -> None:
    """What can be refused of the options of `load_target` before anything is loaded."""
    check_choice("normalization", normalization, ("auto", *NORMALIZATIONS))
    if dataset is not None:
        check_choice("dataset", dataset, DATASETS)
    if target.is_dir() and normalization != "auto":
        raise InputError(
            f"normalization: got {normalization!r} with a run folder, whose config.json says which it has, "
            "expected 'auto'."
        )


def load_target(target: Path, dataset: str | None, normalization: str, sigma: float | None):
    """(model, test data, σ of training or None, run folder or None) of a run or a published checkpoint.

    A published checkpoint does not say which normalisation layer it was trained with. With
    "auto" both are tried on 200 noisy test images; the better one is taken, and said.
    """
    trained = trained_sigma(target)
    check_target(target, dataset, normalization)
    if target.is_dir():
        model, config = records.load_run(target)
        return model, load_dataset(dataset or config.dataset, "test"), trained, target
    tried = NORMALIZATIONS if normalization == "auto" else (normalization,)
    models, refused = {}, None
    for name in tried:
        try:
            models[name] = records.import_checkpoint(target, normalization=name)
        except InputError as error:  # its first layer may be the other one's
            refused = error
    if refused and not models:
        raise refused
    data = load_dataset(dataset or next(iter(models.values()))[1], "test")
    if len(models) == 1:
        return next(iter(models.values()))[0], data, None, None
    accuracy = {name: _noisy_accuracy(model, data, sigma or 0.0) for name, (model, _) in models.items()}
    best = max(accuracy, key=lambda name: accuracy[name])
    found = ", ".join(f"{name} {value:.1%}" for name, value in accuracy.items())
    print(f"Normalization {best}: accuracy on 200 noisy test images is {found}.", file=sys.stderr)
    return models[best][0], data, None, None


@torch.no_grad()
def _noisy_accuracy(model: nn.Module, data: LabeledImages, sigma: float) -> float:
    x, y = data.images[:200], data.labels[:200]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) * sigma
    logits = logits_of(model, x + noise)
    return float(((logits.argmax(1) == y) & ~logits.isnan().any(1)).float().mean())


def chosen_indices(size: int, skip: int, limit: int | None) -> list[int]:
    """Every skip-th index of 0 … size − 1, at most `limit` of them."""
    return list(range(0, size, skip))[:limit]


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
    Of several processes each yields the rows of its share (`shares`).
    """
    model = as_module(model)
    data = check_data(data)
    _check_classes(model, data, device)
    _note_units(data.shape, sigma=settings.sigma)
    settings = _settled(settings, data, device, log, resume)
    chosen = chosen_indices(len(data), settings.skip, settings.max)
    columns, plan = records.CERTIFY_COLUMNS + records.COUNT_COLUMNS, settings.plan()
    network, precision = _fast_copy(model, data, settings, device)
    check_function(network, data.images[0].to(device), data.num_classes)
    settings = replace(settings, precision=precision)
    size = settings.batch_size or 1
    if settings.compile:
        size = min(size, plan.between) if plan else size  # no look waits for a batch filled up with zeros
        network = compiled_or_plain(network, size, _noisy_batch(data, size, settings.sigma, device))
        settings = replace(settings, compile=isinstance(network, CompiledNetwork))
    if settings.bound in ("hoeffding", "bernstein"):
        _note_softmax(network, data, device)
    described = asdict(settings)
    described.pop("radii")
    described |= {"slack": SLACK[settings.sampler]}
    described |= {"radii": list(plan.radii), "between": plan.between} if plan else {}
    share = open_share(log, columns, described | _provenance(model, data, device), chosen, resume)
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
            _plain_number(certificate.counts[top]),
            certificate.n,
            certificate.n0,
            certificate.alpha,
        )
        share.append(row)
        yield row


def attack_dataset(
    model: nn.Module,
    data: LabeledImages,
    settings: AttackSettings,
    log: Path,
    *,
    source: nn.Module | None = None,
    device: str = "cpu",
    resume: bool = False,
) -> Iterator[tuple]:
    """Attack each chosen image, let PREDICT judge the result, append a row; yields the rows.

    Columns: idx label predict basePredict correct time, of the attacked image.
    `source`: craft the attack on this model instead (transfer attack).
    """
    model = as_module(model)
    data = check_data(data)
    _check_classes(model, data, device)
    _note_units(data.shape, settings.norm, epsilon=settings.epsilon)
    _note_units(data.shape, sigma=settings.sigma)
    check_counts(settings, device, data.num_classes)
    settings = _settled(settings, data, device, log, resume)
    provenance = _provenance(model, data, device)
    if source is not None:
        source = as_module(source)
        _check_classes(source, data, device)
        theirs = _provenance(source, data, device)
        provenance |= {"source_weights": theirs["weights"], "source_weights_normalization": theirs["normalization"]}
    network, precision = _fast_copy(model, data, settings, device)
    check_function(network, data.images[0].to(device), data.num_classes)
    settings = replace(settings, precision=precision)
    attacked = network if source is None else _fast_copy(source, data, settings, device)[0]
    chosen = chosen_indices(len(data), settings.skip, settings.max)
    if not settings.stein:
        _check_gradient(attacked, data.images[:1].to(device))
    share = open_share(log, records.ATTACK_COLUMNS, asdict(settings) | provenance, chosen, resume)
    _note_softmax(attacked, data, device)
    smoothed = None
    if settings.sigma > 0:
        smoothed = SmoothedClassifier(network, data.num_classes, settings.sigma, settings.batch_size, settings.sampler)
    return share.during(_attacked_rows(smoothed, network, attacked, data, settings, share, device))


def _attacked_rows(smoothed, network, attacked, data, settings: AttackSettings, share, device) -> Iterator[tuple]:
    size, flat = settings.batch or 1, 0
    for indices in (share.todo[start : start + size] for start in range(0, len(share.todo), size)):
        began = time.perf_counter()
        x, y = data.images[indices].to(device), data.labels[indices].to(device)
        generators = [generator_for("attack", settings.seed, index, device) for index in indices]
        flat_spots = torch.zeros(len(x), dtype=torch.int64, device=device)
        adversarial = attack_batch(attacked, x, y, settings, generators, flat_spots)
        flat += int((flat_spots > 0).sum())
        if settings.sampler == "grid":
            adversarial = on_grid(x, adversarial)
        with torch.no_grad():
            logits = network(adversarial)
            if bool(logits.isnan().any()):
                raise WorkError("The network gave NaN for an attacked image, which is no class: nothing is judged.")
            bases = logits.argmax(1).tolist()
        attacking = (time.perf_counter() - began) / len(indices)
        for index, image, label, base in zip(indices, adversarial, y.tolist(), bases, strict=True):
            began, predict = time.perf_counter(), base
            if smoothed is not None:
                generator = generator_for("predict", settings.seed, index, device)
                predict = smoothed.predict(image, settings.n, settings.alpha, generator=generator).prediction
            took = timedelta(seconds=attacking + time.perf_counter() - began)
            row = (index, label, predict, base, int(predict == label), took)
            share.append(row)
            yield row
    if flat:
        print(
            f"Note: the gradient vanished for {flat} of {len(share.todo)} images at some step: "
            + ("FGSM leaves them as they are." if settings.attack == "fgsm" else "a random direction was taken there."),
            file=sys.stderr,
        )


def attack_batch(
    model,
    x: Tensor,
    y: Tensor,
    settings: AttackSettings,
    generators: list[torch.Generator],
    flat_spots: Tensor | None = None,
) -> Tensor:
    """The attack that `settings` describe on images (B, C, H, W) with labels (B,), noise fixed for all steps.

    Each image has a generator of its own, so that what it suffers does not depend on its neighbours.
    """
    s = settings
    copies = 0 if s.objective == "base" else s.samples
    shape = (copies, 1, *x.shape[1:])
    noise = torch.cat([torch.randn(shape, device=x.device, generator=g) for g in generators], 1) * s.sigma
    log_probs = {
        "base": model,
        "naive": lambda z: mean_log_probs(model, z, noise),
        "smoothadv": lambda z: log_mean_probs(model, z, noise),
    }[s.objective]
    targeted = s.target is not None
    if s.target is not None:
        y = torch.full_like(y, s.target)
    objective = attacks.OBJECTIVES[s.loss]
    if s.loss == "cross-entropy" and s.objective != "base":  # log-probabilities already
        objective = attacks.negative_log_likelihood
    if s.attack == "fgsm":
        return attacks.fgsm(
            log_probs, x, y, s.epsilon, norm=s.norm, objective=objective, targeted=targeted, flat_spots=flat_spots
        )
    if s.attack == "ddn":
        return attacks.ddn(
            log_probs, x, y, s.epsilon, steps=s.steps, objective=objective, targeted=targeted, flat_spots=flat_spots
        )
    return attacks.pgd(
        log_probs,
        x,
        y,
        s.epsilon,
        steps=s.steps,
        step_size=s.step_size,
        norm=s.norm,
        objective=objective,
        targeted=targeted,
        restarts=s.restarts,
        gradient=attacks.stein_gradients(model, noise, s.sigma) if s.stein else None,
        flat_spots=flat_spots,
        generator=generators,
    )


def _plain_number(count: float) -> int | float:
    return int(count) if float(count).is_integer() else float(count)


def _settled(settings, data: LabeledImages, device: str, log: Path, resume: bool):
    """The settings with what was left open decided: as the log began that is resumed, or else by the device."""
    if resume and (beside := records.settings_path(Path(log))).exists():
        begun = records.read_json(beside)
        if settings.batch_size is None and isinstance(begun.get("batch_size"), int):
            settings = replace(settings, batch_size=begun["batch_size"])
        if settings.precision == "auto" and begun.get("precision") in PRECISIONS:
            settings = replace(settings, precision=begun["precision"])
    if settings.sampler == "grid":  # refused here and not at some later image
        chosen = chosen_indices(len(data), settings.skip, settings.max)
        for part in chosen if isinstance(data.images, Tensor) else chosen[:1]:  # files hold 8-bit levels
            whole_steps(data.images[part])
        noisy_copies(settings.sampler, data.images[0], settings.sigma)
    size = settings.batch_size or default_batch_size(data.shape, torch.device(device).type)
    settings = replace(settings, batch_size=size, precision=choose_precision(settings.precision, device))
    pixels = 4 * math.prod(data.shape)  # bytes of an image
    if isinstance(settings, AttackSettings):
        check_fits("samples", settings.samples, pixels, device)
    votes = max(settings.n, settings.n0) if isinstance(settings, CertifySettings) else settings.n
    check_fits("batch_size", size if getattr(settings, "compile", False) else min(size, votes), pixels, device)
    if isinstance(settings, AttackSettings):
        return replace(
            settings, batch=settings.batch or max(1, size // (1 if settings.objective == "base" else settings.samples))
        )
    return settings


def _check_classes(model: nn.Module, data: LabeledImages, device: str) -> None:
    """The model, which moves to `device`, must take the images of `data` and give one logit a class."""
    model, image = model.to(device), data.images[:1].to(device)
    check_channels(model, image)
    sentence = f"model: got a network that does not take {data.name} images of shape {data.shape}: it fails on {{}}."
    with torch.no_grad(), failures_in(sentence, image):
        logits = logits_of(model, image)
    if logits.shape != (1, data.num_classes):
        got = logits.shape[-1] if logits.dim() == 2 else f"logits of shape {tuple(logits.shape)} for one image, not"
        raise InputError(f"model: got {got} classes, expected the {data.num_classes} classes of {data.name}.")


def _noisy_batch(data: LabeledImages, size: int, sigma: float, device: str) -> Tensor:
    """`size` noisy copies of the first image: (size, C, H, W)."""
    noise = torch.randn(size, *data.shape, generator=torch.Generator().manual_seed(0))
    return (data.images[:1] + sigma * noise).to(device)


def _fast_copy(model: nn.Module, data: LabeledImages, settings, device: str) -> tuple[nn.Module, str]:
    """A fast network, compared with `model` on a batch, and the precision that it computes in."""
    network = InferenceNetwork(model, settings.precision)
    with torch.no_grad():
        network(_noisy_batch(data, 8, settings.sigma, device))
    return network, str(network.dtype).removeprefix("torch.")


def _check_gradient(network: nn.Module, x: Tensor) -> None:
    """`InputError` where PyTorch cannot follow images through the network: what NumPy computes, say."""
    sentence = "model: got one that fails on {} where a gradient is asked for, expected one that PyTorch differentiates"
    with torch.enable_grad(), failures_in(f"{sentence}, or --stein, which takes values alone.", x):
        network(x.clone().requires_grad_())


def _note_units(shape: tuple[int, ...], norm: str = "l2", **distances: float) -> None:
    for name, value in distances.items():
        if note := beyond_the_cube(name, value, shape, norm):
            print(note, file=sys.stderr)


def _note_softmax(network: nn.Module, data: LabeledImages, device: str) -> None:
    """Say so where the outputs are probabilities already: soft votes and losses would take the softmax of them."""
    with torch.no_grad():
        logits = network(data.images[:4].to(device))
    if bool((logits >= 0).all()) and bool((logits.sum(1) - 1).abs().max() < 1e-3):
        print(
            "Note: the model's outputs look like probabilities (a softmax at its end), where logits are expected: "
            "soft votes, losses and margins come out too flat.",
            file=sys.stderr,
        )


def _provenance(model: nn.Module, data: LabeledImages, device: str) -> dict:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + _bytes(tensor))
    normalize = [layer for layer in model.modules() if isinstance(layer, Normalize)]  # not in the state dict
    return {
        "normalization": [[values.flatten().tolist() for values in (n.mean, n.std)] for n in normalize],
        "dataset": data.name,
        "data_checksum": data.checksum,
        "weights": digest.hexdigest(),
        "device": torch.device(device).type,
    }


def _bytes(value) -> bytes:
    """What an entry of a state dict is made of: numbers, also of a quantised one; other things by their text."""
    if isinstance(value, tuple | list):
        return b"".join(map(_bytes, value))
    if not isinstance(value, Tensor):
        return repr(value).encode()
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
