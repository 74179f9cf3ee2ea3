"""Explorers of notebook 01: an attack on one image, step by step, and Danskin's theorem."""

import numpy as np
import torch
from torch import Tensor

from rslab import attacks
from rslab.lectures.explorer import Explorer, continuous_slider, set_nearest, slider
from rslab.lectures.lecture01.figures import DELTAS, inner_maxima, outer_loss, pgd_path, show_perturbation
from rslab.lectures.style import BLUE, GREY, INK, SKY, VERMILION, new_figure, show_image, styled

# -- PGD on an image ---------------------------------------------------------------------------

EPSILONS = tuple(round(0.01 * k, 2) for k in range(31))
STEP_SIZES = (("ε/20", 0.05), ("ε/10", 0.1), ("ε/4", 0.25), ("ε/2", 0.5), ("ε, as FGSM", 1.0))
STEPS = 20


class AttackExplorer(Explorer):
    """Image, network, ε, step size and number of steps: δ times ten, the logits, the path of the loss.

    All paths are computed when the explorer is made; a slider looks one up. After each move:
    `losses` (the path, T + 1 numbers), `length` (‖δ‖∞), `answer` (the class f gives).
    """

    alt = """Five panels. A digit; its perturbation times ten, red where pixels were raised and blue where they were
        lowered; the sum of the two; bars of the ten logits, outlined before and filled after the attack, with the
        true class blue and a wrong winner red; the loss against the number of steps, with a dot at the present one."""

    @styled
    def __init__(self, networks: dict, images: Tensor, labels: Tensor):
        self._labels = labels
        names = list(networks)
        self.network = slider("network", [(name, i) for i, name in enumerate(names)], 0)
        self.picture = slider("image", [(f"a {int(y)}", i) for i, y in enumerate(labels)], 0)
        self.epsilon = slider("ε, ℓ∞", EPSILONS, 0.02)  # before anything falls
        self.step_size = slider("step size η", STEP_SIZES, 0.25)
        self.steps = slider("steps taken", range(STEPS + 1), 5)
        self._results = [_all_paths(f, images, labels) for f in networks.values()]
        figure, axes = new_figure(1, 5, width=10.4, height=3.0, width_ratios=(1, 1, 1, 1.45, 1.7))
        original, change, changed, scores, path = axes
        self._images = images
        show_image(original, images[0], "image x")
        self._original = original.images[0]
        self._delta = show_perturbation(change, torch.zeros_like(images[0]), "δ, times ten")
        show_image(changed, images[0], "x + δ")
        self._changed = changed.images[0]
        self._logits = [scores.bar(range(10), [0] * 10, color=GREY, width=0.7) for _ in range(2)]
        for bar in self._logits[0]:
            bar.set(fill=False, edgecolor=INK)
        zero = scores.axhline(0, color=INK, linewidth=0.8)
        reach = 1.1 * max(float(result[1].abs().max()) for result in self._results)
        scores.set(xticks=range(10), ylim=(-reach, reach), title="logits (outline: at x)")
        scores.title.set_fontsize(9.5)
        self._path = path.plot(range(STEPS + 1), [1] * (STEPS + 1), color=VERMILION, linewidth=1.5)[0]
        self._dot = path.plot([0], [1], "o", color=VERMILION, markeredgecolor=INK, markersize=9)[0]
        highest = max(float(result[2].max()) for result in self._results)
        path.set(xlim=(-0.5, STEPS + 0.5), yscale="symlog", ylim=(0, 2 * highest), xticks=(0, 5, 10, 15, 20))
        path.set(xlabel="step", title="loss (log axis above 1)")
        path.title.set_fontsize(9.5)
        moving = [self._original, self._delta, self._changed, *self._logits[0], *self._logits[1], zero]
        sliders = [self.picture, self.epsilon, self.step_size, self.steps]
        super().__init__(
            figure, [self.network, *sliders] if len(names) > 1 else sliders, [*moving, self._path, self._dot]
        )

    def update(self) -> str:
        i, e, s, t = self.picture.index, self.epsilon.index, self.step_size.index, self.steps.value
        paths, logits, losses = self._results[self.network.value]
        x, adversarial, y = self._images[i], paths[t, e, s, i], int(self._labels[i])
        self.losses = losses[:, e, s, i].numpy()
        self.length = float((adversarial - x).abs().max())
        now, before = logits[t, e, s, i], logits[0, e, s, i]
        self.answer = int(now.argmax())
        self._original.set_data(x[0].numpy())
        self._delta.set_data(10 * (adversarial - x)[0].numpy())
        self._changed.set_data(adversarial[0].numpy())
        for bars, values in zip(self._logits, (before, now), strict=True):
            for bar, value in zip(bars, values.tolist(), strict=True):
                bar.set_height(value)
        for label, bar in enumerate(self._logits[1]):
            bar.set_facecolor(BLUE if label == y else VERMILION if label == self.answer else SKY)
        self._path.set_ydata(self.losses)
        self._dot.set_data([t], [self.losses[t]])
        share = float(now.softmax(0)[self.answer])
        verdict = "right" if self.answer == y else f"wrong: it is a {y}"
        return (
            f"ε = {self.epsilon.value:g}, {t} step{'s' * (t != 1)} of {self.step_size.value * self.epsilon.value:.3g}: "
            f"largest change of a pixel {self.length:.3f}, loss {self.losses[t]:.3f}; "
            f"f says {self.answer} ({share:.1%}), {verdict}"
        )


