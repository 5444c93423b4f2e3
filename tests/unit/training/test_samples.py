"""Samples: their tokens are laid out as at inference, and say what the picture shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

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
from janus_training.ahead import Ahead
from janus_training.conversations import Exchange, split_behind_pictures, write_conversation, write_document
from janus_training.language_task import Shown
from janus_training.recipe import StageRecipe, find_recipe
from janus_training.samples import Samples
from janus_training.words import learn_tokenizer
from janus_training.world.captions import caption
from janus_training.world.foreign import Sight
from janus_training.world.lessons import lessons_about_one, lessons_about_two
from janus_training.world.parsing import caption_facts
from janus_training.world.passages import passage
from janus_training.world.patch_labels import patch_labels
from janus_training.world.rendering import render
from janus_training.world.roles import read_roles, role_tokens
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.sights import sight
from janus_training.world.vocabulary import KINDS, STYLES

RECIPE = find_recipe("micro")
STAGE = StageRecipe(stage="mix", steps=5, batch_size=8, learning_rate=1.0, mix=(2, 1, 1), drop_prompt=0.5)
TALK = (
    Exchange(question="What colour is the circle?", answer="Red."),
    Exchange(question="How many things are there?", answer="Two."),
    Exchange(question="Describe this image in detail.", answer="There is a red circle and a blue square."),
)
PLENTY = 10_000


@pytest.fixture(scope="module")
def words_json() -> str:
    sentences = (f" {part.prompt} {part.answer} {SYSTEM_TEXT}" for part in map(passage, range(100)))
    return learn_tokenizer(sentences, RECIPE.model.vocabulary)


@pytest.fixture(scope="module")
def words(words_json: str) -> TextTokenizer:
    return TextTokenizer(words_json, source="test")


def samples_of(words: TextTokenizer, stage: StageRecipe = STAGE, offset: int = 0) -> Samples:
    return Samples(words, RECIPE.model, stage, offset)


def learnt_text(sample: Any, words: TextTokenizer) -> str:
    """Return what is learnt of anything with token ids and marks, an end mark as a bar."""
    ids = [token for token, learnt in zip(sample.token_ids, sample.is_learnt, strict=True) if learnt]
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
    start, asked = split_behind_pictures(lesson)

    assert start.token_ids + asked.token_ids == lesson.plan.token_ids
    assert start.token_ids[-1] == words.special.end_of_image
    assert not any(lesson.is_learnt[: len(start)])
    assert learnt_text(asked, words) == " Red.| Two.| There is a red circle and a blue square.|"


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

    assert [sample.asked for sample in first.understanding] == [
        sample.asked for sample in again.understanding
    ]
    assert torch.equal(first.understanding[0].pixel_values, again.understanding[0].pixel_values)
    assert first.text == again.text
    assert [sample.plan for sample in first.generation] == [sample.plan for sample in again.generation]
    assert torch.equal(first.generation[0].tokens, again.generation[0].tokens)
    assert first.understanding[0].asked != other.understanding[0].asked


def test_another_offset_gives_other_samples(words: TextTokenizer) -> None:
    first, other = samples_of(words), samples_of(words, offset=1000)

    assert first.mixture(0).understanding[0].asked != other.mixture(0).understanding[0].asked


def pixel_values_of(one: Sight) -> torch.Tensor:
    return to_pixel_values(read_picture(one.picture), RECIPE.model.to_config().preprocess)


def of_one_picture(samples: list[Shown]) -> list[tuple[int, Shown]]:
    return [(number, one) for number, one in enumerate(samples) if one.start.num_images == 1]


def test_an_understanding_sample_shows_the_sight_it_talks_about(words: TextTokenizer) -> None:
    samples = samples_of(words, replace(STAGE, mix=(1, 0, 0), batch_size=24))
    for number, sample in of_one_picture(list(samples.mixture(0).understanding)):
        seen = samples.asked_about(number)
        assert torch.equal(sample.pixel_values, pixel_values_of(seen)[None])
        expected = patch_labels(seen.scene, 64, seen.has_named_ground)
        assert torch.equal(sample.labels[0], torch.from_numpy(expected))
        assert sum(sample.start.is_image) == 64
        told = [learnt_text(one, words).split("|")[0].strip() for one in sample.asked]
        captions = {caption(seen.scene, style) for style in STYLES}
        assert all(text in captions for text in told if caption_facts(text) and " background" in text)


def test_every_question_is_asked_alone_and_begins_behind_the_picture(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(1, 0, 0), batch_size=24, questions=5)
    samples = samples_of(words, stage).mixture(0).understanding
    assert {one.start.num_images for one in samples} == {1, 2}
    for sample in samples:
        assert len(sample.asked) == (5 if sample.start.num_images == 1 else 3)
        assert all(one.token_ids[-1] == words.special.eos and one.is_learnt[-1] for one in sample.asked)
    turns = Counter(one.token_ids.count(words.special.assistant) for each in samples for one in each.asked)
    assert turns[1] > 0.8 * turns.total()
    assert turns[2] + turns[3] == turns.total() - turns[1] > 0


def test_a_drawing_sample_draws_the_tokens_of_its_scene(words: TextTokenizer) -> None:
    sample = samples_of(words, replace(STAGE, mix=(0, 0, 1)), offset=70).mixture(0).generation[0]

    assert torch.equal(sample.tokens, torch.from_numpy(role_tokens(sample_scene(70, is_drawn=True))))
    assert read_roles(sample.tokens.numpy()) is not None


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 32)])
def test_prompts_are_dropped_with_the_stage_s_probability(
    words: TextTokenizer, share: float, expected: int
) -> None:
    stage = replace(STAGE, mix=(0, 0, 1), batch_size=32, drop_prompt=share)
    drawn = samples_of(words, stage).mixture(0).generation

    assert sum(sample.plan == unconditional(sample.plan, words) for sample in drawn) == expected


def test_a_kept_prompt_is_planned_as_for_drawing(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(0, 0, 1), drop_prompt=0.0)
    sample = samples_of(words, stage).mixture(0).generation[0]
    inner = sample.plan.token_ids[2:]
    text = words.decode(inner[: inner.index(words.special.assistant)]).removeprefix(": ").strip()

    assert plan_drawing(text, words) == sample.plan


def test_simple_scenes_grow_rarer_until_halfway(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(0, 0, 1), batch_size=40, simple_share=1.0, steps=10)

    def simple(n: int) -> int:
        drawn = samples_of(words, stage).mixture(n).generation
        told = [read_roles(sample.tokens.numpy()) for sample in drawn]
        return sum(len(one[1]) == 1 for one in told if one is not None)

    assert simple(0) > 30
    assert simple(5) < 20
    assert simple(9) < 20


def test_text_samples_learn_every_token_and_see_nothing(words: TextTokenizer) -> None:
    mixture = samples_of(words, replace(STAGE, mix=(0, 1, 0), batch_size=16)).mixture(0)

    assert not mixture.understanding
    assert not mixture.generation
    assert all(not any(lesson.plan.is_image) for lesson in mixture.text)
    assert all(lesson.is_learnt == (False,) + (True,) * (len(lesson.plan) - 1) for lesson in mixture.text)


def test_what_is_restored_are_the_pictures_of_its_tokens(words: TextTokenizer) -> None:
    stage = replace(STAGE, stage="vq_decoder", batch_size=20)
    tokens, pictures = samples_of(words, stage).to_restore(0)
    scene = sample_scene(1, is_drawn=True)
    assert torch.equal(pictures[1], to_vq_input(render(scene, 64), 64, "crop"))
    assert torch.equal(tokens[1], torch.from_numpy(role_tokens(scene)))
    outer = [any(thing.is_outer for thing in told[1]) for told in map(read_roles, tokens.numpy()) if told]
    assert len(outer) == 20
    assert all(outer[::3])


def test_what_is_recognised_is_now_and_then_no_picture_to_draw(words: TextTokenizer) -> None:
    stage = replace(STAGE, stage="vq_encoder", batch_size=9)
    tokens, pictures = samples_of(words, stage).to_recognise(0)
    assert tokens.shape == (9, 8, 8)
    assert torch.equal(pictures[3], to_vq_input(sight(3, 64).picture, 64, "crop"))
    assert torch.equal(tokens[3], torch.from_numpy(role_tokens(sight(3, 64).scene)))
    assert torch.equal(pictures[4], to_vq_input(render(sample_scene(4, is_drawn=True), 64), 64, "crop"))


def test_what_is_seen_comes_with_the_labels_of_its_patches(words: TextTokenizer) -> None:
    pixels, labels = samples_of(words, replace(STAGE, stage="vision", batch_size=6)).to_see(0)

    assert pixels.shape == (6, 3, 64, 64)
    assert torch.equal(pixels[2], pixel_values_of(sight(2, 64)))
    assert torch.equal(
        labels[2], torch.from_numpy(patch_labels(sight(2, 64).scene, 64, sight(2, 64).has_named_ground))
    )


ASKED = [
    (number, asked) for number in range(400) for asked in lessons_about_one(sight(number, 64), number, 5)
]


def test_kinds_of_questions_have_their_shares() -> None:
    kinds = Counter(question.kind.split()[0] for _, asked in ASKED for question in asked)
    assert 0.2 < kinds["caption"] / kinds.total() < 0.36
    assert kinds["colour"] > 1.3 * kinds["size"]
    assert min(kinds[kind] for kind in ("mix_up", "relation", "where", "yes_no", "compare", "outside")) > 40


def test_in_the_last_stage_the_one_that_is_meant_must_be_found(words: TextTokenizer) -> None:
    stage = replace(STAGE, stage="questions", mix=(1, 0, 0), steps=600, batch_size=1)
    samples = samples_of(words, stage)
    scenes = [samples.asked_about(number).scene for number in range(600)]
    varied = [len({t.colour for t in s.things}) > 1 < len({t.shape for t in s.things}) for s in scenes]

    assert 0.7 < sum(varied[:390]) / 390 < 0.95
    assert 0.4 < sum(varied[390:]) / 210 < 0.7
    assert min(Counter(scene.kind for scene in scenes[:390])[kind] for kind in KINDS) > 3
    assert Counter(scene.kind for scene in scenes[390:])["count"] > 8


def test_lookups_ask_for_what_must_be_found_by_its_name() -> None:
    shown = [sight(number, 64, ("pair", "mixed"), is_varied=True) for number in range(100)]
    asked = [lessons_about_one(one, number, 4, lookups=1.0) for number, one in enumerate(shown)]
    kinds = Counter(question.kind for lessons in asked for [question] in lessons)

    assert not {"caption", "ground", "absent", "yes_no"} & set(kinds)
    assert min(kinds["relation"], kinds["where"]) > kinds["count"] > kinds["colour"] > 10


def test_nothing_is_said_of_a_ground_without_a_name() -> None:
    unnamed = {number for number in range(400) if not sight(number, 64).has_named_ground}
    told = [question for number, asked in ASKED if number in unnamed for question in asked]
    assert len(told) > 50
    assert not any("background" in question.answer or question.kind == "ground" for question in told)


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_the_caption_styles_own_words_are_taught(style: str) -> None:
    assert CAPTION_STYLES[style] in {question.question for _, asked in ASKED for question in asked}


def test_lessons_about_two_pictures_ask_which() -> None:
    asked = [lesson for n in range(40) for lesson in lessons_about_two(sight(n, 64), sight(n + 50, 64), n, 5)]
    kinds = Counter(question.kind for lesson in asked for question in lesson)
    assert kinds["which"] > kinds["content"] > 0
    assert all(len(lesson) == 1 for lesson in asked)


def test_no_control_word_of_the_template_is_taught_as_text(words: TextTokenizer) -> None:
    stage = replace(STAGE, mix=(1, 1, 0), batch_size=20)
    mixture = samples_of(words, stage).mixture(0)
    special = {words.special.bos, words.special.pad, words.special.image, words.special.begin_of_image}

    for one in (one for sample in mixture.understanding for one in sample.asked):
        learnt = {t for t, is_learnt in zip(one.token_ids, one.is_learnt, strict=True) if is_learnt}
        assert not learnt & special
    assert IMAGE_PLACEHOLDER not in words.decode(mixture.text[0].plan.token_ids)


def test_batches_made_ahead_are_those_made_at_once(words: TextTokenizer, words_json: str) -> None:
    stage = replace(STAGE, stage="vision", batch_size=3)
    ahead = Ahead(words_json, RECIPE.model, stage, 70, workers=1)
    try:
        for n in range(3):
            made: Any = ahead(n)
            for one, other in zip(made, samples_of(words, stage, offset=70).to_see(n), strict=True):
                assert torch.equal(one, other)
    finally:
        ahead.close()
