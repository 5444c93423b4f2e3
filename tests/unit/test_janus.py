from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from janus_core import (
    CAPTION_STYLES,
    DrawOptions,
    Guidance,
    ImageError,
    Janus,
    PromptError,
    SamplingError,
    TextOptions,
    Turn,
)
from janus_core.inputs.pictures import Picture

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
CPU = torch.device("cpu")
SHORT = TextOptions(temperature=1.0, top_p=1.0, max_new_tokens=6)
HALF = [torch.bfloat16, torch.float16]

TASKS: dict[str, Callable[[Janus, list[Image.Image]], object]] = {
    "ask": lambda janus, pictures: janus.ask("Who?", pictures, options=SHORT),
    "chat": lambda janus, pictures: janus.chat([Turn(role="user", text="Who?")], options=SHORT),
    "caption": lambda janus, pictures: janus.caption(pictures, options=SHORT),
    "draw": lambda janus, pictures: janus.draw("a cat"),
    "encode": lambda janus, pictures: janus.encode(pictures),
    "decode": lambda janus, pictures: janus.decode(janus.encode(pictures)),
}
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())


# asking


def test_an_answer_is_the_text_of_its_conversation(janus: Janus, pictures: list[Image.Image]) -> None:
    turn = Turn(role="user", text="Who?", images=tuple(pictures))
    [expected] = janus.answer([[turn]], options=SHORT, seed=3)
    assert janus.ask("Who?", pictures, options=SHORT, seed=3) == expected.text


def test_the_system_text_reaches_the_model(janus: Janus) -> None:
    assert janus.ask("Who?", system="Be brief.", options=SHORT) != janus.ask("Who?", options=SHORT)


def test_chatting_appends_the_answer(janus: Janus) -> None:
    turns = [Turn(role="user", text="Who?")]
    expected = Turn(role="assistant", text=janus.ask("Who?", options=SHORT))
    assert janus.chat(turns, options=SHORT) == (turns[0], expected)


def test_earlier_turns_and_their_pictures_are_remembered(janus: Janus, pictures: list[Image.Image]) -> None:
    def answer(picture: Image.Image) -> str:
        turns = (
            Turn(role="user", text="Who?", images=(picture,)),
            Turn(role="assistant", text="Me."),
            Turn(role="user", text="Why?"),
        )
        return janus.chat(turns, options=TextOptions(max_new_tokens=40))[-1].text

    assert answer(pictures[0]) != answer(pictures[1])


def test_pictures_that_come_with_an_answer_are_refused(janus: Janus, pictures: list[Image.Image]) -> None:
    turns = (
        Turn(role="user", text="Draw me."),
        Turn(role="assistant", text="Here.", images=(pictures[0],)),
        Turn(role="user", text="Who is it?", images=(pictures[1],)),
    )
    with pytest.raises(PromptError, match=r"only questions can show pictures"):
        janus.chat(turns)


