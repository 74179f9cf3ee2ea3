"""Figures of notebook 01, adversarial examples: what attacks find, and what training on them changes."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import NullLocator
from scipy.ndimage import distance_transform_edt
from scipy.stats import norm
from torch import Tensor

from rslab import attacks
from rslab.data.photographs import imagenet_classes, load_photographs
from rslab.lectures import pictures
from rslab.lectures.lecture01 import landscape
from rslab.lectures.lecture02.figures import plane_classes, plane_probabilities
from rslab.lectures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    LabFigure,
    new_figure,
    show_image,
    styled,
)

ATTACK_COLORS = {"clean": GREY, "FGSM": SKY, "PGD": VERMILION}

# -- one image ---------------------------------------------------------------------------------


def show_perturbation(axes, delta: Tensor, title: str = "", times: float = 10):
    """δ enlarged, red where a pixel was raised, blue where it was lowered; returns the image to update."""
    drawn = axes.imshow(times * delta[0].numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set(xticks=(), yticks=())
    axes.grid(False)
    axes.set_title(title, fontsize=9.5)
    return drawn


@torch.no_grad()
def probabilities(f, images: Tensor) -> Tensor:
    """softmax of f's scores, `(B, K)`."""
    return f(images).softmax(1)


@styled
def examples_figure(f, images: Tensor, adversarial: Tensor) -> Figure:
    """A row of images, one of their perturbations times five, one of the perturbed images, with f's answers."""
    count = len(images)
    said = []
    figure, axes = new_figure(3, count, width=1.55 * count, height=5.2)
    for column in range(count):
        before, after = probabilities(f, torch.stack((images[column], adversarial[column])))
        show_image(axes[0, column], images[column], f"“{int(before.argmax())}”  {float(before.max()):.0%}")
        show_perturbation(axes[1, column], adversarial[column] - images[column], times=5)
        said.append(f"a {int(before.argmax())} becomes a {int(after.argmax())} with {float(after.max()):.0%}")
        show_image(axes[2, column], adversarial[column], f"“{int(after.argmax())}”  {float(after.max()):.0%}")
    for row, name in enumerate(("image x", "δ, times five", "x + δ")):
        axes[row, 0].set_ylabel(name)
    figure.encoding = "png"
    figure.alt = f"""Handwritten digits in a row, each named correctly; below each its perturbation, times five, in
        red and blue squares; below that the sum of the two, the same digit with grey specks. The network's answers:
        {", ".join(said)}."""
    return figure


# -- photographs -------------------------------------------------------------------------------


@styled
def photographs_figure(levels: int = 1) -> Figure:
    """Four photographs, a change by `levels` grey levels enlarged, and the sum, with EfficientNet-Lite0's answers."""
    numbers, changes = pictures.read_grey_levels()
    before = numbers["clean"]["efficientnet-lite0"]
    after = numbers["attacked"][levels, pictures.KEPT_STEPS]["efficientnet-lite0"]
    classes = imagenet_classes()
    delta = torch.from_numpy(changes[levels]).float() / 255
    images = load_photographs().images
    figure, axes = new_figure(3, len(images), width=8.0, height=6.4)
    pairs = []
    for column, (image, change) in enumerate(zip(images, delta, strict=True)):
        answers = [f"{classes[said[column]['class']]}  {said[column]['probability']:.0%}" for said in (before, after)]
        show_image(axes[0, column], image, answers[0])
        show_image(axes[1, column], 0.5 + 100 / levels * change)
        show_image(axes[2, column], image + change, answers[1])
        pairs.append(" becomes ".join(answers))
    for axis, name in zip(axes[:, 0], ("photograph x", f"δ, times {100 // levels}", "x + δ"), strict=True):
        axis.set_ylabel(name)
    figure.encoding = "jpeg"
    figure.alt = f"""Four photographs in a row; below each a pattern of coloured specks, {100 // levels} times as
        strong as it is; below that the sum, which looks exactly like the photograph. The network's answers, with
        their probabilities: {"; ".join(pairs)}."""
    return figure


