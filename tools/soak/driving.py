"""Drives a real ComfyUI through its own interface, looks at everything it answers, and kills it at times.

Every finished job's files must be there and whole, history must tell of them, an equal job must have given
equal results, and the server must answer at all times.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.comfyui.comfy_client import Client, RefusedError
from tests.comfyui.comfy_server import PACK, Server, find_comfyui

from .jobs import DAMAGED_TOKENS, PICTURES, PREFIX, Job, job
from .records import Records, digest_of, is_whole, must_save, output_files, results_of

# Generous, since the computer may have other work: a server that hangs does so for ever.
_LONGEST_START_S = 1800
_LONGEST_JOB_S = 600
_LONGEST_ANSWER_S = 60
_OUR_ERRORS = "janus_core.errors."
_SHORTEST_LIFE_S = 60
_LONGEST_LIFE_S = 240
_HISTORY_KEPT = 100  # jobs; core keeps 10,000 in memory, which is its own growth


class Soak:
    """A run, from its start or from where it was cut off."""

    def __init__(self, folder: Path, seed: int, minutes: float) -> None:
        comfy = find_comfyui()
        if comfy is None:
            raise SystemExit("There is no ComfyUI here. Set COMFYUI_PATH to its folder.")
        folder.mkdir(parents=True, exist_ok=True)
        self.records = Records.open(folder / "ledger.jsonl")
        self._seed = seed
        self._seconds = minutes * 60
        self._before_s = self.records.elapsed_s
        self._started = time.monotonic()
        self._logs = folder / "logs"
        self._logs.mkdir(exist_ok=True)
        self._output = folder / "server" / "output"
        self._pid_file = folder / "server.pid"
        self._end_a_left_over(folder / "server")
        self._server = Server(
            comfy, folder / "server", [PACK / "tests/comfyui/packs/janus-test-tools"],
            further_options=["--cache-classic"],  # else core keeps old outputs until memory is short
        )  # fmt: skip
        self._furnish(folder / "server" / "input")
        self._client: Any = None
        self._life = -1
        self._jobs_of_life = 0
        self._life_ends_s = 0.0

    @property
    def now_s(self) -> float:
        """How long the run has lasted."""
        return self._before_s + time.monotonic() - self._started

    def run(self) -> None:
        """Do jobs until the time is over; always stop the server."""
        try:
            self._start()
            while self.now_s < self._seconds:
                if self.now_s > self._life_ends_s:
                    self._kill_under_a_job()
                self._do(self._next_job())
            self._look_at_files("at the end")
        finally:
            self._stop()

    # --- the server's lives ---

    def _start(self) -> None:
        log = self._server.base / "comfyui.log"
        if log.exists():
            log.rename(self._logs / f"{len(self.records.of('start')):03}.log")
        self._server.start(_LONGEST_START_S)
        self._pid_file.write_text(str(self._server.pid), encoding="utf-8")
        self._client = Client(self._server.url, silence_s=_LONGEST_JOB_S)
        self._life = len(self.records.of("start"))
        self._jobs_of_life = 0
        rng = random.Random(f"{self._seed} life {self._life}")
        # The second half of the time is one life, so that there is one long enough to see memory grow.
        is_last = self.now_s > self._seconds / 2
        self._life_ends_s = (
            float("inf") if is_last else self.now_s + rng.uniform(_SHORTEST_LIFE_S, _LONGEST_LIFE_S)
        )
        self.records.add("start", self.now_s, life=self._life)

    def _stop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._server.stop()
        self._pid_file.unlink(missing_ok=True)

    def _end_a_left_over(self, base: Path) -> None:
        """End the server of a run that was killed itself, if it is still there."""
        try:
            pid = int(self._pid_file.read_text(encoding="utf-8"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return
        if str(base).encode() in command:
            os.kill(pid, signal.SIGKILL)

    def _kill_under_a_job(self) -> None:
        """Kill the server while it works; nothing finished may be lost, nothing left half written."""
        one = self._next_job()
        with contextlib.suppress(RefusedError):
            self._client.submit(one.graph)
        time.sleep(one.wait_s)
        self._client.close()
        self._server.kill()
        self.records.add("kill", self.now_s, life=self._life, kind=one.kind)
        self._look_at_files("after a kill")
        self._start()

    def _look_at_files(self, when: str) -> None:
        for name in self.records.lost(self._output):
            self._fail(f"a finished file is gone or changed {when}", name)
        for path in sorted(path for path in self._output.rglob("*") if path.is_file()):
            name = path.relative_to(self._output).as_posix()
            is_cores = name.startswith(f"{PREFIX}/core")
            if name not in self.records.files and not is_cores and not is_whole(path):
                self._fail(f"a file is half written {when}", name)

    # --- jobs ---

    def _next_job(self) -> Job:
        tokens = self.records.saved(".safetensors", "tokens_")
        return job(self._seed, self.records.next_number, tokens, self.records.saved(".png", "picture_"))

    def _do(self, one: Job) -> None:
        started = time.monotonic()
        content: dict[str, Any] = {}
        try:
            if one.action == "drop":
                end = self._drop(one)
            else:
                end, content = self._run(one)
            self._require_an_answer()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on with a new server
            self._fail("the server hangs or is gone", f"job {one.number} ({one.kind}): {error!r}")
            self._note(one, "stuck", started, {})
            self._client.close()
            self._server.kill()
            self._start()
            return
        self._note(one, end, started, content)
        self._jobs_of_life += 1
        if self._jobs_of_life % _HISTORY_KEPT == 0:
            self._client.post("/history", {"clear": True})

    def _note(self, one: Job, end: str, started: float, content: Mapping[str, Any]) -> None:
        self.records.add(
            "job",
            self.now_s,
            number=one.number,
            kind=one.kind,
            end=end,
            took_s=round(time.monotonic() - started, 2),
            life=self._life,
            rss_kib=_resident_kib(self._server.pid),
            **content,
        )

    def _run(self, one: Job) -> tuple[str, dict[str, Any]]:
        """Run a job to whatever end it should have; return that end, and what it left."""
        try:
            prompt = self._client.submit(one.graph)
        except RefusedError as error:
            if one.action != "refuse":
                self._fail("a good job was refused", f"job {one.number} ({one.kind}): {error}")
            return "refused", {}
        if one.action == "cancel":
            time.sleep(one.wait_s)
            self._client.interrupt()
        run = self._client.follow(prompt, timeout_s=_LONGEST_JOB_S)
        if one.action == "free":
            self._client.press_free()
        if run.interrupted and one.action == "cancel":
            return "cancelled", {}
        if run.error is not None:
            return self._failed(one, run.error), {}
        if one.action == "refuse":
            self._fail("a bad input was accepted", f"job {one.number}: {json.dumps(one.graph)[:500]}")
        return "finished", self._finished(one, run)

    def _failed(self, one: Job, error: Mapping[str, Any]) -> str:
        is_ours = str(error["exception_type"]).startswith(_OUR_ERRORS)
        if not is_ours or one.action != "refuse":
            what = (
                "a good job failed" if one.action != "refuse" else "a bad input gave an error of another kind"
            )
            detail = f"{error['exception_type']}: {error['exception_message']}"
            self._fail(what, f"job {one.number} ({one.kind}): {detail}")
        return "error"

    def _finished(self, one: Job, run: Any) -> dict[str, Any]:
        """Look at a finished job's files, at what history tells of it, and at what an equal one gave."""
        missing = must_save(one.graph) - run.outputs.keys()
        if run.status != "success" or missing:
            self._fail(
                "history disagrees", f"job {one.number}: {run.status}, nothing of nodes {sorted(missing)}"
            )
        names = output_files(run.outputs, one.graph)
        for name in names:
            if not is_whole(self._output / name):
                self._fail("an output is lost or not whole", f"job {one.number}: {name}")
            if name in self.records.files and not run.cached:
                self._fail("an output was written over an older one", f"job {one.number}: {name}")
        results = results_of(run.outputs, one.graph, self._output)
        for asked in self.records.differing(results):
            self._fail("an equal job gave another result", f"job {one.number} ({one.kind}): {asked}")
        return {"files": {name: digest_of(self._output / name) for name in names}, "results": results}

    def _drop(self, one: Job) -> str:
        """Queue three jobs, take the second out again, and wait for the others."""
        prompts = [self._client.submit(_with_seed(one.graph, shift)) for shift in range(3)]
        self._client.post("/queue", {"delete": [prompts[1]]})
        for prompt in (prompts[0], prompts[2]):
            run = self._client.follow(prompt, timeout_s=_LONGEST_JOB_S)
            if run.status != "success":
                self._fail("a job beside a dropped one failed", f"job {one.number}: {run.error}")
        told = self._client.get(f"/history/{prompts[1]}")
        if told and told[prompts[1]]["status"]["status_str"] != "success":
            self._fail("a dropped job ended badly", f"job {one.number}")
        return "one of three dropped"

    def _require_an_answer(self) -> None:
        """Ask for the queue, which must be empty by now."""
        with urllib.request.urlopen(f"{self._server.url}/queue", timeout=_LONGEST_ANSWER_S) as reply:
            queue = json.load(reply)
        if queue["queue_pending"]:
            self._fail("jobs are left in the queue", str(len(queue["queue_pending"])))

    def _fail(self, what: str, detail: str) -> None:
        self.records.add("failure", self.now_s, what=what, detail=detail, life=self._life)

    def _furnish(self, folder: Path) -> None:
        for name in PICTURES:
            picture = (PACK / "tests/parity/golden/images" / name).read_bytes()
            (folder / name).write_bytes(picture)
        (folder / DAMAGED_TOKENS).write_bytes(b"\x40\0\0\0\0\0\0\0{")


def _with_seed(graph: Mapping[str, Any], shift: int) -> dict[str, Any]:
    """Return a drawing's graph with another seed, so that it is no repetition."""
    changed: dict[str, Any] = json.loads(json.dumps(graph))
    for entry in changed.values():
        if entry["class_type"] == "JanusDraw":
            entry["inputs"]["seed"] = 1000 + shift
    return changed


def _resident_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
