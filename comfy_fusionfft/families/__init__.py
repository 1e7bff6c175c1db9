"""The families: every sub-package here that defines a ``FAMILY``.

To add an architecture, add its folder; nothing else keeps a list. Importing the families is cheap: a
family imports torch when its network is built, not before.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from ..contract import Family


@cache
def every_family() -> tuple[Family, ...]:
    """All families, by name."""
    packages = (module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    modules = (import_module(f".{name}", __name__) for name in sorted(packages))
    # Sources without weights, such as classical flow, have a folder but no files to recognise.
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))
