"""Every choice that makes a training run or an attack, with its type, default and help, in one place.

Command line, recipes and `config.json` are made from these dataclasses and checked by them: the text below an option
is its help on the command line.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, Union, get_args, get_origin, get_type_hints

from rslab.errors import InputError, check_at_least, check_positive, check_seed

if TYPE_CHECKING:  # the command line shows its help without PyTorch
    from torch import Tensor

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS = get_args(Precision)
Sampler = Literal["float", "grid"]
Norm = Literal["l2", "linf"]
Method = Literal[
    "standard",
    "gaussian",
    "smoothed",
    "adversarial",
    "combine1",
    "combine2",
    "combine3",
    "naive",
    "consistency",
    "smoothmix",
    "smoothadv",
]
# What each method does to an image x before the cross-entropy. δ ~ N(0, σ²I).
METHODS: dict[Method, str] = {
    "standard": "f(x): no noise, no attack",
    "gaussian": "f(x + δ): Gaussian augmentation (Cohen et al. 2019; lecture 14, attempt 1)",
    "smoothed": "−log of the mean of F(x + δᵢ): train G directly (lecture 14, attempt 2)",
    "adversarial": "f(x̂), x̂ attacks f: FGSM or PGD adversarial training (Madry et al. 2018)",
    "combine1": "f(x̂) and f(x + δ), half each: combination (1) of the blog post",
    "combine2": "f(x̂ + δ), x̂ attacks f at x: combination (2)",
    "combine3": "f(x̂ + δ), x̂ attacks f around each x + δ: combination (3)",
    "naive": "f(x̂ + δ), x̂ attacks the mean of log F(x + δᵢ): log and mean swapped",
    "consistency": "f(x + δ), and the copies' predictions drawn together (Jeong and Shin 2020)",
    "smoothmix": "f(x + δ), and predictions that fade towards x̂, which attacks G (Jeong et al. 2021)",
    "smoothadv": "f(x̂ + δ), x̂ attacks G, the mean of F(x + δᵢ): SmoothAdv, combination (4)",
}
ATTACKING = ("adversarial", "combine1", "combine2", "combine3", "naive", "smoothmix", "smoothadv")
NOISY = ("gaussian", "smoothed", "consistency", "combine1", "combine2", "combine3", "naive", "smoothmix", "smoothadv")

# -- what a dataclass of options accepts -----------------------------------------------------

# Which options an option's value leaves without use: {decider: {option: the decider's values that use it}}.
UsedBy = Mapping[str, Mapping[str, tuple]]
NONE = {"sigma": 0}  # a value that says itself that nothing is done
KINDS = {float: "a number", int: "a whole number", bool: "True or False", str: "text", Path: "a path"}


def check_types(options) -> None:
    """`InputError` for the first option of a dataclass whose value is not of its annotated type.

    A number of NumPy or PyTorch becomes Python's, and a path text: a run's JSON holds no other.
    """
    for name, hint in get_type_hints(type(options)).items():
        if isinstance(value := getattr(options, name), Path):
            object.__setattr__(options, name, value := str(value))
        if not _fits(value, hint):
            raise InputError(f"{name}: got {value!r}, expected {expected(hint)}.")
        if not isinstance(value, int | float | str | NoneType):
            object.__setattr__(options, name, int(value) if isinstance(value, Integral) else float(value))


def expected(hint) -> str:
    """What an option of this type takes: "a number", "one of pgd, ddn, fgsm" …"""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    kinds = [part for part in get_args(hint) or (hint,) if part is not NoneType]
    return KINDS.get(kinds[0], "another value")


def _fits(value, hint) -> bool:
    """Whether a value has the annotated type; True is no number here, and 1 is a number."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    scalar = not getattr(value, "shape", ())
    return scalar and isinstance(value, {float: SupportsFloat, int: Integral}.get(hint, hint))


def unused_options(cls, values: Mapping[str, Any], used_by: UsedBy) -> dict[str, str]:
    """The options among `values` that would do nothing, other than defaults of the dataclass: {option: why}."""
    defaults = {field.name: field.default for field in fields(cls)}
    unused: dict[str, str] = {}
    for decider, options in used_by.items():
        chosen = values.get(decider, defaults[decider])
        for name, users in options.items():
            if name not in values or values[name] in (defaults[name], NONE.get(name, defaults[name])):
                continue
            if chosen not in users:
                unused.setdefault(name, f"{decider} {chosen!r}, expected {decider} {_either(users)}: it does nothing")
    return unused


