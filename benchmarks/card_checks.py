"""What a card must show before it is timed, and the profile of a step: correctness, captures, kernels.

No check raises: each logs a failure and says in a sentence how it went, so that one hides no other.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .contenders import Ours
from .equality import check_equality, first_difference
from .rows import Bench, picture
from .timing import Stopwatch

log = logging.getLogger(__name__)

_ANSWER_TOKENS = 80  # past one stride of the cache, so that more than one graph is needed
_TABLE_ROWS = 60


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one check went.

    Attributes:
        name: what was compared.
        failure: what differed or was raised; None where all was equal.
        captures: whether a GPU is expected to capture graphs for it.
        graphs: captured meanwhile.
        replays: of graphs.
        figures: what the comparison of all contenders counted.
    """

    name: str
    failure: str | None
    captures: bool
    graphs: int
    replays: int
    figures: dict[str, float]

    def told(self) -> str:
        """Return the outcome as a sentence."""
        return f"{self.name}: {self.failure or 'equal'}"


def correctness(bench: Bench) -> Iterator[Outcome]:
    """Compare all contenders, then ours captured with ours eager and with a CPU, in float32.

    Args:
        bench: float32 contenders, all of them.
    """
    for name, captures, check in _checks(bench):
        stopwatch, failure, figures = Stopwatch("wall", bench.device), None, None
        with stopwatch.watching_captures(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            try:
                figures = check()
            except (Exception, SystemExit) as error:
                log.exception("The check of %s failed", name)
                failure = f"{type(error).__name__}: {error}"
        yield Outcome(
            name=name,
            failure=failure,
            captures=captures,
            graphs=stopwatch.graphs,
            replays=stopwatch.replays,
            figures=figures or {},
        )


def _checks(bench: Bench) -> list[tuple[str, bool, Callable[[], dict[str, float] | None]]]:
    ours, eager = bench.ours, _eager(bench.ours)
    steps = bench.size.config.num_image_tokens
    images = [picture(bench.size.config, seed) for seed in range(3)]
    one, many = images[:1], images

    def as_on_a_cpu() -> None:
        weights = {name: tensor.cpu() for name, tensor in ours.janus.model.state_dict().items()}
        on_cpu = Ours(bench.size.config, weights, torch.float32, torch.device("cpu"), packs=False)
        _same(ours.draw(steps), on_cpu.draw(steps))

    def captions() -> None:
        alone = [eager.answer([image], _ANSWER_TOKENS) for image in many]
        _same(ours.answer(many, _ANSWER_TOKENS), torch.cat(alone))

    return [
        ("all contenders, greedy tokens and pixels", False, lambda: check_equality(bench)),
        ("a drawing, captured and eager", True, lambda: _same(ours.draw(steps), eager.draw(steps))),
        ("a drawing, here and on a CPU", True, as_on_a_cpu),
        (
            "an answer, captured and eager",
            True,
            lambda: _same(ours.answer(one, _ANSWER_TOKENS), eager.answer(one, _ANSWER_TOKENS)),
        ),
        ("captions, captured in a batch and eager one by one", True, captions),
    ]


def _eager(ours: Ours) -> Ours:
    """Return our contender over the same weights, which captures nothing."""
    eager, janus = copy.copy(ours), ours.janus
    eager.janus = replace(janus, compute=replace(janus.compute, is_resident=False))
    return eager


def _same(ours: Tensor, others: Tensor) -> None:
    """Compare tokens (b, n) of whatever devices."""
    ours, others = ours.cpu(), others.cpu()
    for row, (mine, theirs) in enumerate(zip(ours, others, strict=True)):
        if not torch.equal(mine, theirs):
            raise AssertionError(f"row {row} differs from token {first_difference(mine, theirs)} on")


def profiled_steps(ours: Ours, steps: int, context: int, device: torch.device) -> tuple[str, dict[str, Any]]:
    """Profile drawing steps.

    Two draws of different length are profiled; their difference is so many steps, without prefill and with a
    capture only where the cache grows past a stride meanwhile.

    Args:
        ours: draws.
        steps: that the longer draw has more.
        context: tokens of the prompt.
        device: where.

    Returns: the table of the longer draw's operations, the longest first, and what one step takes.
    """
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    found = []
    for length in (1 + steps, 1 + 2 * steps):
        with profile(activities=kinds) as recorded:
            ours.draw(length, context=context)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        found.append((recorded, *_busy(recorded, device)))
    (_, few, short_s), (recorded, many, long_s) = found
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table = recorded.key_averages().table(sort_by=order, row_limit=_TABLE_ROWS, max_name_column_width=90)
    return table, {
        "steps": steps,
        "kernels_per_step": round((many - few) / steps, 1),
        "busy_s_per_step": round((long_s - short_s) / steps, 6),
    }


def _busy(recorded: profile, device: torch.device) -> tuple[int, float]:
    """Return how many kernels (on a CPU: operations) ran, and their seconds."""
    kind = device.type.upper()
    events = [event for event in recorded.events() or [] if event.device_type.name == kind]
    if device.type == "cpu":  # operations contain others
        return len(events), sum(event.self_cpu_time_total for event in events) / 1e6
    return len(events), sum(event.time_range.elapsed_us() for event in events) / 1e6
