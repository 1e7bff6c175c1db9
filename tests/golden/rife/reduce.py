"""Makes golden.npz, the part of the recorded RIFE outputs that travels with the tests.

    python tests/golden/rife/reduce.py ../shared/specs

Every recorded entry is kept, at every third of its rows and columns: odd strides, so that the samples
meet every phase of the transposed convolutions. Key lists are stored as text, inputs not at all (the
test draws them from the same recipe).
"""

import sys
from pathlib import Path

import numpy as np

STRIDE = 3


def main(specs: Path) -> None:
    full = np.load(specs / "golden" / "golden_RIFE.npz")
    kept = {name: full[name][:, ::STRIDE, ::STRIDE] for name in full if "__" in name} | {"meta": full["meta"]}
    for path in sorted((specs / "keys").glob("keys_RIFE_*.txt")):
        kept[path.stem] = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
