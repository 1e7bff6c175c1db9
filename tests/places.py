"""Where things lie: the repository, and the material beside it that only some machines have."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def shared_dir() -> Path | None:
    """Designs, full golden sets and real clips beside the checkout, or None."""
    folder = Path(os.environ.get("FUSIONFFT_SHARED", ROOT.parent / "shared"))
    return folder if folder.is_dir() else None
