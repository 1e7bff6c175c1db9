"""Results that are kept as long as what they were made of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref


class PairMemo:
    """What was made last of a few pairs of objects, kept no longer than the first of each pair lives.

    keep: the number of pairs. The objects need weak references, and are told apart by identity.
    Several threads may share one.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._made: WeakKeyDictionary[Any, tuple[ref[Any], Any]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def __call__(self, first: Any, second: Any, make: Callable[[], Any]) -> Any:
        """``make()``, or what it gave for these two before."""
        with self._lock:
            partner, value = self._made.pop(first, (lambda: None, None))
        if partner() is not second:
            value = make()
        with self._lock:
            self._made[first] = (ref(second), value)
            for oldest in list(self._made)[: -self._keep]:
                self._made.pop(oldest, None)
        return value
