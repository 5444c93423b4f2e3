from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core import (
    CheckpointError,
    FlowOptions,
    ImageError,
    Janus,
    JanusFlow,
    SamplingError,
    load_autoregressive,
    load_janus,
)
from janus_core.flow.flow_noise import normal_noise
from janus_core.flow.latents import SCALING
from janus_core.residency.parts import FLOW_TABLE, Task, modules_for, part_of, split_parts, table_of
from janus_core.residency.placement import Placement

from ..conftest import GOLDEN
from .conftest import COMPUTE, FLOW_TINY, random_flow_model

FOLDER = GOLDEN / "janusflow-tiny"
STEPS = FlowOptions(steps=3)
SIDE = FLOW_TINY.latent_side


class Stop(Exception):  # noqa: N818
    pass


@pytest.fixture
def janus_flow(flow_tokenizer: object) -> JanusFlow:
    return JanusFlow(model=random_flow_model(), tokenizer=flow_tokenizer, compute=COMPUTE)  # type: ignore[arg-type]


# --- drawing ---


def test_drawn_latents_are_unscaled_and_belong_to_whoever_asked(janus_flow: JanusFlow) -> None:
    last: list[Tensor] = []
    drawn = janus_flow.draw("a cat", options=STEPS, on_latents=lambda *seen: last.append(seen[2]))
    assert drawn.latents.shape == (1, 4, SIDE, SIDE)
    assert_close(drawn.latents, last[-1] / SCALING)
    assert not drawn.latents.is_inference()


def test_picture_k_of_a_drawing_is_the_first_of_seed_plus_k(janus_flow: JanusFlow) -> None:
    batch = janus_flow.draw("a cat", num_images=3, seed=5, options=STEPS, batch_size=2)
    alone = janus_flow.draw("a cat", seed=7, options=STEPS)
    assert batch.seeds == (5, 6, 7)
    assert_close(batch.latents[2:], alone.latents, atol=1e-4, rtol=0)


def test_seeds_count_on_modulo_2_to_the_64(janus_flow: JanusFlow) -> None:
    assert janus_flow.draw("a cat", num_images=2, seed=2**64 - 1, options=STEPS).seeds == (2**64 - 1, 0)


def test_noise_may_be_given_instead_of_a_seed(janus_flow: JanusFlow) -> None:
    noise = normal_noise([9], (4, SIDE, SIDE))
    given = janus_flow.draw("a cat", seed=1, options=STEPS, noise=noise)
    assert_close(given.latents, janus_flow.draw("a cat", seed=9, options=STEPS).latents)


def test_noise_of_another_shape_is_refused(janus_flow: JanusFlow) -> None:
    with pytest.raises(ImageError, match="The noise has shape"):
        janus_flow.draw("a cat", num_images=2, options=STEPS, noise=torch.zeros(1, 4, SIDE, SIDE))


def test_guidance_not_asked_for_is_the_models(janus_flow: JanusFlow) -> None:
    other = replace(janus_flow, cfg_weight=7.0)
    asked = FlowOptions(steps=3, cfg_weight=7.0)
    assert_close(other.draw("a cat", options=STEPS).latents, janus_flow.draw("a cat", options=asked).latents)


def test_steps_of_all_batches_are_counted(janus_flow: JanusFlow) -> None:
    seen: list[tuple[int, int, int]] = []
    janus_flow.draw(
        "a cat", num_images=3, options=STEPS, batch_size=2,
        on_latents=lambda done, total, latents: seen.append((done, total, len(latents))),
    )  # fmt: skip
    assert seen == [(1, 6, 2), (2, 6, 2), (3, 6, 2), (4, 6, 1), (5, 6, 1), (6, 6, 1)]


def test_a_callback_may_interrupt(janus_flow: JanusFlow) -> None:
    seen: list[int] = []

    def stop(done: int, total: int, latents: Tensor) -> None:
        seen.append(done)
        raise Stop

    with pytest.raises(Stop):
        janus_flow.draw("a cat", options=STEPS, on_latents=stop)
    assert seen == [1]


@pytest.mark.parametrize("name", ["num_images", "batch_size"])
def test_counts_below_1_are_refused(janus_flow: JanusFlow, name: str) -> None:
    with pytest.raises(SamplingError, match=f"{name} is 0; it must be at least 1"):
        janus_flow.draw("a cat", **{name: 0})  # type: ignore[arg-type]


def test_the_global_random_state_is_untouched(janus_flow: JanusFlow) -> None:
    before = torch.get_rng_state()
    janus_flow.draw("a cat", options=STEPS)
    assert torch.equal(torch.get_rng_state(), before)


