"""The command line: `rslab lab | demo | train | certify | attack | table | reproduce | bench | data`.

Exit code 0 when the work is done, 2 for bad input, 1 for failed work: one sentence, no traceback.
"""

import sys
from dataclasses import fields
from errno import ENAMETOOLONG
from pathlib import Path
from typing import Annotated

import typer

from rslab import commands
from rslab.commands import Device, bar, finish
from rslab.config import ATTACKS, METHODS, OUTER_LOSSES, SCHEDULES, TrainConfig
from rslab.errors import InputError, WorkError, check_new_file, check_new_folder
from rslab.machine import distributed
from rslab.machine.devices import choose_device, choose_precision

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Randomized Smoothing Lab: train, attack and certify smoothed classifiers. "
    "σ, ε and radii are l2 distances for images in [0, 1]; papers that count ε in 1/255ths mean ε/255 here.",
)

Alpha = Annotated[float, typer.Option(help="α: allowed probability of a wrong answer, an image, in (0, 1)")]
Seed = Annotated[int, typer.Option(help="Seed of all randomness, 0 … 1000")]
Skip = Annotated[int, typer.Option(help="Take every SKIP-th test image")]
Max = Annotated[int | None, typer.Option(help="Take at most MAX images, after --skip")]
Sampler = Annotated[str, typer.Option(help="Noise: float, or grid (sound in floating point, 8-bit images)")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run or log")]
PRECISION = "auto is the fastest that the device runs natively, bfloat16 or float32"
Precision = Annotated[str, typer.Option(help="Of the network; logs record it: " + PRECISION)]
DEFAULT = TrainConfig()
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Storage size calculation overflowed")


def main() -> None:
    """Run the command line; every expected mistake becomes one sentence."""
    try:
        with distributed.joined(sys.argv[1] if sys.argv[1:] else "--help"):
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (InputError, WorkError) as error:
        code = _say(error, 2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        code = _say("stopped; the same command with --resume goes on.", 130)
    except BrokenPipeError:  # `rslab table … | head`
        sys.stdout = None
        code = 1
    except OSError as error:
        name = str(error.filename or "file")[:80]
        code = _say(f"{name}: could not be used ({error.strerror or error}).", 2 if error.errno == ENAMETOOLONG else 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's complaint about an option
            code = _say(error.format_message(), 2)
        elif isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY):
            code = _say(
                "memory: not enough for so much at a time; try a smaller --batch-size, --batch or --samples.", 1
            )
        else:
            raise  # a bug
    sys.exit(code if isinstance(code, int) else 0)


def _say(message, code: int) -> int:
    print(f"rslab: {message}", file=sys.stderr)
    return code


# -- the main job --------------------------------------------------------------------------


@app.command()
def lab(
    browser: Annotated[bool, typer.Option(help="Open a browser")] = True,
    present: Annotated[bool, typer.Option("--present", help="For a projector: a copy, code hidden, large")] = False,
):
    """Open the course in JupyterLab (on this computer only, with its token)."""
    from rslab.lectures.lab import open_lab

    sys.exit(open_lab(browser, present))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the two runs and the plot")] = Path("runs/demo"),
    device: Device = "auto",
):
    """Train a Gaussian and a SmoothAdv classifier on digits, certify both, print the table, save the plot."""
    from rslab.experiments.plans import PLANS, carry_out, read_plan
    from rslab.lectures.results import certified_accuracy_figure
    from rslab.report import tables
    from rslab.smoothing import bounds
    from rslab.store import files

    check_new_folder("out", out)
    device = choose_device(device)
    plan = read_plan(PLANS / "demo.txt")
    carry_out(plan, out, device=device, progress=bar)
    logs = tables.find_logs([out / run.name for run in plan]).logs
    logs = dict(zip([run.name for run in plan], logs.values(), strict=True))
    first = plan[0]
    print(
        f"\nCertified accuracy in % on {first.certify.max} test digits, σ = {first.train.sigma}, "
        f"n = {first.certify.n}, α = {first.certify.alpha}, by l2 radius:\n"
    )
    print(tables.format_table(tables.accuracy_table(logs, bounds.RADII[:5])))
    radii, curves = tables.curve_grid(logs), {}
    for name, log in logs.items():
        curves[name] = (radii, tables.certified_accuracy(log, radii))
    plot = out / "certified_accuracy.png"
    figure = certified_accuracy_figure(curves, f"Embedded digits, σ = {first.train.sigma}")
    files.write_whole(plot, lambda file: figure.savefig(file, dpi=150, format="png"))
    print(f"\nPlot: {plot}\nRuns: {out}/gaussian and {out}/smoothadv (delete {out} to train again)")


# -- train, certify, attack ----------------------------------------------------------------


@app.command()
def train(
    out: Annotated[Path | None, typer.Option(help="Run folder (default runs/DATASET-ARCH-METHOD-σ)")] = None,
    dataset: Annotated[str, typer.Option(help="digits, mnist, mnist8, cifar10 or imagenet")] = DEFAULT.dataset,
    arch: Annotated[
        str, typer.Option(help="cnn, strided-cnn, resnet8-half, resnet14-wide, resnet20, resnet110 or resnet50")
    ] = DEFAULT.arch,
    normalization: Annotated[str, typer.Option(help="First layer: standard, or center")] = DEFAULT.normalization,
    method: Annotated[str, typer.Option(help="; ".join(f"{k}: {v}" for k, v in METHODS.items()))] = DEFAULT.method,
    sigma: Annotated[float, typer.Option(help="σ of the noise, [0, 1] pixel units")] = DEFAULT.sigma,
    attack: Annotated[str, typer.Option(help=f"Attack in training: {', '.join(ATTACKS)}")] = DEFAULT.attack,
    norm: Annotated[str, typer.Option(help="Norm of the attack: l2 or linf")] = DEFAULT.norm,
    epsilon: Annotated[float, typer.Option(help="ε of the attack, [0, 1] pixel units")] = DEFAULT.epsilon,
    steps: Annotated[int, typer.Option(help="T: iterations of the attack")] = DEFAULT.steps,
    step_size: Annotated[float | None, typer.Option(help="η of PGD (default 2.5 ε / T)")] = None,
    random_start: Annotated[bool, typer.Option("--random-start", help="PGD from a random point")] = False,
    samples: Annotated[int, typer.Option(help="m: noisy copies an image, for attack and update")] = DEFAULT.samples,
    warmup: Annotated[int, typer.Option(help="Epochs over which ε grows to its value")] = DEFAULT.warmup,
    outer: Annotated[str, typer.Option(help=f"SmoothAdv's loss: {', '.join(OUTER_LOSSES)}")] = DEFAULT.outer,
    consistency: Annotated[float, typer.Option(help="λ of consistency")] = DEFAULT.consistency,
    confidence: Annotated[float, typer.Option(help="η of consistency: weight of the entropy")] = DEFAULT.confidence,
    clean: Annotated[float, typer.Option(help="adversarial: share of the loss on clean images")] = DEFAULT.clean,
    epochs: Annotated[int, typer.Option(help="Passes over the training set")] = DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(help="Images a step (times m copies)")] = DEFAULT.batch_size,
    lr: Annotated[float, typer.Option(help="Highest learning rate of SGD")] = DEFAULT.lr,
    schedule: Annotated[str, typer.Option(help=f"Learning rate: {', '.join(SCHEDULES)}")] = DEFAULT.schedule,
    rise: Annotated[float, typer.Option(help="one-cycle: share of the run over which it rises")] = DEFAULT.rise,
    momentum: Annotated[float, typer.Option(help="Nesterov momentum")] = DEFAULT.momentum,
    weight_decay: Annotated[float, typer.Option(help="l2 penalty on the weights")] = DEFAULT.weight_decay,
    decayed: Annotated[str, typer.Option(help="Whose weights decay: all, or matrices alone")] = DEFAULT.decayed,
    average: Annotated[float, typer.Option(help="Decay of a running average of the weights")] = DEFAULT.average,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or auto: " + PRECISION)] = DEFAULT.precision,
    augment: Annotated[bool, typer.Option("--augment", help="Random crop and flip")] = False,
    seed: Seed = DEFAULT.seed,
    pretrained: Annotated[str | None, typer.Option(help="Run folder whose weights to start from")] = None,
    labels: Annotated[int | None, typer.Option(help="Keep this many labels, hide the rest")] = None,
    unlabelled: Annotated[str | None, typer.Option(help="Pool: hidden, or a data set")] = None,
    pseudo_labels: Annotated[str | None, typer.Option(help="Run folder that labels the pool")] = None,
    pool_weight: Annotated[float, typer.Option(help="Weight of a pool image's loss")] = DEFAULT.pool_weight,
    device: Device = "auto",
    resume: Resume = False,
):
    """Train a classifier; by --method, from no noise at all to SmoothAdv."""
    if precision == "auto":
        precision = choose_precision(precision, choose_device(device))
    chosen = locals()
    config = TrainConfig(**{field.name: chosen[field.name] for field in fields(TrainConfig)})
    out = check_new_folder("out", out or Path("runs") / f"{dataset}-{arch}-{method}-{sigma:g}")
    device = choose_device(device)
    from rslab.training import loop

    finish(bar(loop.train(config, out, device=device, resume=resume), epochs, 0, f"train {out.name}"))
    print(out)


