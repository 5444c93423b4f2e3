"""The contract with a host that captures layers: fixed buffers, and nothing of a step in Python's hands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core import DrawOptions, Janus, JanusConfig
from janus_core.generation.paged_decoder import PagedDecoder
from janus_core.generation.prefill import pad_left, prefill
from janus_core.generation.static_decoder import decoder_for
from janus_core.generation.steps import Sequences, StreamedDecoder
from janus_core.inputs.prompting import plan_drawing

CPU = torch.device("cpu")
PROMPTS = ("a cat", "a red house beside the river", "it")
STEPS = 5


@dataclass
class Replaying:
    """Calls in each step what it was given in the first, as a graph does that was captured then."""

    first: list[Callable[[], None]] = field(default_factory=list)
    restarts: int = 0
    runs: int = 0

    def restart(self) -> None:
        self.first.clear()
        self.restarts += 1

    def run(
        self, layers: Sequence[nn.Module], calls: Sequence[Callable[[], None]], dtype: torch.dtype
    ) -> None:
        self.first = self.first or list(calls)
        self.runs += 1
        assert len(self.first) == len(layers)
        for call in self.first:
            call()


def filled(janus: Janus, prompts: tuple[str, ...] = PROMPTS) -> Sequences:
    plans = [plan_drawing(prompt, janus.tokenizer) for prompt in prompts]
    padded = pad_left(plans, janus.tokenizer.special.pad, CPU)
    return prefill(janus.model.language, padded, None, new_tokens=STEPS, compute=janus.compute)


def inputs(config: JanusConfig, rows: int) -> Tensor:
    shape = (STEPS, rows, config.language.hidden_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def test_a_paged_decoder_computes_what_a_streamed_one_does(janus: Janus) -> None:
    model, runner = janus.model.language.language_model, Replaying()
    streamed = StreamedDecoder(model, filled(janus), torch.float32)
    paged = PagedDecoder(model, filled(janus), torch.float32, runner)
    for embeddings in inputs(janus.config, len(PROMPTS)):
        assert_close(paged.step(embeddings), streamed.step(embeddings), atol=1e-5, rtol=1e-5)
    assert (runner.restarts, runner.runs) == (1, STEPS)


@torch.inference_mode()
def test_no_buffer_moves_between_steps(janus: Janus) -> None:
    paged = PagedDecoder(janus.model.language.language_model, filled(janus), torch.float32, Replaying())
    places = set()
    for embeddings in inputs(janus.config, len(PROMPTS)):
        paged.step(embeddings)
        attention = paged._attention
        places.add((paged._x.data_ptr(), attention._place.cache.both.data_ptr(), attention._mask.data_ptr()))
    assert len(places) == 1


@torch.inference_mode()
def test_dropped_and_swapped_rows_are_captured_anew_or_stay_valid(janus: Janus) -> None:
    model, runner = janus.model.language.language_model, Replaying()
    streamed = StreamedDecoder(model, filled(janus), torch.float32)
    paged = PagedDecoder(model, filled(janus), torch.float32, runner)
    first, second, third, *_ = inputs(janus.config, len(PROMPTS))
    assert_close(paged.step(first), streamed.step(first), atol=1e-5, rtol=1e-5)
    for decoder in (paged, streamed):
        decoder.reorder(torch.tensor([2, 0, 1]))
    assert_close(paged.step(second), streamed.step(second), atol=1e-5, rtol=1e-5)
    assert runner.restarts == 1
    fewer, fewer_streamed = paged.select([0, 2]), streamed.select([0, 2])
    assert runner.restarts == 2
    assert_close(fewer.step(third[:2]), fewer_streamed.step(third[:2]), atol=1e-5, rtol=1e-5)


def test_a_drawing_through_a_runner_is_the_drawing(fresh: Janus) -> None:
    runner, options = Replaying(), DrawOptions(temperature=0.0)
    paged = replace(fresh, compute=replace(fresh.compute, runner=runner))
    expected = fresh.draw("a cat", num_images=2, options=options).tokens.grid
    assert torch.equal(paged.draw("a cat", num_images=2, options=options).tokens.grid, expected)
    assert runner.runs > 1


@torch.inference_mode()
def test_without_a_runner_layers_are_called_as_ever(janus: Janus) -> None:
    model = janus.model.language.language_model
    assert isinstance(decoder_for(model, filled(janus), janus.compute), StreamedDecoder)
