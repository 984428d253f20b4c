"""Groups of rows by cosines of their features, less what all rows share."""

from __future__ import annotations

import numpy as np
import pytest

from models.learning.contract.errors import Stopped
from models.learning.data import similarity


def go_on() -> None:
    """Never stop."""


def films(count: int, frames: int, width: int = 64) -> similarity.Floats:
    """Frames in a row, film after film: one vector per film, a little noise per frame, and what all have in common."""
    generator = np.random.default_rng(0)
    film_FD = generator.normal(size=(count, width))
    noise_ND = 0.2 * generator.normal(size=(count * frames, width))
    return (10 + np.repeat(film_FD, frames, axis=0) + noise_ND).astype(np.float32)


def test_frames_are_together_and_films_are_apart() -> None:
    number_N = similarity.components(films(12, 5), 0.8, seed=0, check_stop=go_on)
    assert len(np.unique(number_N)) == 12
    assert (number_N.reshape(12, 5) == number_N[::5, None]).all()


def test_rows_that_have_nothing_in_common_stand_alone() -> None:
    assert len(np.unique(similarity.components(films(60, 1), 0.8, seed=0, check_stop=go_on))) == 60


def test_a_chain_of_similar_rows_is_one_group() -> None:
    turned = np.linspace(0, 2 * np.pi, 24, endpoint=False)  # each is like the next alone, the mean is 0
    circle_ND = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    assert len(np.unique(similarity.components(circle_ND, 0.95, seed=0, check_stop=go_on))) == 1


def test_a_file_of_one_repeated_row_has_no_similar_ones() -> None:
    repeated_ND = np.full((8, 4), 0.3, dtype=np.float32)
    assert len(np.unique(similarity.components(repeated_ND, 0.8, seed=0, check_stop=go_on))) == 8


def test_of_many_rows_those_are_compared_that_lie_near_each_other() -> None:
    features_ND = films(6_000, 3, width=32)
    assert len(features_ND) > similarity._EVERY_PAIR
    number_N = similarity.components(features_ND, 0.8, seed=0, check_stop=go_on)
    whole = (number_N.reshape(-1, 3) == number_N[::3, None]).all(axis=1)
    assert whole.mean() > 0.95


def test_it_stops_when_asked() -> None:
    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        similarity.components(films(2, 2), 0.8, seed=0, check_stop=stop)