# --- loading ---


def test_a_janusflow_folder_gives_a_janusflow() -> None:
    loaded = load_janus(FOLDER, dtype="float32", device="cpu")
    assert isinstance(loaded, JanusFlow)
    assert loaded.cfg_weight == 2.0
    assert isinstance(loaded.ask("Who?", Image.new("RGB", (9, 9))), str)


def test_a_janusflow_chooses_and_scores() -> None:
    loaded = load_janus(FOLDER, device="cpu", dtype="float32")
    pictures = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    chosen = loaded.choose(pictures, "Which?", ["red", "a red house"])
    scored = loaded.score(pictures, "a cat")
    for row, picture in enumerate(pictures):
        [alone], [single] = (
            loaded.choose(picture, "Which?", ["red", "a red house"]),
            loaded.score(picture, "a cat"),
        )
        assert_close(torch.tensor(chosen[row].probabilities), torch.tensor(alone.probabilities))
        assert_close(torch.tensor(scored[row].probability), torch.tensor(single.probability))


def test_an_autoregressive_folder_gives_a_janus() -> None:
    assert isinstance(load_janus(GOLDEN / "janus-tiny-bin", device="cpu"), Janus)


def test_those_who_want_image_tokens_are_told_of_a_janusflow_folder() -> None:
    with pytest.raises(CheckpointError, match="is a JanusFlow model, which draws by rectified flow"):
        load_autoregressive(FOLDER, device="cpu")


def test_a_folder_may_recommend_a_guidance(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "generation_config.json").write_text('{"guidance_scale": 3.5}')
    loaded = load_janus(tmp_path, device="cpu")
    assert isinstance(loaded, JanusFlow)
    assert loaded.cfg_weight == 3.5


def test_layers_of_a_host_are_given_weights_at_once() -> None:
    class Layers(nn.Linear):
        pass

    operations = type("Operations", (), {**vars(nn), "Linear": Layers})
    loaded = load_janus(FOLDER, dtype="float32", device="cpu", operations=operations)  # type: ignore[arg-type]
    assert isinstance(loaded, JanusFlow)
    assert isinstance(loaded.model.flow.encoder_aligner, Layers)
    plain = load_janus(FOLDER, dtype="float32", device="cpu")
    assert isinstance(plain, JanusFlow)
    assert_close(loaded.draw("a cat", options=STEPS).latents, plain.draw("a cat", options=STEPS).latents)


# --- parts ---


def test_every_parameter_stands_in_exactly_one_module_of_the_table() -> None:
    model = random_flow_model()
    assert table_of(model) == FLOW_TABLE
    held = [id(p) for entry in FLOW_TABLE for p in model.get_submodule(entry.module).parameters()]
    assert sorted(held) == sorted(map(id, model.parameters()))


def test_the_parts_hold_every_weight_once() -> None:
    model = random_flow_model()
    parts = split_parts(model)
    assert tuple(parts) == ("seeing", "language", "words")
    held = [id(p) for part in parts.values() for p in part.parameters()]
    assert sorted(held) == sorted(map(id, model.parameters()))
    assert part_of("flow.encoder.in_conv.weight") == "language"


def brought(janus: JanusFlow) -> set[str]:
    modules = [(entry.module, janus.model.get_submodule(entry.module)) for entry in FLOW_TABLE]
    return {name for name, module in modules if next(module.parameters()).dtype == torch.float32}


@pytest.mark.parametrize(
    ("task", "ask"),
    [
        ("draw", lambda janus: janus.draw("a cat", options=STEPS)),
        ("answer", lambda janus: janus.ask("Who?")),
        ("see", lambda janus: janus.see([Image.new("RGB", (9, 9))])),
    ],
)
def test_a_task_brings_its_modules_alone(
    janus_flow: JanusFlow, task: Task, ask: Callable[[JanusFlow], object]
) -> None:
    janus_flow.model.to(torch.bfloat16)  # float32 then tells what was brought
    placed = replace(janus_flow, owner=Placement(janus_flow.model, COMPUTE, torch.float32))
    ask(placed)
    assert brought(placed) == set(modules_for(task, table=FLOW_TABLE))


def test_bringing_all_brings_all(janus_flow: JanusFlow) -> None:
    janus_flow.model.to(torch.bfloat16)
    placed = replace(janus_flow, owner=Placement(janus_flow.model, COMPUTE, torch.float32))
    placed.bring_all()
    assert brought(placed) == {entry.module for entry in FLOW_TABLE}
