"""What a page of ComfyUI does, for tests: submits prompts, listens, interrupts, looks at results."""

import io
import json
import re
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import websocket
from PIL import Image

_PREVIEW, _TEXT, _PREVIEW_WITH_METADATA = 1, 3, 4
_BLANK = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


class RefusedError(Exception):
    """ComfyUI did not accept a prompt.

    Attributes:
        node_errors: by node id, what core found wrong.
    """

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(json.dumps(reply))
        self.node_errors: dict[str, Any] = reply.get("node_errors", {})


@dataclass
class Run:
    """Everything the server told about one prompt, in order."""

    prompt_id: str
    started_s: float = field(default_factory=time.monotonic)
    elapsed_s: float = 0.0
    order: list[tuple[str, str]] = field(default_factory=list)  # (kind of message, node)
    cached: set[str] = field(default_factory=set)
    executed: list[str] = field(default_factory=list)
    progress: list[tuple[str, int, int]] = field(default_factory=list)  # (node, done, total)
    previews: list[Image.Image] = field(default_factory=list)
    preview_nodes: list[str] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)  # (node, text)
    error: dict[str, Any] | None = None
    interrupted: bool = False
    outputs: dict[str, Any] = field(default_factory=dict)
    status: str = ""

    def progress_of(self, node: str) -> list[tuple[int, int]]:
        return [(done, total) for name, done, total in self.progress if name == node]

    def texts_of(self, node: str) -> list[str]:
        return [text for name, text in self.texts if name == node]

    def shown(self, node: str) -> list[str]:
        """Return the texts that a text node showed at its end."""
        return list(self.outputs[node]["text"])

    def answers(self, node: str) -> list[str]:
        """Return these texts without the line that says of some that they were cut off."""
        return [_CUT_OFF.sub("", text) for text in self.shown(node)]


_CUT_OFF = re.compile(r"\n\(cut off at \d+ tokens: raise max_new_tokens\)$")


class Client:
    """One browser window's worth of connection."""

    def __init__(self, url: str, *, takes_metadata: bool = True, silence_s: float = 60) -> None:
        self.url = url
        self.id = uuid.uuid4().hex
        address = f"{url.replace('http', 'ws')}/ws?clientId={self.id}"
        self._socket = websocket.create_connection(address, timeout=silence_s)
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": takes_metadata}}
        self._socket.send(json.dumps(flags))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON at a path of the server."""
        return json.loads(self.get_bytes(path, **query))

    def get_bytes(self, path: str, **query: str) -> bytes:
        tail = f"?{urllib.parse.urlencode(query)}" if query else ""
        with urllib.request.urlopen(f"{self.url}{path}{tail}", timeout=60) as reply:
            return bytes(reply.read())

    def post(self, path: str, content: dict[str, Any]) -> bytes:
        body = json.dumps(content).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return bytes(reply.read())

    def submit(self, graph: dict[str, Any], **extra_data: Any) -> str:
        """Queue a prompt and return its id.

        Raises:
            RefusedError: core found something wrong, even if other parts of the prompt would run.
        """
        content = {"prompt": graph, "client_id": self.id, "extra_data": extra_data}
        try:
            reply = json.loads(self.post("/prompt", content))
        except urllib.error.HTTPError as error:
            with error:
                raise RefusedError(json.loads(error.read())) from None
        if reply["node_errors"]:
            raise RefusedError(reply)
        return str(reply["prompt_id"])

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def free(self) -> None:
        """Press the button that frees memory and forgets cached results, and wait until it has worked."""
        self.press_free()
        for _ in range(2):  # the worker sees to the request after the first one at the latest
            self.run(_BLANK)

    def press_free(self) -> None:
        """Press the button that frees memory and forgets cached results."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def run(self, graph: dict[str, Any], **extra_data: Any) -> Run:
        """Run a prompt to its end, which may be an error."""
        return self.follow(self.submit(graph, **extra_data))

    def follow(
        self, prompt_id: str, on_message: Callable[[Run], None] | None = None, timeout_s: float = 300
    ) -> Run:
        """Listen until a prompt has ended; `on_message` sees the run as it grows."""
        run = Run(prompt_id)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self._socket.recv()
            if isinstance(message, bytes):
                _take_frame(run, message)
            elif _take_message(run, json.loads(message)):
                return self._finish(run)
            if on_message is not None:
                on_message(run)
        raise TimeoutError(f"The prompt {prompt_id} has not ended after {timeout_s} s.")

    def _finish(self, run: Run) -> Run:
        run.elapsed_s = time.monotonic() - run.started_s
        history = self.get(f"/history/{run.prompt_id}")[run.prompt_id]
        run.outputs, run.status = history["outputs"], history["status"]["status_str"]
        return run

    def pictures(self, run: Run, node: str) -> np.ndarray:
        """Return what a SaveImage or PreviewImage node wrote: (b, h, w, 3) uint8."""
        return np.stack(self.pictures_of_any_size(run, node))

    def pictures_of_any_size(self, run: Run, node: str) -> list[np.ndarray]:
        files = run.outputs[node]["images"]
        loaded = [
            self.get_bytes("/view", **{k: f[k] for k in ("filename", "subfolder", "type")}) for f in files
        ]
        return [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in loaded]


def _take_frame(run: Run, frame: bytes) -> None:
    kind, rest = struct.unpack(">I", frame[:4])[0], frame[4:]
    if kind == _TEXT:
        length = struct.unpack(">I", rest[:4])[0]
        run.texts.append((rest[4 : 4 + length].decode(), rest[4 + length :].decode()))
        run.order.append(("text", run.texts[-1][0]))
    elif kind == _PREVIEW:
        run.previews.append(Image.open(io.BytesIO(rest[4:])).convert("RGB"))
        run.order.append(("preview", ""))
    elif kind == _PREVIEW_WITH_METADATA:
        length = struct.unpack(">I", rest[:4])[0]
        metadata = json.loads(rest[4 : 4 + length])
        run.previews.append(Image.open(io.BytesIO(rest[4 + length :])).convert("RGB"))
        run.preview_nodes.append(str(metadata["node_id"]))
        run.order.append(("preview", run.preview_nodes[-1]))


def _take_message(run: Run, message: dict[str, Any]) -> bool:
    """Note a message and tell whether it is the last one."""
    kind, data = message["type"], message["data"]
    if data.get("prompt_id") != run.prompt_id:
        return False
    node = data.get("node") or ""
    run.order.append((kind, node))
    if kind == "executing":
        if data["node"] is None:
            return True
        run.executed.append(node)
    elif kind == "execution_cached":
        run.cached |= set(data["nodes"])
    elif kind == "progress":
        run.progress.append((node, int(data["value"]), int(data["max"])))
    elif kind == "execution_error":
        run.error = data
    elif kind == "execution_interrupted":
        run.interrupted = True
    return False
