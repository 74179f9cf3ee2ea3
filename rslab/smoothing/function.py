"""The base classifier: any module or callable, certified only where it is a function of each image by itself."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rslab.errors import InputError, WorkError

NO_VOTE = "The network gave NaN for a noisy image, which is no vote: nothing is certified."

# Of the range of the logits, by which two ways to compute them may differ: sums in another order, in so many bits.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


def difference(ours: Tensor, theirs: Tensor, dtype: torch.dtype = torch.float32) -> float:
    """How far two batches of logits (B, K), of numbers of `dtype`, lie apart, as a share of the second's range.

    The range is that of the classes that can win, the top two of each image and what lies near them: a class that a
    network masks by −10⁹ would make every difference small, and its own, rounded to hundreds, large.
    NaN or ∞ where there is no number.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.double(), theirs.double()  # in which the least float32 is no special number
    if bool((ours == theirs).all()):  # infinities too
        return 0.0
    leading = theirs.topk(min(2, theirs.shape[1]), 1).values
    leading = leading[leading.isfinite()]
    if not len(leading):
        return float("inf")
    low, high = leading.min(), leading.max()
    leads = high - low + 32 * torch.finfo(dtype).eps * leading.abs().max()
    ours, theirs = (logits.clamp_min(low - 100 * leads) for logits in (ours, theirs))
    near = theirs[theirs.isfinite() & (theirs >= low - 3 * leads)]
    apart = torch.where(ours == theirs, 0.0, (ours - theirs).abs()).max()
    return float(apart / (near.max() - near.min()).maximum(leads))


class Prepared(nn.Module):
    """A network that was made ready for work: it takes float32 images whatever the `dtype` that it computes in."""

    dtype: torch.dtype = torch.float32

    @property
    def original(self) -> nn.Module:
        """The model that was given, which may answer still."""
        return self

    @property
    def asked(self) -> nn.Module:
        """Which module is asked whether it is a function of each image by itself."""
        return self


@contextmanager
def evaluating(f) -> Iterator[Any]:
    """f in eval mode: itself, every module of it afterwards in the mode it had, or where need be a copy.

    A module of a class that does something of its own when its mode changes (folds weights, takes averaged ones) is
    evaluated as a copy: only so is it given back as it came. What is no module is left alone.
    """
    modules = list(f.modules()) if isinstance(f, nn.Module) else []
    modes = [(module, getattr(module, "training", False)) for module in modules]  # a frozen program has no mode
    if not any(training for _, training in modes):
        yield f
    elif any(_changes_with_its_mode(module) for module in modules):
        try:
            evaluated = copy.deepcopy(f)
            evaluated.eval()  # which gives nothing back where somebody has written it anew
        except Exception as error:  # a module that cannot be copied fails in ways of its own
            raise InputError(
                f"model: got one in train mode that does something of its own in eval() and cannot be copied "
                f"({type(error).__name__}), expected one in eval mode."
            ) from error
        yield evaluated
    else:
        try:
            f.eval()
            yield f
        finally:
            for module, training in modes:
                module.training = training


def _changes_with_its_mode(module: nn.Module) -> bool:
    """Whether `train()` and `eval()` do more to the module than to set its mode."""
    if type(module) is nn.parallel.DistributedDataParallel:  # whose train() is there for its `module` only
        return False
    own = {"train", "eval"} & vars(module).keys()  # as torch.export's programs have
    return bool(own) or type(module).train is not nn.Module.train or type(module).eval is not nn.Module.eval


def own_type(f) -> torch.dtype:
    """The type of images that f takes: what it says, that of most of its weights, float32 where it has none."""
    if isinstance(f, Prepared):
        return torch.float32
    numbers: Counter[torch.dtype] = Counter()
    for weights in f.parameters() if isinstance(f, nn.Module) else ():
        if nn.parameter.is_lazy(weights):
            raise InputError("model: got lazy layers, which have no weights yet, expected one that has seen a batch.")
        if weights.is_floating_point():
            numbers[weights.dtype] += weights.numel()
    return numbers.most_common(1)[0][0] if numbers else torch.float32


