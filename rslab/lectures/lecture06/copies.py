"""The naive attack against SmoothAdv on trained networks: the shipped log of `rslab.experiments.naive_attack`.

Nothing is attacked here: votes, probabilities and weights of the copies are read from the log.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t as student

from rslab.lectures.style import COLORS, INK, method_of, new_figure, styled
from rslab.report.tables import interval
from rslab.store.run_folder import RESULTS

LOG = RESULTS / "naive-attack.npz"
IMAGES = {"cifar10": range(0, 10_000, 100), "digits": range(100)}  # of the test images
SIGMA_OF_STANDARD = 0.25  # under which a network is attacked that never saw noise
SETTINGS = {  # shipped network → ε of the attacks
    "cifar10-small/gaussian-0.25": (0.25, 0.5, 1.0),
    "cifar10-small/smoothadv-0.25": (0.25, 0.5, 1.0),
    "cifar10-small/gaussian-0.5": (0.25, 0.5, 1.0),
    "cifar10-small/smoothadv-0.5": (0.25, 0.5, 1.0),
    "noise/standard-0": (0.25, 0.5, 0.75),
}
TITLES = {"gaussian": "Gaussian", "smoothadv": "SmoothAdv"}
CLEAN, NAIVE, SMOOTHADV = 0, 1, 2  # first axis of the arrays


@dataclass(frozen=True)
class Attacked:
    """One network under both attacks at one ε; B images are attacked, those of `images` that g gets right."""

    network: str
    epsilon: float
    images: int  # that were tried
    right: np.ndarray  # bool (3, B): is the leading class of the fresh votes the true one?
    soft: np.ndarray  # (3, B): G_y on the same fresh noise
    log_f: np.ndarray  # (3, m, B): log F_y of the attack's own copies
    path: np.ndarray  # (2, T + 1, B): effective copies along the naive and the SmoothAdv attack
    cosine: np.ndarray  # (3, B): between the two attacks' gradients
    alike: np.ndarray  # (3, B): mean cosine between the gradients of two copies

    @property
    def title(self) -> str:
        """What a legend calls the network."""
        if self.network.startswith("noise"):
            return "digits, no noise in training"
        method, sigma = self.network.split("/")[1].rsplit("-", 1)
        return f"{TITLES[method]}, σ = {sigma}"

    @property
    def weights(self) -> np.ndarray:
        """m wᵢ, 1 for every copy of the naive attack: (3, m, B)."""
        probs = np.exp(self.log_f)
        return probs / probs.mean(1, keepdims=True)


def read_log() -> list[Attacked]:
    """What the log holds, in the order of `SETTINGS`; what it lacks (an unfinished run) is left out."""
    with np.load(LOG, allow_pickle=False) as stored:
        arrays = dict(stored)
    rows = []
    for network, epsilons in SETTINGS.items():
        for epsilon in epsilons:
            key = f"{network} {epsilon:g}"
            if f"{key} votes" not in arrays:
                continue
            labels = arrays[f"{network} labels"].astype(int)
            labels = labels[arrays[f"{network} clean"].argmax(1) == labels]
            names = ("soft", "copies", "path", "cosine", "alike")
            parts = (arrays[f"{key} {name}"].astype(float) for name in names)
            right = arrays[f"{key} votes"].argmax(2) == labels
            tried = len(arrays[f"{network} labels"])
            rows.append(Attacked(network, epsilon, tried, right, *parts))
    return rows


def mean_interval(differences: np.ndarray) -> tuple[float, float]:
    """(mean, half of its 95 % interval, Student's) of differences (B,)."""
    half = student.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    return float(differences.mean()), float(half)


def accuracy_interval(row: Attacked) -> tuple[float, float, float]:
    """Accuracy under the naive attack minus that under SmoothAdv, in points of all images: (difference, low, high).

    95 %, and not 0 wide where no image tells the two apart: Clopper and Pearson's limits, at 97.5 % each, for the
    images that survive the one attack only and for those that survive the other only.
    """
    only_naive = int((row.right[NAIVE] & ~row.right[SMOOTHADV]).sum())
    only_smoothadv = int((row.right[SMOOTHADV] & ~row.right[NAIVE]).sum())
    (low, other_low), (high, other_high) = (
        np.asarray(limit) for limit in interval(np.array([only_naive, only_smoothadv]), row.images, 0.975)
    )
    return 100 * (only_naive - only_smoothadv) / row.images, float(low - other_high), float(high - other_low)


def table(rows: list[Attacked]) -> pd.DataFrame:
    """A row a network and ε: accuracy of g, the paired differences, effective copies, cosine of the gradients."""
    lines = []
    for row in rows:
        points, low, high = accuracy_interval(row)
        mean, half = mean_interval(row.soft[NAIVE] - row.soft[SMOOTHADV])
        kept = 100 * row.right.sum(1) / row.images
        lines.append({
            "network": row.title,
            "ε": f"{row.epsilon:g}",
            "accuracy of g (%): clean, naive, SmoothAdv": f"{kept[0]:.0f}, {kept[1]:.0f}, {kept[2]:.0f}",
            "difference in points, 95 %": f"{points:+.0f} [{low:+.1f}, {high:+.1f}]",
            "difference of G_y, 95 %": f"{mean:+.4f} ± {half:.4f}",
            "effective copies of 16, start → end": f"{row.path[1, 0].mean():.1f} → {row.path[1, -1].mean():.1f}",
            "cosine of the gradients, at the end: median, least": (
                f"{np.median(row.cosine[2]):.3f}, {row.cosine[2].min():.2f}"
            ),
        })  # fmt: skip
    return pd.DataFrame(lines).set_index(["network", "ε"])


@styled
def copies_figure(rows: list[Attacked]) -> Figure:
    """What the two attacks leave of G, the copies' weights, effective copies by step, and the gradients' cosine."""
    figure, ((left, steps), (weights, turned)) = new_figure(2, 2, width=10.0, height=6.8)
    networks = list(dict.fromkeys(row.network for row in rows))
    largest = {network: max((r for r in rows if r.network == network), key=lambda r: r.epsilon) for network in networks}
    left.axhline(0, color=INK, linewidth=1)
    edges = np.linspace(0, 3, 25)
    m = rows[0].log_f.shape[1]
    for number, (network, row) in enumerate(largest.items()):
        color, other = COLORS[method_of(network) or "standard"], network.endswith("0.5")
        line, marker = ("--", "s") if other else ("-", "v" if network.startswith("noise") else "o")
        mine = [r for r in rows if r.network == network]
        shift = 0.025 * (number - (len(networks) - 1) / 2)
        means, halves = 1000 * np.array([mean_interval(r.soft[NAIVE] - r.soft[SMOOTHADV]) for r in mine]).T
        places = [r.epsilon + shift for r in mine]
        left.errorbar(places, means, halves, fmt=marker, color=color, linewidth=1.5, markersize=5, label=row.title)
        steps.plot(row.path[1].mean(1), color=color, linestyle=line)
        share = np.histogram(row.weights[SMOOTHADV].clip(max=edges[-1]), edges)[0] / row.weights[SMOOTHADV].size
        weights.stairs(100 * share, edges, color=color, linestyle=line, linewidth=1.6)
        effective = [r.path[1, -1].mean() for r in mine]
        turned.plot(effective, [np.median(r.cosine[SMOOTHADV]) for r in mine], marker, color=color, markersize=6)
    weights.axvline(1, color=COLORS["naive"], linewidth=2, linestyle=":")
    weights.text(
        1.45, 0.96, "naive: all at 1", color=COLORS["naive"], transform=weights.get_xaxis_transform(), va="top"
    )
    unrelated = np.linspace(1, m, 50)
    turned.plot(unrelated, np.sqrt(unrelated / m), color=INK, linestyle="--", linewidth=1.2)
    turned.text(8.5, 0.6, "if the copies' gradients\nwere unrelated", fontsize=9)
    left.set(xlabel="ε of the attack", ylabel="naive − SmoothAdv, 0.001", title="G_y left: which attack is stronger?")
    steps.set(
        xlabel="step of SmoothAdv, largest ε", ylabel=f"of {m} copies", title="effective copies", ylim=(0, m + 0.5)
    )
    weights.set(xlabel="weight of a copy times m (last bin: 3 and more)", ylabel="share of copies (%)", xlim=(0, 3))
    weights.set_title("weights where SmoothAdv ends, largest ε")
    turned.set(xlabel=f"effective copies of {m}", ylabel="cosine", title="naive and SmoothAdv's gradient at the end")
    turned.set(xlim=(0, m + 0.5), ylim=(0, 1.05), xticks=range(0, m + 1, 4))
    steps.set(xticks=range(0, 21, 5), yticks=range(0, m + 1, 4))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)
    ends = "; ".join(
        f"{row.title}: {row.path[1, 0].mean():.1f} to {row.path[1, -1].mean():.1f}" for row in largest.values()
    )
    figure.alt = (
        "Four panels. First, the mean of G_y left by the naive attack minus that left by SmoothAdv, against ε, one "
        "mark per network with a 95 percent interval: every difference lies within a few thousandths of 0. Second, "
        f"the effective number of copies along SmoothAdv's steps, of {m}, from the image to the end: {ends}. Third, "
        "histograms of the weights of SmoothAdv's copies where its attack with the largest ε ends; the naive attack "
        "has all weights at 1. Fourth, the cosine between the two attacks' gradients against the effective copies: "
        "all marks lie near 1, far above the dashed curve of unrelated gradients where few copies are effective."
    )
    return figure
