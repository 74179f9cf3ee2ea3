"""Checks of notebook 08: looking early, several radii from one run, ℓ∞ through ℓ2; six false certificates.

A `counterexample_…` accepts only a true counterexample: by a closed form, or by certificates counted, whose share of
false ones exceeds α beyond chance. A `mend_…` counts in the same way, and asks for a certificate where one is true,
so that an answer which always abstains is refused.
"""

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm

from rslab.errors import InputError
from rslab.lectures.answers import Wrong, answer, compare, passed
from rslab.lectures.lecture08 import breakit
from rslab.lectures.lecture08.breakit import ABSTAIN, Line, Plane
from rslab.smoothing import bounds

# -- exercise 1: looks that may be believed ------------------------------------------------------


def _first(counts, looks, threshold: float, alphas: np.ndarray) -> int:
    for k, (count, n, alpha) in enumerate(zip(counts, looks, alphas, strict=True)):
        if count and beta.ppf(alpha, count, n - count + 1) > threshold:
            return k
    return -1


def early_stop(function: Callable) -> None:
    """Check `function(counts, looks, threshold, alpha)` → number of the first look that certifies, or −1.

    `counts` are cumulative votes for the class after `looks` votes; a union bound over the looks is asked for.
    """
    looks = (100, 200, 400, 800, 1600)
    cases = (
        ((84, 165, 324, 637, 1257), 0.75, 0.01),  # every usual mistake gives another number
        ((69, 150, 300, 600, 1200), 0.5, 0.001),
        ((60, 110, 215, 420, 830), 0.5, 0.001),
        ((100, 200, 400, 800, 1600), 0.97, 0.001),
        ((0, 0, 0, 0, 0), 0.5, 0.05),
    )
    for counts, threshold, alpha in cases:
        given = answer(function, list(counts), list(looks), threshold, alpha)
        if isinstance(given, bool | np.bool_) or not isinstance(given, int | np.integer):
            raise Wrong(f"Return the number of a look, 0 … {len(looks) - 1}, or −1; came {given!r}.")
        whole = np.full(5, alpha)  # α at each of the five looks
        right = _first(counts, looks, threshold, whole / 5)
        peeking = _first(counts, looks, threshold, whole)
        harmonic = _first(counts, looks, threshold, whole / (1 + np.arange(5)))
        afresh = _first(np.diff(counts, prepend=0), np.diff(looks, prepend=0), threshold, whole / 5)
        share = next((k for k in range(5) if counts[k] / looks[k] > threshold), -1)
        last = 4 if _first(counts[4:], looks[4:], threshold, whole[4:]) == 0 else -1
        faults = (
            (peeking, "This spends α at every look: K looks, K chances to be wrong. Give each look α / K."),
            (harmonic, "α was divided by the number of the look: 1 + ½ + ⅓ … of α is more than α. Divide by K."),
            (afresh, "Only the new votes of a look were used: `counts` and `looks` are cumulative already."),
            (share, "The share of votes was compared with the threshold: it needs the lower bound."),
            (last, "The last look alone was used: stop at the first that certifies."),
        )
        case = f"counts {counts}, threshold {threshold}, α = {alpha}: came {given}, expected {right}."
        compare(given, right, faults, case, case, same=operator.eq)
    passed("early_stop: α / K at each of K looks, on all votes so far, first success wins.")


# -- exercise 2: one run, several radii -----------------------------------------------------------


