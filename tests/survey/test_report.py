import json
from fractions import Fraction

import numpy as np
import pytest
from survey.clips import of
from train.scenes import pan

from comfy_fusionfft.survey import facts, find_repeats, make_edit, report
from comfy_fusionfft.survey.report import clock

SIZE = (90, 160)


def looked_at(dedupe=True):
    first, second = pan(24, *SIZE, 4, 1), pan(30, *SIZE, 4, 2)
    second[9] = second[8]
    seen = of([*(p for p in first for _ in range(2)), *second])
    edit = make_edit(seen, dedupe=dedupe)
    return seen, edit, find_repeats(seen, (48,))


def test_lines_for_people():
    assert report(*looked_at()) == [
        "78 frames, 160x90, 3.21 s",
        "1 cut, a new shot begins at frame 48 (2.00 s)",
        "25 repeated frames (32.1 %)",
        "on twos from 0.00 s to 1.92 s (frames 0 to 46, 24 repeats, own times)",
        "a single stutter from 2.33 s to 2.42 s (frames 56 to 58, 1 repeat, own times)",
        "24 left out, 54 frames kept",
    ]
    assert report(*looked_at(dedupe=False))[-1] == "none left out: dedupe is off"


def test_nothing_found():
    seen = of(pan(12, *SIZE, 4, 1))
    lines = report(seen, make_edit(seen), find_repeats(seen))
    assert lines == ["12 frames, 160x90, 0.46 s", "no cuts", "no repeated frames"]
    assert report(seen, make_edit(seen)) == lines[:2]


def test_facts_for_programs():
    found = json.loads(json.dumps(facts(*looked_at())))
    assert found["frames"] == 78 and found["kept"] == 54 and len(found["dropped"]) == 24
    assert found["cuts"] == [{"frame": 48, "seconds": "2"}]
    assert [s["cadence"] for s in found["stretches"]] == ["on twos", "a single stutter"]
    assert found["stretches"][0]["to_seconds"] == "23/12" and found["stretches"][0]["times"] == "own"
    assert len(found["repeats"]) == 25 and np.isclose(found["median_motion_percent"], 2.5, atol=0.2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (Fraction(0), "0.00 s"),
        (Fraction(1001, 240), "4.17 s"),
        (59.999, "1:00.0"),
        (65.25, "1:05.2"),
        (3599.99, "1:00:00"),
        (7384, "2:03:04"),
    ],
)
def test_clock(seconds, words):
    assert clock(seconds) == words