def logits_of(f, x: Tensor) -> Tensor:
    """f(x) in eval mode, computed in the type of f's own weights, as float32 logits (B, K)."""
    with evaluating(f) as evaluated:
        return check_logits(evaluated(x.to(own_type(f), copy=True))).float()  # a copy: f may write into it


class Function(nn.Module):
    """A callable as a module: it has no weights, and eval mode does nothing to it."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        """f(x)."""
        return self.f(x)


def as_module(f) -> nn.Module:
    """f itself if it is a module, any other callable as one."""
    if not callable(f):
        raise InputError(f"model: got {type(f).__name__}, expected a module or a function of images (B, C, H, W).")
    return f if isinstance(f, nn.Module) else Function(f)


def check_logits(logits) -> Tensor:
    """Return what f gave if it is a tensor of logits (B, K), else raise `InputError` with the wrapper that helps."""
    if isinstance(logits, Tensor):
        if logits.dtype == torch.bool or logits.is_complex():
            raise InputError(f"base classifier: got logits of {logits.dtype}, expected real numbers.")
        return logits
    got = type(logits).__name__
    if isinstance(logits, tuple | list):
        cure = ": wrap it, lambda x: f(x)[0]"
    elif isinstance(logits, dict):
        cure = f": wrap it, lambda x: f(x)[{next(iter(logits), 'logits')!r}]"
    elif isinstance(logits, np.ndarray):
        cure = ": wrap it, lambda x: torch.from_numpy(f(x))"
    else:
        cure = ": wrap it, lambda x: f(x).logits" if hasattr(logits, "logits") else ""
    raise InputError(f"base classifier: got {got} as its output, expected a tensor of logits (B, K){cure}.")


def check_function(f, x: Tensor, num_classes: int) -> None:
    """`InputError` unless f: images (B, C, H, W) → logits (B, `num_classes`) is a function of each image by itself.

    Asked of a noisy copy of x (C, H, W) among others. It must draw no random numbers, however seldom they change the
    answer. The same batch twice, and the copy in the same place among other neighbours, must give the same logits:
    the same program computes them from the same numbers, so that rounding excuses nothing. In a batch of another size
    another program may: an image alone agrees with itself among others up to rounding. `WorkError` for NaN.
    """
    if isinstance(f, Prepared):
        f = f.asked
    generator = torch.Generator().manual_seed(0)  # nothing of the caller's
    copy_of_x = x.detach().float().cpu() + torch.randn(1, *x.shape, generator=generator) / 8
    one, two, three = torch.rand(3, 1, *x.shape, generator=generator)
    far, farther = torch.randn(2, 1, *x.shape, generator=generator)
    probe, other = torch.cat((one, copy_of_x, two, three)), torch.cat((far, copy_of_x, three, farther))
    dtype = f.dtype if isinstance(f, Prepared) else own_type(f)
    # no inference mode: what f keeps for later is to be of use in training, too
    with torch.inference_mode(False), torch.no_grad(), evaluating(f) as evaluated, _apart_from_chance(x.device):
        probe, other = probe.to(x.device), other.to(x.device)
        first = _answer(evaluated, probe)
        torch.rand(()), random.random(), np.random.random()  # off the place to which f may have set them
        chance = _generators(evaluated, x.device)
        second, among_others = _answer(evaluated, probe), _answer(evaluated, other)
        now = _generators(evaluated, x.device)
        drawn = [name for name in now if chance.get(name, now[name]) != now[name]]
        alone = _answer(evaluated, probe[:1])
    if first.shape != (len(probe), num_classes):
        got, expected = tuple(first.shape), (len(probe), num_classes)
        raise InputError(f"base classifier: got logits of shape {got}, expected {expected}.")
    if any(bool(logits.isnan().any()) for logits in (first, second, among_others, alone)):
        raise WorkError(NO_VOTE)
    if not (off := difference(second, first, dtype)) <= 1e-5:
        raise InputError(
            f"base classifier: got two answers to one batch, {off:.2g} of their range apart, expected a function: "
            "no dropout, no noise of its own."
        )
    if drawn:
        raise InputError(
            f"base classifier: got one that draws random numbers or seeds them ({drawn[0][0]}), expected a function: "
            "no dropout, no noise of its own, however seldom they change its answer."
        )
    with_others = torch.cat((alone, among_others[1:2], first[2:]))  # of the same images as `first`
    off = difference(with_others[1:], first[1:], dtype)
    if not off <= 1e-5 or not (off := difference(with_others, first, dtype)) <= ROUNDING.get(dtype, 1e-3):
        raise InputError(
            f"base classifier: got logits of an image that depend on its neighbours in the batch, by {off:.2g} of "
            "their range, expected a function of the image alone: no statistics of the batch."
        )


def _answer(f, x: Tensor) -> Tensor:
    """Logits of x, in a place of their own: f may write its answers into one and the same."""
    with failures_in("base classifier: got one that fails on {}.", x):
        return logits_of(f, x).clone()


@contextmanager
def failures_in(sentence: str, x: Tensor) -> Iterator[None]:
    """What a caller's function raises on images x, and we do not, as `InputError` with `failure` in the sentence."""
    try:
        yield
    except (InputError, WorkError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of somebody else's making
        raise InputError(sentence.replace("{}", failure(x, error))) from error


def on_copies(f: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor) -> Tensor:
    """f(x + δᵢ): x (B, C, H, W), noise (m, B, C, H, W) → logits (m, B, K). `InputError` where f fails on them."""
    noisy = (x + noise).flatten(0, 1)  # (m·B, C, H, W)
    with failures_in("f: got one that fails on {}, expected one that takes such images.", noisy):
        return f(noisy).unflatten(0, noise.shape[:2])


def failure(x: Tensor, error: Exception) -> str:
    """ "4 images of shape (3, 32, 32) (ValueError: …)", for a sentence."""
    said = " ".join(str(error).split("\n")[0].split())[:120].rstrip(".")
    images = "1 image" if len(x) == 1 else f"{len(x)} images"
    return f"{images} of shape {tuple(x.shape[1:])} ({type(error).__name__}{': ' * bool(said)}{said})"


@contextmanager
def _apart_from_chance(device: torch.device) -> Iterator[None]:
    """Everyone's sources of random numbers stand afterwards where they stood before."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


_SOURCES = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def _generators(f, device: torch.device) -> dict[tuple[str, int], str]:
    """Where each source of random numbers stands that f could draw from: everyone's, and those that it holds."""
    states: dict[tuple[str, int], Any] = {
        ("of Python's random", 0): random.getstate(),
        ("of numpy.random", 0): np.random.get_state(),
        ("of torch's own generator", 0): torch.get_rng_state().tolist(),
    }
    if device.type == "cuda":
        states["of torch's own generator on the GPU", 0] = torch.cuda.get_rng_state(device).tolist()
    for source in _sources_in(f, set()):
        held = "of a generator that it holds", id(source)
        if isinstance(source, np.random.Generator):
            states[held] = source.bit_generator.state
        elif isinstance(source, random.Random):
            states[held] = source.getstate()
        else:
            state = source.get_state()
            states[held] = state.tolist() if isinstance(state, Tensor) else state
    return {name: repr(state) for name, state in states.items()}


def _sources_in(value, seen: set[int], depth: int = 4) -> Iterator[Any]:
    """The generators in what an object holds: attributes, a closure's values, the members of lists and dicts."""
    if id(value) in seen or isinstance(value, Tensor | type | ModuleType):
        return
    seen.add(id(value))
    if isinstance(value, _SOURCES):
        yield value
    elif depth:
        held: list[Any] = list(getattr(value, "__dict__", {}).values())
        if isinstance(value, nn.Module):
            held.extend(value.modules())
        if isinstance(value, Prepared):
            held.append(value.original)
        for cell in getattr(value, "__closure__", None) or ():
            with suppress(ValueError):  # an empty one
                held.append(cell.cell_contents)
        held += [getattr(value, name, None) for name in ("__self__", "func", "args", "keywords")]
        if isinstance(value, dict):
            held.extend(islice(value.values(), 1000))
        elif isinstance(value, list | tuple | set):
            held.extend(islice(value, 1000))
        for inner in held:
            yield from _sources_in(inner, seen, depth if isinstance(inner, nn.Module) else depth - 1)