@styled
def steps_and_transfer_figure() -> Figure:
    """Means over the four photographs. Left: how sure Lite0 is of a wrong answer after 1 … 50 steps of PGD.

    Right: what is left of Lite0's first answer, on itself and on two networks that the attack never saw.
    """
    numbers, _ = pictures.read_grey_levels()
    first = [said["class"] for said in numbers["clean"]["efficientnet-lite0"]]
    found = numbers["attacked"]

    def sure_of_wrong(answers: list[dict]) -> float:
        pairs = zip(first, answers, strict=True)
        return float(np.mean([said["probability"] * (said["class"] != c) for c, said in pairs]))

    figure, (left, right) = new_figure(1, 2, width=9.4, height=3.6)
    for levels, color, marker in zip(pictures.GREY_LEVELS, (SKY, BLUE, ORANGE, VERMILION), "osD^", strict=True):
        values = [sure_of_wrong(found[levels, steps]["efficientnet-lite0"]) for steps in pictures.STEPS]
        left.plot(pictures.STEPS, values, marker=marker, color=color, markersize=5, label=f"ε = {levels}/255")
    left.set_xscale("log")
    left.set_xticks(pictures.STEPS, [str(steps) for steps in pictures.STEPS])
    left.xaxis.set_minor_locator(NullLocator())
    left.set(xlabel="steps of PGD; 1 is FGSM", ylabel="probability of the wrong answer", ylim=(0, 1.04))
    left.set_title("the network that was attacked")
    left.legend(loc="lower right")
    places = np.arange(len(pictures.GREY_LEVELS) + 1)
    looks = {"Lite0, attacked": VERMILION, "Lite1, never seen": BLUE, "Lite2, never seen": GREEN}
    for number, (network, clean) in enumerate(numbers["clean"].items()):
        rows = [clean, *(found[levels, pictures.KEPT_STEPS][network] for levels in pictures.GREY_LEVELS)]
        values = [float(np.mean([said["of label"] for said in row])) for row in rows]
        label, color = list(looks.items())[number]
        right.bar(places + 0.27 * (number - 1), values, 0.26, color=color, label=label)
    right.set_xticks(places, ["no attack", *(f"{levels}/255" for levels in pictures.GREY_LEVELS)])
    right.set(xlabel="ε, 50 steps", ylabel="probability of the first answer", ylim=(0, 1.0))
    right.set_title("the same pictures, other networks")
    right.legend(loc="upper right")
    figure.alt = """Left, the probability that Lite0 gives to a wrong answer against the steps of PGD, one curve for
        each of four ε from 1 to 8 levels. After one step the four lie between 0.39 and 0.52, that of 8 levels
        lowest; from ten steps on all are at 1.0. Right, bars: the probability of the first answer without attack
        and under 50 steps with 1 to 8 levels. Lite0 falls to nothing at once, Lite1 to half at one level and lower
        at eight, Lite2 slowly."""
    return figure


def left_on_each(levels: int, steps: int) -> dict[str, str]:
    """The mean probability, over the four photographs, that each network still gives to Lite0's first answer."""
    numbers, _ = pictures.read_grey_levels()
    row = numbers["attacked"][levels, steps]
    means = {name: np.mean([said["of label"] for said in row[name]]) for name in numbers["clean"]}
    return {name.removeprefix("efficientnet-"): f"{mean:.2f}" for name, mean in means.items()}


# -- threat models -----------------------------------------------------------------------------


@styled
def balls_figure(gradient: tuple[float, float] = (1.0, 0.35), epsilon: float = 0.3) -> Figure:
    """Both balls around an image of two pixels, and in each the δ that raises ⟨g, δ⟩ most."""
    g = np.array(gradient)
    figure, axes = new_figure(1, 2, width=8.6, height=4.5)
    best = {"ℓ∞": epsilon * np.sign(g), "ℓ2": epsilon * g / np.linalg.norm(g)}
    for cell, (name, delta) in zip(axes, best.items(), strict=True):
        if name == "ℓ∞":
            cell.add_patch(Rectangle((-epsilon, -epsilon), 2 * epsilon, 2 * epsilon, color=SKY, alpha=0.35))
        else:
            cell.add_patch(Circle((0, 0), epsilon, color=SKY, alpha=0.35))
        across = np.array([-g[1], g[0]]) / np.linalg.norm(g)
        for level in np.linspace(-0.6, 0.6, 9):
            foot = level * g / np.linalg.norm(g)
            ends = np.stack((foot - 2 * across, foot + 2 * across))
            cell.plot(*ends.T, color=GREY, linewidth=0.6, alpha=0.6)
        arrow = dict(arrowstyle="-|>", linewidth=2)
        direction = 0.42 * g / np.linalg.norm(g)
        cell.annotate("", direction, (0, 0), arrowprops={**arrow, "color": INK})
        cell.annotate("g", direction, (4, -12), textcoords="offset points", fontsize=11)
        cell.annotate("", delta, (0, 0), arrowprops={**arrow, "color": VERMILION})
        cell.plot(*delta, "o", color=VERMILION, markeredgecolor=INK)
        cell.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), aspect="equal", xlabel="δ, pixel 1", ylabel="δ, pixel 2")
        cell.set_title(f"{name} ball of radius {epsilon:g}: best δ gives {float(g @ delta):.3f}")
        cell.grid(False)
    figure.alt = """Images of two pixels around x. Left, the ℓ∞ ball is a square, and the δ that goes farthest along
        the arrow g is one of its corners. Right, the ℓ2 ball is a disc, and the best δ points along g itself. Thin
        parallel lines mark where ⟨g, δ⟩ is constant; each best δ lies on the farthest line that its ball reaches."""
    return figure


