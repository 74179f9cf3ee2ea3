"""Networks made fast for work that changes no weight: certification, prediction and attacks.

The same function as the model up to rounding. What is done to it, and why:

- batch norm becomes part of the convolution before it: one pass over the activations less a layer;
- channels-last, the layout that convolutions run fastest in on CPU and GPU alike;
- no gradient for the weights: an attack needs only the image's, for two thirds of the cost;
- bfloat16 where the hardware multiplies it natively (`machine.devices.choose_precision`). That is *another*
  f, and a certificate is for the smoothed version of the f that took the votes: logs record the precision;
- compiled, if asked: convolution, sum and ReLU in one pass. It takes seconds, so it pays in long runs.
"""

import copy
import sys
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rslab.machine.parallel import on_its_own
from rslab.networks.models import Normalize
from rslab.smoothing.function import ROUNDING, Prepared, difference, logits_of


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of `model` for inference in which each batch norm is part of its convolution, where that is safe.

    The same function up to rounding, and two to three times faster on a CPU. A model in which
    nothing can be folded is returned as it is, in eval mode.
    """
    folded = copy.deepcopy(model).eval()
    return folded if fold_in_place(folded) else model.eval()


def hooked(module: nn.Module) -> bool:
    """Whether a call of the module runs more, or another thing, than its class's `forward`."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind, None) for kind in kinds) or "forward" in vars(module)


def fold_in_place(model: nn.Module) -> dict[str, str]:
    """Make each batch norm of `model`, in place, part of the convolution before it, where that is safe.

    Two to three times faster on a CPU. Safe: both are plain modules of eval mode without hooks, each is called
    once, the convolution's output goes nowhere else, and nothing reads their tensors. Returns the name of each
    convolution that took a batch norm in → the batch norm's name.
    """
    modules: dict[str, Any] = dict(model.named_modules(remove_duplicate=False))
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception:  # torch.fx raises many kinds; folding is only an optimisation
        return {}
    calls = Counter(id(modules[str(node.target)]) for node in graph.nodes if node.op == "call_module")
    read = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    folded = {}
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
            continue
        before = node.args[0]
        if before.op != "call_module" or len(before.users) != 1:
            continue
        names = str(before.target), str(node.target)
        conv, norm = (modules[name] for name in names)
        plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and not norm.training
        once = calls[id(conv)] == calls[id(norm)] == 1 and not any(r.startswith(names) for r in read)
        if not plain or not once or norm.running_mean is None or hooked(conv) or hooked(norm):
            continue
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)
        parent, _, last = names[1].rpartition(".")
        setattr(model.get_submodule(parent), last, nn.Identity())
        folded[names[0]] = names[1]
    return folded


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class InferenceNetwork(Prepared):
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
        self.layout = torch.channels_last
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
            if any("forward" in vars(module) for module in theirs.modules()):
                return self._use_original("has a forward of its own, which may refer to itself")
            body: Any = copy.deepcopy(theirs)
            body.eval()  # which gives nothing back where somebody has written it anew
            for parameter in body.parameters():
                parameter.requires_grad_(False)
            if type(body) is nn.Sequential and len(body) > 1 and type(body[0]) is Normalize and not hooked(body):
                self.normalize, body = body[0], body[1:]
                self._followed = (theirs[1:],)
            self._folded = fold_in_place(body)
            self.network = body.to(torch.float32)
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
        return self._fast(x)

    def _fast(self, x: Tensor) -> Tensor:
        """What the copy gives."""
        normalized = self.normalize(x).to(self.dtype, memory_format=self.layout)
        # the network may write into what it is given: never into the caller's images
        return self.network(normalized.clone() if normalized is x else normalized).float()

    def _plain(self, x: Tensor) -> Tensor:
        """What the original gives, wherever it is."""
        where = next((tensor.device for tensor in self.original.parameters()), x.device)
        return logits_of(self.original, x.to(where)).to(x.device)

    @torch.inference_mode(False)  # whose tensors no attack could use
    @torch.no_grad()
    def _compare(self, x: Tensor) -> None:
        """Decide, on one batch, whether the copy is the model's function; then let it compute in its precision."""
        self._compared = True
        if not self.copied:
            return
        x, precision, self.dtype = x.clone(), self.dtype, torch.float32
        plain, reason = self._plain(x), ""
        for self.layout in (torch.channels_last, torch.contiguous_format):  # the second for views of activations
            try:
                self.network.to(memory_format=self.layout)
                off = difference(self._fast(x), plain)
            except Exception as error:
                reason = f"has no copy that computes ({type(error).__name__})"
                continue
            if off <= ROUNDING[torch.float32]:
                break
            return self._use_original(f"computes other logits when batch norm is folded (by {off:.2g} of their range)")
        else:
            return self._use_original(reason)
        if precision != torch.float32:
            exact, self.dtype = self.network, precision
            try:
                self.network = copy.deepcopy(exact).to(precision)
                reason = "" if difference(self._fast(x), plain) < torch.inf else "gives no numbers"
            except Exception as error:
                reason = f"does not compute ({type(error).__name__})"
            if reason:
                self.network, self.dtype = exact, torch.float32
                print(f"Note: the network {reason} in {precision}: float32 is used.", file=sys.stderr)

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


class InPrecision(Prepared):
    """`module` for training, whose convolutions and products run in `precision`; weights and logits stay float32."""

    def __init__(self, module: nn.Module, precision: str):
        super().__init__()
        self.module, self.dtype = module, DTYPES[precision]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the images, float32."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.module(x).float()


WRAPPERS += (InPrecision,)