def _either(choices: tuple) -> str:
    """ "'a', 'b' or 'c'"."""
    return " or ".join(filter(None, (", ".join(map(repr, choices[:-1])), repr(choices[-1]))))


def check_used(options, used_by: UsedBy) -> None:
    """`InputError` for an option of a dataclass that does nothing."""
    for name, why in unused_options(type(options), vars(options), used_by).items():
        raise InputError(f"{name}: got {getattr(options, name)!r} with {why}.")


def options_of(cls, values, *, source: str):
    """The dataclass made from `values` by name, as a file holds them; what is wrong is refused with its source."""
    if not isinstance(values, dict):
        raise InputError(f"{source}: got {type(values).__name__}, expected an object of options.")
    if unknown := values.keys() - {field.name for field in fields(cls)}:
        raise InputError(f"{source}: got unknown key {min(unknown)!r}, expected keys of {cls.__name__}.")
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


# -- an attack -------------------------------------------------------------------------------

AttackName = Literal["pgd", "ddn", "fgsm"]
Objective = Literal["cross-entropy", "margin", "negative-log-likelihood"]
PGD_ALONE = ("step_size", "random_start", "restarts")
OF_ATTACK = {"steps": ("pgd", "ddn"), **dict.fromkeys(PGD_ALONE, ("pgd",))}  # option → the attacks that use it


@dataclass(frozen=True)
class Attack:
    """An attack with its options, which it checks; called, it runs. Distances in [0, 1] pixel units."""

    name: AttackName = "pgd"
    norm: Norm = "l2"
    epsilon: float = 0.5  # ε: radius of the ball
    steps: int = 20  # T: iterations, of PGD and DDN
    step_size: float | None = None  # η of PGD; None: 2.5 ε / T
    random_start: bool = False  # PGD from a random point of the ball
    restarts: int = 1  # starts of PGD; all but the first are random
    objective: Objective = "cross-entropy"  # what is made large; `attacks.OBJECTIVES`

    def __post_init__(self):
        check_types(self)
        check_at_least("epsilon", self.epsilon, 0)
        for name in ("steps", "restarts"):
            check_at_least(name, getattr(self, name), 1)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        if self.name == "ddn" and self.norm != "l2":
            raise InputError(f"norm: got {self.norm!r} with attack 'ddn', expected 'l2': DDN minimises an l2 norm.")
        check_used(self, {"name": OF_ATTACK})

    def __call__(
        self,
        log_probs: "Callable[[Tensor], Tensor]",
        x: "Tensor",
        y: "Tensor",
        *,
        targeted: bool = False,
        flat_spots: "Tensor | None" = None,
        **of_pgd,
    ) -> "Tensor":
        """The attacked images (B, C, H, W); `attacks.pgd` says what the arguments are.

        `of_pgd`: start, keep, gradient and generator, of which FGSM and DDN have no use.
        """
        from rslab import attacks

        objective = attacks.OBJECTIVES[self.objective]
        how: dict[str, Any] = {"objective": objective, "targeted": targeted, "flat_spots": flat_spots}
        if self.name == "fgsm":
            return attacks.fgsm(log_probs, x, y, self.epsilon, norm=self.norm, **how)
        if self.name == "ddn":
            return attacks.ddn(log_probs, x, y, self.epsilon, steps=self.steps, **how)
        how |= {"step_size": self.step_size, "random_start": self.random_start, "restarts": self.restarts} | of_pgd
        return attacks.pgd(log_probs, x, y, self.epsilon, steps=self.steps, norm=self.norm, **how)


def attack_of(options, epsilon: float, objective: Objective) -> Attack:
    """The attack that a training run or an evaluation describes: of its options those that this attack uses."""
    names = {"norm", *(name for name, users in OF_ATTACK.items() if options.attack in users)}
    values = {field.name: getattr(options, field.name) for field in fields(options) if field.name in names}
    return Attack(name=options.attack, epsilon=epsilon, objective=objective, **values)


