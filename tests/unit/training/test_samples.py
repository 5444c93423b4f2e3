"""Samples: their tokens are laid out as at inference, and say what the picture shows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values, to_vq_input
from janus_core.inputs.prompting import (
    CAPTION_STYLES,
    SYSTEM_TEXT,
    TurnText,
    plan_conversation,
    plan_drawing,
    unconditional,
)
from janus_core.inputs.text_tokenizer import IMAGE_PLACEHOLDER, TextTokenizer
from janus_training.conversations import Exchange, write_conversation, write_document
from janus_training.language_task import TextSample
from janus_training.recipe import StageRecipe, find_recipe
from janus_training.samples import Samples
from janus_training.words import learn_tokenizer
from janus_training.world.captions import caption
from janus_training.world.compositions import is_test_composition
from janus_training.world.dice import new_dice
from janus_training.world.near_misses import near_miss
from janus_training.world.passages import passage
from janus_training.world.patch_labels import patch_labels
from janus_training.world.rendering import render
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.vocabulary import COLOUR_RGB, GROUND_RGB, STYLES

RECIPE = find_recipe("micro")
STAGE = StageRecipe(stage="II", steps=5, batch_size=8, learning_rate=1.0, mix=(2, 1, 1), drop_prompt=0.5)
TALK = (
    Exchange(question="What colour is the circle?", answer="Red."),
    Exchange(question="How many things are there?", answer="Two."),
    Exchange(question="Describe this image in detail.", answer="There is a red circle and a blue square."),
)
PLENTY = 10_000


@pytest.fixture(scope="module")
def words() -> TextTokenizer:
    sentences = (f" {part.prompt} {part.answer} {SYSTEM_TEXT}" for part in map(passage, range(100)))
    return TextTokenizer(learn_tokenizer(sentences, RECIPE.model.vocabulary), source="test")


def samples_of(words: TextTokenizer, stage: StageRecipe = STAGE, offset: int = 0) -> Samples:
    return Samples(words, RECIPE.model, stage, offset)


def learnt_text(sample: TextSample, words: TextTokenizer) -> str:
    ids = [token for token, learnt in zip(sample.plan.token_ids, sample.is_learnt, strict=True) if learnt]
    return words.decode([words.encode("|")[0] if token == words.special.eos else token for token in ids])


@pytest.mark.parametrize("turn", [0, 1, 2])
@pytest.mark.parametrize("image_tokens", [0, 16])
def test_the_prompt_of_every_turn_begins_the_training_sequence(
    words: TextTokenizer, turn: int, image_tokens: int
) -> None:
    lesson = write_conversation(TALK, words, image_tokens=image_tokens, tokens=PLENTY)
    turns = [TurnText(role="user", text=TALK[0].question, num_images=int(image_tokens > 0))]
    for before, after in pairwise(TALK[: turn + 1]):
        turns += [TurnText(role="assistant", text=before.answer), TurnText(role="user", text=after.question)]

    prompt = plan_conversation(turns, words, image_tokens=image_tokens)

    assert lesson.plan.token_ids[: len(prompt)] == prompt.token_ids
    assert lesson.plan.is_image[: len(prompt)] == prompt.is_image
    answer = (*words.encode(f" {TALK[turn].answer}"), words.special.eos)
    assert lesson.plan.token_ids[len(prompt) : len(prompt) + len(answer)] == answer
    assert not lesson.is_learnt[len(prompt) - 1]
    assert all(lesson.is_learnt[len(prompt) : len(prompt) + len(answer)])


def test_answers_and_their_end_marks_alone_are_learnt(words: TextTokenizer) -> None:
    lesson = write_conversation(TALK, words, image_tokens=16, tokens=PLENTY)
    sample = TextSample(plan=lesson.plan, is_learnt=lesson.is_learnt, pixel_values=None)

    assert learnt_text(sample, words) == " Red.| Two.| There is a red circle and a blue square.|"


def test_a_long_conversation_is_cut_behind_an_answer(words: TextTokenizer) -> None:
    whole = write_conversation(TALK, words, image_tokens=16, tokens=PLENTY)
    two = write_conversation(TALK[:2], words, image_tokens=16, tokens=PLENTY)

    assert write_conversation(TALK, words, image_tokens=16, tokens=len(whole.plan) - 1) == two
    assert write_conversation(TALK, words, image_tokens=16, tokens=len(two.plan)) == two


def test_the_first_answer_is_never_cut(words: TextTokenizer) -> None:
    lesson = write_conversation(TALK, words, image_tokens=16, tokens=1)

    assert lesson == write_conversation(TALK[:1], words, image_tokens=16, tokens=PLENTY)


def test_a_document_is_learnt_from_its_first_word(words: TextTokenizer) -> None:
    lesson = write_document(["A red circle.", "A star."], words, tokens=PLENTY)

    end = words.special.eos
    text = [words.special.bos, *words.encode("A red circle."), end, *words.encode("A star."), end]
    assert list(lesson.plan.token_ids) == text
    assert lesson.is_learnt == (False,) + (True,) * (len(text) - 1)


def test_a_document_is_cut_between_texts(words: TextTokenizer) -> None:
    texts = ["A red circle.", "A star."]
    whole = write_document(texts, words, tokens=PLENTY)

    assert write_document(texts, words, tokens=len(whole.plan)) == whole
    assert write_document(texts, words, tokens=len(whole.plan) - 1) == write_document(
        texts[:1], words, tokens=PLENTY
    )


def test_samples_depend_on_their_number_alone(words: TextTokenizer) -> None:
    first, again, other = (samples_of(words).mixture(n) for n in (3, 3, 4))

    assert [sample.plan for sample in first.understanding] == [sample.plan for sample in again.understanding]
    assert [sample.plan for sample in first.text] == [sample.plan for sample in again.text]
    assert [sample.plan for sample in first.generation] == [sample.plan for sample in again.generation]
    assert torch.equal(first.generation[0].pixel_values, again.generation[0].pixel_values)
    assert first.understanding[0].plan != other.understanding[0].plan


def test_another_offset_gives_other_samples(words: TextTokenizer) -> None:
    first, other = samples_of(words), samples_of(words, offset=1000)

    assert first.mixture(0).understanding[0].plan != other.mixture(0).understanding[0].plan


def test_an_understanding_sample_shows_the_scene_it_talks_about(words: TextTokenizer) -> None:
    sample = samples_of(words, offset=70).mixture(0).understanding[0]

    picture = Image.fromarray(np.rint(render(sample_scene(70), 32) * 255).astype(np.uint8))
    expected = to_pixel_values(read_picture(picture), RECIPE.model.to_config().preprocess)
    assert sample.pixel_values is not None
    assert torch.equal(sample.pixel_values, expected[None])
    assert sum(sample.plan.is_image) == 16


def test_a_drawing_sample_draws_what_the_vq_tokenizer_would_be_given(words: TextTokenizer) -> None:
    sample = samples_of(words, replace(STAGE, mix=(0, 0, 1)), offset=70).mixture(0).generation[0]

    shown = render(sample_scene(70, is_plain=True), 32)
    assert torch.equal(sample.pixel_values, to_vq_input(shown, 32, "crop"))


@pytest.mark.parametrize("turn_tokens", [32, 96])
def test_sequences_keep_to_their_length(words: TextTokenizer, turn_tokens: int) -> None:
    samples = samples_of(words, replace(STAGE, batch_size=32, turn_tokens=turn_tokens))
    nothing = [Exchange(question="?", answer="")]

    for sample in samples.mixture(0).understanding:
        bare = write_conversation(
            nothing, words, image_tokens=16, tokens=0, num_images=sample.plan.num_images
        )
        ends = sum(token == words.special.eos for token in sample.plan.token_ids)
        assert ends == 1 or len(sample.plan) <= len(bare.plan) + turn_tokens


def test_text_samples_learn_every_token_and_see_nothing(words: TextTokenizer) -> None:
    samples = samples_of(words, replace(STAGE, stage="language", batch_size=16)).mixture(0)

    assert not samples.understanding
    assert not samples.generation
    assert all(sample.pixel_values is None for sample in samples.text)
    assert all(sample.is_learnt == (False,) + (True,) * (len(sample.plan) - 1) for sample in samples.text)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 32)])
def test_prompts_are_dropped_with_the_stage_s_probability(
    words: TextTokenizer, share: float, expected: int
) -> None:
    stage = replace(STAGE, mix=(0, 0, 1), batch_size=32, drop_prompt=share)
    drawn = samples_of(words, stage).mixture(0).generation

    assert sum(sample.plan == unconditional(sample.plan, words) for sample in drawn) == expected


def test_one_token_a_patch_draws_in_pure_colours(words: TextTokenizer) -> None:
    stage = replace(STAGE, batch_size=24, mix=(0, 0, 1), one_token_a_patch=True)
    pure = torch.tensor([*COLOUR_RGB.values(), *GROUND_RGB.values()])
    samples = samples_of(words, stage)
    drawn = torch.stack([sample.pixel_values for sample in samples.mixture(0).generation])
    for pictures in (drawn, samples.to_draw(0)):
        corners = ((pictures[:, :, 0, 0] + 1) * 127.5).round().long()
        assert all(bool((corner == pure).all(dim=1).any()) for corner in corners)
    shaded = samples_of(words, replace(stage, one_token_a_patch=False)).mixture(0).generation
    assert [sample.plan for sample in shaded] == [sample.plan for sample in samples.mixture(0).generation]
    assert not any(map(torch.equal, drawn, (sample.pixel_values for sample in shaded)))


def test_patches_are_met_in_the_same_pictures_in_every_stage(words: TextTokenizer) -> None:
    first, later = (samples_of(words, STAGE, offset).to_draw(1) for offset in (0, 2_000_000_000))
    assert torch.equal(first, later)


def test_a_kept_prompt_is_planned_as_for_drawing(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(0, 0, 1), drop_prompt=0.0)
    sample = samples_of(words, stage).mixture(0).generation[0]
    inner = sample.plan.token_ids[2:]
    text = words.decode(inner[: inner.index(words.special.assistant)]).removeprefix(": ").strip()

    assert plan_drawing(text, words) == sample.plan


def test_simple_scenes_hold_a_single_thing(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(1, 0, 0), batch_size=12, simple_share=1.0, steps=10**9)
    samples = samples_of(words, stage).mixture(0).understanding

    for number, sample in enumerate(samples):
        shown = render(sample_scene(number, kinds=("single",)), 32)
        assert sample.pixel_values is not None
        assert torch.equal(sample.pixel_values[0], to_vq_input(shown, 32, "crop"))


def test_simple_scenes_grow_rarer_towards_the_end(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(0, 0, 1), batch_size=40, simple_share=1.0, steps=10)
    samples = samples_of(words, stage)

    def simple(n: int) -> int:
        drawn = samples.mixture(n).generation
        numbers = range(40 * n, 40 * (n + 1))
        scenes = [sample_scene(i, kinds=("single",), is_plain=True) for i in numbers]
        singles = [to_vq_input(render(scene, 32), 32, "crop") for scene in scenes]
        return sum(torch.equal(d.pixel_values, s) for d, s in zip(drawn, singles, strict=True))

    assert simple(0) > 30
    assert simple(9) < 20


@pytest.fixture(scope="module")
def instructed(words: TextTokenizer) -> str:
    stage = replace(STAGE, stage="III", mix=(1, 0, 0), batch_size=150)
    mixture = samples_of(words, stage).mixture(0)
    return "\n".join(words.decode(sample.plan.token_ids) for sample in mixture.understanding)


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_the_caption_styles_own_words_are_taught(instructed: str, style: str) -> None:
    assert CAPTION_STYLES[style] in instructed


def test_nearly_half_of_all_conversations_are_a_caption_alone(words: TextTokenizer) -> None:
    stage = replace(STAGE, stage="III", mix=(1, 0, 0), batch_size=300)
    conversations = [
        learnt_text(sample, words) for sample in samples_of(words, stage).mixture(0).understanding
    ]
    captions = {caption(sample_scene(n), style) for n in range(300) for style in STYLES}
    alone = [text.strip().removesuffix("|") in captions for text in conversations]
    assert 0.35 < sum(alone) / len(alone) < 0.5


def test_questions_outside_the_world_are_taught(instructed: str) -> None:
    assert "I only know coloured shapes." in instructed


def test_a_caption_batch_pairs_each_picture_with_its_own_caption(words: TextTokenizer) -> None:
    stage = replace(STAGE, stage="vision", batch_size=6)
    pixels, captions, labels = samples_of(words, stage).captioned(0, torch.device("cpu"))

    told = words.decode(captions[0])
    assert pixels.shape == (6, 3, 32, 32)
    assert torch.equal(labels[0], torch.from_numpy(patch_labels(sample_scene(0), 32, 8)))
    assert told in {caption(sample_scene(0), style) for style in ("short", "detailed", "tags")}


def test_captions_fit_the_text_tower(words: TextTokenizer) -> None:
    stage = replace(STAGE, stage="vision", batch_size=64)
    _, captions, _ = samples_of(words, stage).captioned(0, torch.device("cpu"))

    assert max(map(len, captions)) <= 96


@pytest.mark.parametrize("number", range(40))
def test_a_near_miss_differs_in_one_sort_and_stays_on_the_training_side(number: int) -> None:
    scene = sample_scene(number)
    other = near_miss(scene, new_dice("test", number))

    assert other is not None
    assert not is_test_composition(other)
    before, after = ({(t.colour, t.shape) for t in s.things} for s in (scene, other))
    assert len(before - after) == len(after - before) == 1
    assert caption(scene, "short") != caption(other, "short")


def test_no_control_word_of_the_template_is_taught_as_text(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(1, 1, 0), batch_size=20)
    mixture = samples_of(words, stage).mixture(0)
    special = {words.special.bos, words.special.pad, words.special.image, words.special.begin_of_image}

    for sample in mixture.understanding:
        learnt = {
            t for t, is_learnt in zip(sample.plan.token_ids, sample.is_learnt, strict=True) if is_learnt
        }
        assert not learnt & special
    assert IMAGE_PLACEHOLDER not in words.decode(mixture.text[0].plan.token_ids)