def ordered(function: Callable) -> None:
    """Check `function(radii, passed)` → the certified radius: the largest before the first that did not pass."""
    cases = (
        ((0.25, 0.5, 0.75, 1.0, 1.25), (True, True, False, True, True)),  # every usual mistake gives another number
        ((0.25, 0.5, 0.75), (False, True, True)),
        ((0.25, 0.5, 0.75), (True, True, True)),
        ((0.25, 0.5), (False, False)),
        ((0.25, 0.5, 1.0, 1.5), (True, False, True, True)),
    )
    for radii, flags in cases:
        value = float(answer(function, list(radii), list(flags)))
        number = flags.index(False) if False in flags else len(flags)
        right = radii[number - 1] if number else 0.0
        marked = [r for r, flag in zip(radii, flags, strict=True) if flag]
        place = radii[len(marked) - 1] if marked else 0.0
        faults = (
            (
                max(marked, default=0.0),
                "This is the largest radius that passed. With each test at the full α it holds only if all smaller "
                "ones passed too: stop at the first that did not.",
            ),
            (place, "This is how many passed, used as a place: stop at the first that did not."),
            (radii[min(number, len(radii) - 1)], "This is the first radius that did *not* pass: one step too far."),
            (min(marked, default=0.0), "This is the first radius that passed: go on while they pass."),
            (number, "This is a number of radii, not a radius."),
        )
        case = f"radii {radii}, passed {flags}: came {value:g}, expected {right:g}."
        compare(value, right, faults, case, case)
    passed("ordered: the radii in order, each at the full α, up to the first that fails.")


# -- exercise 3: ℓ∞ through ℓ2 ---------------------------------------------------------------------


def needed_probability(function: Callable) -> None:
    """Check `function(epsilon, d, sigma)` → the p_A that certifies ℓ∞ radius ε for images of d numbers."""
    for epsilon, d, sigma in ((2 / 255, 3072, 0.25), (8 / 255, 784, 0.5), (0.1, 64, 1.0)):
        value = float(answer(function, epsilon, d, sigma))
        radius = epsilon * math.sqrt(d)  # in ℓ2
        right = float(norm.cdf(radius / sigma))
        faults = (
            (norm.cdf(epsilon / sigma), "d was left out: the corner of the ℓ∞ ball is √d times as far as its face."),
            (
                norm.cdf(radius / d / sigma),
                "Divided by √d: an ℓ2 ball that *contains* the ℓ∞ ball must reach its corners.",
            ),
            (norm.cdf(epsilon * d / sigma), "d in place of √d: the corner (ε, …, ε) has ℓ2 length ε√d."),
            (norm.cdf(radius / 255 / sigma), "ε is in [0, 1] units already: no division by 255."),
            (norm.cdf(radius * 255 / sigma), "ε was given in [0, 1] units: no multiplication by 255."),
            (radius, "This is the ℓ2 radius that is needed, not yet the probability: R = σΦ⁻¹(p_A)."),
            (radius / sigma, "R/σ is a quantile, not a probability: one Φ is missing."),
            (norm.cdf(radius), "σ is missing: R = σΦ⁻¹(p_A)."),
            (norm.cdf(radius * sigma), "σ is on the wrong side: Φ⁻¹(p_A) = R / σ."),
        )
        case = f"ε = {epsilon:.4f}, d = {d}, σ = {sigma}: came {value:.6f}, expected {right:.6f}."
        compare(value, right, faults, case, case)
    passed("needed_probability: Φ(ε√d/σ). For 8/255 on CIFAR-10 at σ = 0.25 that is one minus 10⁻¹².")


# -- six false certificates: what their checks share ------------------------------------------------

ALPHA, N, SIGMA = 0.05, 1000, 0.5  # of every certificate that takes votes
SURE = 0.001  # a share is above α beyond chance where its own bound at this level is


def _above(false: int, runs: int, level: float) -> bool:
    """Is the true share of false certificates above `level`, as far as so many runs can tell?"""
    return bounds.lower_confidence_bound(false, runs, SURE) > level


def _counted(false: int, runs: int, alpha: float = ALPHA) -> str:
    return f"{false} of {runs:,} certificates were false, {false / runs:.1%}; α = {alpha:g} allows {alpha:.0%}"


def _parts(given, number: int, form: str) -> tuple:
    """The answer as a tuple of so many parts, or a `Wrong` that says the form."""
    if not isinstance(given, tuple | list) or len(given) != number:
        raise Wrong(f"Return {form}; came {given!r}.")
    if any(part is ... or part is None for part in given):
        raise Wrong("Nothing is returned yet: replace each ... of the stub by your code.")
    return tuple(given)


