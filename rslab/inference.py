"""Networks made fast for work that changes no weight: certification, prediction and attacks.

The same function as the model up to rounding. What is done to it, and why:

- batch norm becomes part of the convolution before it: one pass over the activations less a layer;
- channels-last, the layout that convolutions run fastest in on CPU and GPU alike;
- no gradient for the weights: an attack needs only the image's, for two thirds of the cost;
- bfloat16 where the hardware multiplies it natively (`devices.choose_precision`). That is *another*
  f, and a certificate is for the smoothed version of the f that took the votes: logs record the precision;
- compiled, if asked: convolution, sum and ReLU in one pass. It takes seconds, so it pays in long runs.
"""

import copy
import hashlib
import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rslab.errors import InputError, WorkError
from rslab.models import Normalize, fold_in_place, hooked
from rslab.parallel import on_its_own

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class InferenceNetwork(nn.Module):
    """A fast copy of `model` in eval mode with frozen weights: float32 images (B, C, H, W) → float32 logits (B, K).

    Only the network computes in `precision`: noise, normalisation, softmax and losses stay float32.

    The copy must be the same function. Its first batch goes through the original as well, in float32: where the
    copy's logits differ by more than rounding, or no copy can be made, the original answers, and a sentence on
    stderr says so. The caller's model stays as it is: modes, hooks, gradients and weights.
    """

    def __init__(self, model: nn.Module, precision: str = "float32"):
        super().__init__()
        source = unwrapped(model)
        self._source = (source,)  # a tuple: no submodule of this one
        self.dtype = DTYPES[precision]
        self.normalize: nn.Module = nn.Identity()
        self.network: nn.Module = nn.Identity()
        self._folded: dict[str, str] = {}  # convolution → the batch norm that it took in
        self._followed: tuple[nn.Module, ...] = ()
        self._compared = False
        self.copied = True
        self._copy_original()
        self.eval()

    def _copy_original(self) -> None:
        """Make the copy, in float32 until its first batch."""
        try:
            theirs: Any = on_its_own(self.original)  # the very same tensors
            self._followed = (theirs,)
            body: Any = copy.deepcopy(theirs).eval().requires_grad_(False)
            if type(body) is nn.Sequential and len(body) > 1 and type(body[0]) is Normalize and not hooked(body):
                self.normalize, body = body[0], body[1:]
                self._followed = (theirs[1:],)
            self._folded = fold_in_place(body)
            self.network = body.to(torch.float32).to(memory_format=torch.channels_last)
        except Exception as error:  # a module that cannot be copied fails in ways of its own
            self._use_original(f"cannot be copied ({type(error).__name__})")

    @property
    def original(self) -> nn.Module:
        """The model that was given, without what wraps it for several processes or a precision."""
        return self._source[0]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the images."""
        if not self._compared:
            self._compare(x.detach())
        if not self.copied:
            return self._plain(x)
        x = self.normalize(x).to(self.dtype, memory_format=torch.channels_last)
        return self.network(x).float()

    def _plain(self, x: Tensor) -> Tensor:
        """What the original gives, wherever it is."""
        where = next((tensor.device for tensor in self.original.parameters()), x.device)
        return logits_of(self.original, x.to(where)).to(x.device)

    @torch.no_grad()
    def _compare(self, x: Tensor) -> None:
        """Decide, on one batch, whether the copy is the model's function; then let it compute in its precision."""
        self._compared = True
        if not self.copied:
            return
        plain = self._plain(x)
        try:
            fast = self.network(self.normalize(x).to(memory_format=torch.channels_last))
            off = difference(fast.float(), plain)
            if not off <= ROUNDING[torch.float32]:
                return self._use_original(
                    f"computes other logits when batch norm is folded (by {off:.2g} of their range)"
                )
            self.network.to(self.dtype)
        except Exception as error:
            return self._use_original(f"has no copy that computes ({type(error).__name__})")
        if self.dtype != torch.float32:
            try:
                off = difference(self.network(self.normalize(x).to(self.dtype)).float(), plain)
            except Exception as error:
                return self._use_original(f"does not compute in {self.dtype} ({type(error).__name__})")
            if not off < torch.inf:
                return self._use_original(f"gives no numbers in {self.dtype}")

    def _use_original(self, reason: str) -> None:
        self.copied, self.dtype = False, torch.float32
        self.normalize, self.network, self._folded = nn.Identity(), nn.Identity(), {}
        print(f"Note: the network {reason}: used as it is, more slowly, in its own precision.", file=sys.stderr)

    def is_of(self, model: nn.Module) -> bool:
        """Whether this is a copy of `model`."""
        return self.original is unwrapped(model)

    @torch.no_grad()
    def follow(self):
        """Take over the weights that the model has by now: for attacks while it trains."""
        if not self.copied:
            return self
        theirs, ours = self._followed[0], self.network
        tensors = dict(theirs.named_parameters(remove_duplicate=False))
        tensors |= dict(theirs.named_buffers(remove_duplicate=False))
        for conv, norm in self._folded.items():
            bn: Any = theirs.get_submodule(norm)
            before: Any = theirs.get_submodule(conv)
            statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
            tensors[f"{conv}.weight"], tensors[f"{conv}.bias"] = fuse_conv_bn_weights(
                before.weight, before.bias, *statistics
            )
        for name, tensor in (*ours.named_parameters(), *ours.named_buffers()):
            tensor.copy_(tensors[name])
        return self


