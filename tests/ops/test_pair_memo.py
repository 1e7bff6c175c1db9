"""Results are kept as long as what they were made of."""

import gc

from comfy_fusionfft.ops.pair_memo import PairMemo


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
