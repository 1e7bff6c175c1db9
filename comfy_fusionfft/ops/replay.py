"""Functions of tensors as CUDA graphs: hundreds of small kernels started by one call.

A graph repeats what it saw: the same kernels on the same memory. ``Replay`` therefore keeps one for each
combination of shapes, types and settings, copies arguments in and results out, and throws the graphs
away when the weights have moved. Off CUDA, with gradients, under autocast and wherever a graph cannot be
recorded it calls the function. Reference: CUDA C++ programming guide, "CUDA Graphs".
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

GRAPHS = 4
"""Combinations whose graphs are kept; each holds the memory that the function works in."""
WARM_UPS = 2

_log = logging.getLogger(__name__)
_alive: weakref.WeakSet[Replay] = weakref.WeakSet()


class Graph(NamedTuple):
    """inputs: what ``replay()`` reads. result: what it writes."""

    inputs: list[Tensor]
    replay: Callable[[], None]
    result: Any


class Replay:
    """``function``, replayed from its second call with arguments alike.

    function: of tensors, hashable settings, and tuples and lists of these, by position or keyword; returns such
        things, too. It must not look at values on the device, change its arguments, or read tensors from a cache
        that may drop them: a graph goes on reading their memory.
    weights: yields the tensors it reads besides its arguments, such as ``network.parameters``.
    record: makes a Graph of a function that takes a list of tensors; None when it cannot.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        weights: Callable[[], Iterable[Tensor]] = tuple,
        record: Callable[[Callable[[list[Tensor]], Any], list[Tensor]], Graph | None] | None = None,
    ) -> None:
        self._function = function
        self._weights = weights
        self._record = record or _record
        self._works = True
        self._calls: dict[Any, int] = {}
        self._patience = 1
        self._graphs: OrderedDict[Any, Graph] = OrderedDict()
        self._places: tuple[int, ...] = ()
        self._lock = threading.RLock()  # a graph has one set of inputs, whoever replays it
        _alive.add(self)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        inputs: list[Tensor] = []
        shape = _taken_apart((args, tuple(settings.items())), inputs)
        if not self._works or not _can_replay(inputs):
            return self._function(*args, **settings)
        with self._lock:
            graph = self._graph_for(shape, inputs)
            if graph is not None:
                for kept, given in zip(graph.inputs, inputs, strict=True):
                    kept.copy_(given)
                graph.replay()
                return _copied(graph.result)
        return self._function(*args, **settings)

    def _graph_for(self, shape: Any, inputs: list[Tensor]) -> Graph | None:
        places = tuple(weight.data_ptr() for weight in self._weights())
        if places != self._places:
            self.forget()
            self._places = places
        key = (shape, *((t.shape, t.stride(), t.dtype, t.device) for t in inputs))
        graph = self._graphs.get(key)
        if graph is None:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] > self._patience:  # the first call may load kernels, and may be the only one
                graph = self._recorded(key, shape, inputs)
        if graph is not None:
            self._graphs.move_to_end(key)
        return graph

    def forget(self) -> None:
        """Drop all graphs and their memory."""
        with self._lock:
            self._graphs.clear()
            self._calls.clear()
            self._patience = 1

    def _recorded(self, key: Any, shape: Any, inputs: list[Tensor]) -> Graph | None:
        def function(tensors: list[Tensor]) -> Any:
            args, settings = _put_together(shape, iter(tensors))
            return self._function(*args, **dict(settings))

        if len(self._graphs) >= GRAPHS:
            self._graphs.popitem(last=False)
            self._calls.clear()
            self._patience *= 2  # recording is slow: combinations that drive each other out have to wait ever longer
        graph = self._record(function, inputs)
        if graph is None:
            self._works = False
            self.forget()
        else:
            self._graphs[key] = graph
        return graph


def forget_graphs() -> None:
    """Drop the graphs of every Replay: they hold memory that emptying PyTorch's cache does not return."""
    for replay in list(_alive):
        replay.forget()


def _can_replay(inputs: list[Tensor]) -> bool:
    plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled()
    return plain and bool(inputs) and all(_replayable(tensor) for tensor in inputs)


def _replayable(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _record(function: Callable[[list[Tensor]], Any], inputs: list[Tensor]) -> Graph | None:
    """A CUDA graph of ``function(inputs)``, which runs a few times before on the stream that records."""
    try:
        with torch.inference_mode(False):  # what inference mode makes could not be written to outside of it
            kept = [torch.empty_like(tensor) for tensor in inputs]
        for own, given in zip(kept, inputs, strict=True):
            own.copy_(given)
        device = inputs[0].device
        now, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        stream.wait_stream(now)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function(kept)
        now.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads, such as a host's, may go on using the device meanwhile
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = function(kept)
        return Graph(kept, graph.replay, result)
    except Exception as error:  # whatever it was, the function itself still works, or says why not
        _log.debug("no CUDA graph for %s: %s", function, error)
        return None


def _taken_apart(value: Any, tensors: list[Tensor]) -> Any:
    """What ``value`` is made of, hashable, with its tensors moved into the list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_taken_apart(part, tensors) for part in value)
    return None, value


def _put_together(shape: Any, tensors: Any) -> Any:
    if shape is Tensor:
        return next(tensors)
    kind, parts = shape
    if kind is None:
        return parts
    return _like(kind, [_put_together(part, tensors) for part in parts])


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, (tuple, list)):
        return _like(type(value), [_copied(part) for part in value])
    return value


def _like(kind: type, parts: list[Any]) -> Any:
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
