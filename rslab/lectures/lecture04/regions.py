"""Regions of class A on the line, cut into cells: what they hold at x, and what they keep at x + δ.

Positions are along δ, in units of σ, with x at 0. Nothing is lost by looking along one line: moving from x to
x + δ changes only the coordinate along δ, so of any f in any dimension only its average over the others enters.
"""

import numpy as np
from scipy.stats import norm


def cell_masses(edges: np.ndarray, centre: float = 0.0) -> np.ndarray:
    """Mass of N(centre, 1) in the cells between `edges` (E,), and in the two tails outside: `(E + 1,)`, sum 1."""
    return np.diff(norm.cdf(np.asarray(edges) - centre), prepend=0.0, append=1.0)


def fill(order: np.ndarray, masses: np.ndarray, p: float) -> np.ndarray:
    """Take cells in this order until they hold mass `p`: the share taken of each cell, `(N,)` in [0, 1].

    The last cell is taken in part, so that the region holds exactly p. `order` names each cell once.

    >>> fill(np.array([2, 0, 1]), np.array([0.5, 0.3, 0.2]), 0.3)
    array([0.2, 0. , 1. ])
    """
    before = np.cumsum(masses[order]) - masses[order]
    shares = np.zeros(len(masses))
    held = masses[order]
    wanted = np.clip(p - before, 0.0, held)
    shares[order] = np.divide(wanted, held, out=np.zeros(len(held)), where=held > 0)
    return shares
