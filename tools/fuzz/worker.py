"""Runs cases in a process of its own, a line about each: `python -m tools.fuzz.worker SEED FIRST END FAMILY`.

Every case has its own random generator, so a case alone is the same as in a long run. Measured are processor
time and by how much the case raised the peak of resident memory.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from janus_core.errors import JanusError

from .adapters import AdapterCases
from .inputs import InputCases
from .models import ModelCases, StopError
from .one_file import OneFileCases

SIZE_LIMIT = 6 * 2**30  # of address space, so that a runaway case ends before the computer does
_MOST_MESSAGE = 1500  # characters

Case = Callable[[random.Random], None]


def families(room: Path) -> tuple[tuple[str, Case], ...]:
    """Return the families of cases, each as often as it is to be."""
    models, inputs, adapters, one_file = (
        ModelCases(room),
        InputCases(room),
        AdapterCases(room),
        OneFileCases(room),
    )
    return (
        ("damaged file of a model", models.damaged_file),
        ("damaged file of a model", models.damaged_file),
        ("configuration", models.configuration),
        ("configuration", models.configuration),
        ("tensors", models.tensors),
        ("safetensors header", models.header),
        ("index of shards", models.index),
        ("tokenizer", models.tokenizer),
        ("tokenizer", models.tokenizer),
        ("token file", inputs.token_file),
        ("tokens inside a PNG", inputs.carried),
        ("picture file", inputs.picture_file),
        ("picture file", inputs.picture_file),
        ("picture value", inputs.picture_value),
        ("mask", inputs.mask),
        ("caption styles", inputs.styles),
        ("numbers and texts of a node", inputs.numbers),
        ("numbers and texts of a node", inputs.numbers),
        ("adapter file", adapters.file),
        ("adapter folder", adapters.folder),
        ("one-file model: texts", one_file.texts),
        ("one-file model: quantised", one_file.matrices),
        ("one-file model: of other tools", one_file.foreign),
    )


def generator(seed: int, number: int) -> random.Random:
    """Return the random generator of a case."""
    return random.Random(f"{seed} {number}")


def run_case(case: Case, rng: random.Random) -> dict[str, Any]:
    """Run a case and return how it ended and what it took."""
    before_kib = _reset_peak()
    started = time.process_time()
    end: dict[str, Any] = {"end": "success"}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            case(rng)
        except StopError:
            pass
        except JanusError as error:
            end = {"end": type(error).__name__}
            if len(str(error)) > _MOST_MESSAGE:
                end |= {"wrong": f"a message of {len(str(error))} characters", "trace": str(error)[:500]}
            if _is_lack_of_memory(error):
                end |= {
                    "wrong": "more memory asked for than the limit",
                    "trace": traceback.format_exc()[-3000:],
                }
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            end = {"end": "foreign", "wrong": f"{type(error).__name__}: {str(error)[:200]}"}
            end["trace"] = traceback.format_exc()[-3000:]
    cpu_s = time.process_time() - started
    if warned and "wrong" not in end:
        end |= {"wrong": f"a warning: {str(warned[0].message)[:200]}", "trace": str(warned[0])}
    return {**end, "cpu_s": round(cpu_s, 3), "peak_mib": round((_peak_kib("VmHWM") - before_kib) / 1024, 1)}


def _is_lack_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or "allocate memory" in text or "not enough memory" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def _reset_peak() -> int:
    """Have the kernel measure the peak anew; return what is resident now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak_kib("VmRSS")


def _peak_kib(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def cases(seed: int, numbers: range, room: Path, family: str = "") -> Iterator[dict[str, Any]]:
    """Run cases, and yield before each its number, and behind it what came of it.

    Args:
        seed: of all cases.
        numbers: of the cases.
        room: an empty folder.
        family: a word in the names of the families that are wanted; empty means all.
    """
    known = families(room)
    for number in numbers:
        rng = generator(seed, number)
        name, case = known[number % len(known)]
        if family not in name:
            continue
        yield {"number": number, "family": name}
        yield {"number": number, "family": name, **run_case(case, rng)}


def main() -> None:
    """Run the cases of the command line."""
    import resource

    seed, first, end = (int(argument) for argument in sys.argv[1:4])
    family = sys.argv[4]
    resource.setrlimit(resource.RLIMIT_AS, (SIZE_LIMIT, SIZE_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    if "--loud" not in sys.argv:
        os.dup2(nowhere, 2)  # libraries of other languages write of their panics there
    with tempfile.TemporaryDirectory() as folder:
        for line in cases(seed, range(first, end), Path(folder), family):
            lines.write(json.dumps(line) + "\n")
            lines.flush()


if __name__ == "__main__":
    main()
