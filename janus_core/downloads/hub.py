"""The model hub's protocol: which commit `main` is and what its files are; one file from a byte on; refusals.

Address, token, offline mode and session are `huggingface_hub`'s, so `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` mean here what they mean everywhere. Knows nothing of folders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from ..errors import DownloadError
from .published import wanted_files
from .receiving import Disconnected, EndlessRedirects, Head, Reception
from .record import DownloadRecord, RemoteFile

_FINE = (200, 206)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_UNREACHABLE = (401, 403, 404)
_LONGEST_WAIT_S = 60
_LARGEST_ANSWER = 2**24  # bytes; a repository of twenty files takes 6 kB
_BROWSER = "Open its page in a browser to see whether it asks for something"
_REFUSALS = {
    401: "does not know you (401). Where HF_TOKEN is set, correct or unset it; a repository that needs one "
    "wants a valid token there",
    403: f"refuses this account (403). {_BROWSER}, and accept its terms with the account of HF_TOKEN",
    404: f"does not have it (404): it was moved, renamed or withdrawn. {_BROWSER}",
    429: "has had too many requests from here (429). Wait some minutes and download again; it goes on where "
    "it stopped",
}


class TransientFailure(Exception):  # noqa: N818 - no error of the program: it may be asked for again
    """The connection broke, or the server asked to come back later.

    Attributes:
        what: was asked for.
        reason: in words.
        wait_s: how long the server asked to wait, None where it did not say.
        status: HTTP's, None where the connection broke.
    """

    def __init__(
        self, what: str, reason: str, *, wait_s: int | None = None, status: int | None = None
    ) -> None:
        super().__init__(f"Cannot fetch {what}: {reason}")
        self.what = what
        self.reason = reason
        self.wait_s = wait_s
        self.status = status


class UnreachableError(DownloadError):
    """A repository or file that the hub does not have, or not for this account."""


def look_up(repository: str, on_wait: Callable[[], None]) -> DownloadRecord:
    """Ask the hub for a repository's newest commit and the files of it that a model needs.

    Args:
        repository: `owner/name`.
        on_wait: called four times a second while nothing arrives; may raise.

    Raises:
        UnreachableError: the hub does not have it.
        DownloadError: any other reason.
    """
    url = f"{endpoint()}/api/models/{quote(repository)}/revision/main?blobs=true"
    content = bytearray()
    try:
        with receive(url, f'repository "{repository}"', on_wait=on_wait) as (head, pieces):
            _refuse_page(head, f'repository "{repository}"')
            for piece in pieces:
                content += piece
                if len(content) > _LARGEST_ANSWER:
                    raise _strange(repository, "its list of files does not end")
    except TransientFailure as error:
        raise given_up(error) from error
    try:
        return _parse(repository, json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _strange(repository, f"{type(error).__name__}, {error}") from error


def _strange(repository: str, reason: str) -> DownloadError:
    return DownloadError(
        f'{endpoint()} answered strangely about the repository "{repository}": {reason}. Check HF_ENDPOINT '
        "where it is set, or try again later."
    )


def _parse(repository: str, answer: dict[str, Any]) -> DownloadRecord:
    offered = {str(found["rfilename"]): found for found in answer["siblings"]}
    files = []
    for name in wanted_files(offered, repository):
        found = offered[name]
        large = found.get("lfs")
        checksum = large["sha256"] if large else found["blobId"]
        files.append(RemoteFile(name=name, size=int(found["size"]), checksum=str(checksum)))
    return DownloadRecord(repository=repository, commit=str(answer["sha"]), files=tuple(files))


@contextmanager
def receive_file(
    record: DownloadRecord, file: RemoteFile, start: int, on_wait: Callable[[], None]
) -> Iterator[Iterator[bytes]]:
    """Give the content of a file from a byte on, as pieces.

    A server that cannot begin in the middle sends everything; what comes before `start` is passed over.

    Raises:
        TransientFailure: it may be asked for again.
        DownloadError: it may not.
    """
    url = f"{endpoint()}/{quote(record.repository)}/resolve/{quote(record.commit)}/{quote(file.name)}"
    what = f'"{file.name}" of "{record.repository}"'
    with receive(url, what, start=start, on_wait=on_wait) as (head, pieces):
        _refuse_page(head, what)
        if head.total not in (None, file.size) or head.start not in (0, start):
            raise DownloadError(
                f"{what} is not what was published: the server has {head.total} bytes of it instead of "
                f"{file.size}. What has arrived is kept. Try again later, or without the proxy in between."
            )
        yield _from(pieces, start - head.start)


def _from(pieces: Iterator[bytes], skipped: int) -> Iterator[bytes]:
    for piece in pieces:
        rest = piece[skipped:]
        skipped -= len(piece) - len(rest)
        yield rest


def _refuse_page(head: Head, what: str) -> None:
    if head.is_page:
        raise DownloadError(
            f"A web page came instead of {what}: a login page or a proxy stands between this computer and "
            f"{endpoint()}. What has arrived is kept. Open any page in a browser, then try again."
        )


@contextmanager
def receive(
    url: str, what: str, *, start: int = 0, on_wait: Callable[[], None]
) -> Iterator[tuple[Head, Iterator[bytes]]]:
    """Ask the hub and give the head of its answer, refused where it is no success, and the content.

    Raises:
        TransientFailure: it may be asked for again.
        DownloadError: it may not.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with Reception(url, headers, constants.HF_HUB_DOWNLOAD_TIMEOUT, on_wait) as reception:
        with _told(what):
            head = reception.head()
        _refuse_status(head, what)
        yield head, _pieces(reception, what)


