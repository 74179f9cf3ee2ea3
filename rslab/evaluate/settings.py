"""What a log of certification or attack depends on, beside model and data."""

from dataclasses import dataclass
from typing import Literal

from rslab.config import OF_ATTACK, Attack, AttackName, Norm, Precision, Sampler, attack_of, check_types, check_used
from rslab.errors import InputError, check_at_least, check_open_unit, check_positive, check_seed
from rslab.machine.devices import check_fits
from rslab.smoothing.bounds import RADII, parse_radii
from rslab.smoothing.sampling import SLACK, check_sampler
from rslab.smoothing.sequential import SequentialPlan, spacing


@dataclass(frozen=True)
class CertifySettings:
    """What a certification log depends on, beside model and data. σ in [0, 1] pixel units."""

    sigma: float
    """σ of the noise"""
    n0: int = 100
    """Votes that select the class"""
    n: int = 100_000
    """Fresh votes that bound its probability"""
    alpha: float = 0.001
    """α: allowed probability of a wrong certificate, an image, in (0, 1)"""
    bound: Literal["clopper-pearson", "two-class", "hoeffding", "bernstein", "sequential"] = "clopper-pearson"
    """From votes to p_A: hoeffding and bernstein average the softmax, sequential stops once all radii are decided"""
    radii: str | None = None
    """Of sequential: the radii to decide, separated by commas (default: those of the table that n and α allow)"""
    seed: int = 0
    """Seed of all randomness, 0 … 1000"""
    skip: int = 1
    """Take every SKIP-th test image"""
    max: int | None = None
    """Take at most MAX images, after --skip"""
    batch_size: int | None = None
    """Noisy images at a time (default: by size and device); orders a GPU's noise, and spaces the looks of sequential"""
    sampler: Sampler = "float"
    """Noise: float, or grid (sound in floating point, 8-bit images)"""
    precision: Precision = "auto"
    """Of the network; logs record it: auto is the fastest that the device runs natively, bfloat16 or float32"""
    compile: bool = False
    """The network by torch.compile: seconds at first, faster after"""

    def __post_init__(self):
        check_types(self)
        check_positive("sigma", self.sigma)
        check_open_unit("alpha", self.alpha)
        check_sampler(self.sampler, self.sigma)
        for name in ("n0", "n", "skip"):
            check_at_least(name, getattr(self, name), 1)
        if self.plan() is None and self.radii is not None:
            raise InputError(f"radii: got {self.radii!r} with bound {self.bound!r}, expected --sequential with them.")
        if self.bound == "bernstein":
            check_at_least("n", self.n, 2)  # a variance
        _check_optional_counts(self)
        check_seed(self.seed)

    def plan(self) -> SequentialPlan | None:
        """When to look at the votes and what to conclude, if that is sequential."""
        if self.bound != "sequential":
            return None
        rest = (self.n, self.alpha, SLACK[self.sampler], spacing(self.batch_size))
        if self.radii is None:
            return SequentialPlan.within_reach(self.sigma, RADII, *rest)
        return SequentialPlan(self.sigma, parse_radii(self.radii), *rest)


