"""The explorer of notebook 00: σ and p_A against the certified radius."""

import numpy as np
import torch
from scipy.stats import norm

from rslab.lectures.explorer import Explorer, slider
from rslab.lectures.lecture00.figures import distances, shown_digit
from rslab.lectures.style import BLUE, GREEN, GREY, INK, SKY, new_figure, show_image, styled
from rslab.smoothing import bounds

SIGMAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
SHARES = (0.3, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)


class PromiseExplorer(Explorer):
    """σ and p_A: a digit under that noise, R = σΦ⁻¹(p_A), and how far that is.

    After each move: `radius` (0 when p_A ≤ ½: nothing is promised).
    """

    @styled
    def __init__(self):
        self.sigma = slider("σ of the noise", SIGMAS, 0.25)
        self.p_A = slider("p_A, share of votes", SHARES, 0.9)
        self._digit, _ = shown_digit()
        self._noise = torch.randn(self._digit.shape, generator=torch.Generator().manual_seed(0))
        figure, (copy, curve, ruler) = new_figure(1, 3, width=10.0, height=3.4, width_ratios=(0.9, 1.5, 1.5))
        show_image(copy, self._digit, "one noisy copy of the image")
        self._copy = copy.images[0]
        self._p = np.unique(np.concatenate((np.linspace(0.3, 0.99, 300), 1 - np.logspace(-2, -4.3, 60))))
        for sigma in (0.25, 0.5, 1.0):
            curve.plot(self._p, sigma * norm.ppf(self._p).clip(0), color=GREY, linewidth=0.9)
            curve.text(1.005, sigma * norm.ppf(0.9999) - 0.05, f"{sigma:g}", color=GREY, fontsize=8.5)
        self._curve = curve.plot(self._p, self._p, color=GREEN)[0]
        self._dot = curve.plot([0], [0], "o", color=GREEN, markeredgecolor=INK, markersize=10)[0]
        curve.axvspan(0.3, 0.5, color=SKY, alpha=0.2)
        curve.text(0.4, 2.2, "no\nmajority:\nno promise", ha="center", color=BLUE, fontsize=9)
        curve.set(
            xlim=(0.3, 1.0), ylim=(-0.08, 4.0), xlabel="p_A", ylabel="R = σ Φ⁻¹(p_A)", title="the radius promised"
        )
        self._bar = ruler.barh([0], [0], color=GREEN, height=0.5)[0]
        for row, (name, distance) in enumerate(distances().items(), start=1):
            ruler.plot([0, distance], [row, row], color=GREY, linewidth=3)
            ruler.plot(distance, row, "|", color=INK, markersize=14, markeredgewidth=2)
            ruler.text(0.04, row + 0.16, f"{name}: {distance:.2f}", fontsize=8.5)
        ruler.text(0.04, -0.55, "R: every change shorter than this is harmless", fontsize=8.5, color=GREEN)
        ruler.set(
            xlim=(0, 4), ylim=(-0.9, 3.7), yticks=(), xlabel="ℓ2 distance, pixels in [0, 1]", title="how far is that?"
        )
        super().__init__(figure, [self.sigma, self.p_A], [self._copy, self._curve, self._dot, self._bar])

    def update(self) -> str:
        sigma, p = self.sigma.value, self.p_A.value
        self.radius = float(bounds.certified_radius(p, sigma))
        self._copy.set_data((self._digit + sigma * self._noise).clamp(0, 1)[0].numpy())
        self._curve.set_ydata(sigma * norm.ppf(self._p).clip(0))
        self._dot.set_data([p], [self.radius])
        self._bar.set_width(self.radius)
        if self.radius == 0:
            return f"σ = {sigma:g}, p_A = {p:g}: no majority, nothing is promised (R = 0)"
        return (
            f"σ = {sigma:g}, p_A = {p:g}: R = {self.radius:.4f}; the answer of g is the same at every distance below R"
        )
