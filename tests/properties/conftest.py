"""How long the properties are tried: ``HYPOTHESIS_PROFILE=quick`` (the default) or ``long``.

``quick`` tries the same few inputs every time. ``long`` tries new ones, ``HYPOTHESIS_EXAMPLES`` (default 2000) of each
property, and remembers in ``.hypothesis/`` what failed.
"""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from places import ROOT

_WAITS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("quick", max_examples=20, derandomize=True, database=None, **_WAITS)
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "2000")),
    database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    print_blob=True,
    **_WAITS,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