@dataclass(frozen=True)
class AttackSettings:
    """An attack on the smoothed classifier, judged by PREDICT with n votes. ε in [0, 1] pixel units.

    σ = 0 means no smoothing: f itself is attacked and judged (empirical robust accuracy).
    """

    sigma: float
    """σ of the noise; 0: none"""
    attack: AttackName = "pgd"
    """The algorithm"""
    objective: Literal["smoothadv", "naive", "base"] = "smoothadv"
    """What is attacked: smoothadv (G), naive (the mean of log F) or base (f)"""
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"
    """Of PGD; margin is Carlini and Wagner's"""
    norm: Norm = "l2"
    """Norm of the attack"""
    epsilon: float = 0.5
    """ε: radius of the attack, [0, 1] pixel units"""
    steps: int = 20
    """T: iterations"""
    step_size: float | None = None
    """η: step of PGD (default 2.5 ε / T)"""
    restarts: int = 1
    """Starts of PGD; all but the first are random"""
    samples: int = 32
    """m: noisy copies that estimate the gradient"""
    stein: bool = False
    """Gradient by Stein's lemma, from values of f alone"""
    target: int | None = None
    """Class to reach (default: any wrong one)"""
    n: int = 10_000
    """Votes of PREDICT on the attacked image"""
    alpha: float = 0.001
    """α: allowed probability of a wrong answer, an image, in (0, 1)"""
    seed: int = 0
    """Seed of all randomness, 0 … 1000"""
    skip: int = 1
    """Take every SKIP-th test image"""
    max: int | None = None
    """Take at most MAX images, after --skip"""
    batch_size: int | None = None
    """Noisy images at a time (default: by size and device)"""
    sampler: Sampler = "float"
    """Noise of PREDICT: float, or grid, which judges the attacked image moved onto the grid, towards the original"""
    precision: Precision = "auto"
    """Of the networks, in attack and judgement; logs record it"""
    batch: int | None = None
    """Images attacked at a time (default: by size, m and device); changes rounding only"""

    def __post_init__(self):
        check_types(self)
        check_at_least("sigma", self.sigma, 0)
        check_sampler(self.sampler, self.sigma)
        if self.sigma == 0 and self.objective != "base":
            raise InputError(f"objective: got {self.objective!r} with σ = 0, expected 'base': without noise G is F.")
        if self.sigma == 0 and self.sampler != "float":
            raise InputError(f"sampler: got {self.sampler!r} with σ = 0, expected 'float': nothing is sampled.")
        check_open_unit("alpha", self.alpha)
        for name in ("samples", "n", "skip"):
            check_at_least(name, getattr(self, name), 1)
        _check_optional_counts(self)
        if self.stein and self.objective != "smoothadv":
            raise InputError(f"stein: got objective {self.objective!r}, expected 'smoothadv': it estimates ∇G.")
        if self.stein and self.loss != "cross-entropy":
            raise InputError(f"stein: got loss {self.loss!r}, expected 'cross-entropy': it estimates ∇ log G.")
        if self.target is not None:
            check_at_least("target", self.target, 0)
        check_seed(self.seed)
        of_pgd = dict.fromkeys(("loss", "stein"), ("pgd",))
        check_used(self, {"attack": OF_ATTACK | of_pgd, "objective": {"samples": ("smoothadv", "naive")}})
        self.chosen_attack()  # which checks its options

    def chosen_attack(self) -> Attack:
        """The attack that is run; what it is run on are log-probabilities already, but for f itself."""
        nll = self.loss == "cross-entropy" and self.objective != "base"
        return attack_of(self, self.epsilon, "negative-log-likelihood" if nll else self.loss)


def _check_optional_counts(settings: CertifySettings | AttackSettings) -> None:
    for name in ("max", "batch_size", "batch"):
        if getattr(settings, name, None) is not None:
            check_at_least(name, getattr(settings, name), 1)


def check_counts(settings: CertifySettings | AttackSettings, device: str, classes: int | None = None) -> None:
    """What no image is small enough for is refused before anything is loaded, and a target beyond the classes."""
    for name in ("batch_size", "samples"):
        if (count := getattr(settings, name, None)) is not None:
            votes = max(settings.n, getattr(settings, "n0", 0)) if name == "batch_size" else count
            check_fits(name, min(count, votes), 4, device)
    target = getattr(settings, "target", None)
    if target is not None and classes is not None and not 0 <= target < classes:
        raise InputError(f"target: got {target}, expected a class 0 … {classes - 1}.")


def chosen_indices(size: int, skip: int, limit: int | None) -> list[int]:
    """Every skip-th index of 0 … size − 1, at most `limit` of them."""
    return list(range(0, size, skip))[:limit]
