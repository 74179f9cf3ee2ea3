"""Answers to notebook 00, right and wrong: units, the promise."""

from scipy.stats import norm

from lectures.exercise import Exercise
from rslab.lectures.lecture00 import checks

# -- exercises -------------------------------------------------------------------------------------


UNIT = {
    "255 steps": lambda distance, low, high: distance / 256 if high == 255 else distance / (high - low),
    "255 whatever": lambda distance, low, high: distance / 255,
    "converts a *pixel*": lambda distance, low, high: (distance - low) / (high - low),
    "Multiplied": lambda distance, low, high: distance * (high - low),
    "Divided by `high`": lambda distance, low, high: distance / high,
    "Nothing was converted": lambda distance, low, high: distance,
    "A distance shrinks": lambda distance, low, high: 7.0,
}


PROMISE = {
    "never negative": lambda p_a, sigma: sigma * norm.ppf(p_a),
    "not norm.cdf": lambda p_a, sigma: sigma * norm.cdf(p_a),
    "σ is missing": lambda p_a, sigma: norm.ppf(p_a),
    "Divided by σ": lambda p_a, sigma: norm.ppf(p_a) / sigma,
    "must go through Φ⁻¹": lambda p_a, sigma: sigma * p_a,
    "Half of it": lambda p_a, sigma: sigma / 2 * norm.ppf(p_a),
    "σ² appears": lambda p_a, sigma: sigma**2 * norm.ppf(p_a),
    "above one half and 0 below": lambda p_a, sigma: 1.0,
}

EXERCISES = (
    Exercise(checks.unit, (lambda distance, low, high: distance / (high - low),), UNIT),
    Exercise(checks.promise, (lambda p_a, sigma: max(sigma * norm.ppf(p_a), 0.0),), PROMISE),
)