@styled
def three_accuracies_figure(
    f, images: Tensor, labels: Tensor, sigma: float = 0.12, epsilon: float = 0.4
) -> tuple[Figure, dict[str, np.ndarray]]:
    """Accuracy against ε. Left: the smoothed g on images of two pixels, certified, true, and under two attacks.

    Two pixels can be searched exhaustively, so that the truth is known (to the grid's 0.01).
    Right: the network f under FGSM, which it was trained against, and under PGD, ℓ∞ up to `epsilon`.
    Returns the figure and the radii of each of the 101 × 101 images on the left, 0 where g is wrong.
    """
    radii = plane_radii(sigma)
    budgets = np.linspace(0, 0.4, 200)
    figure, (left, right) = new_figure(1, 2, width=9.6, height=3.9, sharey=True)
    styles = {"random step": (ORANGE, ":"), "one-step attack": (VERMILION, "--"), "true": (INK, "-")}
    for name, (color, dashes) in (styles | {"certified": (GREEN, "-")}).items():
        share = 100 * (radii[name][None] > budgets[:, None, None]).mean((1, 2))
        left.plot(budgets, share, color=color, linestyle=dashes, label=name)
    left.set(xlabel="ε, ℓ2, pixels in [0, 1]", ylabel="accuracy within ε (%)", xlim=(0, 0.4), ylim=(0, 102))
    left.set_title(f"two pixels, smoothed classifier, σ = {sigma:g}")
    left.legend(loc="lower left")
    budgets = np.linspace(0, epsilon, 9)
    under = {"FGSM": lambda e: attacks.fgsm(f, images, labels, e)}
    under["PGD, 20 steps"] = lambda e: attacks.pgd(f, images, labels, e, norm="linf", steps=20)
    shares = {}
    for (name, attack), color in zip(under.items(), (BLUE, VERMILION), strict=True):
        shares[name] = [100 * float((f(attack(float(e))).argmax(1) == labels).float().mean()) for e in budgets]
        right.plot(budgets, shares[name], "o-", color=color, label=name)
    right.set(xlabel="ε, ℓ∞, pixels in [0, 1]", xlim=(-0.01, 1.02 * epsilon))
    right.set_title("digits, a network trained against FGSM")
    right.legend(loc="center right")
    figure.alt = f"""Left, accuracy within ε against ε for a smoothed classifier on images of two pixels: four
        falling curves. Certified, the truth found by exhaustive search, and the accuracy under a one-step attack
        lie close together in this order; the curve of an attack that takes one random step lies far above. Right, a
        network for digits trained against FGSM. Under PGD its accuracy falls to {shares["PGD, 20 steps"][-1]:.0f}
        percent at ε = {epsilon:g}; under FGSM it dips and rises again to {shares["FGSM"][-1]:.0f} percent."""
    return figure, radii


def plane_radii(sigma: float) -> dict[str, np.ndarray]:
    """How far g's right answer holds around each of 101 × 101 images of two pixels; 0 where g is wrong.

    As certified, in truth (nearest point with another answer), along the gradient, and along a random direction.
    """
    wide = np.linspace(-0.5, 1.5, 201)
    middle = slice(50, 151)  # [0, 1]
    p = plane_probabilities(wide, sigma)
    answer, spacing = p.argmax(2), wide[1] - wide[0]
    right = (answer == plane_classes(wide))[middle, middle]
    top_two = np.sort(p, axis=2)[..., -2:].clip(1e-12, 1 - 1e-12)
    certified = sigma / 2 * (norm.ppf(top_two[..., 1]) - norm.ppf(top_two[..., 0]))
    true = sum((answer == c) * distance_transform_edt(answer == c, sampling=spacing) for c in range(4))
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, answer.shape)
    found = {
        "certified": certified,
        "true": true,
        "one-step attack": _straight_radii(answer, spacing, *(-g for g in np.gradient(p.max(2), spacing))),
        "random step": _straight_radii(answer, spacing, np.sin(angle), np.cos(angle)),
    }
    return {name: np.where(right, values[middle, middle], 0.0) for name, values in found.items()}


