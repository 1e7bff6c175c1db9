"""Makes golden.npz, the part of the recorded FTVSR outputs that travels with the tests.

    python tests/golden/ftvsr/reduce.py ../shared/specs

Every recorded array but the inputs, which the test draws from the same recipe: planes at every seventh row and column,
an odd stride, so that the samples meet every place within blocks and patches.
"""

import sys
from pathlib import Path

import numpy as np

STRIDE = 7


def main(specs: Path) -> None:
    full = np.load(specs / "golden" / "golden_FTVSR.npz")
    kept = {name: full[name][..., ::STRIDE, ::STRIDE] for name in full if not name.startswith("in_")}
    kept["keys"] = np.frombuffer((specs / "keys" / "keys_FTVSR.txt").read_bytes(), dtype=np.uint8)
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
