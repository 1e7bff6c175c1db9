"""The drawing of predicted quality over time."""

import numpy as np
import pytest

from comfy_fusionfft.confidence_plot import CUT, draw_confidence
from comfy_fusionfft.drawing import CHOSEN, MADE
from comfy_fusionfft.errors import InputError


def columns(picture: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """Which columns hold this colour."""
    return np.flatnonzero((np.abs(picture - np.array(colour, np.float32)).max(2) < 0.03).any(0))


def test_a_curve_a_held_frame_and_a_cut_are_where_they_belong() -> None:
    values = [None if i % 2 == 0 else 30.0 for i in range(21)]
    values[15] = 18.0
    plain = draw_confidence(values, [i / 20 for i in range(21)], width=800)
    assert plain.shape[1:] == (800, 3) and plain.dtype == np.float32 and 0 <= plain.min() <= plain.max() <= 1
    plot = plain[40:-60]  # without the heading and the key, which use the same colours
    assert not len(columns(plot, CHOSEN)) and not len(columns(plot, CUT))
    marked = draw_confidence(values, [i / 20 for i in range(21)], 20.0, cuts=[0.25], width=800)[40:-26]
    cut = columns(marked, CUT).mean()
    made = columns(marked, MADE)
    left, right = made.min(), made.max()
    assert cut == pytest.approx(left + (right - left) * (0.25 - 0.05) / 0.9, abs=4)
    marks = columns(marked[-20:], CHOSEN)  # below the axis
    assert marks.mean() == pytest.approx(left + (right - left) * (0.75 - 0.05) / 0.9, abs=4)


def test_one_bad_frame_among_ten_thousand_is_seen() -> None:
    values = [35.0 + (i % 7) / 10 for i in range(10_000)]
    seconds = [i / 60 for i in range(10_000)]
    calm = draw_confidence(values, seconds)
    values[5000] = 12.0
    shaken = draw_confidence(values, seconds, 15.0)
    middle = shaken.shape[1] // 2
    assert calm.shape == shaken.shape
    assert len(columns(shaken[-60:-30], CHOSEN)) and abs(columns(shaken[-60:-30], CHOSEN).mean() - middle) < 40


@pytest.mark.parametrize("values", [[None], [31.0], [None, None, None], [70.0, 0.0]])
def test_little_is_drawn_too(values) -> None:
    assert draw_confidence(values, range(len(values)), 20.0, width=320).shape[1] == 320


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(InputError, match="2 confidences and 1 times were given: give one time for each"):
        draw_confidence([30.0, 31.0], [0.0])
    with pytest.raises(InputError, match="there are no frames to draw"):
        draw_confidence([], [])