@app.command()
def certify(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a published checkpoint.pth.tar")],
    sigma: Annotated[float | None, typer.Option(help="σ of the noise (default: the σ of training)")] = None,
    n0: Annotated[int, typer.Option(help="Votes that select the class")] = 100,
    n: Annotated[int, typer.Option(help="Fresh votes that bound its probability")] = 100_000,
    alpha: Alpha = 0.001,
    bound: Annotated[
        str,
        typer.Option(
            help="clopper-pearson, two-class (p_B bounded too), hoeffding, bernstein (soft votes), or sequential"
        ),
    ] = "clopper-pearson",
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Stop once all radii are decided: short for --bound sequential")
    ] = False,
    radii: Annotated[str | None, typer.Option(help="With --sequential: these radii (default: the table's)")] = None,
    sampler: Sampler = "float",
    skip: Skip = 1,
    max: Max = None,
    seed: Seed = 0,
    batch_size: Annotated[int | None, typer.Option(help="Noisy images at a time (default: by size)")] = None,
    precision: Precision = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile the network: for long runs")] = False,
    dataset: Annotated[str | None, typer.Option(help="Another data set than the run's own")] = None,
    normalization: Annotated[str, typer.Option(help="Checkpoint's first layer: auto, standard or center")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Log to write (default RUN/certify.tsv)")] = None,
    device: Device = "auto",
    resume: Resume = False,
):
    """Certify test images: CERTIFY of Cohen et al., a row an image."""
    from rslab.evaluate.certify import certify_dataset
    from rslab.evaluate.settings import CertifySettings, check_counts, chosen_indices
    from rslab.evaluate.target import check_target, load_target, trained_sigma
    from rslab.smoothing.bounds import max_certified_radius
    from rslab.store.logs import check_place

    if sequential and bound not in ("clopper-pearson", "sequential"):
        raise InputError(f"bound: got {bound!r} with --sequential, expected one of the two.")
    as_trained = trained_sigma(target)
    settings = CertifySettings(
        sigma=_sigma(sigma, as_trained), n0=n0, n=n, alpha=alpha, bound="sequential" if sequential else bound,
        radii=radii, seed=seed, skip=skip, max=max, batch_size=batch_size, sampler=sampler,
        precision=precision, compile=compile,
    )  # fmt: skip
    log, device = _log_path(out, target, "certify.tsv"), choose_device(device)
    check_target(target, dataset, normalization)
    check_counts(settings, device)
    check_place(log, resume)
    model, data, _, _ = load_target(target, dataset, normalization, sigma)
    if as_trained is not None and as_trained != settings.sigma:
        print(f"Note: σ = {settings.sigma:g} here, {as_trained:g} in training.", file=sys.stderr)
    cap = max_certified_radius(n, alpha, settings.sigma)
    print(f"Largest radius that n = {n} and α = {alpha:g} allow at σ = {settings.sigma:g}: {cap:.3f}", file=sys.stderr)
    if cap == 0:
        print(f"Note: n = {n} votes cannot certify anything at α = {alpha:g}: every image abstains.", file=sys.stderr)
    total = len(chosen_indices(len(data), skip, max))
    rows = certify_dataset(model, data, settings, log, device=device, resume=resume)
    _finish_rows(rows, total, log, resume, f"certify {target.name}")
    print(log)


