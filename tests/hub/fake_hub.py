"""A model hub on this computer: the part of the protocol that a download needs, with faults on demand.

Speaks it well enough that `huggingface_hub` itself downloads from it (a test holds that). As a script it
serves one repository and prints its address:  python fake_hub.py REPOSITORY FOLDER [BYTES_PER_SECOND]
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "4b1dfacedeadbeef4b1dfacedeadbeef4b1dface"
LARGE = (".safetensors", ".bin")
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
_PIECE = 2**16


@dataclass
class Fault:
    """What goes wrong with one file, or with the list of files (`api`).

    Attributes:
        status: answered instead of 200, with `headers`.
        times: how often it goes wrong before all is well; the default is for ever.
        cut_after: bytes of an answer after which the connection is closed.
        stall_after: bytes of an answer after which nothing more comes.
        is_page: a web page is answered.
        is_loop: the address sends to itself.
        ignores_ranges: everything is sent, whatever was asked for.
        content: sent instead of the file's own.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 10**9
    cut_after: int | None = None
    stall_after: int | None = None
    is_page: bool = False
    is_loop: bool = False
    ignores_ranges: bool = False
    content: bytes | None = None


class FakeHub:
    """Serves repositories until it is closed; used as a context."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self.faults: dict[str, Fault] = {}
        self.token: str | None = None
        self.bytes_per_second: float | None = None
        self.sent: Counter[str] = Counter()
        self.asked: list[tuple[str, str | None]] = []  # file or "api", and the range
        self.tokens_seen: list[tuple[str, str | None]] = []  # "api", "resolve" or "cdn"
        self.is_closed = threading.Event()
        hub = self

        class Answers(_Answers):
            def log_message(self, *_: object) -> None:
                pass

        Answers.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that goes away is what tests want
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, repository: str, files: dict[str, bytes], commit: str = COMMIT) -> None:
        self.repositories[repository] = files
        self.commits[repository] = commit

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed.set()
        self._server.shutdown()
        self._server.server_close()

    def fault(self, name: str) -> Fault:
        """Return what goes wrong this time."""
        found = self.faults.get(name, Fault())
        if found.times <= 0:
            return Fault()
        found.times -= 1
        return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def listed(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_id(content)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return entry


class _Answers(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, *rest = urlsplit(self.path).path.strip("/").split("/")
        if kind == "api":
            self._api("/".join(rest[1:3]))
        elif kind == "cdn":
            self._cdn("/".join(rest[:2]), "/".join(rest[2:]))
        else:
            self._resolve(f"{kind}/{rest[0]}", rest[2], "/".join(rest[3:]))

    def _note(self, place: str) -> None:
        self.hub.tokens_seen.append((place, self.headers.get("Authorization")))

    def _is_refused(self) -> bool:
        if self.hub.token is None or self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return False
        self._answer(401, {}, b'{"error": "Invalid username or password."}')
        return True

    def _api(self, repository: str) -> None:
        self.hub.asked.append(("api", None))
        self._note("api")
        fault = self.hub.fault("api")
        if self._is_refused() or self._went_wrong(fault):
            return
        files = self.hub.repositories.get(repository)
        if files is None:
            self._answer(404, {}, b'{"error": "Repository not found"}')
            return
        siblings = [listed(name, content) for name, content in files.items()]
        answer = {"id": repository, "sha": self.hub.commits[repository], "siblings": siblings}
        content = json.dumps(answer).encode() if fault.content is None else fault.content
        self._answer(200, {"Content-Type": "application/json"}, content, "api", fault)

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        self._note("resolve")
        content = self.hub.repositories.get(repository, {}).get(name)
        if self._is_refused():
            return
        if content is None or revision not in (self.hub.commits[repository], "main"):
            self._answer(404, {"X-Error-Code": "EntryNotFound"}, b"Entry not found")
            return
        if not name.endswith(LARGE):
            etag = {"ETag": f'"{git_id(content)}"', "X-Repo-Commit": self.hub.commits[repository]}
            self._send(name, content, etag)
            return
        headers = {
            "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{repository}/{name}",
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
            "X-Repo-Commit": self.hub.commits[repository],
        }
        self._answer(302, headers, b"")

    def _cdn(self, repository: str, name: str) -> None:
        self._note("cdn")
        self._send(name, self.hub.repositories[repository][name], {"ETag": '"of the store"'})

    def _went_wrong(self, fault: Fault) -> bool:
        if fault.is_loop:
            self._answer(302, {"Location": self.path}, b"")
        elif fault.is_page:
            self._answer(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE)
        elif fault.status != 200:
            self._answer(fault.status, fault.headers, b"no")
        else:
            return False
        return True

    def _send(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        asked = self.headers.get("Range")
        fault = self.hub.fault(name)
        if self.command == "GET":
            self.hub.asked.append((name, asked))
        if self._went_wrong(fault):
            return
        content = content if fault.content is None else fault.content
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        status, whole = 200, len(content)
        if asked is not None and not fault.ignores_ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            content = content[start:]
            status = 206
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        self._answer(status, headers, content, name, fault)

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, name: str = "", fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = fault.cut_after if fault is not None else None
        stall = fault.stall_after if fault is not None else None
        sent = self.hub.sent  # a later count has no part of an answer that nobody reads any more
        for start in range(0, len(content), _PIECE):
            end = min(start + _PIECE, *(limit for limit in (cut, stall) if limit is not None), len(content))
            self.wfile.write(content[start:end])
            sent[name] += end - start
            if end == cut:
                self.close_connection = True
                return
            if end == stall:
                self.hub.is_closed.wait(30)
                return
            if self.hub.bytes_per_second is not None:
                time.sleep((end - start) / self.hub.bytes_per_second)


if __name__ == "__main__":
    with FakeHub() as served:
        served.add(sys.argv[1], files_of(Path(sys.argv[2])))
        served.bytes_per_second = float(sys.argv[3]) if len(sys.argv) > 3 else None
        print(served.url, flush=True)
        threading.Event().wait()
