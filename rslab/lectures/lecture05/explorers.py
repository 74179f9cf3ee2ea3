"""Explorer of notebook 05: the plug-in estimate of −log G_y, its bias and its spread, exactly."""

import math

import numpy as np

from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.lecture05.figures import HIGH, plug_in, plug_in_moments, share_high
from rslab.lectures.style import COLORS, GREEN, INK, VERMILION, new_figure, styled

SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIGMAS = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1.0, 2.0)
LOWS = (0.5, 0.3, 0.1, 0.05, 0.01, 0.001)
WIDEST = -math.log(LOWS[-1])


class PlugInExplorer(Explorer):
    """m, σ and how wrong F is beyond a wall: the distribution of the plug-in loss (left), its bias against m (right).

    After each move: `truth` −log G_y, `bias`, `deviation` and `second_order`, Var/(2mG²).
    """

    alt = (
        "Left, the values that the plug-in estimate can take, as vertical bars with their probabilities, a solid line "
        "at the truth and a dashed one at the estimate's mean, to the right of it. Right, the exact bias against m on "
        "logarithmic axes, with the line Var/(2mG²), which it joins from above as m grows. Sliders: m, σ, and F_y "
        "beyond the wall."
    )

    @styled
    def __init__(self):
        self.m = slider("m, noise samples", SAMPLES, 4)
        self.sigma = slider("σ of the noise", SIGMAS, 0.5)
        self.low = slider("F_y beyond the wall", LOWS, 0.1)
        figure, (left, right) = new_figure(1, 2, width=9.8, height=3.9, width_ratios=(1.2, 1))
        self._stems = left.vlines([0.0], 0, 1, color=COLORS["smoothed"], linewidth=3)
        self._stems.set_label("values of the estimate")
        self._truth = left.axvline(0, color=GREEN, linewidth=2, label="the truth, −log G_y")
        self._mean = left.axvline(0, color=VERMILION, linestyle="--", linewidth=2, label="mean of the estimate")
        left.set(
            xlim=(0, 1.02 * WIDEST),
            ylim=(0, 1.5),
            xlabel="estimate of the loss (nats; beyond 1 logarithmic)",
        )
        left.set_xscale("symlog", linthresh=1, linscale=2)
        left.set_xticks((0, 0.25, 0.5, 0.75, 1, 2, 4, 7), ("0", "¼", "½", "¾", "1", "2", "4", "7"))
        left.set(xlim=(0, 1.02 * WIDEST), ylabel="probability (tallest = 1)", yticks=(0, 0.5, 1))
        left.set_title("what m samples estimate")
        left.legend(loc="upper right", fontsize=8.5)
        self._exact = right.plot(SAMPLES, SAMPLES, "o-", color=VERMILION, markersize=4, label="bias, exact")[0]
        self._second = right.plot(SAMPLES, SAMPLES, "--", color=INK, linewidth=1.2, label="Var / (2mG²)")[0]
        self._dot = right.plot([1], [1], "o", color=VERMILION, markeredgecolor=INK, markersize=10)[0]
        right.set_xscale("log", base=2)
        right.set_xticks(SAMPLES, [str(m) for m in SAMPLES])
        right.set(yscale="log", ylim=(1e-6, 30), xlabel="m", ylabel="bias (nats)", title="how far it is too high")
        right.legend(loc="lower left", fontsize=8.5)
        moving = [self._stems, self._truth, self._mean, self._exact, self._second, self._dot]
        super().__init__(figure, [self.m, self.sigma, self.low], moving)

    def update(self) -> str:
        m, sigma, low = self.m.value, self.sigma.value, self.low.value
        q = share_high(sigma)
        values, weights = plug_in(q, m, HIGH, low)
        self.truth = -math.log(q * HIGH + (1 - q) * low)
        self.bias, self.deviation, self.second_order = plug_in_moments(q, m, HIGH, low)
        some = weights > 1e-4
        tallest = weights.max()
        self._stems.set_segments([[(v, 0), (v, w / tallest)] for v, w in zip(values[some], weights[some], strict=True)])
        self._stems.set_linewidth(3 if m <= 32 else 1.5)
        self._truth.set_xdata([self.truth] * 2)
        self._mean.set_xdata([self.truth + self.bias] * 2)
        moments = np.array([plug_in_moments(q, k, HIGH, low) for k in SAMPLES])
        self._exact.set_ydata(moments[:, 0])
        self._second.set_ydata(moments[:, 2])
        self._dot.set_data([m], [self.bias])
        return (
            f"σ = {sigma:g}: F_y = {HIGH:g} with probability {q:.3f}, else {low:g}; −log G = {self.truth:.4f}; "
            f"m = {m}: mean {self.truth + self.bias:.4f}, bias {self.bias:.4f} "
            f"(second order {self.second_order:.4f}), standard deviation {self.deviation:.4f}"
        )
