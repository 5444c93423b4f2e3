"""A published model that is chosen and not there: downloaded while the node runs, in sight of the person."""

import time
from pathlib import Path

import comfy.model_management as mm

from ...janus_core import PUBLISHED, DownloadError, DownloadPlan, TransferPace, plan_download, run_download
from .folders import folder_to_fill
from .progress import Progress, Throttle, show_text

_INTERVAL_S = 0.25


def fetch_if_absent(name: str, node_id: str | None) -> None:
    """Download a published model unless it is installed; what arrived before a Cancel is kept.

    Raises:
        DownloadError: it did not succeed; the message names size, folder and cause.
    """
    folder = folder_to_fill(name)
    if folder is None:
        return
    shown = _DownloadProgress(node_id, name)
    try:
        plan = plan_download(name, folder, shown.on_wait)
        shown.begin(plan)
        run_download(plan, shown.on_step)
    except DownloadError as error:
        raise DownloadError(
            f'"{name}" is not installed, and its download ({PUBLISHED[name].size_gb} GB into "{folder}") did '
            f"not succeed. {error}"
        ) from error
    except mm.InterruptProcessingException:
        shown.stop(folder)
        raise
    shown.finish(folder)


class _DownloadProgress(Progress):
    """Bytes on the node's bar; amount, rate and time left as its text, four times a second."""

    def __init__(self, node_id: str | None, name: str) -> None:
        super().__init__(node_id)
        self._node_id = node_id
        self._name = name
        self._introduction = ""
        self._amount = ""
        self._pace = TransferPace()
        self._messages = Throttle(_INTERVAL_S)

    def on_wait(self) -> None:
        """Let the person cancel while the hub is silent."""
        mm.throw_exception_if_processing_interrupted()

    def begin(self, plan: DownloadPlan) -> None:
        """Say what comes, how large it is, and where it goes."""
        self._introduction = (
            f"{self._name} is not installed yet. Downloading {plan.missing_bytes / 1e9:.2f} GB from "
            f'{plan.record.repository} into "{plan.folder}". Cancel keeps what has arrived.'
        )
        show_text(self._introduction, self._node_id)

    def on_step(self, done: int, total: int) -> None:
        """Show how far it is; raises when the person cancelled."""
        mm.throw_exception_if_processing_interrupted()
        if self._messages.is_due():
            self._amount = self._pace.report(done, total, time.monotonic())
            show_text(f"{self._introduction}\n\n{self._amount}", self._node_id)
            super().on_step(done, total)

    def stop(self, folder: Path) -> None:
        """Say what a cancelled download leaves."""
        amount = self._amount.partition(",")[0] or "its beginning"
        show_text(
            f"The download of {self._name} was stopped at {amount}. What has arrived is kept in "
            f'"{folder}"; run again to go on.',
            self._node_id,
        )

    def finish(self, folder: Path) -> None:
        """Say where the model is now."""
        super().on_step(1, 1)
        show_text(f'{self._name} is installed in "{folder}".', self._node_id)
