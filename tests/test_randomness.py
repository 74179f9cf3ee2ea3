"""Generators: a stream of its own for each purpose, seed and index."""

import itertools

import pytest
import torch

from rslab.errors import InputError
from rslab.machine.randomness import PURPOSES, generator_for


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


STREAMS = [*itertools.product(PURPOSES, (0, 1, 1000), (0, 1, 2, 500, 49_999))]


def test_no_stream_runs_into_another_one():
    """Were two streams pieces of one sequence, some three neighbouring 31-bit words would occur in both."""
    words = [torch.empty(20_000, dtype=torch.int32).random_(generator=generator_for(*case)) for case in STREAMS]
    together = {triple for part in words for triple in zip(*(part[k:].tolist() for k in range(3)), strict=False)}
    assert len(together) == len(STREAMS) * (20_000 - 2)


def test_streams_are_uncorrelated_whatever_the_lag():
    length = 2**14
    noise = torch.stack([torch.randn(length, generator=generator_for(*case)).double() for case in STREAMS])
    spectra = torch.fft.rfft(noise)
    largest = 0.0
    for one, two in itertools.combinations(range(len(STREAMS)), 2):
        correlations = torch.fft.irfft(spectra[one].conj() * spectra[two], n=length) / length  # at every lag
        largest = max(largest, float(correlations.abs().max()))
    # 29 million of them, each nearly N(0, 1/length): 7 deviations have probability 10⁻⁴.
    assert largest < 7 / length**0.5


@pytest.mark.parametrize("seed", [-1, 1001])
def test_a_seed_whose_streams_would_collide_is_refused(seed):
    with pytest.raises(InputError, match=f"^seed: got {seed}, expected 0 … 1000"):
        generator_for("train", seed, 0)


@pytest.mark.parametrize("index", [-1, 1_000_003])
def test_an_index_whose_stream_would_be_another_seeds_is_refused(index):
    with pytest.raises(InputError, match=f"^index: got {index}, expected 0 … 1000002"):
        generator_for("train", 0, index)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_generator_lives_on_its_device():
    generator = generator_for("certify", 0, 0, "cuda")
    assert generator.device.type == "cuda"
    assert torch.randn(4, device="cuda", generator=generator).is_cuda
