"""Makes golden.npz, the part of the recorded FMA-Net outputs that travels with the tests.

    python tests/golden/fmanet/reduce.py ../shared/specs

Every recorded array but the inputs, which the test draws from the same recipe; planes of more than 1000 numbers at
every third row and column, an odd stride, so that the samples meet every place within an enlarged pixel.
"""

import sys
from pathlib import Path

import numpy as np

STRIDE = 3


def main(specs: Path) -> None:
    full = np.load(specs / "golden" / "golden_FMANet.npz")
    kept = {
        name: full[name][..., ::STRIDE, ::STRIDE] if full[name].size > 1000 else full[name]
        for name in full
        if name not in ("x", "y")
    }
    kept["keys"] = np.frombuffer((specs / "keys" / "keys_FMANet.txt").read_bytes(), dtype=np.uint8)
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
