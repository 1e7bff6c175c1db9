"""Makes golden.npz, the part of the recorded WaveletVFI outputs that travels with the tests.

    python tests/golden/waveletvfi/reduce.py ../shared/specs

Every recorded array but the inputs, which the test draws from the same recipe; planes of more than 1000 numbers at
every third row and column, an odd stride, so that the samples meet every phase of the strided convolutions.
"""

import sys
from pathlib import Path

import numpy as np

STRIDE = 3


def main(specs: Path) -> None:
    full = np.load(specs / "golden" / "golden_WaveletVFI.npz")
    kept = {
        name: full[name][..., ::STRIDE, ::STRIDE] if full[name].size > 1000 else full[name]
        for name in full
        if name not in ("in0", "in1")
    }
    kept["keys"] = np.frombuffer((specs / "keys" / "keys_WaveletVFI.txt").read_bytes(), dtype=np.uint8)
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
