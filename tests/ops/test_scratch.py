"""Memory that is used again, and results kept as long as what they were made of."""

import gc
import threading

import torch

from comfy_fusionfft.ops.scratch import PairMemo, Scratch, fresh

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}


def test_the_same_memory_as_long_as_it_fits():
    scratch = Scratch()
    first = scratch.empty("a", 2, 3, **CPU)
    assert first.shape == (2, 3) and scratch.empty("a", 2, 3, **CPU) is first
    assert scratch.empty("b", 2, 3, **CPU).data_ptr() != first.data_ptr()
    assert scratch.empty("a", 3, 3, **CPU).shape == (3, 3)
    assert scratch.empty("a", 3, 3, dtype=torch.float16, device=CPU["device"]).dtype == torch.float16
    kept = fresh("a", 2, 3, **CPU)
    assert fresh("a", 2, 3, **CPU).data_ptr() != kept.data_ptr()


def test_each_thread_has_its_own():
    scratch, other = Scratch(), []
    mine = scratch.empty("a", 4, **CPU)
    thread = threading.Thread(target=lambda: other.append(scratch.empty("a", 4, **CPU)))
    thread.start()
    thread.join()
    assert other[0].data_ptr() != mine.data_ptr()


def test_memory_of_inference_mode_serves_outside_of_it():
    scratch = Scratch()
    with torch.inference_mode():
        scratch.empty("a", 4, **CPU).fill_(1)
    assert scratch.empty("a", 4, **CPU).fill_(2).sum() == 8


class Thing:
    pass


def test_a_pair_is_made_once_while_its_first_lives():
    memo, made = PairMemo(2), []
    a, b, c = Thing(), Thing(), Thing()

    def make():
        made.append(Thing())
        return made[-1]

    first = memo(a, b, make)
    assert memo(a, b, make) is first and len(made) == 1
    assert memo(a, c, make) is not first and len(made) == 2
    memo(b, c, make)
    assert memo(a, c, make) is made[1]
    memo(c, a, make)  # of three the oldest is forgotten
    assert len(made) == 4 and memo(b, c, make) is made[4]
    made.clear()
    del a, b, c, first
    gc.collect()
    assert not memo._made
