"""The smoothed classifier: PREDICT and CERTIFY of Cohen et al. 2019, and soft G.

    g(x) = argmax_c P(f(x + δ) = c),   δ ~ N(0, σ²I)

The guarantee is for g, never for the base classifier f, and it holds with
probability 1 − α for each image that is certified.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rslab.errors import (
    InputError,
    WorkError,
    check_at_least,
    check_choice,
    check_count,
    check_kind,
    check_open_unit,
    check_positive,
)
from rslab.smoothing import bounds
from rslab.smoothing.function import (
    NO_VOTE,
    as_module,
    check_function,
    check_logits,
    evaluating,
    failures_in,
    on_copies,
    own_type,
)
from rslab.smoothing.images import check_image, check_noise
from rslab.smoothing.sampling import SAMPLERS, SLACK, noisy_copies
from rslab.smoothing.sequential import SequentialPlan, SequentialTest

ABSTAIN = -1

LogProbs = Callable[[Tensor], Tensor]  # images (B, C, H, W) → logits or log-probabilities (B, K)


@dataclass(frozen=True)
class Prediction:
    """What PREDICT says of one image."""

    prediction: int  # class, or ABSTAIN
    p_value: float  # of "the top two classes are equally likely"
    counts: tuple[int, ...]  # votes a class, together n
    n: int
    alpha: float
    sigma: float


@dataclass(frozen=True)
class Certificate:
    """What CERTIFY proved of one image: g(x + δ) = prediction for all ‖δ‖₂ < radius."""

    prediction: int  # class, or ABSTAIN
    radius: float  # ℓ2, in [0, 1] pixel units; 0 when abstaining
    selected: int  # the class that the n0 votes chose
    p_a_lower: float  # lower bound on its probability
    counts: tuple[float, ...]  # the n fresh votes a class (sums of F for a soft bound)
    n0: int
    n: int
    alpha: float
    sigma: float
    bound: str


@dataclass(frozen=True)
class SmoothedClassifier:
    """g, from a base classifier f: images `(B, C, H, W)` in [0, 1] → logits `(B, num_classes)`.

    f is any module or callable; a module is put in eval mode for the call, and given back as it came. What is
    certified is that function: one that is random, or whose answer for an image depends on the others in its
    batch, is refused. At most `batch_size` noisy images exist at a time. Noise comes from
    `generator`, on the device of the image: the same generator state and batch size give the
    same votes. `sampler`: "float", or "grid", whose certificates allow for floating point
    (`rslab.smoothing.sampling` has the proof).

    Source: blog, smoothed classifier; slides, smoothed classifier; Cohen et al. 2019, (1).
    """

    base_classifier: LogProbs
    num_classes: int
    sigma: float
    batch_size: int | None = None
    sampler: str = "float"
    _asked: list = field(default_factory=list, init=False, repr=False, compare=False)  # whether f is a function

    def __post_init__(self):
        as_module(self.base_classifier)
        check_positive("sigma", self.sigma)
        check_choice("sampler", self.sampler, SAMPLERS)
        check_at_least("num_classes", check_count("num_classes", self.num_classes), 2)
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)

    def predict(self, x: Tensor, n: int, alpha: float, *, generator: torch.Generator | None = None) -> Prediction:
        """PREDICT: the majority vote of n noisy copies of the image `x` (C, H, W), or ABSTAIN.

        An answer differs from g(x) with probability at most α: a binomial test asks
        whether the top two could be equally likely.

        Source: blog, prediction; slides, Monte Carlo; Cohen et al. 2019, PREDICT, Proposition 1.
        """
        check_count("n", n)
        check_open_unit("alpha", alpha)
        counts = self.sample_under_noise(x, n, generator=generator)
        top_two = counts.topk(2)
        p_value = bounds.top_class_p_value(int(top_two.values[0]), int(top_two.values[1]))
        p_value = min(p_value + n * SLACK[self.sampler], 1.0)
        prediction = int(top_two.indices[0]) if p_value <= alpha else ABSTAIN
        return Prediction(prediction, p_value, tuple(counts.tolist()), n, alpha, self.sigma)

    def certify(
        self,
        x: Tensor,
        n0: int,
        n: int,
        alpha: float,
        *,
        bound: str = "clopper-pearson",
        generator: torch.Generator | None = None,
    ) -> Certificate:
        """CERTIFY: a class and a radius around the image `x` (C, H, W), or ABSTAIN.

        n0 votes select the class, n *fresh* votes bound its probability: the same
        votes for both would double the error. With probability at least 1 − α over
        the noise, g is the returned class everywhere closer than the radius.

        bound: "clopper-pearson", R = σΦ⁻¹(p̲_A); "two-class", with p̄_B too and α
        shared between the two; "hoeffding" or "bernstein", which average the soft
        votes F(x + δ) as lecture 14 does and certify argmax G instead of g.

        Source: slides, CERTIFY, Proposition 2; lecture 14, section 1.1; Cohen et al. 2019, CERTIFY, Proposition 2.
        """
        check_count("n0", n0)
        check_count("n", n)
        check_open_unit("alpha", alpha)
        check_choice("bound", bound, bounds.BOUNDS)
        check_image(x)
        votes_of = self._soft_votes if bound in bounds.SOFT_BOUNDS else self._hard_votes

        votes0 = self._sum_votes(x, n0, votes_of, generator)  # counts0 ← SAMPLEUNDERNOISE(f, x, n0, σ)
        top = int(votes0[0].argmax())  # ĉ_A ← top index in counts0
        votes = self._sum_votes(x, n, votes_of, generator)  # counts ← SAMPLEUNDERNOISE(f, x, n, σ)
        p_a, p_b = bounds.BOUNDS[bound](votes.numpy(), top, n, alpha)  # p̲_A ← LOWERCONFBOUND(counts[ĉ_A], n, 1 − α)
        p_a, p_b = bounds.allow_for(SLACK[self.sampler], p_a, p_b)  # so near to N(0, σ²I) is its noise
        radius = bounds.radius_of(p_a, p_b, self.sigma)  # σΦ⁻¹(p̲_A), 0 where p̲_A ≤ ½
        prediction = top if radius > 0 else ABSTAIN  # if p̲_A > ½ return ĉ_A and the radius, else return ABSTAIN

        counts = tuple(votes[0].tolist())
        return Certificate(prediction, radius, top, p_a, counts, n0, n, alpha, self.sigma, bound)

    def certify_sequential(
        self, x: Tensor, n0: int, plan: SequentialPlan, *, generator: torch.Generator | None = None
    ) -> Certificate:
        """CERTIFY that stops once every radius of `plan` is decided: the same guarantee, fewer votes.

        The radius is the largest of the plan's that passed (`rslab.smoothing.sequential` has the proof),
        `n` of the certificate the votes that were taken.
        """
        check_count("n0", n0)
        if plan.sigma != self.sigma:
            raise InputError(f"plan: got one for σ = {plan.sigma:g}, expected σ = {self.sigma:g}.")
        if plan.slack != SLACK[self.sampler]:
            raise InputError(f"plan: got slack {plan.slack:g}, expected {SLACK[self.sampler]:g} of {self.sampler!r}.")
        top = int(self.sample_under_noise(x, n0, generator=generator).argmax())
        counts = torch.zeros(self.num_classes, dtype=torch.float64)
        test = SequentialTest(plan)
        while test.wanted:
            new = self._sum_votes(x, test.wanted, self._hard_votes, generator)[0]
            counts += new
            test.add(int(new.sum() - new[top]))
        passed, n = int(test.passed[0]), int(test.votes[0])
        prediction = top if passed else ABSTAIN
        radius = plan.radii[passed - 1] if passed else 0.0
        p_a_lower = 1.0 - float(plan.miss_rates[passed - 1]) - plan.slack if passed else 0.0
        votes = tuple(counts.tolist())
        return Certificate(prediction, radius, top, p_a_lower, votes, n0, n, plan.alpha, self.sigma, "sequential")

    def sample_under_noise(self, x: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """SAMPLEUNDERNOISE: how often f returns each class on x + δ, n draws; int64 (num_classes,).

        Source: slides, SAMPLEUNDERNOISE; Cohen et al. 2019, SAMPLEUNDERNOISE.
        """
        check_count("n", n)
        check_image(x)
        return self._sum_votes(x, n, self._hard_votes, generator)[0].long()

    def _hard_votes(self, logits: Tensor) -> Tensor:
        """(B, K) → (2, K): votes a class, and the sum of their squares (the same)."""
        votes = torch.zeros(self.num_classes, dtype=torch.float64, device=logits.device)
        winners = logits.argmax(1)
        votes.index_add_(0, winners, torch.ones_like(winners, dtype=torch.float64))  # bincount would wait for the GPU
        return votes.expand(2, -1)

    def _soft_votes(self, logits: Tensor) -> Tensor:
        """(B, K) → (2, K): Σ F(x + δ) and Σ F(x + δ)²."""
        probs = logits.double().softmax(1)
        return torch.stack((probs.sum(0), probs.square().sum(0)))

    @torch.no_grad()
    def _sum_votes(self, x: Tensor, n: int, votes_of: Callable[[Tensor], Tensor], generator) -> Tensor:
        """Σ votes and Σ votes² a class over n noisy copies of x: float64 (2, num_classes) on the CPU.

        Everything stays on the device until the sums are complete: one synchronisation.
        """
        if not self._asked:
            check_function(self.base_classifier, x, self.num_classes)
            self._asked.append(True)
        with evaluating(self.base_classifier) as f:
            return self._sums(f, x, n, votes_of, generator)

    def _sums(self, f: LogProbs, x: Tensor, n: int, votes_of: Callable[[Tensor], Tensor], generator) -> Tensor:
        if generator is not None:
            check_kind("generator", generator, torch.Generator, "a torch.Generator")
        x = x.detach().float()
        draw = noisy_copies(self.sampler, x, self.sigma)
        sums = torch.zeros(2, self.num_classes, dtype=torch.float64, device=x.device)
        broken = torch.zeros(1, dtype=torch.float64, device=x.device)
        batch_size = self.batch_size or default_batch_size(x.shape, x.device.type)
        dtype = own_type(f)
        for start in range(0, n, batch_size):
            size = min(batch_size, n - start)
            noisy = draw(size, generator).to(dtype)  # (size, C, H, W)
            with failures_in("base classifier: got one that fails on {}.", noisy):
                logits = check_logits(f(noisy))  # (size, K)
            if logits.shape != (size, self.num_classes):
                raise InputError(
                    f"base classifier: got logits of shape {tuple(logits.shape)}, "
                    f"expected ({size}, {self.num_classes})."
                )
            broken += logits.isnan().any()
            sums += votes_of(logits)
        sums, nans = torch.cat((sums.flatten(), broken)).cpu().split((2 * self.num_classes, 1))
        if nans:
            raise WorkError(NO_VOTE)
        if sums[: self.num_classes].isnan().any():
            raise WorkError("The network gave infinite logits, whose softmax is no number: nothing is certified.")
        return sums.view(2, self.num_classes)


def default_batch_size(shape: tuple[int, ...], device: str) -> int:
    """Noisy images (C, H, W) at a time on "cpu" or "cuda": enough to keep it busy, few enough for its caches.

    Measured on ResNet-20 and CIFAR-10 (`rslab bench cost`): at 128 images the activations of a layer
    still fit a CPU's cache. A multiple of 16, for which its generator gives the same noise however it is cut.
    """
    values = 128 * 3 * 32 * 32 if device == "cpu" else 4096 * 3 * 32 * 32
    return 16 * max(1, min(64 if device == "cpu" else 512, values // math.prod(shape) // 16))


def log_mean_probs(f: LogProbs, x: Tensor, noise: Tensor) -> Tensor:
    """log (1/m) Σᵢ softmax f(x + δᵢ): the plug-in estimate of log G(x). **SmoothAdv** attacks this.

    x: (B, C, H, W), noise: (m, B, C, H, W) → (B, K). Biased low by about
    Var/(2 m p²) (Jensen); with m = 1 it is `mean_log_probs`.

    Source: lecture 14, (1), plug-in estimator; blog, soft classifier G, SmoothAdv objective, plug-in gradient;
    Salman et al. 2019, SmoothAdv.
    """
    return _noisy_log_probs(f, x, noise).logsumexp(0) - math.log(len(noise))


def mean_log_probs(f: LogProbs, x: Tensor, noise: Tensor) -> Tensor:
    """(1/m) Σᵢ log softmax f(x + δᵢ): log and mean swapped, the **naive** objective.

    The same shapes as `log_mean_probs`. Its maximiser fools f under noise, on
    average in log-probability, which a few very confident errors dominate.

    Source: blog, naive objective; Cohen et al. 2019, appendix G.3.
    """
    return _noisy_log_probs(f, x, noise).mean(0)


def _noisy_log_probs(f: LogProbs, x: Tensor, noise: Tensor) -> Tensor:
    check_noise(noise, x)
    if not callable(f):
        raise InputError(f"f: got {type(f).__name__}, expected a function of images (B, C, H, W).")
    return on_copies(f, x, noise).log_softmax(2)  # (m, B, K)