def _pieces(reception: Reception, what: str) -> Iterator[bytes]:
    with _told(what):
        yield from reception.pieces()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say of what the connection failed; errors of whoever waits pass."""
    try:
        yield
    except EndlessRedirects as error:
        raise DownloadError(
            f"Cannot fetch {what}: {endpoint()} sends from one address to the next without end. What has "
            "arrived is kept. Try again later; where HF_ENDPOINT or a proxy is set, check it."
        ) from error
    except Disconnected as error:
        raise TransientFailure(what, str(error)) from error


def _refuse_status(head: Head, what: str) -> None:
    if head.status in _FINE:
        return
    if head.status in _PASSING and (head.retry_after_s or 0) <= _LONGEST_WAIT_S:
        raise TransientFailure(what, "the server is busy", wait_s=head.retry_after_s, status=head.status)
    raise refusal(what, head.status)


def refusal(what: str, status: int) -> DownloadError:
    """Return the error that a status means."""
    reason = _REFUSALS.get(status, f"answers with status {status}. Try again later")
    kind = UnreachableError if status in _UNREACHABLE else DownloadError
    return kind(f"Cannot fetch {what}: {endpoint()} {reason}.")


def given_up(error: TransientFailure) -> DownloadError:
    """Return the error of whoever does not want to ask once more."""
    if error.status is not None:
        return refusal(error.what, error.status)
    return DownloadError(
        f"{error}. What has arrived is kept. Check the connection to {endpoint()} and download again; it "
        "goes on where it stopped."
    )


def endpoint() -> str:
    """Return the hub's address.

    Raises:
        DownloadError: `huggingface_hub` is not there, offline mode is on, or the address is none.
    """
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise DownloadError(
            "Downloading needs the package huggingface_hub, which comes with transformers. Install it, or "
            "fetch the files of the model by hand."
        ) from error
    if constants.HF_HUB_OFFLINE:
        raise _offline()
    address = str(constants.ENDPOINT)
    if not address.startswith(("https://", "http://")):
        raise DownloadError(
            f'HF_ENDPOINT is "{address}", which is no web address. Give one with https://, or unset it.'
        )
    return address


def _offline() -> DownloadError:
    return DownloadError(
        "Nothing was fetched: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network. Unset it to "
        "download, or copy the files from another computer."
    )