# -- a training run --------------------------------------------------------------------------

USED_BY: UsedBy = {
    "method": {
        **dict.fromkeys(("attack", "norm", "epsilon", "steps", "step_size", "random_start", "warmup"), ATTACKING),
        **dict.fromkeys(("sigma", "samples"), NOISY),
        "outer": ("smoothadv",),
        "consistency": ("consistency",),
        "confidence": ("consistency",),
        "mixing": ("smoothmix",),
        "clean": ("adversarial", "combine1"),
    },
    "attack": OF_ATTACK,
    "schedule": {"rise": ("one-cycle",)},
}


@dataclass(frozen=True)
class TrainConfig:
    """A training run. σ and ε are ℓ2 (or ℓ∞) distances in [0, 1] pixel units.

    SGD with Nesterov momentum; a step is one batch with all its noisy copies.

    Source: lecture 14, pre-training, semi-supervision; blog, hyperparameters.
    """

    dataset: str = "digits"
    """Training images: digits, mnist, mnist8, cifar10, cifar10-heldout or imagenet"""
    arch: str = "cnn"
    """cnn, strided-cnn, resnet8-half, resnet14-half, resnet14-wide, resnet20, resnet110, resnet50, or net:build"""
    normalization: Literal["standard", "center"] = "standard"
    """First layer: standard divides by the standard deviation, center only subtracts the mean"""
    method: Method = "gaussian"
    """What is trained"""
    sigma: float = 0.25
    """σ: standard deviation of the noise, [0, 1] pixel units; not used by standard and adversarial"""
    attack: AttackName = "pgd"
    """Attack in training"""
    norm: Norm = "l2"
    """Norm of the attack"""
    epsilon: float = 0.5
    """ε: radius of the attack, [0, 1] pixel units"""
    steps: int = 4
    """T: iterations of the attack"""
    step_size: float | None = None
    """η: step of PGD (default 2.5 ε / T)"""
    random_start: bool = False
    """PGD from a random point of the ball"""
    samples: int = 1
    """m: noisy copies an image, shared by attack and update"""
    warmup: int = 10
    """Epochs over which ε grows linearly to its value; at most all of the run"""
    outer: Literal["mean-ce", "log-mean"] = "mean-ce"
    """SmoothAdv's loss: mean-ce as published code, log-mean as the paper's formula"""
    consistency: float = 10.0
    """λ of consistency: weight of KL(mean prediction ‖ each copy's)"""
    confidence: float = 0.5
    """η of consistency: weight of the mean prediction's entropy"""
    mixing: float = 5.0
    """η of smoothmix: weight of the loss on mixtures of the image and its attacked one"""
    clean: float = 0.0
    """adversarial and combine1: share of the loss on clean images (mixed batches)"""
    epochs: int = 30
    """Passes over the training set"""
    batch_size: int = 128
    """Images a step (times m copies)"""
    lr: float = 0.1
    """Highest learning rate of SGD"""
    schedule: Literal["one-cycle", "step"] = "one-cycle"
    """Learning rate: one-cycle rises, then falls to 0; step divides by 10 at ⅓ and ⅔"""
    rise: float = 0.2
    """one-cycle: share of the run over which the learning rate rises"""
    momentum: float = 0.9
    """Nesterov momentum"""
    weight_decay: float = 5e-4
    """l2 penalty on the weights"""
    decayed: Literal["all", "matrices"] = "all"
    """Whose weights decay: all, or matrices alone, not biases and batch norm"""
    average: float = 0.0
    """Decay of a running average of the weights, a term a step, which is what is kept; 0: the last weights"""
    precision: Precision = "float32"
    """Of the network, not of its weights; auto: bfloat16 where the device runs it natively"""
    stored: Literal["float32", "bfloat16"] = "float32"
    """Weights in the run folder; bfloat16 rounds the matrices once training is over: half the size"""
    augment: bool = False
    """Random crop (4 pixels of padding) and horizontal flip"""
    seed: int = 0
    """Seed of all randomness, 0 … 1000"""
    pretrained: str | None = None
    """Run folder whose weights to start from; a new head where the classes differ"""
    labels: int | None = None
    """Keep the labels of this many training images, hide the rest"""
    unlabelled: str | None = None
    """Pool: hidden (images whose label is hidden), or a data set"""
    pseudo_labels: str | None = None
    """Run folder whose model labels the pool"""
    pool_weight: float = 1.0
    """Weight of a pool image's loss"""

    def __post_init__(self):
        check_types(self)
        check_at_least("sigma", self.sigma, 0)
        if self.method in NOISY:
            check_positive("sigma", self.sigma)
        for name in ("samples", "epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1)
        if self.method == "consistency" and self.samples < 2:
            raise InputError(f"samples: got {self.samples} with method 'consistency', expected 2 or more to compare.")
        for name in ("warmup", "weight_decay", "pool_weight", "consistency", "confidence", "mixing"):
            check_at_least(name, getattr(self, name), 0)
        for name in ("momentum", "clean", "average", "rise"):
            if check_at_least(name, getattr(self, name), 0) >= 1:
                raise InputError(f"{name}: got {getattr(self, name)}, expected a share from 0 to below 1.")
        check_seed(self.seed)
        check_positive("lr", self.lr)
        if self.labels is not None:
            check_at_least("labels", self.labels, 1)
        if (self.unlabelled is None) != (self.pseudo_labels is None):
            raise InputError(
                f"unlabelled: got {self.unlabelled!r} with pseudo_labels {self.pseudo_labels!r}, "
                "expected both: a pool and the run that labels it."
            )
        if self.unlabelled == "hidden" and self.labels is None:
            raise InputError("unlabelled: got 'hidden' without labels, expected labels to say how many keep theirs.")
        if self.unlabelled is None and self.pool_weight != 1:
            raise InputError(f"pool_weight: got {self.pool_weight} without unlabelled, expected a pool to weigh.")
        self.attack_of(self.epsilon)  # which checks its options
        check_used(self, USED_BY)

    def attack_of(self, epsilon: float, objective: Objective = "cross-entropy") -> Attack:
        """The attack of the method, at the ε that the warm-up has reached."""
        return attack_of(self, epsilon, objective)

    @property
    def passes(self) -> int:
        """Forward passes that an epoch costs per training image; a backward pass counts as two, to the image as one."""
        m = self.samples
        attack = {"fgsm": 2, "pgd": 2 * self.steps, "ddn": 2 * self.steps + 2}[self.attack]  # DDN scores its last step
        return {
            "standard": 3,
            **dict.fromkeys(("gaussian", "smoothed", "consistency"), 3 * m),
            "adversarial": attack + (6 if self.clean else 3),
            "combine1": attack + (6 if self.clean else 3) + 3 * m,
            "combine2": attack + 3 * m,
            **dict.fromkeys(("combine3", "naive", "smoothadv"), m * (attack + 3)),
            "smoothmix": m * (attack + 6),
        }[self.method]

    @classmethod
    def without_use(cls, values: Mapping[str, Any]) -> set[str]:
        """The options among `values` that the others leave without use; defaults are always fine."""
        unused = set(unused_options(cls, values, USED_BY))
        if values.get("unlabelled") is None and "pool_weight" in values:
            unused.add("pool_weight")
        return unused

    def with_runs(self, rename: Callable[[str], str]) -> "TrainConfig":
        """The same with the other runs that it builds on, `pretrained` and `pseudo_labels`, renamed."""
        pretrained, pseudo_labels = (name and rename(name) for name in (self.pretrained, self.pseudo_labels))
        return replace(self, pretrained=pretrained, pseudo_labels=pseudo_labels)

    def to_dict(self) -> dict:
        """Every option by name, as `config.json` keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict, *, source: str = "config") -> "TrainConfig":
        """The configuration in `values`; an unknown key or a value of another type is refused.

        An option that is not there was not yet known when the run was made: its default
        is what the run did. One that did nothing, as old runs may have, is set to its
        default. What the network is must be said.
        """
        if isinstance(values, dict):
            if missing := {"dataset", "arch", "normalization", "method", "sigma"} - values.keys():
                raise InputError(f"{source}: got no {min(missing)!r}, expected the options of a training run.")
            unused = cls.without_use(values)
            values = {key: value for key, value in values.items() if key not in unused}
        return options_of(cls, values, source=source)