def _straight_radii(answer: np.ndarray, spacing: float, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Where g first changes on a straight walk along (down, across), for each point of the grid: `(N, N)`."""
    length = np.hypot(down, across).clip(1e-12)
    rows, columns = np.indices(answer.shape)
    found = np.full(answer.shape, np.inf)
    for step in np.arange(0.5, 90, 0.5):  # in grid spacings
        row = np.rint(rows + step * down / length).astype(int).clip(0, len(answer) - 1)
        column = np.rint(columns + step * across / length).astype(int).clip(0, len(answer) - 1)
        changed = (answer[row, column] != answer) & np.isinf(found)
        reached = np.hypot(row - rows, column - columns) * spacing
        found[changed] = reached[changed]
    return found


# -- one step and many ---------------------------------------------------------------------------


def folded(z: Tensor) -> Tensor:
    """A loss on the box |z| ≤ ½ of two pixels, `(B, 2)` → `(B,)`: its maximum is not at the corner FGSM takes."""
    a, b = z[:, 0], z[:, 1]
    return a + 0.9 * b - 6 * (a + b - 0.3).clamp_min(0) ** 2 + 4 * (a - b - 0.2).clamp_min(0)


def pgd_path(
    loss,
    x: Tensor,
    epsilon: float | Tensor,
    step: float | Tensor,
    steps: int,
    start: Tensor | None = None,
    sign: bool = True,
) -> Tensor:
    """The iterates of ℓ∞ PGD around x `(B, …)`, from x or `start`: `(T + 1, B, …)`. `loss`: images → `(B,)`.

    ε may be one per image, `(B,)`, and so may the step, `(B, 1, …)`.

    `sign`: along the sign of the gradient, as PGD does; else along the gradient itself.
    """
    path = [x if start is None else start]
    for _ in range(steps):
        iterate = path[-1].detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(iterate).sum(), iterate)
        path.append(
            attacks.project(x, iterate.detach() - x + step * (slope.sign() if sign else slope), epsilon, "linf")
        )
    return torch.stack(path)


def folded_success(step: float, steps: int, sign: bool = True, starts: int = 12, seed: int = 0) -> float:
    """The share of random starts from which ascent on `folded` reaches its one maximum, 3.25, to 0.001."""
    x = torch.full((starts, 2), 0.5, dtype=torch.float64)
    begin = torch.rand(starts, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ends = pgd_path(lambda image: folded(image - 0.5), x, 0.5, step, steps, begin, sign)[-1] - 0.5
    return float((folded(ends) > 3.25 - 1e-3).double().mean())


@styled
def folded_figure(starts: int = 12, seed: int = 0) -> tuple[Figure, dict[str, float]]:
    """The toy loss with FGSM's step and PGD's paths (left), and along the straight lines to their ends (right)."""
    axis = np.linspace(-0.5, 0.5, 201)
    grid = torch.tensor(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    height = folded(grid).reshape(201, 201).numpy()
    x = torch.full((starts, 2), 0.5, dtype=torch.float64)  # images are in [0, 1]: z = image − ½
    begin = torch.rand(starts, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    paths = pgd_path(lambda image: folded(image - 0.5), x, 0.5, 0.1, 20, begin).numpy() - 0.5  # (T + 1, S, 2)
    one_step = pgd_path(lambda image: folded(image - 0.5), x[:1], 0.5, 0.5, 1)[-1, 0].numpy() - 0.5
    ends = folded(torch.tensor(paths[-1])).numpy()
    best = paths[-1, ends.argmax()]
    figure, (left, right) = new_figure(1, 2, width=9.4, height=3.9)
    left.contourf(axis, axis, height, levels=24, cmap="Greys", alpha=0.6)
    left.plot(*paths.transpose(2, 0, 1), color=VERMILION, linewidth=1)
    left.plot(*paths[0].T, "o", color="white", markeredgecolor=VERMILION, markersize=5, label="PGD starts")
    left.plot(*paths[-1].T, "o", color=VERMILION, markersize=6, label="PGD ends", clip_on=False, zorder=4)
    left.plot([0, one_step[0]], [0, one_step[1]], "o-", color=BLUE, linewidth=2, label="FGSM", clip_on=False, zorder=4)
    left.plot(0, 0, "*", color="white", markeredgecolor=INK, markersize=13, label="x", zorder=5)
    left.set(aspect="equal", xlabel="δ, pixel 1", ylabel="δ, pixel 2", title="the loss on the box; dark is high")
    left.grid(False)
    left.legend(loc="lower left", fontsize=8.5)
    t = np.linspace(0, 1, 200)
    for end, color, name in ((one_step, BLUE, "FGSM"), (best, VERMILION, "PGD")):
        right.plot(t, folded(torch.tensor(t[:, None] * end)).numpy(), color=color, label=f"towards {name}'s end")
    right.set(xlabel="share of the way from x", ylabel="loss", title="along two straight lines", xlim=(0, 1))
    right.legend(loc="lower left")
    line = folded(torch.tensor(t[:, None] * one_step)).numpy()
    numbers = {"FGSM": float(line[-1]), "highest on FGSM's line": float(line.max()), "PGD, best": float(ends.max())}
    numbers |= {"maximum": float(height.max()), "share of starts": float((ends > height.max() - 1e-3).mean())}
    figure.alt = f"""Left, a loss on a square, dark where it is high. A ridge runs across, and the maximum lies in
        the lower right corner. FGSM goes straight to the upper right corner, over the ridge and down on its other
        side. PGD starts at {starts} random places and follows the ground: {numbers["share of starts"]:.0%} of its
        paths end in the maximum's corner, the others on the ridge. Right, the loss along the line to FGSM's end
        rises to {numbers["highest on FGSM's line"]:.2f} and falls to {numbers["FGSM"]:.2f}; along the line to PGD's
        best end it rises to {numbers["PGD, best"]:.2f}."""
    return figure, numbers


def _panels(count: int, columns: int, width: float, height: float, **options) -> tuple[LabFigure, np.ndarray]:
    """That many panels, at most `columns` in a row; what is left of the last row stays empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = new_figure(rows, columns, width=width * columns, height=height * rows, squeeze=False, **options)
    for unused in axes.flat[count:]:
        unused.set_visible(False)
    return figure, axes


@styled
def lines_figure(networks: dict[str, dict[str, np.ndarray]]) -> Figure:
    """The loss from x to FGSM's and to PGD's end (`landscape.lines`), one panel a network, each with its own axis.

    Ten images thin, the mean thick.
    """
    figure, axes = _panels(len(networks), 3, 3.4, 3.7)
    told = []
    for cell, (name, ways) in zip(axes.flat, networks.items(), strict=False):
        for attack, losses in ways.items():
            shares = np.linspace(0, 1, len(losses))
            color = BLUE if attack == "FGSM" else VERMILION
            cell.plot(shares, losses[:, :10], color=color, linewidth=0.6, alpha=0.45)
            mean = losses.mean(1)
            cell.plot(shares, mean, color=color, linewidth=3, label=f"towards {attack}'s end")
            bump = f", with a bump of {mean.max():.1f} on the way" if mean.max() > 1.1 * mean[-1] else ""
            told.append(f"{name}, towards {attack}'s end, from {mean[0]:.1f} to {mean[-1]:.1f}{bump}")
        cell.set(xlabel="share of the way from x", title=name, xlim=(0, 1))
        cell.set_ylim(bottom=0)
    for cell in axes[:, 0]:
        cell.set_ylabel("loss")
    axes[0, 0].legend(loc="upper left")
    figure.alt = f"""The loss along the straight line from each image to FGSM's end, blue, and to PGD's end, red;
        thin lines for ten images, a thick line for the mean of all, a panel for each network. The means:
        {"; ".join(told)}."""
    return figure


# -- how good is the maximum that PGD finds? -------------------------------------------------------


@styled
def histograms_figure(
    losses: dict[str, list[np.ndarray]], epsilon: str, names: Sequence[str] = ("first image", "second image")
) -> Figure:
    """Final losses over random starts, one panel per network, one colour per image; the axes start at 0, uncropped."""
    width = 1.4 + min(3.6 * len(losses), 8.8)
    figure, axes = new_figure(1, len(losses), width=width, height=3.4, squeeze=False)
    for cell, (name, images) in zip(axes[0], losses.items(), strict=True):
        top = 1.08 * max(float(values.max()) for values in images)
        for values, color, which in zip(images, (BLUE, ORANGE), names, strict=False):
            cell.hist(values, bins=np.linspace(0, top, 80), color=color, alpha=0.75, label=which)
        cell.set(xlabel="loss at PGD's end", title=f"{name}, ε = {epsilon}", xlim=(0, top))
    axes[0, 0].set_ylabel(f"of {len(next(iter(losses.values()))[0]):,} random starts")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    ranges = [
        f"{name}, {which}, from {values.min():.1f} to {values.max():.1f}, median {np.median(values):.1f}"
        for name, images in losses.items()
        for values, which in zip(images, names, strict=False)
    ]
    figure.alt = f"""Histogram of the loss at PGD's end over random starts, one colour for each of two images, on
        axes that begin at 0. {"; ".join(ranges)}."""
    return figure


@styled
def angles_figure(angles: np.ndarray, random: np.ndarray, pixels: int) -> Figure:
    """Two histograms of angles in degrees, as shares of all pairs: between PGD's ends, and between random signs."""
    figure, axes = new_figure(width=7.6, height=3.4)
    # Sign patterns have only pixels + 1 different angles: a bin for each, or the bars would go up and down.
    signs = np.degrees(np.arccos(np.arange(pixels + 1, -pixels - 2, -2).clip(-pixels, pixels) / pixels))
    found = (
        (angles, np.arange(0, 181, 2), VERMILION, "between the ends of PGD"),
        (random, signs, GREY, f"between random signs, d = {pixels}"),
    )
    for values, bins, color, label in found:
        axes.stairs(
            100 * np.histogram(values, bins, density=True)[0], bins, fill=True, color=color, alpha=0.7, label=label
        )
        axes.axvline(np.median(values), ymax=0.8, color=color, linestyle="--", linewidth=1.5)
    axes.set(xlabel="angle between two directions from x (degrees)", ylabel="% of all pairs, per degree", xlim=(0, 140))
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    axes.set_xticks(range(0, 141, 20))
    axes.legend(loc="upper right")
    figure.alt = f"""Two histograms of angles on one axis, with their medians dashed. Between the directions of
        PGD's ends the median is {np.median(angles):.0f} degrees and the largest {angles.max():.0f}; between random
        sign patterns of {pixels} pixels they lie around {np.median(random):.0f} degrees and reach
        {random.max():.0f}."""
    return figure


@styled
def surface_figure(planes: dict[str, dict[str, np.ndarray]]) -> Figure:
    """`landscape.between`, a row a network: the plane of x and two ends (left), and three straight lines (right)."""
    t = landscape.SHARES
    u, v = np.meshgrid(landscape.AXIS, landscape.AXIS)
    figure, axes = new_figure(
        len(planes), 2, width=10.2, height=4.6 * len(planes), width_ratios=(1.35, 1), squeeze=False
    )
    told = []
    for (flat, right), (name, lines) in zip(axes, planes.items(), strict=True):
        loss = lines["plane"]
        span = float(loss.max() - loss.min())
        left = figure.add_subplot(flat.get_subplotspec(), projection="3d")
        flat.remove()
        left.plot_surface(u, v, loss, cmap="viridis", rcount=67, ccount=67, linewidth=0, antialiased=True, alpha=0.9)
        ways = (("first to second", 1 - t, t, PURPLE), ("x to first", t, 0 * t, SKY), ("x to second", 0 * t, t, BLUE))
        for way, across, up, color in ways:
            dashes = "--" if way == "first to second" else "-"
            left.plot(across, up, lines[way] + 0.01 * span, color=color, linestyle=dashes, linewidth=3, zorder=10)
            right.plot(t, lines[way], color=color, linestyle=dashes, label=way)
        for place, way in (((0, 0), "x"), ((1, 0), "first"), ((0, 1), "second")):
            height = lines["x to second" if way == "second" else "x to first"][0 if way == "x" else -1]
            left.plot(*place, height + 0.025 * span, "o", color="white", markeredgecolor=INK, markersize=8, zorder=11)
            left.text(*place, height + 0.1 * span, way, fontsize=10, ha="center", zorder=12)
        left.set(xlabel="λ₁, towards the first", ylabel="λ₂, towards the second")
        left.set_title(f"{name}: the loss over the plane of x and two ends")
        left.view_init(elev=32, azim=-122)
        right.set(xlabel="share of the way", ylabel="loss", xlim=(0, 1), title="along three straight lines")
        right.set_ylim(0, 1.35 * max(float(lines[way].max()) for way, *_ in ways))
        right.legend(loc="upper center")
        valley = lines["first to second"]
        told.append(
            f"{name}: from x ({lines['x to first'][0]:.1f}) to either end the loss rises to {valley[0]:.1f} and "
            f"{valley[-1]:.1f}; from one end to the other it is {valley.min():.1f} at its lowest"
        )
    figure.alt = f"""Left, the loss as a landscape over the plane of x and two ends of PGD: low at x, high at either
        end. Right, the loss along three straight lines, from x to either end and from one end to the other.
        {"; ".join(told)}."""
    return figure


# -- min–max ----------------------------------------------------------------------------------------


def outer_loss(theta, delta):
    """The loss of the Danskin example, θ²/4 + θδ − ¼ cos 5δ, with δ in [−1, 1]."""
    return theta**2 / 4 + theta * delta - np.cos(5 * delta) / 4


DELTAS = np.linspace(-1, 1, 4001)


def inner_maxima(theta: float) -> tuple[float, float]:
    """The maximiser of `outer_loss(theta, ·)` on [−1, 1], and the local maximum on the other side of 0; |θ| ≤ 1.2."""
    values = outer_loss(theta, DELTAS)
    top = (values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])  # no edge: higher than both neighbours
    best, other = sorted(map(float, DELTAS[1:-1][top]), key=lambda delta: -outer_loss(theta, delta))
    return best, other