@app.command()
def attack(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a published checkpoint.pth.tar")],
    sigma: Annotated[float | None, typer.Option(help="σ of the noise; 0: none (default: as trained)")] = None,
    attack: Annotated[str, typer.Option(help="pgd, ddn or fgsm")] = "pgd",
    objective: Annotated[str, typer.Option(help="What is attacked: smoothadv (G), naive or base (f)")] = "smoothadv",
    loss: Annotated[str, typer.Option(help="Of PGD: cross-entropy, or margin (Carlini–Wagner)")] = "cross-entropy",
    norm: Annotated[str, typer.Option(help="l2 or linf")] = "l2",
    epsilon: Annotated[float, typer.Option(help="ε, [0, 1] pixel units")] = 0.5,
    steps: Annotated[int, typer.Option(help="T: iterations")] = 20,
    step_size: Annotated[float | None, typer.Option(help="η of PGD (default 2.5 ε / T)")] = None,
    restarts: Annotated[int, typer.Option(help="Starts of PGD; all but the first are random")] = 1,
    samples: Annotated[int, typer.Option(help="m: noisy copies that estimate the gradient")] = 32,
    stein: Annotated[bool, typer.Option("--stein", help="Gradient by Stein's lemma, from values of f")] = False,
    target_class: Annotated[int | None, typer.Option(help="Class to reach (default: any wrong one)")] = None,
    transfer: Annotated[Path | None, typer.Option(help="Run folder of the model to craft the attack on")] = None,
    n: Annotated[int, typer.Option(help="Votes of PREDICT on the attacked image")] = 10_000,
    sampler: Sampler = "float",
    alpha: Alpha = 0.001,
    skip: Skip = 1,
    max: Max = None,
    seed: Seed = 0,
    batch: Annotated[int | None, typer.Option(help="Images attacked at a time (default: by size and m)")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Noisy images at a time (default: by size)")] = None,
    precision: Precision = "auto",
    dataset: Annotated[str | None, typer.Option(help="Another data set than the run's own")] = None,
    normalization: Annotated[str, typer.Option(help="Checkpoint's first layer: auto, standard or center")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Log to write (default RUN/attack.tsv)")] = None,
    device: Device = "auto",
    resume: Resume = False,
):
    """Attack test images and let PREDICT judge: the field's log idx label predict basePredict correct time."""
    from rslab.evaluate.attack import attack_dataset
    from rslab.evaluate.settings import AttackSettings, check_counts, chosen_indices
    from rslab.evaluate.target import check_target, load_target, trained_sigma
    from rslab.smoothing.bounds import top_class_p_value
    from rslab.store import run_folder
    from rslab.store.logs import check_place, read_log

    settings = AttackSettings(
        sigma=_sigma(sigma, trained_sigma(target)), attack=attack, objective=objective, loss=loss, norm=norm,
        epsilon=epsilon, steps=steps, step_size=step_size, restarts=restarts, samples=samples, stein=stein,
        target=target_class, n=n, alpha=alpha, skip=skip, max=max, seed=seed, sampler=sampler,
        batch=batch, batch_size=batch_size, precision=precision,
    )  # fmt: skip
    if settings.sigma > 0 and top_class_p_value(n, 0) > alpha:
        print(f"Note: n = {n} votes cannot decide anything at α = {alpha:g}: every image abstains.", file=sys.stderr)
    log, device = _log_path(out, target, "attack.tsv"), choose_device(device)
    if transfer is not None:
        run_folder.read_run(transfer)
    check_target(target, dataset, normalization)
    check_counts(settings, device, run_folder.read_run(target)[1] if target.is_dir() and not dataset else None)
    check_place(log, resume)
    model, data, _, _ = load_target(target, dataset, normalization, sigma)
    source = None if transfer is None else run_folder.load_run(transfer)[0]
    total = len(chosen_indices(len(data), skip, max))
    rows = attack_dataset(model, data, settings, log, source=source, device=device, resume=resume)
    _finish_rows(rows, total, log, resume, f"attack {target.name}")
    result = read_log(log)
    g, f = 100 * result.correct.mean(), 100 * (result.basePredict == result.label).mean()
    abstained = f", g abstained on {100 * (result.predict == -1).mean():.1f} %" if settings.sigma > 0 else ""
    print(f"{log}\nUnder attack, {len(result)} images: g correct on {g:.1f} %, f on {f:.1f} %{abstained}")


def _sigma(given: float | None, trained: float | None) -> float:
    sigma = trained if given is None else given
    if sigma is None:
        raise InputError("sigma: got none, expected --sigma: this model was trained without noise, or does not say.")
    return sigma


def _log_path(out: Path | None, target: Path, name: str) -> Path:
    if out is None and not target.is_dir():
        raise InputError("out: got none, expected --out: a checkpoint file has no run folder for the log.")
    return check_new_file("out", out or target / name)


def _finish_rows(rows, total: int, log: Path, resume: bool, title: str) -> None:
    """Carry out the rows of this process's share, with a bar."""
    done = max(log.read_bytes().count(b"\n") - 1, 0) if resume and log.is_file() else 0
    size = distributed.world().size
    share = -(-(total - done) // size)  # rank 0's, whose bar is the one that is shown: no smaller than another's
    finish(bar(rows, done + share, done, title if size == 1 else f"{title}, 1st of {size} processes"))


# -- tables, plans, benchmarks, data ------------------------------------------------------

for report in (commands.table, commands.reproduce, commands.bench, commands.data):
    app.command()(report)


if __name__ == "__main__":
    main()
