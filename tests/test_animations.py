"""Animations: drawn by our figures, small, and shipped as they are drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from rslab.errors import InputError
from rslab.lectures import animations


def frames(data: bytes) -> list[np.ndarray]:
    """The frames of a GIF, as colours."""
    film = Image.open(io.BytesIO(data))
    pictures = []
    for number in range(film.n_frames):
        film.seek(number)
        pictures.append(np.asarray(film.convert("RGB")))
    return pictures


@pytest.mark.parametrize("name", animations.ANIMATIONS)
def test_a_shipped_animation_is_small_moves_and_is_described(name):
    shown = animations.shown(name)
    assert len(shown.data) < 400_000
    film = frames(shown.data)
    assert len(film) >= 20 and all((a != b).any() for a, b in zip(film, film[1:], strict=False))
    data, metadata = shown._repr_mimebundle_()
    assert "image/gif" in data and metadata["image/gif"]["alt"] == animations.ANIMATIONS[name][1]


@pytest.mark.parametrize("name", animations.ANIMATIONS)
def test_it_is_what_the_figures_draw_today(name):
    """Within what a version of Matplotlib may change: edges of letters and lines."""
    drawn, shipped = frames(animations.gif(animations.ANIMATIONS[name][0]())), frames(animations.shown(name).data)
    assert len(drawn) == len(shipped) and drawn[0].shape == shipped[0].shape
    for number in (0, len(drawn) // 2, -1):
        apart = np.abs(drawn[number].astype(int) - shipped[number]).max(2)
        assert (apart > 60).mean() < 0.02, number


def test_an_unknown_animation_is_one_sentence():
    with pytest.raises(InputError, match="animation: got 'moon', expected one of pockets"):
        animations.shown("moon")
