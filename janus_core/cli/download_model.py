"""`download`: bring a published model into a folder, and go on where an earlier attempt stopped."""

from __future__ import annotations

from argparse import Namespace

from ..downloads.download import plan_download, run_download
from ..outputs import from_home
from .terminal import progress, remark, report


def download(arguments: Namespace) -> None:
    """Fetch what is missing of a published model and say where it is."""
    folder = from_home(arguments.into) / arguments.name
    plan = plan_download(arguments.name, folder)
    record, missing = plan.record, plan.missing_bytes
    remark(
        arguments,
        f"{arguments.name}: {missing / 1e9:.2f} of {plan.total_bytes / 1e9:.2f} GB to fetch from "
        f'{record.repository} (commit {record.commit[:8]}) into "{folder}"',
    )
    try:
        with progress(arguments, arguments.name, plan.total_bytes, unit="B") as on_progress:
            run_download(plan, on_progress)
    except KeyboardInterrupt:
        remark(arguments, "What has arrived is kept; the same command goes on where this one stopped.")
        raise
    content = {
        "model": arguments.name,
        "folder": str(folder),
        "repository": record.repository,
        "commit": record.commit,
        "files": [file.name for file in record.files],
        "bytes": plan.total_bytes,
        "fetched_bytes": missing,
    }
    report(arguments, content, str(folder))
