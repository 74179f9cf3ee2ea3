"""Noisy copies of an image: in floating point, or on a grid, where the theorem holds for the machine.

**float.** x + δ in float32. How it is rounded depends on x, so that what f sees at x′ is not quite what
it saw at x, moved: for an f that reads last bits the certificate can be false (Voráček and Hein 2023;
notebook 08 has a case).

**grid.** Every pixel, noise included, is a whole number of steps h = 1/4080 = 1/(16 · 255): the 8-bit
levels k/255 are whole (16 k), and so are the 16 grey levels of the digits. For x = h·k, k whole, draw

    δ ~ N(0, σ²I),   z = round(δ / h),   and show f the image h·(k + z).

*Claim.* For images of whole steps, Cohen et al.'s radius holds for what the machine computes.

*Proof.* Let q(u) = h·round(u/h), rounding a half up, number by number. Then q(x + δ) = h·(k + z): a whole
number moves out of the rounding. So f on the grid under rounded noise *is* f∘q under real Gaussian
noise, and f∘q is a measurable classifier like any other: the theorem gives its radius R, for every x′
with ‖x′ − x‖₂ < R, and at every x′ of whole steps the smoothed f∘q is again what the machine computes. ∎

What is computed is exact: k + z are whole numbers below 2²⁴, which float32 adds without rounding, and the
one division by 4080 comes last, so that f sees a function of the whole number alone. What remains is the
law of z. It is drawn from 63 random bits by Walker's alias method with whole-number weights w_z, Σ w_z =
2⁶³: exactly w_z/2⁶³, which differs from P(round(δ/h) = z) by less than 2⁻⁴⁶ in total variation (the test
sums it up in 50 digits). For d ≤ 2¹⁸ numbers an image that is less than s = 2⁻²⁸, so a vote has its true
probability to within s, at x and at x′. Both ends are paid for at x: CERTIFY takes p̲_A − 2s and p̄_B + 2s.

*Why 2s do.* The true p_A at x is at least p̲_A − s, p_B at most p̄_B + s. At distance tσ the half-spaces'
Φ(Φ⁻¹(p_A) − t) and Φ(Φ⁻¹(p_B) + t) bound the true probabilities at x′. With a = Φ⁻¹(p_A), b = Φ⁻¹(p_B), their
slopes in p_A and p_B are exp(at − t²/2) and exp(−bt − t²/2), whose sum is at least 2 exp((a − b − t) t/2) ≥ 2
while t ≤ (a − b)/2: the s that p_A and p_B keep in hand at x is a gap of 2s at x′, and the machine's, s off
each, still agree on A. (With p_B = 1 − p_A: a slope of at least 1.) PREDICT's error changes by n·s at most. ∎

*What it takes.* The image that is deployed is of whole steps too (every 8-bit image is), the same
sampler runs there, f is a function of its input, and the generator's bits are as good as random.

Sources: V. Voráček, M. Hein, "Sound randomized smoothing in floating-point arithmetic", ICLR 2023 (the
problem, and noise on a grid); A. J. Walker, ACM Transactions on Mathematical Software 3, 1977.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from rslab.errors import InputError, check_choice, check_positive

STEPS = 4080  # h = 1/STEPS: 16 steps from one 8-bit level to the next
SLACK = {"float": 0.0, "grid": 2.0**-27}  # 2s: what a probability pays for the law of the noise
SAMPLERS = tuple(SLACK)
LARGEST_IMAGE = 2**18  # numbers: s / 2⁻⁴⁶
_TAIL = 8.3  # deviations beyond which nothing is drawn: a mass below 2⁻⁵²
_CHUNK = 2**16  # numbers drawn at a time on a CPU: they stay in its cache

Draw = Callable[[int, torch.Generator | None], Tensor]  # (m, generator) → m noisy copies (m, C, H, W)


def noisy_copies(sampler: str, x: Tensor, sigma: float) -> Draw:
    """What draws noisy copies of the image `x` (C, H, W) in [0, 1], float32 on its device.

    sampler: "float", or "grid" for an image of whole steps 1/4080. σ in [0, 1] pixel units.

    Source: slides, random perturbations; Voráček and Hein 2023, noise on a grid.
    """
    check_choice("sampler", sampler, SAMPLERS)
    check_positive("sigma", sigma)
    if sampler == "float":

        def draw(m: int, generator: torch.Generator | None) -> Tensor:
            return torch.randn(m, *x.shape, device=x.device, generator=generator).mul_(sigma).add_(x)

        return draw

    steps = whole_steps(x)
    if x.numel() > LARGEST_IMAGE:
        raise InputError(f"image: got {x.numel()} numbers, expected at most {LARGEST_IMAGE} with sampler 'grid'.")
    table = AliasTable.of(sigma)

    def draw_on_grid(m: int, generator: torch.Generator | None) -> Tensor:
        noise = table.draw(m * x.numel(), generator, x.device)
        return noise.view(m, *x.shape).add_(steps).div_(STEPS)

    return draw_on_grid


def check_sampler(sampler: str, sigma: float) -> None:
    """`InputError` for a sampler that is none, or σ that is none of its."""
    check_choice("sampler", sampler, SAMPLERS)
    if sampler == "grid" and sigma != 0:
        AliasTable.of(check_positive("sigma", sigma))


def whole_steps(x: Tensor) -> Tensor:
    """The whole numbers k of an image h·k, as float32 of its shape; `InputError` if some pixel is between two."""
    exact = x.double() * STEPS
    steps = exact.round()
    off = float((exact - steps).abs().amax()) if x.numel() else 0.0
    if not off <= 1e-3:  # float32 of k/4080 is within 0.0003 steps
        raise InputError(
            f"image: got pixels {off:.2g} steps of 1/{STEPS} off the grid, expected 8-bit levels k/255 with sampler "
            "'grid' (on_grid rounds)."
        )
    return steps.float()


def on_grid(x: Tensor, adversarial: Tensor) -> Tensor:
    """Perturbed images with each pixel moved to a whole step, towards the `x` (of whole steps) that they perturb.

    Shapes (…, C, H, W), both in [0, 1]. No pixel's perturbation grows, hence no ℓ2 or ℓ∞ distance.
    """
    steps = whole_steps(x).double()
    moved = adversarial.double() * STEPS - steps
    return ((steps + moved.trunc()) / STEPS).float()


class AliasTable:
    """Draws round(δ·4080), δ ~ N(0, σ²): each column holds 2^`bits` chances, for its own number and for one other.

    Source: Walker 1977, alias method.
    """

    def __init__(self, sigma: float):
        weights = rounded_gaussian(sigma)
        columns = 1 << (len(weights) - 1).bit_length()
        self.bits = 63 - columns.bit_length() + 1
        self.lowest = -(len(weights) // 2)
        self.own, self.other = _columns(weights, columns, 1 << self.bits)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @staticmethod
    @lru_cache(maxsize=16)
    def of(sigma: float) -> "AliasTable":
        """The table for σ, built once."""
        return AliasTable(sigma)

    def draw(self, size: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """`size` numbers of steps, whole, as float32 on `device`."""
        if device not in self._on:
            jumps = torch.from_numpy(self.other - np.arange(len(self.other))).float()
            self._on[device] = torch.from_numpy(self.own).to(device), jumps.to(device)
        own, others_jump = self._on[device]
        steps = torch.empty(size, device=device)
        for part in steps.split(_CHUNK if device.type == "cpu" else size):
            random = torch.empty(len(part), dtype=torch.int64, device=device).random_(generator=generator)  # 63 bits
            column = random >> self.bits
            leaves = random.bitwise_and_((1 << self.bits) - 1) >= own.index_select(0, column)
            jump = others_jump.index_select(0, column)
            torch.add(column, jump.mul_(leaves), out=part).add_(self.lowest)
        return steps


def rounded_gaussian(sigma: float) -> np.ndarray:
    """Weights w_z of z = −T … T, whole numbers (2T + 1,) with sum 2⁶³: P(round(δ·4080) = z) ≈ w_z / 2⁶³.

    The probability of a cell is an integral of the density over it, by six Gauss points: unlike a
    difference of distribution functions it keeps all its digits.
    """
    deviation = STEPS * sigma  # in steps
    last = math.ceil(_TAIL * deviation)
    if not 4 <= deviation or 2 * last + 1 > 2**18:
        raise InputError(f"sigma: got {sigma:g} with sampler 'grid', expected 0.001 to 3.8.")
    points, shares = np.polynomial.legendre.leggauss(6)
    z = np.arange(last + 1, dtype=float)
    inside = (z[:, None] + points / 2) / deviation  # (T + 1, 6)
    half = (np.exp(-inside * inside / 2) @ shares) / 2 / (deviation * math.sqrt(2 * math.pi))
    half_weights = np.rint(half * 2.0**63).astype(np.int64).tolist()
    weights = half_weights[:0:-1] + half_weights
    weights[last] += 2**63 - sum(weights)  # rounding and the tails go to 0, the likeliest
    return np.array(weights, dtype=np.int64)


def _columns(weights: np.ndarray, columns: int, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """(chances that a column keeps for its own number, the other number), in whole numbers, so without error."""
    left = weights.tolist() + [0] * (columns - len(weights))
    own, other = np.full(columns, capacity, dtype=np.int64), np.arange(columns, dtype=np.int64)
    poor = [column for column, weight in enumerate(left) if weight < capacity]
    rich = [column for column, weight in enumerate(left) if weight > capacity]
    while poor:
        column, giver = poor.pop(), rich[-1]
        own[column], other[column] = left[column], giver
        left[giver] -= capacity - left[column]
        if left[giver] <= capacity:
            rich.pop()
            if left[giver] < capacity:
                poor.append(giver)
    return own, other