WRAPPERS: tuple[type, ...] = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what wraps it for several devices or processes or for a precision, known by its type."""
    while type(model) in WRAPPERS and not hooked(model):
        model = model.module  # type: ignore[assignment]
    return model


class InPrecision(nn.Module):
    """`module` for training, whose convolutions and products run in `precision`; weights and logits stay float32."""

    def __init__(self, module: nn.Module, precision: str):
        super().__init__()
        self.module, self.dtype = module, DTYPES[precision]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the images, float32."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.module(x).float()


WRAPPERS += (InPrecision,)

# -- the same function ----------------------------------------------------------------------

# Of the range of the logits, by which two ways to compute them may differ: sums in another order, in so many bits.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


def difference(ours: Tensor, theirs: Tensor) -> float:
    """How far two batches of logits (B, K) lie apart, as a share of the second's range; NaN or ∞ where no number."""
    if ours.shape != theirs.shape:
        return float("inf")
    same = ours == theirs  # infinities too
    if bool(same.all()):
        return 0.0
    apart = torch.where(same, 0.0, (ours - theirs).abs()).max()
    finite = theirs[theirs.isfinite()]
    largest = finite.max() - finite.min() + 1e-6 * finite.abs().max() if len(finite) else apart
    return float(apart / largest.clamp_min(1e-30))


@contextmanager
def evaluating(model) -> Iterator[None]:
    """A module (anything else is left alone) in eval mode, and afterwards every module of it in the mode it had."""
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    try:
        if any(training for _, training in modes):
            model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def own_type(f) -> torch.dtype:
    """The type of images that f takes: what it says, that of its weights, float32 where it has none."""
    if isinstance(f, InferenceNetwork | CompiledNetwork | InPrecision):
        return torch.float32
    weights = (p.dtype for p in f.parameters() if p.is_floating_point()) if isinstance(f, nn.Module) else iter(())
    return next(weights, torch.float32)


def logits_of(f, x: Tensor) -> Tensor:
    """f(x) in eval mode, computed in the type of f's own weights, as float32 logits (B, K)."""
    with evaluating(f):
        return check_logits(f(x.to(own_type(f)))).float()


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
        return logits
    got = type(logits).__name__
    if isinstance(logits, tuple | list):
        cure = "lambda x: f(x)[0]"
    elif isinstance(logits, dict):
        cure = f"lambda x: f(x)[{next(iter(logits), 'logits')!r}]"
    else:
        cure = "lambda x: f(x).logits"
    raise InputError(f"base classifier: got {got} as its output, expected a tensor of logits (B, K): wrap it, {cure}.")


