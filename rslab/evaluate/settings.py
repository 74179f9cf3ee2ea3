"""What a log of certification or attack depends on, beside model and data."""

from dataclasses import dataclass

from rslab import attacks
from rslab.config import PRECISIONS, UsedBy, check_options, check_whole_numbers
from rslab.errors import InputError, check_at_least, check_choice, check_open_unit, check_positive, check_seed
from rslab.machine.devices import check_fits
from rslab.smoothing.bounds import BOUNDS, RADII, parse_radii
from rslab.smoothing.sampling import SLACK, check_sampler
from rslab.smoothing.sequential import SequentialPlan, spacing


@dataclass(frozen=True)
class CertifySettings:
    """What a certification log depends on, beside model and data. σ in [0, 1] pixel units."""

    sigma: float
    n0: int = 100  # votes that select the class
    n: int = 100_000  # fresh votes that bound its probability
    alpha: float = 0.001  # allowed probability of a wrong certificate, an image
    bound: str = "clopper-pearson"  # "sequential": stop once every radius of interest is decided
    radii: str | None = None  # these, separated by commas (default: those of the table that n and α allow)
    seed: int = 0
    skip: int = 1  # take every skip-th image …
    max: int | None = None  # … and at most this many
    batch_size: int | None = None  # noisy images at a time (default: by size and device); orders a GPU's noise, and
    # spaces the looks of a sequential bound (`sequential.spacing`)
    sampler: str = "float"  # "grid": sound in floating point, for 8-bit images
    precision: str = "auto"  # of the network: the fastest that the device runs natively; logs say which
    compile: bool = False  # the network by torch.compile: seconds at first, faster after

    def __post_init__(self):
        check_whole_numbers(self)
        check_positive("sigma", self.sigma)
        check_open_unit("alpha", self.alpha)
        check_choice("bound", self.bound, (*BOUNDS, "sequential"))
        check_sampler(self.sampler, self.sigma)
        check_choice("precision", self.precision, PRECISIONS)
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


ATTACK_USED_BY: UsedBy = {
    "attack": {"steps": ("pgd", "ddn"), "step_size": ("pgd",)},
    "objective": {"samples": ("smoothadv", "naive")},
}


@dataclass(frozen=True)
class AttackSettings:
    """An attack on the smoothed classifier, judged by PREDICT with n votes. ε in [0, 1] pixel units.

    σ = 0 means no smoothing: f itself is attacked and judged (empirical robust accuracy).
    """

    sigma: float
    attack: str = "pgd"
    objective: str = "smoothadv"
    loss: str = "cross-entropy"
    norm: str = "l2"
    epsilon: float = 0.5
    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    samples: int = 32  # m, noisy copies that estimate the gradient
    stein: bool = False  # estimate it from values of f alone
    target: int | None = None  # the class to reach; None: any but the label
    n: int = 10_000
    alpha: float = 0.001
    seed: int = 0
    skip: int = 1
    max: int | None = None
    batch_size: int | None = None
    sampler: str = "float"  # of PREDICT; "grid" judges the attacked image moved onto the grid, towards the original
    precision: str = "auto"  # of the networks, in attack and judgement
    batch: int | None = None  # images attacked at a time (default: by size, m and device); changes rounding only

    def __post_init__(self):
        check_whole_numbers(self)
        check_at_least("sigma", self.sigma, 0)
        check_sampler(self.sampler, self.sigma)
        check_choice("precision", self.precision, PRECISIONS)
        if self.sigma == 0 and self.objective != "base":
            raise InputError(f"objective: got {self.objective!r} with σ = 0, expected 'base': without noise G is F.")
        if self.sigma == 0 and self.sampler != "float":
            raise InputError(f"sampler: got {self.sampler!r} with σ = 0, expected 'float': nothing is sampled.")
        check_choice("attack", self.attack, ("pgd", "ddn", "fgsm"))
        check_choice("objective", self.objective, ("smoothadv", "naive", "base"))
        check_choice("loss", self.loss, attacks.OBJECTIVES)
        check_choice("norm", self.norm, attacks.NORMS)
        check_at_least("epsilon", self.epsilon, 0)
        check_open_unit("alpha", self.alpha)
        for name in ("steps", "restarts", "samples", "n", "skip"):
            check_at_least(name, getattr(self, name), 1)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        _check_optional_counts(self)
        if self.attack == "ddn" and self.norm != "l2":
            raise InputError(f"norm: got {self.norm!r} with attack 'ddn', expected 'l2': DDN minimises an l2 norm.")
        if self.attack != "pgd" and (self.restarts > 1 or self.loss != "cross-entropy" or self.stein):
            raise InputError(f"attack: got {self.attack!r} with restarts, loss or stein, expected 'pgd' for these.")
        if self.stein and self.objective != "smoothadv":
            raise InputError(f"stein: got objective {self.objective!r}, expected 'smoothadv': it estimates ∇G.")
        if self.stein and self.loss != "cross-entropy":
            raise InputError(f"stein: got loss {self.loss!r}, expected 'cross-entropy': it estimates ∇ log G.")
        if self.target is not None:
            check_at_least("target", self.target, 0)
        check_seed(self.seed)
        check_options(self, ATTACK_USED_BY)


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
