"""Every choice that makes a training run, with its default, in one place."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral
from typing import Any

from rslab.errors import InputError, check_at_least, check_choice, check_positive, check_seed

PRECISIONS = ("auto", "float32", "bfloat16")
# What each method does to an image x before the cross-entropy. δ ~ N(0, σ²I).
METHODS = {
    "standard": "f(x): no noise, no attack",
    "gaussian": "f(x + δ): Gaussian augmentation (Cohen et al. 2019; lecture 14, attempt 1)",
    "smoothed": "−log of the mean of F(x + δᵢ): train G directly (lecture 14, attempt 2)",
    "adversarial": "f(x̂), x̂ attacks f: FGSM or PGD adversarial training (Madry et al. 2018)",
    "combine1": "f(x̂) and f(x + δ), half each: combination (1) of the blog post",
    "combine2": "f(x̂ + δ), x̂ attacks f at x: combination (2)",
    "combine3": "f(x̂ + δ), x̂ attacks f around each x + δ: combination (3)",
    "naive": "f(x̂ + δ), x̂ attacks the mean of log F(x + δᵢ): log and mean swapped",
    "consistency": "f(x + δ), and the copies' predictions drawn together (Jeong and Shin 2020)",
    "smoothadv": "f(x̂ + δ), x̂ attacks G, the mean of F(x + δᵢ): SmoothAdv, combination (4)",
}
NOISY = ("gaussian", "smoothed", "consistency", "combine1", "combine2", "combine3", "naive", "smoothadv")
ATTACKING = ("adversarial", "combine1", "combine2", "combine3", "naive", "smoothadv")
ATTACKS = ("pgd", "ddn", "fgsm")
OUTER_LOSSES = ("mean-ce", "log-mean")
SCHEDULES = ("one-cycle", "step")
DECAYED = ("all", "matrices")

# Which options an option's value leaves without use: {decider: {option: the decider's values that use it}}.
UsedBy = Mapping[str, Mapping[str, tuple]]
USED_BY: UsedBy = {
    "method": {
        **dict.fromkeys(("attack", "norm", "epsilon", "steps", "step_size", "random_start", "warmup"), ATTACKING),
        **dict.fromkeys(("sigma", "samples"), NOISY),
        "outer": ("smoothadv",),
        "consistency": ("consistency",),
        "confidence": ("consistency",),
        "clean": ("adversarial", "combine1"),
    },
    "attack": {"steps": ("pgd", "ddn"), "step_size": ("pgd",), "random_start": ("pgd",)},
    "schedule": {"rise": ("one-cycle",)},
}


NONE = {"sigma": 0}  # a value that says itself that nothing is done


def unused_options(cls, values: Mapping[str, Any], used_by: UsedBy) -> dict[str, str]:
    """The options among `values` that would do nothing, other than defaults of the dataclass: {option: why}."""
    defaults = {field.name: field.default for field in fields(cls)}
    unused: dict[str, str] = {}
    for decider, options in used_by.items():
        chosen = values.get(decider, defaults[decider])
        for name, users in options.items():
            if name in values and values[name] != defaults[name] and chosen not in users:
                if values[name] == NONE.get(name):
                    continue
                unused.setdefault(name, f"{decider} {chosen!r}, expected {decider} {_either(users)}: it does nothing")
    return unused


def _either(choices: tuple) -> str:
    """ "'a', 'b' or 'c'"."""
    return " or ".join(filter(None, (", ".join(map(repr, choices[:-1])), repr(choices[-1]))))


def check_options(options, used_by: UsedBy) -> None:
    """`InputError` for an option of a dataclass of options that does nothing."""
    for name, why in unused_options(type(options), vars(options), used_by).items():
        raise InputError(f"{name}: got {getattr(options, name)!r} with {why}.")


def check_whole_numbers(options) -> None:
    """`InputError` for a fraction, or True, where a dataclass of options counts, and for a number where it asks."""
    for field in fields(options):
        value, kinds = getattr(options, field.name), _annotation(field.type).split(" | ")
        if "int" in kinds and not (value is None and "None" in kinds):
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise InputError(f"{field.name}: got {value!r}, expected a whole number.")
        if kinds == ["bool"] and not isinstance(value, bool):
            raise InputError(f"{field.name}: got {value!r}, expected True or False.")


@dataclass(frozen=True)
class TrainConfig:
    """A training run. σ and ε are ℓ2 (or ℓ∞) distances in [0, 1] pixel units."""

    dataset: str = "digits"
    arch: str = "cnn"
    normalization: str = "standard"
    method: str = "gaussian"
    sigma: float = 0.25  # standard deviation of the noise; not used by standard and adversarial
    # the attack, for the methods that have one
    attack: str = "pgd"
    norm: str = "l2"
    epsilon: float = 0.5  # radius of the attack
    steps: int = 4  # T, iterations of the attack
    step_size: float | None = None  # of PGD; None: 2.5 ε / T
    random_start: bool = False  # PGD starts at a random point of the ball
    samples: int = 1  # m, noisy copies an image, shared by attack and update
    warmup: int = 10  # epochs over which ε grows linearly from ε/warmup to ε; at most all of the run
    outer: str = "mean-ce"  # smoothadv's loss: mean-ce as published code, log-mean as the paper's formula
    consistency: float = 10.0  # λ of consistency: weight of KL(mean prediction ‖ each copy's)
    confidence: float = 0.5  # η of consistency: weight of the mean prediction's entropy
    clean: float = 0.0  # adversarial and combine1: share of the loss on clean images (mixed batches)
    # the optimiser: SGD with Nesterov momentum; a step is one batch with all its noisy copies
    epochs: int = 30
    batch_size: int = 128
    lr: float = 0.1  # highest learning rate
    schedule: str = "one-cycle"  # one-cycle: up over the first part of the run, then down to 0; step: ÷10 at ⅓ and ⅔
    rise: float = 0.2  # of one-cycle: share of the run over which the learning rate rises
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decayed: str = "all"  # whose weights decay: all, or matrices alone, not biases and batch norm
    average: float = 0.0  # decay of a running average of the weights, one term a step; it is kept; 0: the last weights
    precision: str = "float32"  # or bfloat16: of the network, in attack and update; the weights stay float32
    augment: bool = False  # random crop (4 pixels of padding) and horizontal flip
    seed: int = 0
    # more data
    pretrained: str | None = None  # run folder to start from; a new head where the classes differ
    labels: int | None = None  # keep the labels of this many training images only
    unlabelled: str | None = None  # pool: "hidden" (images whose label is hidden) or a data set's name
    pseudo_labels: str | None = None  # run folder whose model labels the pool
    pool_weight: float = 1.0  # weight of a pool image's loss

    def __post_init__(self):
        check_whole_numbers(self)
        check_choice("method", self.method, METHODS)
        check_choice("attack", self.attack, ATTACKS)
        check_choice("norm", self.norm, ("l2", "linf"))
        check_choice("outer", self.outer, OUTER_LOSSES)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("decayed", self.decayed, DECAYED)
        check_choice("precision", self.precision, PRECISIONS[1:])
        check_at_least("sigma", self.sigma, 0)
        if self.method in NOISY:
            check_positive("sigma", self.sigma)
        check_at_least("epsilon", self.epsilon, 0)
        for name in ("steps", "samples", "epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1)
        if self.method == "consistency" and self.samples < 2:
            raise InputError(f"samples: got {self.samples} with method 'consistency', expected 2 or more to compare.")
        for name in ("warmup", "weight_decay", "pool_weight", "consistency", "confidence"):
            check_at_least(name, getattr(self, name), 0)
        for name in ("momentum", "clean", "average", "rise"):
            if check_at_least(name, getattr(self, name), 0) >= 1:
                raise InputError(f"{name}: got {getattr(self, name)}, expected a share from 0 to below 1.")
        check_seed(self.seed)
        check_positive("lr", self.lr)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        if self.attack == "ddn" and self.norm != "l2":
            raise InputError(f"norm: got {self.norm!r} with attack 'ddn', expected 'l2': DDN minimises an l2 norm.")
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
        check_options(self, USED_BY)

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
        if not isinstance(values, dict):
            raise InputError(f"{source}: got {type(values).__name__}, expected an object of training options.")
        known = {field.name: field for field in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise InputError(f"{source}: got unknown key {key!r}, expected keys of TrainConfig.")
            if not _fits(value, known[key].type):
                raise InputError(f"{source}: got {key} = {value!r}, expected {_annotation(known[key].type)}.")
        if missing := {"dataset", "arch", "normalization", "method", "sigma"} - values.keys():
            raise InputError(f"{source}: got no {min(missing)!r}, expected the options of a training run.")
        return cls(**{key: value for key, value in values.items() if key not in cls.without_use(values)})


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "float": (int, float),
    "int": (int,),
    "bool": (bool,),
    "None": (type(None),),
}


def _fits(value, annotation) -> bool:
    """Whether a JSON value has the annotated type (`float | None` …); True is no number here."""
    names = [part.strip() for part in _annotation(annotation).split("|")]
    if isinstance(value, bool):
        return "bool" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _annotation(annotation) -> str:
    """ "float", "int | None" …"""
    return getattr(annotation, "__name__", str(annotation))
