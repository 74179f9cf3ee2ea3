"""Many processes, one job: `torchrun --nproc-per-node 4 -m -- rslab train …`, or `certify`, or `attack`.

torchrun starts the processes and tells each its place by environment variables; PyTorch's
own collectives connect them, gloo on the CPU and NCCL between GPUs. Alone, nothing of
this is entered, and torch is not even imported.

Every process does the same work up to the point where all `agree`; a mistake found
before it is said once, by rank 0. Afterwards a process that dies ends the job: the
others are told by torchrun or by the broken connection, say so and end.
"""

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rslab.errors import InputError, WorkError

COMMANDS = ("train", "certify", "attack")  # those whose work is shared out
TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
SILENCE = timedelta(minutes=30)  # of a peer in the midst of training, until it counts as lost
PATIENCE = timedelta(days=1)  # of those who are through with their images, for the slowest
ENDED = "another process of the job ended, or the job was stopped; the same command with --resume goes on."
_ANSWER = 2048  # bytes that a process may say when all agree


@dataclass
class World:
    """This process's place: rank 0 … size − 1, and its number on its own machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    begun: bool = False  # whether all have agreed
    mistake: Exception | None = None  # or on what they agreed instead
    patient: Any = None  # the process group in which to wait for the slowest

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes runs and merged logs."""
        return self.rank == 0


@dataclass(frozen=True)
class Part:
    """A rank's images `start` … `stop` − 1 of a batch of `whole`."""

    start: int
    stop: int
    whole: int

    @property
    def slice(self) -> slice:
        """To cut the part out of a tensor whose dimension is the batch."""
        return slice(self.start, self.stop)


_world = World()


def world() -> World:
    """This process's place in the job; rank 0 of 1 where there is no other."""
    return _world


def world_told() -> World:
    """The place that torchrun's environment variables tell; rank 0 of 1 without torchrun."""
    if not all(name in os.environ for name in TOLD):
        return World()
    rank, local_rank, size = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    return World(rank, size, local_rank)


def part_of(batch: int) -> Part:
    """This rank's part of a batch, contiguous; parts differ by one image at most."""
    rank, size = world().rank, world().size
    return Part(batch * rank // size, batch * (rank + 1) // size, batch)


# -- begin and end -------------------------------------------------------------------------


@contextmanager
def joined(command: str) -> Iterator[None]:
    """Connect the processes that torchrun started while `command` runs; always disconnect.

    Only rank 0 shows bars and results. Raises `InputError` or `WorkError`, of one sentence,
    in the processes that are to say it; the others exit silently with its code.
    """
    global _world
    told = world_told()
    if told.size == 1:
        yield
        return
    if command not in COMMANDS:
        text = f"{command}: got {told.size} processes, expected one: only {', '.join(COMMANDS)} are shared out."
        _raise_in_rank_0(told, InputError(text))
    import torch.distributed as dist

    def stop(signum, frame):
        raise WorkError(ENDED)

    _world, afterwards = told, signal.signal(signal.SIGTERM, stop)
    try:
        _connect(told)
        with ExitStack() as stack:
            if not told.first:
                silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(silence))
                stack.enter_context(redirect_stderr(silence))
            yield
    except Exception as error:
        afterwards = signal.SIG_IGN  # torchrun ends the job because of another's exit: first this is to be said
        _end(told, error)
    finally:
        _world = World()
        signal.signal(signal.SIGTERM, afterwards)
        if dist.is_initialized():
            dist.destroy_process_group()


def _connect(told: World) -> None:
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda and told.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(told.local_rank)  # NCCL takes the current device
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=SILENCE)
    told.patient = dist.new_group(backend="gloo", timeout=PATIENCE)


def _end(told: World, error: Exception) -> None:
    """Raise what this process is to say of `error`, or exit silently."""
    if error is told.mistake:
        raise error
    if hasattr(error, "format_message"):  # the parser's complaint about an option
        error = InputError(error.format_message())
    if not isinstance(error, (InputError, WorkError)):
        if not _is_lost_connection(error):
            raise error  # a bug
        error = WorkError(ENDED)
    if not told.begun and str(error) != ENDED:
        try:
            _raise_first_mistake(_exchange(f"{_code(error)}{error}"))
        except RuntimeError as lost:  # a peer is gone: this process alone says its mistake
            if not _is_lost_connection(lost):
                raise
    if told.local_rank > 1:  # two on each machine speak, as the first may be the one that died
        sys.exit(_code(error))
    print(file=sys.stderr)  # the bar of the process that died may stand on the line
    raise type(error)(f"rank {told.rank} of {told.size}: {error}") from error


def _is_lost_connection(error: Exception) -> bool:
    import torch.distributed as dist

    text = str(error).lower()
    known = isinstance(error, dist.DistError) or any(name in text for name in ("gloo", "nccl", "tcpstore"))
    return known and not isinstance(error, (InputError, WorkError))


def _code(error: Exception) -> int:
    return 2 if isinstance(error, InputError) else 1


def _raise_in_rank_0(told: World, error: Exception) -> None:
    told.mistake = error
    if told.first:
        raise error
    sys.exit(_code(error))


# -- what all know -------------------------------------------------------------------------


def agree(basis: object = None) -> None:
    """Wait until every process is ready to begin, on the same `basis` (anything that repr tells apart).

    Whoever cannot begin has raised its error instead: then rank 0 raises it here, and
    the others exit silently. `InputError` if the processes begin from different bases.
    """
    if _world.size == 1:
        return
    answers = _exchange("0" + hashlib.sha256(repr(basis).encode()).hexdigest())
    _raise_first_mistake(answers)
    _world.begun = True
    if other := [rank for rank, answer in enumerate(answers) if answer != answers[0]]:
        text = f"rank {other[0]}: got another model, data or options than rank 0, expected the same on every machine."
        _raise_in_rank_0(_world, InputError(text))


def _raise_first_mistake(answers: list[str]) -> None:
    mistakes = {rank: answer for rank, answer in enumerate(answers) if not answer.startswith("0")}
    if not mistakes:
        return
    rank, answer = next(iter(mistakes.items()))
    text = answer[1:] if rank == 0 else f"rank {rank}: {answer[1:]}"
    _raise_in_rank_0(_world, InputError(text) if answer[0] == "2" else WorkError(text))


def _exchange(answer: str) -> list[str]:
    """Every rank's answer, in the order of ranks; as bytes, since nothing here is to be unpickled."""
    import torch
    import torch.distributed as dist

    ours = torch.zeros(_ANSWER, dtype=torch.uint8)
    encoded = answer.encode()[:_ANSWER]
    ours[: len(encoded)] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    all_answers = [torch.empty_like(ours) for _ in range(_world.size)]
    dist.all_gather(all_answers, ours)
    return [bytes(theirs.tolist()).rstrip(b"\0").decode(errors="replace") for theirs in all_answers]


def wait_for_all() -> None:
    """Return once every process has come here; they may differ by hours. Alone: at once."""
    if _world.size > 1:
        import torch.distributed as dist

        dist.barrier(_world.patient)