@styled
def danskin_figure(theta: float = 0.5) -> Figure:
    """Many losses θ ↦ L(θ, δ), one per fixed δ; their maximum; and the one that touches it at `theta`."""
    thetas = np.linspace(-1.2, 1.2, 241)
    figure, axes = new_figure(width=7.6, height=3.9)
    for index, delta in enumerate(np.linspace(-1, 1, 25)):
        label = "L(·, δ) for 25 fixed δ" if index == 0 else None
        axes.plot(thetas, outer_loss(thetas, delta), color=SKY, linewidth=0.8, alpha=0.8, label=label)
    robust = [outer_loss(t, DELTAS).max() for t in thetas]
    star, _ = inner_maxima(theta)
    axes.plot(thetas, robust, color=VERMILION, linewidth=3, label="robust loss: the maximum over δ")
    axes.plot(thetas, outer_loss(thetas, star), color=INK, linestyle="--", label=f"L(·, δ*), δ* = {star:.3f} fixed")
    axes.plot(theta, outer_loss(theta, star), "o", color=INK, markersize=8)
    axes.set(xlabel="θ, the parameter that is trained", ylabel="loss", xlim=(-1.2, 1.2))
    axes.set_title("in the dot the two curves have the same slope")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.alt = f"""Twenty-five thin curves, the loss against θ with δ held fixed in each; their upper envelope,
        thick, is the robust loss, with a kink at θ = 0. At θ = {theta:g} the dashed curve of the maximising δ
        touches the envelope from below: same value, same slope."""
    return figure


