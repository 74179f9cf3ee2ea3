"""What a check hands over in place of a network: a function that remembers what it was asked."""

from collections.abc import Callable

import torch
from torch import Tensor

from rslab.lectures.answers import Wrong


class Spy:
    """A function of a batch `(N, *shape)` that remembers its batches and refuses every other shape.

    shape: what follows the batch; None stands for any length. `refusal`: the sentence said of another shape, with
    {shape} where that shape belongs. The answers of `function` are returned as they are.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], shape: tuple[int | None, ...], refusal: str):
        self.function, self.shape, self.refusal = function, shape, refusal
        self.batches: list[Tensor] = []

    def __call__(self, batch: Tensor) -> Tensor:
        came = tuple(getattr(batch, "shape", ()))
        fits = len(came) == 1 + len(self.shape) and all(
            wanted in (None, length) for wanted, length in zip(self.shape, came[1:], strict=True)
        )
        if not (isinstance(batch, Tensor) and fits):
            raise Wrong(self.refusal.format(shape=came))
        self.batches.append(batch.detach().clone())
        return self.function(batch)

    def seen(self, never: str) -> Tensor:
        """All that was asked, `(N, *shape)`; `never` is the sentence for a function that was not called."""
        if not self.batches:
            raise Wrong(never)
        return torch.cat(self.batches)