def check_function(f, x: Tensor, num_classes: int) -> None:
    """`InputError` unless f: images (B, C, H, W) → logits (B, `num_classes`) is a function of each image by itself.

    Asked of a noisy copy of x (C, H, W) among three other images: the same batch twice must give the same logits
    (no dropout, no noise of its own), and the copy alone what it gives among others (no statistics of the batch).
    """
    generator = torch.Generator().manual_seed(0)  # nothing of the caller's
    copy_of_x = x.detach().float() + torch.randn(1, *x.shape, generator=generator).to(x.device) / 8
    probe = torch.cat((copy_of_x, torch.rand(3, *x.shape, generator=generator).to(x.device)))
    with torch.inference_mode():
        first, second, alone = (logits_of(f, batch) for batch in (probe, probe, probe[:1]))
    if first.shape != (len(probe), num_classes) or first.isnan().any():
        return  # the votes will say so
    if not (off := difference(second, first)) <= 1e-5:
        raise InputError(
            f"base classifier: got two answers to one batch, {off:.2g} of their range apart, expected a function: "
            "no dropout, no noise of its own."
        )
    if not (off := difference(alone, first[:1])) <= ROUNDING.get(getattr(f, "dtype", own_type(f)), 1e-3):
        raise InputError(
            f"base classifier: got logits of an image that depend on its neighbours in the batch, by {off:.2g} of "
            "their range, expected a function of the image alone: no statistics of the batch."
        )


# -- compiled ------------------------------------------------------------------------------


def compiled_or_plain(network: nn.Module, batch_size: int, images: Tensor, graph: bool = True) -> nn.Module:
    """`network` compiled for batches of `batch_size`, or itself with a sentence on stderr that says why not.

    The compiled one is compared with the plain one on `images` (at most `batch_size`, C, H, W) before
    anyone relies on it: a program from the compiler's cache may have been written for another processor.
    """
    if (reason := missing_compiler()) is None:
        try:
            with torch.inference_mode():
                images = images.clone()  # made in this mode, as the votes' are: others would be compiled anew
                plain = network(images)
            compiled = CompiledNetwork(network, batch_size, tuple(images.shape[1:]), str(images.device), graph)
            with torch.inference_mode():
                off = difference(compiled(images), plain)
            if off <= ROUNDING[getattr(network, "dtype", torch.float32)]:  # NaN is not
                return compiled
            reason = f"its logits differ from the plain network's by {off:.2g} of their range"
        except WorkError as error:
            reason = str(error)
    print(f"Note: --compile: {reason}: not compiled.", file=sys.stderr)
    return network


def missing_compiler() -> str | None:
    """None where the C++ compiler that torch.compile calls is there, else what is missing."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return None if shutil.which(compiler) else f"needs the C++ compiler {compiler}, which is not here"


def _keep_cache_apart() -> None:
    """Put the compiler's disk cache in a folder of this processor's own: programs for another may not run here."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    flags = [torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability()]
    flags.append(os.environ.get("ONEDNN_MAX_CPU_ISA", ""))
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n")
        flags += [line for line in lines if line.startswith(("model name", "flags"))][:2]
    own = f"processor-{hashlib.sha256(' '.join(flags).encode()).hexdigest()[:12]}"
    folder = Path(cache_dir())
    whole = folder.parent if folder.name.startswith("processor-") else folder
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(whole / own)


class CompiledNetwork(nn.Module):
    """`network` compiled for batches of `batch_size` images of `shape` (C, H, W) on `device`.

    Smaller batches are filled up with zeros: each shape would be compiled anew, and all votes
    are to come from one and the same program. On a GPU that program is recorded as a CUDA graph, if
    `graph`, and started by one call: use the logits before you ask for the next.
    Raises `WorkError` where the compiler fails.
    """

    def __init__(self, network: nn.Module, batch_size: int, shape: tuple[int, ...], device: str, graph: bool = True):
        super().__init__()
        self.batch_size = batch_size
        # which says on a machine without a GPU that there is none
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        # freezing: weights become constants, laid out in advance as the convolutions want them
        options: dict[str, Any] = {"freezing": True, "triton.cudagraphs": graph and device.startswith("cuda")}
        self.compiled = torch.compile(network, dynamic=False, options=options)
        try:
            _keep_cache_apart()
            with torch.inference_mode():
                self(torch.zeros(batch_size, *shape, device=device))
        except Exception as error:  # the compiler's many kinds
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise WorkError(f"the compiler failed ({type(error).__name__}: {reason})") from error

    def forward(self, x: Tensor) -> Tensor:
        """Logits of at most `batch_size` images."""
        missing = self.batch_size - len(x)
        if not missing:
            return self.compiled(x)
        return self.compiled(torch.cat((x, x.new_zeros(missing, *x.shape[1:]))))[: len(x)]