# -- adversarial training -----------------------------------------------------------------------------


@styled
def training_figure(history: dict[str, list[tuple[float, ...]]]) -> Figure:
    """Robust loss after each epoch, one panel per way of training; rows of (trained on, FGSM on test, PGD on test)."""
    figure, axes = new_figure(1, len(history), width=3.4 * len(history), height=3.6, squeeze=False, sharey=True)
    looks = (("trained on", INK, ":"), ("FGSM, test", SKY, "--"), ("PGD, test", VERMILION, "-"))
    for cell, (name, rows) in zip(axes[0], history.items(), strict=True):
        epochs = np.arange(1, len(rows) + 1)
        for values, (label, color, dashes) in zip(np.array(rows).T, looks, strict=False):
            cell.plot(epochs, values, color=color, linestyle=dashes, label=label)
        cell.set(xlabel="epoch", title=name, yscale="log", xlim=(1, len(rows)))
        cell.set_yticks((0.02, 0.05, 0.1, 0.2, 0.5, 1, 2), ("0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"))
        cell.minorticks_off()
        cell.xaxis.get_major_locator().set_params(integer=True)
    every = np.concatenate([np.array(rows).ravel() for rows in history.values()])
    axes[0, 0].set_ylim(0.8 * every.min(), 1.25 * every.max())
    axes[0, 0].set_ylabel("mean loss (log scale)")
    axes[0, -1].legend(loc="upper right")
    ends = [
        f"{name}, " + ", ".join(f"{label} {last:.2f}" for last, (label, *_) in zip(rows[-1], looks, strict=False))
        for name, rows in history.items()
    ]
    figure.alt = f"""Mean loss against the epoch on a logarithmic axis, one panel for each way of training: the loss
        trained on dotted, the loss on test images under FGSM dashed and under PGD solid. After the last epoch:
        {"; ".join(ends)}."""
    return figure