def _number(value, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise Wrong(f"{name}: came {value!r}, expected a number.")
    return float(value)


def _line(f) -> Line:
    if not isinstance(f, Line):
        raise Wrong(f"f: came {f!r}, expected a Line, such as Line(cuts=(-1, 1), classes=(0, 1, 0)).")
    return f


def _claim(given, sigmas: tuple[float, ...] = (SIGMA,)) -> breakit.Claim:
    """A certificate that the reader's function returned: class, radius, and a σ among those it was given."""
    prediction, radius, sigma = _parts(given, 3, "a certificate: (class, radius, sigma)")
    if prediction not in (ABSTAIN, 0, 1):
        raise Wrong(f"The class: came {prediction!r}, expected 0, 1 or ABSTAIN.")
    radius = _number(radius, "The radius")
    if sigma not in sigmas:
        raise Wrong(f"The sigma of the certificate: came {sigma!r}, expected one of {sigmas}: g depends on it.")
    return int(prediction), radius, float(sigma)


def _own(function: Callable, f, x: float, arguments: Callable[[], tuple], runs: int, sigmas=(SIGMA,), seed: int = 0):
    """The claims of `runs` calls function(f, x, *arguments(), rng, …), each checked for its form."""
    rng = np.random.default_rng(seed)
    return [_claim(answer(function, f, x, *arguments(), rng), sigmas) for _ in range(runs)]


def _not_too_often(claims: list, f: Line, x: float, why: str) -> None:
    false = sum(breakit.is_false(f, x, *each) for each in claims)
    if _above(false, len(claims), ALPHA):
        raise Wrong(f"Still false too often: {_counted(false, len(claims))}. {why}")


def _worth(claims: list, f: Line, x: float, least: float) -> None:
    """Where a certificate is true and easy, it must come."""
    mean = sum(radius for prediction, radius, _ in claims if prediction != ABSTAIN) / len(claims)
    if mean < least:
        raise Wrong(
            f"Never false, but of no use: at x = {x:g}, where {f.true_radius(x, SIGMA):g} is true, the mean radius of "
            f"{len(claims)} certificates is {mean:.3f}; at least {least:g} can be had."
        )


# -- exercises 4 and 5: the σ that suits the image ---------------------------------------------------


def counterexample_suited(function: Callable) -> None:
    """Check `function()` → (f, x, x′): x′ within the radius that `certify_suited` claims at x, answered otherwise."""
    f, x, moved = _parts(answer(function), 3, "(f, x, moved)")
    f, x, moved = _line(f), _number(x, "x"), _number(moved, "moved")
    prediction, radius, sigma = breakit.certify_suited(f, x)
    there, _, its_sigma = breakit.certify_suited(f, moved)
    distance = abs(moved - x)
    if prediction == ABSTAIN:
        raise Wrong(f"At x = {x:g} nothing is certified: the shares of the classes tie.")
    if distance >= radius:
        raise Wrong(f"x′ is {distance:.3f} away, and the radius at x is {radius:.3f}: nothing is promised about x′.")
    if there == prediction:
        hint = (
            "With one cut every σ gives the same radius. Give f a second cut, so that small and large noise disagree."
            if len(f.cuts) < 2
            else "Look for a place where the small σ and the large one disagree about the class."
        )
        raise Wrong(
            f"At x′ = {moved:g} the rule takes σ = {its_sigma:g} and answers {there}, as promised at x (σ = {sigma:g})."
            f" {hint}"
        )
    passed(
        f"counterexample: at {x:g} class {prediction} is certified to {radius:.3f} with σ = {sigma:g}; "
        f"at {moved:g}, {distance:.3f} away, the system takes σ = {its_sigma:g} and answers {there}."
    )


@dataclass(frozen=True)
class _Cells:
    """A σ for each cell of the line: what exercise 5 gives to the reader as `rule`."""

    edges: tuple[float, ...]
    sigmas: tuple[float, ...]

    def sigma(self, x: float) -> float:
        """The σ of the cell of x."""
        return self.sigmas[int(np.searchsorted(self.edges, x))]

    def distance(self, x: float) -> float:
        """From x to the nearest edge of a cell, where σ changes."""
        return float(np.abs(np.asarray(self.edges) - x).min())


def mend_suited(function: Callable) -> None:
    """Check `function(f, x, rule)` → (class, radius), true of the system that answers every x′ with rule.sigma(x′)."""
    rule = _Cells((-0.6, 0.2, 0.9), (0.1, 1.0, 0.3, 1.0))
    for f in (Line((-0.45, 0.45), (0, 1, 0)), Line((-1.5, -0.5, 0.5), (1, 0, 1, 0)), Line((2.0,), (1, 0))):
        for x in (-1.0, -0.5, 0.1, 0.3, 0.5, 1.5):
            prediction, radius = _parts(answer(function, f, x, rule), 2, "(class, radius)")
            radius = _number(radius, "The radius")
            right, whole, sigma = breakit.exact(f, x, rule.sigma(x))
            reach = rule.distance(x)
            best = min(whole, reach)
            where = f"cuts {f.cuts}, x = {x:g}, σ = {sigma:g}, next edge at {reach:.3f}"
            faults = (
                (whole, "This is the radius of the σ of x alone: beyond the edge of the cell σ is another."),
                (reach, "This is the distance to the edge alone: g at this σ must keep its class, too."),
                (
                    breakit.certify_suited(f, x)[1],
                    "σ was chosen anew, by the radius: the rule gives it, rule.sigma(x).",
                ),
                (whole - reach, "A difference: the smaller of the two radii is wanted."),
                (0.0, f"Never false, but of no use: {best:.3f} can be had here."),
            )
            case = f"{where}: came {radius:.4f}, expected {best:.4f}."
            compare(radius, best, faults, case, case)
            if prediction != right:
                raise Wrong(f"The class of g at this σ is {right}; came {prediction!r}. ({where})")
    passed("mend: the smaller of two radii, of the class and of the choice of σ.")


# -- exercises 6 and 7: the best of three σ ----------------------------------------------------------


def _best(f, x, rng):
    return breakit.certify_best(f, x, N, ALPHA, rng)


def counterexample_best(function: Callable) -> None:
    """Check `function()` → (f, x), where `certify_best` is false more often than α."""
    f, x = _parts(answer(function), 2, "(f, x)")
    f, x = _line(f), _number(x, "x")
    runs = 2000
    false, certified = breakit.false_certificates(_best, f, x, runs)
    if not _above(false, runs, ALPHA):
        radii = {sigma: f.true_radius(x, sigma) for sigma in breakit.THREE}
        far = [s for s, r in radii.items() if r > bounds.max_certified_radius(N, ALPHA, s)]
        why = (
            f"For σ = {', '.join(f'{s:g}' for s in far)} the truth lies beyond what {N:,} votes can ever claim, so "
            "that these σ are never wrong: come nearer to the boundary."
            if far
            else "The three σ have room between what they claim and what is true: on a half-space there is none."
        )
        raise Wrong(f"No counterexample: {_counted(false, runs)}. {why}")
    passed(f"counterexample: {_counted(false, runs)} ({certified:,} of {runs:,} runs certified).")


def mend_best(function: Callable) -> None:
    """Check `function(f, x, n, alpha, rng)` → (class, radius, σ) with σ one of `THREE`: false with probability α."""
    for x in (0.25, 0.0):
        claims = _own(function, breakit.HALF_SPACE, x, lambda: (N, ALPHA), 4000, breakit.THREE)
        why = "Three chances at α each make 3α; and votes that chose a σ may not bound for it."
        _not_too_often(claims, breakit.HALF_SPACE, x, why)
    claims = _own(function, breakit.HALF_SPACE, 0.75, lambda: (N, ALPHA), 200, breakit.THREE)
    _worth(claims, breakit.HALF_SPACE, 0.75, 0.5)
    passed("mend: one α for all that may be reported, and the certificate names its σ.")


# -- exercises 8 and 9: votes used twice -----------------------------------------------------------


def counterexample_once(function: Callable) -> None:
    """Check `function()` → (f, x), where `certify_once` is false more often than α."""
    f, x = _parts(answer(function), 2, "(f, x)")
    f, x = _line(f), _number(x, "x")
    runs = 4000
    false, certified = breakit.false_certificates(
        lambda f, x, rng: breakit.certify_once(f, x, N, ALPHA, rng), f, x, runs
    )
    if not _above(false, runs, ALPHA):
        share = f.probabilities(x, SIGMA).max()
        raise Wrong(
            f"No counterexample: {_counted(false, runs)}. The larger share at x is {share:.3f}: the votes harm only "
            "where they really choose, that is where either class may come out on top."
        )
    passed(f"counterexample: {_counted(false, runs)} ({certified:,} of {runs:,} runs certified).")


def mend_once(function: Callable) -> None:
    """Check `function(f, x, n, alpha, rng)` → (class, radius, σ) at σ = 0.5: false with probability α at most."""
    for x in (0.0, 0.25):
        claims = _own(function, breakit.HALF_SPACE, x, lambda: (N, ALPHA), 6000)
        why = "Votes that chose the class lean towards it: bound p_A by votes that had no part in the choice."
        _not_too_often(claims, breakit.HALF_SPACE, x, why)
    claims = _own(function, breakit.HALF_SPACE, 0.75, lambda: (N, ALPHA), 200)
    _worth(claims, breakit.HALF_SPACE, 0.75, 0.5)
    passed("mend: the class is chosen first, and bounded by fresh votes.")


# -- exercises 10 and 11: as soon as possible ------------------------------------------------------

TARGET = 0.5  # the radius that is asked for


def counterexample_soon(function: Callable) -> None:
    """Check `function()` → (f, x, looks): `certify_soon` claims radius 0.5 falsely more often than 2α."""
    f, x, looks = _parts(answer(function), 3, "(f, x, looks)")
    f, x = _line(f), _number(x, "x")
    looks = [int(_number(look, "A look")) for look in looks]
    if not looks or looks[0] < 1 or any(b <= a for a, b in zip(looks, looks[1:], strict=False)):
        raise Wrong("looks: expected increasing numbers of votes, the first at least 1, such as range(10, 1001, 10).")
    if len(looks) > 200 or looks[-1] > 5000:
        raise Wrong(f"looks: came {len(looks)} up to {looks[-1]:,} votes; 200 up to 5,000 are enough.")
    reach = f.true_radius(x, SIGMA)
    if reach >= TARGET:
        raise Wrong(f"At x = {x:g} the true radius is {reach:.4f}: a certificate of {TARGET} is true there.")

    def soon(f, x, rng):
        return breakit.certify_soon(f, x, TARGET, looks, ALPHA, rng)

    runs = 500
    false, _ = breakit.false_certificates(soon, f, x, runs)
    if not _above(false, runs, 2 * ALPHA):
        why = (
            f"The true radius at x is {reach:.4f}, far below {TARGET}: come nearer to it."
            if reach < 0.9 * TARGET
            else f"Each look is a chance to be wrong, and these are {len(looks)}: look more often."
        )
        raise Wrong(f"Not yet twice α beyond chance: {_counted(false, runs)}. {why}")
    passed(f"counterexample: {_counted(false, runs)}, with {len(looks)} looks.")


def mend_soon(function: Callable) -> None:
    """Check `function(f, x, radius, looks, alpha, rng)` → (class, radius, σ) at σ = 0.5, however many looks come.

    `looks` is an iterator: nobody has said how many there will be.
    """
    taken = 0

    def looks() -> Iterator[int]:
        nonlocal taken
        for k in range(10):
            taken += 1
            yield 100 * 3**k

    below = TARGET * (1 - 1e-3)
    claims = _own(function, breakit.HALF_SPACE, below, lambda: (TARGET, looks(), ALPHA), 1500)
    why = "The levels of all looks together may be α, and no more: 1 + ½ + ⅓ + … has no end, 1/(k(k + 1)) adds up to 1."
    _not_too_often(claims, breakit.HALF_SPACE, below, why)
    taken = 0
    claims = _own(function, breakit.HALF_SPACE, 1.5, lambda: (TARGET, looks(), ALPHA), 100)
    _worth(claims, breakit.HALF_SPACE, 1.5, 0.95 * TARGET)
    if taken > 300:
        raise Wrong(
            f"An image whose true radius is three times the target takes {taken / 100:g} looks of 10 on average: look "
            "at one after the other, and stop at the first that certifies."
        )
    passed("mend: α is spent over the looks, and they may go on for ever.")


# -- exercises 12 and 13: an image that is prepared first ---------------------------------------------


def _image(value, name: str) -> np.ndarray:
    image = np.asarray(value, dtype=float)
    if image.shape != (2,) or not np.isfinite(image).all():
        raise Wrong(f"{name}: came {value!r}, expected two numbers, the two pixels.")
    return image


def counterexample_prepared(function: Callable) -> None:
    """Check `function()` → {name: (f, x, x′)} for each of the preparations whose claim can be false."""
    given = answer(function)
    if not isinstance(given, dict) or any(value is ... or value is None for value in given.values()):
        raise Wrong("Nothing is returned yet: replace each ... of the stub by your code.")
    for name, parts in given.items():
        if name not in breakit.PREPARATIONS:
            raise Wrong(f"The name {name!r}: expected one of {', '.join(breakit.PREPARATIONS)}.")
        f, x, moved = _parts(parts, 3, f"(f, x, moved) for {name!r}")
        if not isinstance(f, Plane):
            raise Wrong(f"f of {name!r}: came {f!r}, expected a Plane, such as Plane(w=(1, 0), b=0.5).")
        prepare, x, moved = breakit.PREPARATIONS[name], _image(x, "x"), _image(moved, "moved")
        try:
            prediction, radius = breakit.certify_prepared(f, x, prepare)
        except InputError as error:
            raise Wrong(str(error)) from error
        there, distance = breakit.certify_prepared(f, moved, prepare)[0], float(np.linalg.norm(moved - x))
        if name == "clip":
            raise Wrong(
                "Clipping moves no two images apart, ‖clip(x′) − clip(x)‖ ≤ ‖x′ − x‖: its claim is true of a system "
                "that clips. Leave it out."
            )
        if distance >= radius:
            raise Wrong(f"{name}: x′ is {distance:.3f} away, the claimed radius is {radius:.3f}: nothing is promised.")
        if there == prediction:
            raise Wrong(
                f"{name}: both images are answered {prediction}. Prepared they are {np.round(prepare(x), 3).tolist()} "
                f"and {np.round(prepare(moved), 3).tolist()}: let the boundary of f lie between them."
            )
    missing = [name for name in breakit.PREPARATIONS if name != "clip" and name not in given]
    if missing:
        raise Wrong(f"Still to find: {', '.join(missing)}.")
    passed("counterexamples: three of the four preparations can move two images apart. Clipping cannot.")


def mend_prepared(function: Callable) -> None:
    """Check `function(f, x, prepare)` → (class, radius of the raw image), by `prepare.stretch` and `prepare.jump`."""
    planes = Plane((1.0, 0.0), 0.1), Plane((1.0, -1.0), 0.2), Plane((0.6, 0.8), -2.0)
    for prepare in (breakit.GREY_THEN_NORMALISED, *breakit.PREPARATIONS.values()):
        for f in planes:
            for x in ((0.9, 0.33), (0.2, 0.72), (1.3, -0.2)):
                given = _parts(answer(function, f, np.array(x), prepare), 2, "(class, radius)")
                prediction, radius = given[0], _number(given[1], "The radius")
                right, whole = breakit.certify_prepared(f, x, prepare)
                stretch, jump = prepare.stretch, prepare.jump
                best = max((whole - jump) / stretch, 0.0)
                faults = (
                    (whole, "This is the radius of the prepared image: a step of x may be longer once prepared."),
                    (whole / stretch, "The jump is missing: two images that nearly agree may be that far apart."),
                    (max(whole - jump, 0.0), "The stretch is missing: every step of x becomes so many times as long."),
                    (whole * stretch, "Multiplied: a step of x is *stretched*, so that fewer of them fit."),
                    (0.0, f"Never false, but of no use: {best:.3f} can be had here."),
                    (max(whole / stretch - jump, 0.0), "The jump is counted in prepared units: subtract, then divide."),
                    (whole - jump, "A radius is not below 0."),
                    ((whole - jump) / stretch, "A radius is not below 0."),
                )
                case = f"{prepare.name}, {f}, x = {x}: came {radius:.4f}, expected {best:.4f}."
                compare(radius, best, faults, case, case)
                if best and prediction != right:
                    raise Wrong(f"The class of the prepared image is {right}; came {prediction!r}. ({prepare.name})")
    passed("mend: (R − jump) / stretch, and nothing where no stretch is known.")


# -- exercises 14 and 15: a wrapper that looks at its batch --------------------------------------------


def counterexample_batch(function: Callable) -> None:
    """Check `function()` → (f, x, x′): `certify_batch` of Exposed(f) certifies x beyond x′, answered otherwise."""
    f, x, moved = _parts(answer(function), 3, "(f, x, moved)")
    wrapped, x, moved = breakit.Exposed(_line(f)), _number(x, "x"), _number(moved, "moved")
    rng, runs = np.random.default_rng(0), 100
    here = [breakit.certify_batch(wrapped, x, N, ALPHA, rng) for _ in range(runs)]
    there = [int(breakit.votes(wrapped, moved, SIGMA, N, rng).argmax()) for _ in range(runs)]
    distance = abs(moved - x)
    reaching = [prediction for prediction, radius, _ in here if radius > distance]
    if len(reaching) < 0.9 * runs:
        radius = np.mean([radius for _, radius, _ in here])
        raise Wrong(
            f"Only {len(reaching)} of {runs} certificates of x reach x′: it is {distance:.3f} away, the mean radius is "
            f"{radius:.3f}."
        )
    broken = sum(other != prediction for prediction, other in zip(reaching, there, strict=False))
    if not _above(broken, runs, 2 * ALPHA):
        raise Wrong(
            f"At x′ = {moved:g} the system answers as at x = {x:g} in {runs - broken} of {runs} runs. When does the "
            "wrapper exchange the classes, and what is the mean of a batch of noisy copies of x?"
        )
    passed(
        f"counterexample: {len(reaching)} of {runs} certificates of x reach x′, {distance:.3f} away, where the answer "
        f"was another in {broken} of {runs} runs."
    )


def mend_batch(function: Callable) -> None:
    """Check `function(f, x, n, alpha, rng)` → (class, radius, σ) at σ = 0.5: true for f alone, and for its wrapper.

    Judged by what f answers to one noisy copy at a time; refusing the wrapper, by an abstention, is right as well.
    """
    n, alone = 200, Line((0.0,), (0, 1))  # what Exposed(f) answers to single copies where f is 1 everywhere near 0
    for x in (0.1, -0.1):
        claims = _own(function, breakit.Exposed(Line((-9.0,), (0, 1))), x, lambda: (n, ALPHA), 200)
        why = (
            "The votes of one batch hang together: one answer for a copy by itself, another among others. Ask f for "
            "one copy at a time, or compare both and abstain where they differ."
        )
        _not_too_often(claims, alone, x, why)
    claims = _own(function, breakit.HALF_SPACE, 0.75, lambda: (n, ALPHA), 100)
    _worth(claims, breakit.HALF_SPACE, 0.75, 0.45)
    passed("mend: what is certified is a function of one image, as the theorem has it.")
