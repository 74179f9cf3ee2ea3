"""Generators: a stream of its own for each purpose, seed and index."""

import itertools

import pytest
import torch

from rslab.errors import InputError
from rslab.randomness import PURPOSES, generator_for


def first_numbers(*arguments) -> tuple:
    return tuple(torch.randn(4, generator=generator_for(*arguments)).tolist())


def test_no_two_streams_are_the_same():
    cases = list(itertools.product(PURPOSES, (0, 1, 2, 999, 1000), (0, 1, 2, 49_999, 999_999, 1_000_000)))
    assert len({first_numbers(*case) for case in cases}) == len(cases)


def test_the_same_stream_comes_again_whatever_the_global_seed():
    torch.manual_seed(1)
    first = first_numbers("certify", 3, 7)
    torch.manual_seed(2)
    assert first_numbers("certify", 3, 7) == first


@pytest.mark.parametrize("seed", [-1, 1001])
def test_a_seed_whose_streams_would_collide_is_refused(seed):
    with pytest.raises(InputError, match=f"^seed: got {seed}, expected 0 … 1000"):
        generator_for("train", seed, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_generator_lives_on_its_device():
    generator = generator_for("certify", 0, 0, "cuda")
    assert generator.device.type == "cuda"
    assert torch.randn(4, device="cuda", generator=generator).is_cuda