@styled
def robust_losses_figure(records: dict[str, list[dict]]) -> Figure:
    """Loss under PGD (solid) and FGSM (dashed) after each epoch, training images dark, test images red; two in a row.

    Records as `experiments.adversarial` writes them: {name: [{"train": {"PGD": {"loss": …}, …}, "test": …}, …]}.
    """
    figure, axes = _panels(len(records), 2, 4.4, 3.5, sharey="row")
    told = []
    for cell, (name, epochs) in zip(axes.flat, records.items(), strict=False):
        for attack, dashes, marker in (("PGD", "-", "o"), ("FGSM", "--", "")):
            for split, color in (("train", INK), ("test", VERMILION)):
                values = [row[split][attack]["loss"] for row in epochs]
                label = f"{attack}, {'training' if split == 'train' else 'test'} images"
                places = np.arange(1, len(epochs) + 1)
                cell.plot(places, values, color=color, linestyle=dashes, marker=marker, markersize=4, label=label)
                told.append(f"{name}, {label}, {values[-1]:.2f}")
        cell.set(xlabel="epoch", title=name, yscale="log", xlim=(0.8, len(epochs) + 0.2))
        cell.xaxis.get_major_locator().set_params(integer=True)
    for row in axes:
        low, high = row[0].get_ylim()
        ticks = [0.01, 0.1, 1, 10] if high > 50 * low else [0.5, 1, 1.5, 2, 3, 5, 10]
        row[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        row[0].set_ylim(low, high)
        row[0].set_ylabel("mean loss (log scale)")
        for cell in row:
            cell.minorticks_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2 * axes.shape[1])
    figure.alt = f"""Mean loss against the epoch on a logarithmic axis, one panel for each way of training: under
        PGD solid, under FGSM dashed, dark on training images and red on test images.
        After the last epoch: {"; ".join(told)}."""
    return figure


