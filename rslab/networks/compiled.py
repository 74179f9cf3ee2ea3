"""Networks compiled by torch.compile, compared with the plain ones before anyone relies on them."""

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
from torch import Tensor, nn

from rslab.errors import WorkError
from rslab.smoothing.function import ROUNDING, Prepared, difference


def compiled_or_plain(network: nn.Module, batch_size: int, images: Tensor, graph: bool = True) -> nn.Module:
    """`network` compiled for batches of `batch_size`, or itself with a sentence on stderr that says why not.

    The compiled one is compared with the plain one on `images` (at most `batch_size`, C, H, W) before
    anyone relies on it: a program from the compiler's cache may have been written for another processor.
    """
    if (reason := missing_compiler()) is None:
        try:
            with torch.no_grad():
                plain = network(images)
            compiled = CompiledNetwork(network, batch_size, tuple(images.shape[1:]), str(images.device), graph)
            with torch.no_grad():
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
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
        flags += [line for line in lines if line.startswith(("model name", "flags"))][:2]
    own = f"processor-{hashlib.sha256(' '.join(flags).encode()).hexdigest()[:12]}"
    folder = Path(cache_dir())
    whole = folder.parent if folder.name.startswith("processor-") else folder
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(whole / own)


class CompiledNetwork(Prepared):
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
        self.plain = network
        self.compiled = torch.compile(network, dynamic=False, options=options)
        try:
            _keep_cache_apart()
            with torch.no_grad():
                self(torch.zeros(batch_size, *shape, device=device))
        except Exception as error:  # the compiler's many kinds
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise WorkError(f"the compiler failed ({type(error).__name__}: {reason})") from error

    @property
    def asked(self) -> nn.Module:
        """The plain one: this one fills small batches up, and was compared with what it computes."""
        return self.plain

    def forward(self, x: Tensor) -> Tensor:
        """Logits of at most `batch_size` images."""
        missing = self.batch_size - len(x)
        if not missing:
            return self.compiled(x)
        return self.compiled(torch.cat((x, x.new_zeros(missing, *x.shape[1:]))))[: len(x)]
