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
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rslab.errors import WorkError
from rslab.models import Normalize, fold_batchnorm
from rslab.parallel import on_its_own

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class InferenceNetwork(nn.Module):
    """A copy of `model` in eval mode with frozen weights: float32 images (B, C, H, W) → float32 logits (B, K).

    Only the network computes in `precision`: noise, normalisation, softmax and losses stay float32.
    """

    def __init__(self, model: nn.Module, precision: str = "float32"):
        super().__init__()
        source = _unwrapped(model)
        model = on_its_own(source)
        training = model.training
        self.normalize: nn.Module = nn.Identity()
        body: Any = model.eval()
        if isinstance(model, nn.Sequential) and isinstance(model[0], Normalize):
            self.normalize, body = copy.deepcopy(model[0]), model[1:]
        network = fold_batchnorm(body)
        self._sources = (
            source,
            body,
            {} if network is body else _folded_pairs(body),
        )  # a tuple: no submodules of this one
        self.dtype = DTYPES[precision]
        network = copy.deepcopy(body) if network is body else network
        self.network = network.to(self.dtype).to(memory_format=torch.channels_last).requires_grad_(False)
        self.eval()
        model.train(training)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the images."""
        x = self.normalize(x).to(self.dtype, memory_format=torch.channels_last)
        return self.network(x).float()

    def is_of(self, model: nn.Module) -> bool:
        """Whether this is a copy of `model`."""
        return self._sources[0] is _unwrapped(model)

    @torch.no_grad()
    def follow(self):
        """Take over the weights that the model has by now: for attacks while it trains."""
        _, body, batch_norms = self._sources
        for name, ours in self.network.named_modules():
            if any(ours.children()):
                continue
            theirs: Any = body.get_submodule(name)
            state = theirs.state_dict()
            if bn := batch_norms.get(name):
                statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
                weight, bias = fuse_conv_bn_weights(theirs.weight, theirs.bias, *statistics)
                state = {"weight": weight, "bias": bias}
            ours.load_state_dict(state)
        return self


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what wraps it for several processes or for a precision."""
    while isinstance(inside := getattr(model, "module", None), nn.Module):
        model = inside
    return model


def _folded_pairs(body: nn.Module) -> dict[str, Any]:
    """Name of a convolution → the batch norm that `fold_batchnorm` made part of it."""
    modules: dict[Any, nn.Module] = dict(body.named_modules())
    pairs = {}
    for node in fx.symbolic_trace(body).graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d):
            before: Any = node.args[0]
            if before.op == "call_module" and isinstance(modules[before.target], nn.Conv2d) and len(before.users) == 1:
                pairs[before.target] = modules[node.target]
    return pairs


class InPrecision(nn.Module):
    """`module` for training, whose convolutions and products run in `precision`; weights and logits stay float32."""

    def __init__(self, module: nn.Module, precision: str):
        super().__init__()
        self.module, self.dtype = module, DTYPES[precision]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the images, float32."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.module(x).float()


# -- compiled ------------------------------------------------------------------------------

# Of the largest logit, by which a compiled network may differ: sums in another order, in so many bits.
ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 0.1}


def compiled_or_plain(network: nn.Module, batch_size: int, images: Tensor, graph: bool = True) -> nn.Module:
    """`network` compiled for batches of `batch_size`, or itself with a sentence on stderr that says why not.

    The compiled one is compared with the plain one on `images` (at most `batch_size`, C, H, W) before
    anyone relies on it: a program from the compiler's cache may have been written for another processor.
    """
    if (reason := missing_compiler()) is None:
        try:
            compiled = CompiledNetwork(network, batch_size, tuple(images.shape[1:]), str(images.device), graph)
            with torch.inference_mode():
                images = images.clone()  # made in this mode, as the votes' are: others would be compiled anew
                plain = network(images)
                off = float((compiled(images) - plain).abs().max() / plain.abs().max().clamp_min(1e-30))
            if off <= ROUNDING[getattr(network, "dtype", torch.float32)]:  # NaN is not
                return compiled
            reason = f"its logits differ from the plain network's by {off:.2g} of the largest"
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
