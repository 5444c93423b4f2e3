"""One answer of a web server, received by a thread of its own, piece by piece.

So whoever waits can be interrupted within a quarter of a second, even while nothing arrives. Asks through
`huggingface_hub`'s session, which knows the person's proxies; knows nothing of models and files.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

_PIECE_BYTES = 2**14  # for requests, which throws away an unfinished piece when the connection breaks
_PIECES_AHEAD = 4  # what a killed process loses: 64 kB each with httpx
_POLL_S = 0.25
_RANGED = 206
_MOST_WORDS = 200  # characters of a library's reason
# Whose errors mean that the connection failed; httpx goes by two names.
_LIBRARIES = ("requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2")


class Disconnected(Exception):  # noqa: N818 - it says what happened, and is told in other words
    """The connection failed, for the reason it says."""


class EndlessRedirects(Disconnected):
    """One address sent to the next, too often."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a server says before the content.

    Attributes:
        status: HTTP's.
        start: where in the file the content begins.
        total: bytes of the whole file, None where the server does not say.
        is_page: whether the content is a web page.
        retry_after_s: how long the server asks to wait, None where it does not say.
    """

    status: int
    start: int
    total: int | None
    is_page: bool
    retry_after_s: int | None


class Reception:
    """An answer that is being received: first its head, then its content.

    Used as a context; leaving it ends the reception.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float, on_wait: Callable[[], None]):
        self._request = (url, dict(headers), timeout_s)
        self._on_wait = on_wait
        self._arrived: queue.Queue[Head | bytes | BaseException | None] = queue.Queue(_PIECES_AHEAD)
        self._is_over = threading.Event()

    def __enter__(self) -> Reception:
        """Begin to receive."""
        # A daemon: a server that says nothing more must not keep a program from ending.
        threading.Thread(target=self._receive, name="janus-download", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End the reception; the thread notices when it next has something to hand over."""
        self._is_over.set()

    def head(self) -> Head:
        """Wait for the head and return it.

        Raises:
            Disconnected: the connection failed.
        """
        found = self._next()
        assert isinstance(found, Head)
        return found

    def pieces(self) -> Iterator[bytes]:
        """Yield the content as it arrives.

        Raises:
            Disconnected: the connection failed.
        """
        while (piece := self._next()) is not None:
            assert isinstance(piece, bytes)
            yield piece

    def _next(self) -> Head | bytes | None:
        while True:
            try:
                item = self._arrived.get(timeout=_POLL_S)
            except queue.Empty:
                self._on_wait()
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def _receive(self) -> None:
        try:
            with _answer(*self._request) as (head, pieces):
                self._hand_over(head)
                for piece in pieces:
                    if self._is_over.is_set():
                        return
                    self._hand_over(piece)
            self._hand_over(None)
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self._hand_over(_named(error))

    def _hand_over(self, item: Head | bytes | BaseException | None) -> None:
        while not self._is_over.is_set():
            try:
                self._arrived.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return


def _named(error: BaseException) -> BaseException:
    """Return our own error for one that means the connection failed; any other is returned as it is."""
    is_library = type(error).__module__.partition(".")[0] in _LIBRARIES
    if not is_library and not isinstance(error, ConnectionError | TimeoutError):
        return error
    # Both libraries have a class of this name, and neither need be installed.
    is_endless = type(error).__name__ == "TooManyRedirects"
    first: BaseException = error  # libraries wrap it in words of their own
    while first.__cause__ or first.__context__:
        first = first.__cause__ or first.__context__ or first
    reason = str(first).partition("\n")[0].rstrip(".")[:_MOST_WORDS] or type(first).__name__
    named = (EndlessRedirects if is_endless else Disconnected)(reason)
    named.__cause__ = error
    return named


@contextmanager
def _answer(url: str, headers: dict[str, str], timeout_s: float) -> Iterator[tuple[Head, Iterator[bytes]]]:
    """Ask with whichever library `huggingface_hub` uses: httpx since its 1.0, requests before."""
    from huggingface_hub.utils import get_session

    session: Any = get_session()
    if callable(session.stream):  # a method of httpx's, a setting of requests'
        with session.stream("GET", url, headers=headers, timeout=timeout_s, follow_redirects=True) as answer:
            yield _read_head(answer), answer.iter_bytes()
    else:
        with session.get(url, headers=headers, timeout=timeout_s, stream=True) as answer:
            yield _read_head(answer), answer.iter_content(_PIECE_BYTES)


def _read_head(answer: Any) -> Head:
    headers: Mapping[str, str] = answer.headers
    start, total = 0, _number(headers.get("content-length"))
    if answer.status_code == _RANGED:  # Content-Range: bytes 1000-1999/2000
        span, _, whole = headers.get("content-range", "").removeprefix("bytes ").partition("/")
        start, total = _number(span.partition("-")[0]) or 0, _number(whole)
    if headers.get("content-encoding", "identity") != "identity":
        total = None  # of what was packed
    return Head(
        status=answer.status_code,
        start=start,
        total=total,
        is_page=headers.get("content-type", "").startswith("text/html"),
        retry_after_s=_number(headers.get("retry-after")),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
