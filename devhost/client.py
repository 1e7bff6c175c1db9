"""Talks to a running ComfyUI: submits graphs, follows them over the websocket, collects what they gave.

    with Client(server.url) as client:
        result = client.run({"1": {"class_type": "EmptyImage", "inputs": {...}}, ...}).raise_for_error()
        print(result.executed, result.outputs)

Graphs are in the API format: node id → ``{"class_type": ..., "inputs": {name: value or [node id, slot]}}``.
Node ids are strings throughout.
"""

from __future__ import annotations

import json
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4
"""Kinds of binary message: a picture of the node at work, a line on a node, a picture of the node that the metadata
names."""
ENDINGS = ("execution_success", "execution_error", "execution_interrupted")
Graph = dict[str, dict[str, Any]]


class ClientError(RuntimeError):
    """The host refused a request or a graph failed; the text is the host's."""


class InvalidGraph(ClientError):
    """The host refused the graph before running it. ``nodes``: node id → its messages."""

    def __init__(self, text: str, nodes: dict[str, list[str]]) -> None:
        super().__init__(text)
        self.nodes = nodes


class ExecutionFailed(ClientError):
    """A node raised an exception.

    ``node``: its id; ``kind``: the exception's class; ``message``: its text; ``trace``: its frames.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.node = str(data.get("node_id"))
        self.kind = str(data.get("exception_type"))
        self.message = str(data.get("exception_message")).rstrip()
        self.trace = "".join(data.get("traceback") or ())
        super().__init__(f"node {self.node} ({data.get('node_type')}): {self.kind}: {self.message}\n{self.trace}")


class Interrupted(ClientError):
    """The graph was interrupted."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Progress:
    node: str
    value: float
    maximum: float


@dataclass(frozen=True)
class Preview:
    node: str | None
    data: bytes
    """The encoded picture, JPEG or PNG."""


@dataclass(frozen=True)
class Result:
    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    """Node id → the ``ui`` dictionary that it returned, cached nodes included."""
    executed: tuple[str, ...]
    """The nodes that really ran, in order."""
    cached: tuple[str, ...]
    progress: tuple[Progress, ...]
    previews: tuple[Preview, ...]
    texts: tuple[str, ...]
    """Lines that nodes showed while they ran."""
    error: ExecutionFailed | None
    interrupted: bool
    seconds: float
    """From the graph's turn in the queue to its end."""

    def raise_for_error(self) -> Result:
        """This result, or `ExecutionFailed` or `Interrupted`."""
        if self.error is not None:
            raise self.error
        if self.interrupted:
            raise Interrupted(f"graph {self.prompt_id} was interrupted")
        return self


@dataclass(frozen=True)
class _Event:
    kind: str
    data: dict[str, Any]
    prompt_id: str | None
    seconds: float


