"""Training on many processes that equals training on one at the same global batch, up to rounding.

Each process takes its part of every batch (`machine.distributed.part_of`), out of noise and
augmentation drawn for the whole batch. Gradients are averaged by DistributedDataParallel,
and the statistics of batch norm are those of the whole batch: SyncBatchNorm on GPUs, which
PyTorch has for CUDA alone, `SharedBatchNorm` on the CPU. On one process nothing is changed.
One thing differs: a last batch of fewer images than processes is left out.
"""

import copy
import inspect
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rslab.machine.distributed import world


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; the loss of each depends on the tensors of all, hence the backward."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return add_up(x.clone())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return add_up(gradient.clone())


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with mean and variance over the images of all processes; parameters and buffers are BatchNorm2d's."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images (B, C, H, W), B of this process; in eval mode as BatchNorm2d does."""
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.float()  # bfloat16 under autocast, in which a sum would lose the small differences
        local = torch.cat((x.sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])))  # (C + 1,)
        summed = _Sum.apply(local)
        pixels = float(summed[-1].detach())  # of a channel, in the whole batch
        mean = summed[:-1] / pixels  # (C,)
        centred = x - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / pixels  # two passes: E[x²] − E[x]² would cancel
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * pixels / (pixels - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)


def share_batch_norm(model: nn.Module, device: str) -> nn.Module:
    """`model` with batch norms that all processes share; the names and shapes of its tensors stay."""
    if world().size == 1:
        return model
    if device.startswith("cuda"):
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm(child.num_features, child.eps, child.momentum).to(device)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared)
    return model


def on_its_own(model: nn.Module) -> nn.Module:
    """`model` with plain batch norms on the very same tensors, not copies, for work in which no other process joins."""
    shared = (SharedBatchNorm, nn.SyncBatchNorm)
    if not any(isinstance(module, shared) for module in model.modules()):
        return model
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, tensors)  # which it takes for copied already
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, shared):
                plain = nn.BatchNorm2d(child.num_features, child.eps, child.momentum).train(child.training)
                plain.weight, plain.bias = child.weight, child.bias
                plain.running_mean, plain.running_var = child.running_mean, child.running_var
                plain.num_batches_tracked = child.num_batches_tracked
                setattr(module, name, plain)
    return model


def share_gradients(model: nn.Module) -> nn.Module:
    """`model` with gradients that are averaged over the processes, all beginning with rank 0's weights."""
    if world().size == 1:
        return model
    # Every process has the same buffers, by shared batch norm. The option that says so was renamed after torch 2.6.
    known = inspect.signature(DistributedDataParallel).parameters
    options: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    return DistributedDataParallel(model, **options)


def share_state(model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, start: int) -> int:
    """Give every process the state with which rank 0 resumes; returns rank 0's `start`, the first epoch to train.

    The weights come with `share_gradients`, the momentum and the running average here.
    """
    if world().size == 1:
        return start
    device = next(model.parameters()).device
    first_epoch = torch.tensor(start, device=device)
    dist.broadcast(first_epoch, 0)
    if int(first_epoch) > 0 and optimizer.defaults["momentum"] > 0:
        for parameter in model.parameters():
            buffer = optimizer.state[parameter].get("momentum_buffer")
            buffer = torch.zeros(parameter.shape, device=device) if buffer is None else buffer.contiguous()
            dist.broadcast(buffer, 0)
            optimizer.state[parameter]["momentum_buffer"] = buffer
    for tensor in average.state_dict().values() if average is not None else ():
        dist.broadcast(tensor, 0)
    return int(first_epoch)


def add_up(totals: Tensor) -> Tensor:
    """`totals`, summed over the processes in place."""
    if world().size > 1:
        dist.all_reduce(totals)
    return totals