def test_a_picture_may_be_a_path_a_tensor_or_a_pil_picture(janus: Janus, tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(samples).save(tmp_path / "picture.png")
    several: list[Picture] = [
        tmp_path / "picture.png",
        Image.fromarray(samples),
        torch.from_numpy(samples / 255).float(),
    ]
    embeddings = janus.see(several)
    assert torch.equal(embeddings[0], embeddings[1])
    assert torch.equal(embeddings[0], embeddings[2])


# captions


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_a_caption_asks_for_its_style(janus: Janus, pictures: list[Image.Image], style: str) -> None:
    expected = janus.ask(CAPTION_STYLES[style], pictures[:1], options=SHORT)
    assert janus.caption(pictures[:1], style, options=SHORT) == [expected]


def test_a_question_replaces_the_style(janus: Janus, pictures: list[Image.Image]) -> None:
    expected = janus.ask("Who?", pictures[:1], options=SHORT)
    assert janus.caption(pictures[:1], question="Who?", options=SHORT) == [expected]


def test_an_unknown_style_names_the_known_ones(janus: Janus) -> None:
    with pytest.raises(PromptError, match=r'"loud"\. Choose one of short, detailed, tags, text, custom\.'):
        janus.caption([], "loud")


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_the_batch_size_does_not_change_captions(
    janus: Janus, pictures: list[Image.Image], batch_size: int
) -> None:
    singles = [janus.caption([picture], options=SHORT, seed=30 + i)[0] for i, picture in enumerate(pictures)]
    assert janus.caption(pictures, options=SHORT, seed=30, batch_size=batch_size) == singles


def test_no_picture_gives_no_caption(janus: Janus) -> None:
    assert janus.caption([]) == []


def test_finished_captions_are_counted(janus: Janus, pictures: list[Image.Image]) -> None:
    steps: list[tuple[int, int]] = []
    janus.caption(
        pictures, options=SHORT, batch_size=2, on_step=lambda done, total: steps.append((done, total))
    )
    assert steps == [(2, 3), (3, 3)]


def test_streamed_captions_are_numbered_through_all_batches(
    janus: Janus, pictures: list[Image.Image]
) -> None:
    last: dict[int, str] = {}

    def remember(row: int, text: str) -> None:
        last[row] = text

    texts = janus.caption(pictures, options=SHORT, batch_size=2, on_text=remember)
    assert [last[row] for row in range(3)] == texts


@pytest.mark.parametrize("batch_size", [0, math.nan, 2.5])
def test_a_batch_size_that_is_no_count_is_refused(janus: Janus, batch_size: Any) -> None:
    with pytest.raises(SamplingError, match=rf"batch_size is {batch_size}; it must be at least 1"):
        janus.caption([], batch_size=batch_size)


# drawing


def test_drawings_without_options_have_the_recommended_guidance(janus: Janus) -> None:
    weights = (1.0, 9.0)
    drawn = [
        replace(janus, guidance=Guidance(cfg_weight=weight)).draw("a cat", seed=3).tokens.grid
        for weight in weights
    ]
    asked = [
        janus.draw("a cat", seed=3, options=DrawOptions(cfg_weight=weight)).tokens.grid for weight in weights
    ]
    recommending = replace(janus, guidance=Guidance(cfg_weight=9.0))
    left_open = recommending.draw("a cat", seed=3, options=DrawOptions(top_k=0)).tokens.grid
    assert not torch.equal(*asked)
    assert all(map(torch.equal, [*drawn, left_open], [*asked, asked[-1]]))


def test_a_drawn_picture_is_ready_for_a_host(janus: Janus) -> None:
    images = janus.draw("a cat", num_images=2).images
    assert (images.shape, images.dtype, images.device) == ((2, 16, 16, 3), torch.float32, CPU)
    assert 0 <= images.min() < images.max() <= 1


def test_a_drawn_picture_is_decoded_from_its_tokens(janus: Janus) -> None:
    drawn = janus.draw("a cat", num_images=2)
    assert torch.equal(janus.decode(drawn.tokens), drawn.images)


def test_drawn_tokens_name_the_codebook(janus: Janus) -> None:
    assert janus.draw("a cat").tokens.codebook == janus.codebook


def test_drawn_pictures_tell_their_seeds(janus: Janus) -> None:
    seeds = janus.draw(["a cat", "it"], num_images=2, seed=-1).seeds
    assert seeds == (2**64 - 1, 0, 2**64 - 1, 0)


@pytest.mark.parametrize(
    ("name", "said"), [("num_images", "a whole number between 1 and 65536"), ("batch_size", "at least 1")]
)
@pytest.mark.parametrize("value", [0, -1, math.nan, 1.5, True, None])
def test_drawing_nothing_is_refused(janus: Janus, name: str, said: str, value: Any) -> None:
    with pytest.raises(SamplingError, match=rf"{name} is {value}; it must be {said}"):
        janus.draw("a cat", **{name: value})


@pytest.mark.parametrize("seed", [math.nan, 1.5, "7", None, True])
@pytest.mark.parametrize("task", ["ask", "caption", "draw"])
def test_a_seed_that_is_no_whole_number_is_refused(janus: Janus, task: str, seed: Any) -> None:
    with pytest.raises(SamplingError, match=rf"seed is {seed!r}; it must be a whole number"):
        getattr(janus, task)([] if task == "caption" else "a cat", seed=seed)


def test_a_seed_of_numpy_is_the_same_number(janus: Janus) -> None:
    for seed in (-1, 2**63 - 1):
        drawn = janus.draw("a cat", seed=np.int64(seed), num_images=2)
        assert drawn.seeds == janus.draw("a cat", seed=seed, num_images=2).seeds


def test_drawing_from_no_prompt_is_refused(janus: Janus) -> None:
    with pytest.raises(PromptError, match=r"no prompt to draw"):
        janus.draw([])


# image tokens


def test_many_pictures_encode_to_what_each_encodes_to(janus: Janus, pictures: list[Image.Image]) -> None:
    several = [*pictures, *pictures]
    singles = torch.cat([janus.encode(picture).grid for picture in several])
    assert torch.equal(janus.encode(several).grid, singles)


def test_many_grids_decode_to_what_each_decodes_to(janus: Janus) -> None:
    tokens = janus.draw("a cat", num_images=5).tokens
    singles = [janus.decode(type(tokens)(grid=grid[None], codebook=janus.codebook)) for grid in tokens.grid]
    assert_close(janus.decode(tokens), torch.cat(singles))


def recorded(parts: list[int]) -> Any:
    """Return a hook that notes the number of pictures a module is given."""
    return lambda _, arguments: parts.append(len(arguments[0]))


def test_pictures_are_encoded_and_decoded_so_many_at_once(janus: Janus, pictures: list[Image.Image]) -> None:
    vq, seen, made = janus.model.vq_tokenizer, [], []
    handles = [
        vq.encoder.register_forward_pre_hook(recorded(seen)),
        vq.decoder.register_forward_pre_hook(recorded(made)),
    ]
    janus.decode(janus.encode([pictures[0]] * 5, batch_size=2), batch_size=3)
    for handle in handles:
        handle.remove()
    assert (seen, made) == ([2, 2, 1], [3, 2])


def test_a_drawing_of_small_batches_is_decoded_in_small_batches(janus: Janus) -> None:
    made: list[int] = []
    handle = janus.model.vq_tokenizer.decoder.register_forward_pre_hook(recorded(made))
    janus.draw("a cat", num_images=3, batch_size=1)
    handle.remove()
    assert made == [1, 1, 1]


def test_pictures_encoded_and_decoded_are_counted(janus: Janus, pictures: list[Image.Image]) -> None:
    steps: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        steps.append((done, total))

    tokens = janus.encode([pictures[0]] * 5, batch_size=2, on_step=count)
    janus.decode(tokens, batch_size=3, on_step=count)
    assert steps == [(2, 5), (4, 5), (5, 5), (3, 5), (5, 5)]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_picture_of_another_size_is_fitted(janus: Janus, pictures: list[Image.Image], fit: Any) -> None:
    assert janus.encode(pictures[0].resize((40, 20)), fit).grid.shape == (1, 4, 4)


def test_encoding_no_picture_is_refused(janus: Janus) -> None:
    with pytest.raises(ImageError, match=r"no picture to encode"):
        janus.encode([])


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_a_batch_is_encoded_as_its_pictures(janus: Janus, kind: str) -> None:
    batch: Any = torch.rand(3, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    expected = janus.encode(list(batch)).grid
    assert torch.equal(janus.encode(batch if kind == "tensor" else batch.numpy()).grid, expected)


def test_an_empty_batch_is_refused(janus: Janus) -> None:
    with pytest.raises(ImageError, match=r"no picture to encode"):
        janus.encode(torch.zeros(0, 16, 16, 3))


# manners


@each_task
def test_global_random_state_is_left_alone(
    janus: Janus,
    pictures: list[Image.Image],
    task: Callable[[Janus, list[Image.Image]], object],
) -> None:
    def states() -> tuple[bytes, bytes, object]:
        numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - the very state to leave alone
        return torch.get_rng_state().numpy().tobytes(), numpy["state"]["key"].tobytes(), random.getstate()

    before = states()
    task(janus, pictures)
    assert states() == before


@each_task
def test_global_random_state_is_not_read(
    janus: Janus,
    pictures: list[Image.Image],
    task: Callable[[Janus, list[Image.Image]], Any],
) -> None:
    def result(seed: int) -> object:
        torch.manual_seed(seed)
        found = task(janus, pictures)
        if hasattr(found, "tokens"):
            found = found.tokens
        found = getattr(found, "grid", found)
        return found.tolist() if isinstance(found, torch.Tensor) else found

    with torch.random.fork_rng(devices=[]):
        assert result(1) == result(2)


@each_task
def test_everything_runs_in_inference_mode(
    janus: Janus,
    pictures: list[Image.Image],
    task: Callable[[Janus, list[Image.Image]], object],
) -> None:
    modes: list[bool] = []
    vq = janus.model.vq_tokenizer
    hooks = [
        part.register_forward_pre_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
        for part in (janus.model.language.language_model, vq.encoder, vq.decoder)
    ]
    task(janus, pictures)
    for hook in hooks:
        hook.remove()
    assert set(modes) == {True}


@pytest.mark.parametrize("dtype", HALF)
@each_task
def test_everything_runs_in_half_precision(
    make_janus: Callable[[torch.dtype], Janus],
    pictures: list[Image.Image],
    task: Callable[[Janus, list[Image.Image]], object],
    dtype: torch.dtype,
) -> None:
    assert task(make_janus(dtype), pictures) is not None


@pytest.mark.parametrize("dtype", HALF)
def test_image_embeddings_in_half_precision_are_close_to_float32(
    make_janus: Callable[[torch.dtype], Janus], janus: Janus, pictures: list[Image.Image], dtype: torch.dtype
) -> None:
    found = make_janus(dtype).see(pictures)
    assert found.dtype == dtype
    assert_close(found.float(), janus.see(pictures), atol=0.1, rtol=0)


@pytest.mark.parametrize("dtype", HALF)
def test_pictures_drawn_in_half_precision_are_proper(
    make_janus: Callable[[torch.dtype], Janus], dtype: torch.dtype
) -> None:
    images = make_janus(dtype).draw("a cat", options=DrawOptions(temperature=0.0)).images
    assert images.dtype == torch.float32
    assert bool(images.isfinite().all())


def test_encoding_takes_all_bits_and_decoding_what_is_set(janus: Janus) -> None:
    """A code is the nearest of many, so less precision would move some; pixels move invisibly."""
    seen: list[tuple[str, bool]] = []
    vq = janus.model.vq_tokenizer
    hooks = [
        part.register_forward_pre_hook(
            lambda *_, name=name: seen.append((name, torch.backends.cudnn.allow_tf32))
        )
        for name, part in (("encoder", vq.encoder), ("decoder", vq.decoder))
    ]
    try:
        tokens = janus.encode(torch.rand(16, 16, 3))
        janus.decode(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [("encoder", False), ("decoder", torch.backends.cudnn.allow_tf32)]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("batch_size", [1, 2])
def test_broken_scores_are_counted_over_all_batches(janus: Janus, batch_size: int) -> None:
    calls = 0

    def spoil(_: object, __: object, logits: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return logits.fill_(float("nan")) if calls > cells * (2 // batch_size) else logits

    cells = janus.config.num_image_tokens
    hook = janus.model.language.generation_head.register_forward_hook(spoil)
    try:
        with pytest.raises(SamplingError) as caught:
            janus.draw("a cat", num_images=3, batch_size=batch_size)
    finally:
        hook.remove()
    assert caught.value.rows == (2,)


def test_a_broken_caption_is_counted_over_all_batches(janus: Janus, pictures: list[Image.Image]) -> None:
    calls = 0

    def spoil(_: object, __: object, logits: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return logits.fill_(float("nan")) if calls == 2 else logits

    hook = janus.model.language.language_model.lm_head.register_forward_hook(spoil)
    try:
        with pytest.raises(SamplingError, match="Number 2") as caught:
            janus.caption(pictures, batch_size=1, options=TextOptions(max_new_tokens=1))
    finally:
        hook.remove()
    assert caught.value.rows == (1,)
