"""CERTIFY and PREDICT beside the published algorithm, written plainly from the pseudocode of Cohen et al. 2019.

Both see the same noise, so that the votes are the same votes: counts, classes and p-values agree exactly, and
our radius is the plain formula's, rounded down.
"""

import numpy as np
import pytest
import torch
from helpers import normal, uniform
from scipy.stats import beta, binom, norm

from rslab.smoothing.classifier import ABSTAIN, SmoothedClassifier

SHAPE, K = (1, 4, 4), 4


def plain_votes(f, sigma, x, count, generator) -> np.ndarray:
    """SAMPLEUNDERNOISE: noise for `count` copies, f on each copy alone, one vote at a time."""
    votes = np.zeros(K, dtype=int)
    for noise in sigma * torch.randn(count, *SHAPE, generator=generator):
        votes[int(f((x + noise)[None]).argmax())] += 1
    return votes


def plain_certify(f, sigma, x, n0, n, alpha, generator) -> tuple[int, float, np.ndarray]:
    """CERTIFY: the most frequent of n0 votes; a lower bound on its probability from n fresh ones; σΦ⁻¹ of that."""
    top = int(plain_votes(f, sigma, x, n0, generator).argmax())
    votes = plain_votes(f, sigma, x, n, generator)
    count = votes[top]
    lower = beta.ppf(alpha, count, n - count + 1) if count else 0.0  # Clopper and Pearson, one-sided
    if lower > 0.5:
        return top, sigma * norm.ppf(lower), votes
    return ABSTAIN, 0.0, votes


def plain_predict(f, sigma, x, n, alpha, generator) -> tuple[int, float, np.ndarray]:
    """PREDICT: the most frequent class, if the test of equal chances of the first two rejects; both tails."""
    votes = plain_votes(f, sigma, x, n, generator)
    second, first = np.sort(votes)[-2:]
    both = first + second
    p_value = min(1.0, 2 * binom.sf(first - 1, both, 0.5))
    return (int(votes.argmax()) if p_value <= alpha else ABSTAIN), p_value, votes


def classifier(seed: int):
    """Four linear scores, scaled so that some images are certain, some close, some to be abstained on."""
    weights = normal(16, K, seed=seed).double()

    def f(x):
        return (x.flatten(1).double() - 0.5) @ weights  # in double precision no vote hangs on the size of a batch

    return f


CASES = [(seed, sigma) for seed in range(12) for sigma in (0.12, 0.5)]
N0, N, ALPHA = 50, 1500, 0.001


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed, sigma", CASES)
def test_certify_gives_the_published_answer_on_the_same_noise(seed, sigma):
    f, x = classifier(seed), uniform(*SHAPE, seed=seed)
    theirs, radius, votes = plain_certify(f, sigma, x, N0, N, ALPHA, noise(seed))
    ours = SmoothedClassifier(f, K, sigma, batch_size=N).certify(x, N0, N, ALPHA, generator=noise(seed))
    assert list(ours.counts) == votes.tolist() and ours.prediction == theirs
    assert radius - 1e-9 <= ours.radius <= radius * (1 + 1e-12)  # the last digits are the libraries'


@pytest.mark.parametrize("seed, sigma", CASES)
def test_predict_gives_the_published_answer_on_the_same_noise(seed, sigma):
    f, x = classifier(seed), uniform(*SHAPE, seed=seed)
    theirs, p_value, votes = plain_predict(f, sigma, x, N, ALPHA, noise(seed))
    ours = SmoothedClassifier(f, K, sigma, batch_size=N).predict(x, N, ALPHA, generator=noise(seed))
    assert list(ours.counts) == votes.tolist() and ours.prediction == theirs
    assert ours.p_value == pytest.approx(p_value, rel=1e-9, abs=1e-300)


def test_the_cases_hold_answers_and_abstentions():
    answers = {
        plain_certify(classifier(seed), sigma, uniform(*SHAPE, seed=seed), N0, N, ALPHA, noise(seed))[0]
        for seed, sigma in CASES
    }
    assert ABSTAIN in answers and len(answers) >= 4
