"""Three animations, drawn offline: σ dissolves pockets (02), Φ⁻¹ flattens the dome, the half-space turns with δ (04).

`python -m rslab.lectures.animations` draws them again into `results/animations`.
"""

import io
from collections.abc import Callable, Iterator

import numpy as np
from IPython.display import Image as Shown
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import norm

from rslab.errors import check_choice
from rslab.lectures.lecture02.figures import (
    draw_regions,
    name_regions,
    plane_classes,
    plane_probabilities,
    region_marks,
)
from rslab.lectures.lecture04.figures import random_steps
from rslab.lectures.style import BLUE, GREEN, INK, ORANGE, VERMILION, new_figure, styled
from rslab.store import files
from rslab.store.run_folder import RESULTS

PLACE = RESULTS / "animations"
DURATION_MS, PAUSE_MS = 120, 1500  # of a frame, and of the last


@styled
def pockets() -> Iterator[Figure]:
    """The map of g on images of two pixels while σ grows from 0.01 to 0.4, beside f."""
    axis = np.linspace(0, 1, 161)
    figure, (left, right) = new_figure(1, 2, width=6.6, height=3.5)
    draw_regions(left, plane_classes(axis), "f")
    name_regions(left, region_marks(plane_classes(axis)))
    image, names = draw_regions(right, plane_classes(axis), " "), name_regions(right, [])
    for sigma in np.geomspace(0.01, 0.4, 32):
        classes = plane_probabilities(axis, float(sigma)).argmax(2)
        image.set_data(classes)
        name_regions(right, region_marks(classes), names)
        right.set_title(f"g, σ = {sigma:.3f}")
        yield figure


@styled
def dome() -> Iterator[Figure]:
    """Slopes of smoothed steps under the dome φ(Φ⁻¹(p)), while the scale of levels turns from p into Φ⁻¹(p)."""
    levels, slopes = random_steps(600, 1.0)
    inside = (levels > 0.003) & (levels < 0.997)
    levels, slopes = levels[inside], slopes[inside]
    grid = norm.cdf(np.linspace(-2.75, 2.75, 200))
    figure, axes = new_figure(width=6.2, height=3.7)
    dots = axes.plot([], [], ".", color=BLUE, markersize=2.5)[0]
    roof = axes.plot([], [], color=VERMILION, linewidth=2.5)[0]
    axes.set(ylim=(0, 1.15), yticks=np.arange(0, 1.1, 0.2), ylabel="slope × σ, on this scale")
    for turned in (*[0.0] * 4, *np.linspace(0, 1, 20) ** 1.5):
        position = [(1 - turned) * p + turned * norm.ppf(p) for p in (levels, grid)]
        steepness = [(1 - turned) + turned / norm.pdf(norm.ppf(p)) for p in (levels, grid)]
        dots.set_data(position[0], slopes * steepness[0])
        roof.set_data(position[1], norm.pdf(norm.ppf(grid)) * steepness[1])
        axes.set_xlim(position[1][0], position[1][-1])
        end = {0.0: "p", 1.0: "Φ⁻¹(p)"}.get(float(turned), f"{1 - turned:.2f} p + {turned:.2f} Φ⁻¹(p)")
        axes.set_xlabel(f"level, on the scale {end}")
        axes.set_title("the roof over all slopes, level by level")
        yield figure


@styled
def half_space() -> Iterator[Figure]:
    """The region A of probability 0.8 around x that loses most on the way to x + δ, while δ turns once around x."""
    sigma, p_a, length = 0.5, 0.8, 0.3
    radius, share = sigma * norm.ppf(p_a), norm.cdf(norm.ppf(p_a) - length / sigma)
    figure, axes = new_figure(width=4.4, height=4.5)
    for turn in np.linspace(0, 2 * np.pi, 24, endpoint=False):
        axes.clear()
        across, along = np.array([-np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), np.sin(turn)])
        edge = [radius * along + 4 * sign * across for sign in (-1, 1)]
        axes.set_facecolor("#F6E3C5")
        axes.fill(*np.transpose([*edge, edge[1] - 9 * along, edge[0] - 9 * along]), color="#CFE3F2")
        axes.plot(*np.transpose(edge), color=INK)
        circle = np.linspace(0, 2 * np.pi, 120)
        axes.plot(radius * np.cos(circle), radius * np.sin(circle), color=GREEN, linewidth=2.5)
        for center, color in ((np.zeros(2), BLUE), (length * along, ORANGE)):
            axes.plot(center[0] + sigma * np.cos(circle), center[1] + sigma * np.sin(circle), ":", color=color)
            axes.plot(*center, "o", color=color, markeredgecolor=INK, markersize=8)
        axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xlabel="pixel 1 − x", ylabel="pixel 2 − x")
        axes.set_title(f"A, blue: 0.80 around x,\n{share:.2f} around x + δ")
        axes.grid(False)
        yield figure


ANIMATIONS: dict[str, tuple[Callable[[], Iterator[Figure]], str]] = {
    "pockets": (
        pockets,
        "Left, the regions of f on images of two pixels, named by digits, with three small pockets. Right, the regions "
        "of g while σ grows from 0.01 to 0.4: first like f, then the pockets shrink and vanish, and the borders become "
        "straight.",
    ),
    "dome": (
        dome,
        "Dots, the slopes of smoothed steps at their levels, under a dome. The scale of levels is stretched until it "
        "is that of the quantile: the ends of the dome rise, and it becomes a line at 1, with all dots below it.",
    ),
    "half-space": (
        half_space,
        "A point x, a second point at the end of δ, and a half-plane in blue whose edge is perpendicular to δ and "
        "touches the green circle of radius R around x. While δ turns once around x, the edge turns with it.",
    ),
}


def shown(name: str) -> Shown:
    """The animation of that name, for a notebook, with its description attached."""
    check_choice("animation", name, ANIMATIONS)
    return Shown(data=(PLACE / f"{name}.gif").read_bytes(), format="gif", alt=ANIMATIONS[name][1])


def gif(figures: Iterator[Figure]) -> bytes:
    """The frames, drawn one after the other, as an endless GIF with 64 colours of the first and last frame."""
    frames = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0])
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(64, method=Image.Quantize.MEDIANCUT)
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    durations = [DURATION_MS] * (len(frames) - 1) + [PAUSE_MS]
    reduced[0].save(buffer, "gif", save_all=True, append_images=reduced[1:], duration=durations, loop=0)
    return buffer.getvalue()


if __name__ == "__main__":
    for name, (frames, _) in ANIMATIONS.items():
        drawn = gif(frames())
        files.write_whole(PLACE / f"{name}.gif", lambda place, drawn=drawn: place.write_bytes(drawn))
        print(f"{name}: {len(drawn) / 1000:.0f} kB")