class Client:
    """A connection to the host at ``url``; a context manager, usable from several threads."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._id = uuid.uuid4().hex
        self._events: list[_Event] = []
        self._news = threading.Condition()
        self._running: str | None = None
        self._lost: Exception | None = None
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self._id}"
        self._socket = websocket.create_connection(address, timeout=timeout)
        self._socket.settimeout(None)
        # Previews come without the name of their node unless this is asked for, in the first message.
        features = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        self._socket.send(json.dumps(features))
        self._reader = threading.Thread(target=self._read, name="comfyui-events", daemon=True)
        self._reader.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()
        self._reader.join(5)

    # Graphs

    def submit(self, graph: Graph, extra: dict[str, Any] | None = None) -> str:
        """Queues a graph and returns its prompt id. extra: what front ends send beside it. Raises `InvalidGraph`."""
        answer = self.request("/prompt", data={"prompt": graph, "client_id": self._id, "extra_data": extra or {}})
        if answer.status == 400:
            raise _refusal(answer.json(), graph)
        return _accepted(answer).json()["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 120.0) -> Result:
        """Blocks until a graph of this client ends, however it ends. Raises `TimeoutError`."""
        deadline = time.monotonic() + timeout
        end = self._wait_for(prompt_id, ENDINGS, deadline)
        # The host announces the end before it writes the history down.
        while not (history := self.json(f"/history/{prompt_id}")):
            if time.monotonic() > deadline:
                raise TimeoutError(f"graph {prompt_id} ended, but its history did not appear within {timeout:g} s")
            time.sleep(0.01)
        return self._result(prompt_id, history[prompt_id]["outputs"], end)

    def run(self, graph: Graph, timeout: float = 120.0) -> Result:
        """`submit`, then `wait`. A node's failure is in the result: see `Result.raise_for_error`."""
        return self.wait(self.submit(graph), timeout)

    def wait_event(self, prompt_id: str, kind: str, timeout: float = 30.0) -> dict[str, Any]:
        """Blocks until the first message of this kind about a graph ("executing", "progress", "preview", ...)."""
        return self._wait_for(prompt_id, (kind,), time.monotonic() + timeout).data

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All messages of a kind so far, whichever graph they belong to: how a pack's own announcements are seen."""
        with self._news:
            return [event.data for event in self._events if event.kind == kind]

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Asks the running graph to stop; with a prompt id, only where it is the running one."""
        _accepted(self.request("/interrupt", data={"prompt_id": prompt_id} if prompt_id else {}))

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """Node id → description, of all nodes or the one named (empty where the host lacks it)."""
        return self.json("/object_info" + (f"/{urllib.parse.quote(node)}" if node else ""))

    def free(self) -> None:
        """Asks the host to unload its models and forget its cached results."""
        _accepted(self.request("/free", data={"unload_models": True, "free_memory": True}))

    def free_now(self) -> None:
        """The same, done when this returns: the host does it after the graph that comes next, which is an empty one."""
        self.free()
        empty = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}
        shown = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        self.run({"1": empty, "2": shown}).raise_for_error()

    # Files and plain HTTP

    def upload(self, path: Path, name: str | None = None) -> str:
        """Puts a file into the host's input folder, replacing one of the same name; returns the name there."""
        boundary = uuid.uuid4().hex
        head = f'Content-Disposition: form-data; name="image"; filename="{name or Path(path).name}"'
        parts = [
            f"--{boundary}\r\n{head}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
            Path(path).read_bytes(),
            f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue'.encode(),
            f"\r\n--{boundary}--\r\n".encode(),
        ]
        kind = f"multipart/form-data; boundary={boundary}"
        return _accepted(self.request("/upload/image", data=b"".join(parts), content_type=kind)).json()["name"]

    def view(self, file: dict[str, str]) -> bytes:
        """A file that an output names: ``{"filename", "subfolder", "type"}``."""
        return _accepted(self.request("/view?" + urllib.parse.urlencode(file))).body

    def json(self, path: str) -> Any:
        """GET ``path``, decoded; raises `ClientError` for any other status than success."""
        return _accepted(self.request(path)).json()

    def request(self, path: str, *, data: Any = None, content_type: str = "application/json") -> Response:
        """GET, or POST where there is ``data`` (encoded as JSON unless bytes). Any status is an answer."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return Response(answer.status, _lower(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Response(error.code, _lower(error.headers), error.read())

    # Messages

    def _read(self) -> None:
        try:
            while True:
                kind, message = self._socket.recv_data()
                if kind == websocket.ABNF.OPCODE_TEXT:
                    decoded = json.loads(message)
                    data = decoded.get("data") or {}
                    self._note(decoded["type"], data, data.get("prompt_id"))
                elif kind == websocket.ABNF.OPCODE_BINARY:
                    self._note_binary(message)
                elif kind == websocket.ABNF.OPCODE_CLOSE:
                    raise ConnectionError("the host closed the websocket")
        except Exception as error:  # whatever ends this thread must reach those who wait
            with self._news:
                self._lost = error
                self._news.notify_all()

    def _note_binary(self, message: bytes) -> None:
        (kind,) = struct.unpack_from(">I", message)
        if kind == PREVIEW_WITH_METADATA:
            (size,) = struct.unpack_from(">I", message, 4)
            about = json.loads(message[8 : 8 + size])
            preview = Preview(str(about.get("node_id")), message[8 + size :])
            self._note("preview", {"preview": preview}, about.get("prompt_id"))
        elif kind == TEXT:
            (size,) = struct.unpack_from(">I", message, 4)
            node, text = message[8 : 8 + size].decode(), message[8 + size :].decode()
            self._note("text", {"node": node, "text": text}, self._running)
        elif kind == PREVIEW:
            self._note("preview", {"preview": Preview(None, message[8:])}, self._running)

    def _note(self, kind: str, data: dict[str, Any], prompt_id: str | None) -> None:
        with self._news:
            if kind == "execution_start":
                self._running = prompt_id
            self._events.append(_Event(kind, data, prompt_id, time.monotonic()))
            self._news.notify_all()

    def _wait_for(self, prompt_id: str, kinds: tuple[str, ...], deadline: float) -> _Event:
        seen = 0
        with self._news:
            while True:
                for event in self._events[seen:]:
                    if event.prompt_id == prompt_id and event.kind in kinds:
                        return event
                seen = len(self._events)
                if self._lost is not None:
                    raise ClientError(f"the connection to {self.url} was lost: {self._lost}") from self._lost
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"graph {prompt_id}: none of {', '.join(kinds)} came in time")
                self._news.wait(left)

    def _result(self, prompt_id: str, outputs: dict[str, Any], end: _Event) -> Result:
        with self._news:
            events = [event for event in self._events if event.prompt_id == prompt_id]
        named: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            named.setdefault(event.kind, []).append(event.data)
        start = next((event.seconds for event in events if event.kind == "execution_start"), end.seconds)
        return Result(
            prompt_id=prompt_id,
            outputs=outputs,
            executed=tuple(data["node"] for data in named.get("executing", ()) if data.get("node") is not None),
            cached=tuple(node for data in named.get("execution_cached", ()) for node in data["nodes"]),
            progress=tuple(Progress(d["node"], d["value"], d["max"]) for d in named.get("progress", ())),
            previews=tuple(data["preview"] for data in named.get("preview", ())),
            texts=tuple(data["text"] for data in named.get("text", ())),
            error=ExecutionFailed(end.data) if end.kind == "execution_error" else None,
            interrupted=end.kind == "execution_interrupted",
            seconds=end.seconds - start,
        )


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _accepted(answer: Response) -> Response:
    if answer.status >= 400:
        raise ClientError(f"the host answered {answer.status}: {answer.body[:2000].decode(errors='replace')}")
    return answer


def _refusal(answer: dict[str, Any], graph: Graph) -> InvalidGraph:
    nodes = {
        node: [f"{error['message']}: {error['details']}".rstrip(": ") for error in found["errors"]]
        for node, found in (answer.get("node_errors") or {}).items()
    }
    error = answer.get("error") or {}
    lines = [error.get("message", "refused") + ("" if nodes else f": {error.get('details', '')}".rstrip(": "))]
    for node, messages in nodes.items():
        lines += [f"node {node} ({graph.get(node, {}).get('class_type')}): {message}" for message in messages]
    return InvalidGraph("\n".join(lines), nodes)