@styled
def accuracies_figure(table: dict[str, dict[str, tuple[float, float]]]) -> Figure:
    """Accuracy in % by network and attack: solid on test images, outlined on training images."""
    figure, axes = new_figure(width=8.4, height=3.8)
    for place, row in enumerate(table.values()):
        for shift, (attack, (train, test)) in zip((-0.27, 0, 0.27), row.items(), strict=True):
            label = attack if place == 0 else None
            axes.bar(place + shift, test, 0.24, color=ATTACK_COLORS[attack], label=label)
            axes.bar(place + shift, train, 0.24, fill=False, edgecolor=INK, linewidth=1.2)
            inside = test > 20
            ink = "white" if inside and attack != "FGSM" else INK
            height = test - 2 if inside else max(train, test) + 1
            across = dict(ha="center", va="top" if inside else "bottom", fontsize=9, color=ink)
            axes.text(place + shift, height, f"{test:.0f}", **across)
    axes.bar(0, 0, fill=False, edgecolor=INK, label="outline: training images")
    told = [
        f"{name}, " + ", ".join(f"{attack} {test:.0f}, {train:.0f}" for attack, (train, test) in row.items())
        for name, row in table.items()
    ]
    figure.alt = f"""Bars: accuracy in percent by network, without attack, under FGSM and under PGD; solid on test
        images, outlined on training images. Test, then training: {"; ".join(told)}."""
    axes.set_xticks(range(len(table)), table)
    axes.set(ylim=(0, 104), ylabel="accuracy (%)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


@styled
def transfer_figure(accuracy: np.ndarray, names: list[str]) -> Figure:
    """Accuracy (%) of each target (column) on examples made against each source (row)."""
    figure, axes = new_figure(width=7.4, height=3.9)
    axes.imshow(accuracy, cmap="RdYlBu", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(accuracy.shape):
        value = accuracy[row, column]
        ink = "white" if value < 18 or value > 88 else INK
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink, fontsize=11)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="target: the network that has to classify", ylabel="source of the attack")
    axes.grid(False)
    rows = [
        f"made against {name}: "
        + ", ".join(f"{value:.0f} on {target}" for value, target in zip(row, names, strict=True))
        for name, row in zip(names, accuracy, strict=True)
    ]
    figure.alt = f"""A table of accuracies in percent, coloured; rows are the network that was attacked, columns the
        network that has to classify. {"; ".join(rows)}."""
    return figure