def _all_paths(f, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Iterates (T + 1, ε, η, B, C, H, W), logits (…, K) and losses (T + 1, ε, η, B) for every slider value."""
    shape = (STEPS + 1, len(EPSILONS), len(STEP_SIZES))
    # All ε, η and images in one batch, in this order.
    count = len(EPSILONS) * len(STEP_SIZES)
    many, answers = images.repeat(count, 1, 1, 1), labels.repeat(count)
    epsilon = torch.tensor(EPSILONS).repeat_interleave(len(STEP_SIZES) * len(images))
    share = torch.tensor([share for _, share in STEP_SIZES]).repeat_interleave(len(images)).repeat(len(EPSILONS))
    step = (share * epsilon).view(-1, 1, 1, 1)
    paths = pgd_path(lambda z: attacks.cross_entropy(f(z), answers), many, epsilon, step, STEPS).detach()
    paths = paths.view(*shape, *images.shape)
    flat = paths.flatten(0, 3)
    with torch.no_grad():
        logits = f(flat)
    losses = attacks.cross_entropy(logits, labels.repeat(len(flat) // len(labels)))
    return paths, logits.view(*shape, len(images), -1), losses.view(*shape, len(images))


# -- Danskin -------------------------------------------------------------------------------------

FOUND = (("nothing: δ = 0", 0), ("half of δ*", 1), ("the other maximum", 2), ("the maximum δ*", 3))


class DanskinExplorer(Explorer):
    """θ and what the attack finds: the inner problem (left), and the outer one with both slopes (right).

    After each move: `slope` (of the robust loss), `gradient` (∂L/∂θ at what was found), `step` (how
    the robust loss changes when θ makes a small step against `gradient`).
    """

    alt = """Left, the loss against δ at the present θ, with two humps; a star marks the maximum, a circle what the
        attack found. Right, the robust loss against θ, a curved V, and dashed the loss with δ held at what was
        found: it touches the robust loss in the star if the attack found the maximum, and passes below it if not."""

    @styled
    def __init__(self):
        self.theta = continuous_slider("θ, the parameter", 0.4, -1.0, 1.0, 0.01)
        self.theta.readout_format = ".2"  # 0.4, not 0.40
        self.found = slider("the attack finds", FOUND, 3)
        figure, (inner, outer) = new_figure(1, 2, width=9.6, height=3.7)
        self._inner = inner.plot(DELTAS, DELTAS, color=BLUE)[0]
        self._best = inner.plot([0], [0], "*", color=VERMILION, markeredgecolor=INK, markersize=15, label="δ*")[0]
        self._hat = inner.plot([0], [0], "o", color="white", markeredgecolor=INK, markersize=8, label="found")[0]
        inner.set(xlabel="δ", ylabel="L(θ, δ)", xlim=(-1.05, 1.05), ylim=(-1.1, 1.5), title="inner: the attack")
        inner.legend(loc="lower right")
        self._t = np.linspace(-1.2, 1.2, 241)
        robust = [outer_loss(t, DELTAS).max() for t in self._t]
        outer.plot(self._t, robust, color=VERMILION, linewidth=3, label="robust loss")
        self._frozen = outer.plot(self._t, self._t, color=INK, linestyle="--", label="L(·, δ) at what was found")[0]
        self._point = outer.plot([0], [0], "*", color=VERMILION, markeredgecolor=INK, markersize=15)[0]
        self._low = outer.plot([0], [0], "o", color="white", markeredgecolor=INK, markersize=8)[0]
        outer.set(xlabel="θ", xlim=(-1.2, 1.2), ylim=(-1.1, 1.9), title="outer: what is trained")
        outer.legend(loc="upper center", fontsize=8.5)
        super().__init__(
            figure,
            [self.theta, self.found],
            [self._inner, self._best, self._hat, self._frozen, self._point, self._low],
            drag=outer,
        )

    def dragged(self, x: float, y: float) -> None:
        set_nearest(self.theta, x)

    def update(self) -> str:
        theta = round(self.theta.value, 2)  # a browser may send 1e-17 for 0, the kink
        star, other = inner_maxima(theta)
        delta = (0.0, star / 2, other, star)[self.found.value]
        self.gradient = theta / 2 + delta
        self.slope = theta / 2 + star
        self.step = _robust(theta - 0.02 * np.sign(self.gradient)) - _robust(theta)
        self._inner.set_ydata(outer_loss(theta, DELTAS))
        self._best.set_data([star], [outer_loss(theta, star)])
        self._hat.set_data([delta], [outer_loss(theta, delta)])
        self._frozen.set_ydata(outer_loss(self._t, delta))
        self._point.set_data([theta], [outer_loss(theta, star)])
        self._low.set_data([theta], [outer_loss(theta, delta)])
        slope = "no slope (a kink)" if theta == 0 else f"slope {self.slope:+.3f}"
        verdict = "lowers" if self.step < -1e-9 else "raises" if self.step > 1e-9 else "leaves"
        return (
            f"θ = {theta:g}: δ* = {star:+.3f}, found δ = {delta:+.3f}; robust loss has {slope}, "
            f"∂L/∂θ at what was found is {self.gradient:+.3f}: a small step against it {verdict} the robust loss"
            f"{' as it is' if verdict == 'leaves' else ''}"
        )


def _robust(theta: float) -> float:
    return float(outer_loss(theta, DELTAS).max())
