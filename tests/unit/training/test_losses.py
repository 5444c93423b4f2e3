"""Losses: worked out by hand on a micro model, and what learns in which stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from janus_core import Compute, JanusModel
from janus_core.generation.drawing import DrawingStep
from janus_core.generation.plans import DrawPlan
from janus_core.generation.prefill import pad_left, prefill
from janus_core.generation.static_decoder import decoder_for
from janus_core.inputs.prompting import SYSTEM_TEXT, PromptPlan, plan_drawing, unconditional
from janus_core.inputs.text_tokenizer import TextTokenizer
from janus_core.options import DrawOptions
from janus_training.conversations import (
    Exchange,
    Lesson,
    learn_all,
    split_behind_pictures,
    write_conversation,
)
from janus_training.language_task import DrawSample, LanguageTask, Mixture, Shown
from janus_training.loop import take_step
from janus_training.optimiser import Optimiser, hidden_matrices
from janus_training.recipe import StageRecipe, find_recipe
from janus_training.shared_start import pack, packed_states
from janus_training.vision_task import VisionTask, naming_loss
from janus_training.vq_task import RecognisingTask, RestoringTask
from janus_training.weights import new_model
from janus_training.words import learn_tokenizer
from janus_training.world.passages import passage
from janus_training.world.patch_labels import CLASSES, UNKNOWN

RECIPE = find_recipe("micro")
CPU = torch.device("cpu")
COMPUTE = Compute(device=CPU, dtype=torch.float32)
STAGE = StageRecipe(stage="mix", steps=5, batch_size=4, learning_rate=0.01, mix=(2, 1, 1), warmup_steps=0)
CODES = RECIPE.model.codebook_size


@pytest.fixture(scope="module")
def words() -> TextTokenizer:
    sentences = (f" {part.prompt} {part.answer} {SYSTEM_TEXT}" for part in map(passage, range(100)))
    return TextTokenizer(learn_tokenizer(sentences, RECIPE.model.vocabulary), source="test")


@pytest.fixture
def model() -> JanusModel:
    fresh = new_model(RECIPE.model.to_config(), seed=3)
    with torch.no_grad():  # louder than first weights are, so that every token differs from the mean
        fresh.language.language_model.lm_head.weight.mul_(20)
        fresh.language.generation_head.output.weight.mul_(20)
        fresh.language.language_model.embed_tokens.weight.mul_(20)
    return fresh


@pytest.fixture
def naming() -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(RECIPE.model.hidden_size, sum(CLASSES))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=seeded(seed)) * 2 - 1


def labels(count: int, seed: int = 0) -> Tensor:
    columns = [
        torch.randint(classes, (count, 64), generator=seeded(seed + n)) for n, classes in enumerate(CLASSES)
    ]
    return torch.stack(columns, dim=-1)


def conversation(words: TextTokenizer, *talk: Exchange, pictures: int = 1) -> Lesson:
    return write_conversation(talk, words, image_tokens=64, tokens=10_000, num_images=pictures)


SHORT, LONG = Exchange(question="What is this?", answer="A star."), Exchange(question="And?", answer="Red.")


def shown(words: TextTokenizer, *talks: tuple[Exchange, ...], pictures: int = 1, seed: int = 0) -> Shown:
    split = [split_behind_pictures(conversation(words, *talk, pictures=pictures)) for talk in talks]
    return Shown(
        start=split[0][0],
        pixel_values=pixels(pictures, seed),
        labels=labels(pictures, seed),
        asked=[continuation for _, continuation in split],
    )


def understanding(words: TextTokenizer) -> list[Shown]:
    """Two pictures with questions of their own, of different length, and two shown together."""
    return [
        shown(words, (SHORT,), (LONG, SHORT)),
        shown(words, (LONG,), (SHORT,), (SHORT, LONG), seed=1),
        shown(words, (SHORT,), pictures=2, seed=2),
    ]


def read(words: TextTokenizer) -> list[Lesson]:
    lessons = []
    for text in ("A red circle.", "A star."):
        ids = tuple(words.encode(text))
        plan = PromptPlan(token_ids=ids, is_image=(False,) * len(ids), num_images=0)
        lessons.append(learn_all(Lesson(plan=plan, is_learnt=())))
    return lessons


def generation(words: TextTokenizer) -> list[DrawSample]:
    plans = [plan_drawing(text, words) for text in ("a red circle", "a star", "two blue squares")]
    plans[1] = unconditional(plans[1], words)
    return [
        DrawSample(plan=plan, tokens=torch.randint(CODES, (8, 8), generator=seeded(n)))
        for n, plan in enumerate(plans)
    ]


def task_of(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer, stage: StageRecipe = STAGE, **kinds: Any
) -> LanguageTask:
    mixture = Mixture(**({"understanding": (), "text": (), "generation": ()} | kinds))
    return LanguageTask(model, naming, stage, lambda _: mixture, words.special.pad)


def log_probabilities(model: JanusModel, lesson: Lesson, pictures: Tensor | None) -> list[Tensor]:
    """Score what is learnt of one sequence alone by the plainest path: one row, no padding, no sharing."""
    ids, is_image = torch.tensor([lesson.plan.token_ids]), torch.tensor([lesson.plan.is_image])
    images = None if pictures is None else model.seeing(pictures)
    embeddings = model.language.embed_prompt(ids, is_image, images, torch.float32)
    hidden = model.language.language_model(embeddings, torch.arange(ids.shape[1])[None])
    logits = model.language.language_model.lm_head(hidden)[0, :-1]
    scores = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]  # (t - 1)
    return [score for score, is_learnt in zip(scores, lesson.is_learnt[1:], strict=True) if is_learnt]


def test_every_question_is_scored_as_if_it_were_asked_alone(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer
) -> None:
    samples = understanding(words)
    alone = [
        (conversation(words, SHORT), samples[0]),
        (conversation(words, LONG, SHORT), samples[0]),
        (conversation(words, LONG), samples[1]),
        (conversation(words, SHORT), samples[1]),
        (conversation(words, SHORT, LONG), samples[1]),
        (conversation(words, SHORT, pictures=2), samples[2]),
    ]
    scores = [score for lesson, one in alone for score in log_probabilities(model, lesson, one.pixel_values)]

    loss = task_of(model, naming, words, replace(STAGE, mix=(1, 0, 0)), understanding=samples).loss(0)

    torch.testing.assert_close(loss["understanding"], -torch.stack(scores).mean())


def test_sharing_a_start_changes_no_gradient(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer
) -> None:
    parameters = [
        *model.seeing.parameters(),
        *model.language.language_model.parameters(),
    ]
    task = task_of(
        model, naming, words, replace(STAGE, mix=(1, 0, 0)), understanding=[shown(words, (SHORT,), (LONG,))]
    )
    plain = [
        score
        for talk in (SHORT, LONG)
        for score in log_probabilities(model, conversation(words, talk), pixels(1))
    ]
    expected = torch.autograd.grad(-torch.stack(plain).mean(), parameters, allow_unused=True)

    found = torch.autograd.grad(task.loss(0)["understanding"], parameters, allow_unused=True)

    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_packed_rows_count_positions_on_from_their_start(words: TextTokenizer) -> None:
    one = shown(words, (SHORT,), (LONG,))
    packed = pack([(one.start, one.asked)], words.special.pad)
    begun, first = len(one.start), len(one.asked[0].token_ids)

    assert packed.positions[0, :begun].tolist() == list(range(begun))
    assert packed.positions[0, begun] == packed.positions[0, begun + first] == begun
    assert packed.parts[0, [begun - 1, begun, begun + first]].tolist() == [0, 1, 2]
    assert packed.is_image.sum() == 64


def test_a_question_does_not_see_the_one_before(model: JanusModel, words: TextTokenizer) -> None:
    def second_states(first: Exchange) -> Tensor:
        one = shown(words, (first,), (SHORT,))
        packed = pack([(one.start, one.asked)], words.special.pad)
        embeddings = model.language.embed_prompt(
            packed.token_ids, packed.is_image, model.seeing(pixels(1)), torch.float32
        )
        return packed_states(model.language.language_model, embeddings, packed, 0)[packed.parts == 2]

    torch.testing.assert_close(second_states(LONG), second_states(SHORT))


def test_text_is_learnt_token_by_token(model: JanusModel, naming: nn.Linear, words: TextTokenizer) -> None:
    scores = [score for lesson in read(words) for score in log_probabilities(model, lesson, None)]

    loss = task_of(model, naming, words, replace(STAGE, mix=(0, 1, 0)), text=read(words)).loss(0)

    torch.testing.assert_close(loss["text"], -torch.stack(scores).mean())


def test_the_drawing_loss_is_what_the_inference_path_gives_the_true_tokens(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer
) -> None:
    samples = generation(words)
    tokens = torch.stack([sample.tokens for sample in samples]).flatten(1)
    plans = [DrawPlan(cond=sample.plan, uncond=sample.plan, seed=0) for sample in samples]
    scores = []
    with torch.no_grad():
        step = DrawingStep(
            model.language,
            plans,
            DrawOptions(cfg_weight=1.0).decided(),
            num_image_tokens=64,
            pad=words.special.pad,
            compute=COMPUTE,
        )
        hidden = step.first
        for cell in range(64):
            scores.append(
                step.steered(step.image_logits(hidden)).log_softmax(-1).gather(1, tokens[:, cell : cell + 1])
            )
            hidden = step.feed(tokens[:, cell])

    loss = task_of(model, naming, words, replace(STAGE, mix=(0, 0, 1)), generation=samples).loss(0)

    torch.testing.assert_close(loss["generation"], -torch.cat(scores).mean())


def test_an_answer_is_scored_as_the_inference_path_scores_it(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer
) -> None:
    lesson, sample = conversation(words, SHORT), shown(words, (SHORT,))
    start = lesson.is_learnt.index(True)
    plan = PromptPlan(
        token_ids=lesson.plan.token_ids[:start], is_image=lesson.plan.is_image[:start], num_images=1
    )
    answer = torch.tensor(lesson.plan.token_ids[start:])
    scores = []
    with torch.no_grad():
        images = model.seeing(sample.pixel_values)
        prompts = pad_left([plan], words.special.pad, CPU)
        row = prefill(model.language, prompts, images, new_tokens=len(answer), compute=COMPUTE)
        decoder = decoder_for(model.language.language_model, row, COMPUTE)
        hidden = row.hidden
        for token in answer:
            logits = model.language.language_model.lm_head(hidden)
            scores.append(logits.log_softmax(-1)[0, token])
            hidden = decoder.step(model.language.language_model.embed_tokens(token[None]))

    loss = task_of(model, naming, words, replace(STAGE, mix=(1, 0, 0)), understanding=[sample]).loss(0)

    torch.testing.assert_close(loss["understanding"], -torch.stack(scores).mean())


def test_what_keeps_seeing_learns_no_tower_and_names_no_patches(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer
) -> None:
    stage = replace(STAGE, stage="questions", mix=(1, 0, 0), keep_seeing=True)
    task = task_of(model, naming, words, stage, understanding=understanding(words))

    losses = task.loss(0)
    losses["understanding"].backward()

    assert list(losses) == ["understanding"]
    assert {id(p) for p in task.parameters()} == {id(p) for p in model.language.parameters()}
    assert all(p.grad is None for p in model.seeing.parameters())
    assert model.language.language_model.embed_tokens.weight.grad is not None
    learning = task_of(model, naming, words, replace(stage, keep_seeing=False))
    assert {id(p) for p in model.seeing.parameters()} <= {id(p) for p in learning.parameters()}


def test_losses_are_weighted_by_their_share_of_the_mixture(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer
) -> None:
    samples: dict[str, Any] = {
        "understanding": understanding(words),
        "text": read(words),
        "generation": generation(words),
    }
    mixed = task_of(model, naming, words, replace(STAGE, mix=(5, 1, 4)), **samples).loss(0)

    for kind, weight in (("understanding", 0.5), ("text", 0.1), ("generation", 0.4)):
        shares = tuple(float(name == kind) for name in samples)
        alone = task_of(model, naming, words, replace(STAGE, mix=shares), **{kind: samples[kind]}).loss(0)
        torch.testing.assert_close(mixed[kind], alone[kind] * weight)


LEARNING = {
    "vq_decoder": ("vq_tokenizer.codebook", "vq_tokenizer.decoder", "vq_tokenizer.post_quant_conv"),
    "vq_encoder": ("vq_tokenizer.encoder", "vq_tokenizer.quant_conv"),
    "vision": ("seeing.",),
    "drawing": ("language.",),
    "mix": ("seeing.", "language."),
}
STILL = ("language.language_model.embed_tokens", "language.language_model.lm_head")


def task_for(stage: Any, model: JanusModel, naming: nn.Linear, words: TextTokenizer) -> Any:
    recipe = replace(STAGE, stage=stage, mix=(0, 0, 1) if stage == "drawing" else (2, 1, 1))
    if stage == "vq_decoder":
        return RestoringTask(model.vq_tokenizer, lambda _: (generation(words)[0].tokens[None], pixels(1)))
    if stage == "vq_encoder":
        return RecognisingTask(model.vq_tokenizer, lambda _: (generation(words)[0].tokens[None], pixels(1)))
    if stage == "vision":
        return VisionTask(model.seeing, naming, lambda _: (pixels(2), labels(2)))
    kinds: dict[str, Any] = {"generation": generation(words)}
    if stage == "mix":
        kinds |= {"understanding": understanding(words), "text": read(words)}
    return task_of(model, naming, words, recipe, **kinds)


@pytest.mark.parametrize("stage", LEARNING)
def test_a_stage_changes_its_own_parts_and_no_others(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer, stage: Any
) -> None:
    task = task_for(stage, model, naming, words)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    learning = list(task.parameters())
    model.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    recipe = replace(STAGE, stage=stage)
    take_step(task, Optimiser(learning, hidden_matrices(model), 0.05), recipe, 0)

    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    expected = {name for name in before if name.startswith(LEARNING[stage])}
    still = {name for name in expected if stage == "drawing" and name.startswith(STILL[1])}
    assert changed == expected - still  # no word is written while only drawing is learnt


def near_an_outline(pictures: Tensor) -> Tensor:
    """Say by the plainest loop which pixels (b, 1, h, w) lie within two of a step of a quarter in 0..1."""
    height, width = pictures.shape[2:]
    marked = torch.zeros(len(pictures), 1, height, width)
    for b, y, x in torch.cartesian_prod(*map(torch.arange, (len(pictures), height, width))).tolist():
        for dy, dx in ((0, 1), (1, 0)):
            if y + dy < height and x + dx < width:
                step = (pictures[b, :, y + dy, x + dx] - pictures[b, :, y, x]).abs().max() / 0.5
                area = marked[b, 0, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                area.copy_(torch.maximum(area, step.clamp(max=1)))
    return marked


def test_restoring_compares_pixels_and_edges_with_the_picture_of_the_tokens(model: JanusModel) -> None:
    tokens, shown_pixels = torch.randint(CODES, (1, 8, 8), generator=seeded(1)), pixels(1)
    vq = model.vq_tokenizer
    with torch.no_grad():
        restored = vq.decode(tokens, torch.float32)
        error = restored - shown_pixels
        weight = 1 + 4 * near_an_outline(shown_pixels)
        edges = sum((restored.diff(dim=axis) - shown_pixels.diff(dim=axis)).abs().mean() for axis in (2, 3))

    losses = RestoringTask(vq, lambda _: (tokens, shown_pixels)).loss(0)

    torch.testing.assert_close(losses["pixels"], (weight * error.abs()).mean())
    torch.testing.assert_close(losses["squares"], 2 * (weight * error.square()).mean())
    torch.testing.assert_close(losses["edges"], edges)


def test_recognising_chooses_among_all_codes_by_their_cosine(model: JanusModel) -> None:
    tokens, shown_pixels = torch.randint(CODES, (2, 8, 8), generator=seeded(1)), pixels(2)
    vq = model.vq_tokenizer
    with torch.no_grad():
        latents = vq.latents(shown_pixels).permute(0, 2, 3, 1).reshape(-1, vq.config.code_width)
        cosines = F.normalize(latents, dim=1) @ F.normalize(vq.codebook.weight, dim=1).T
        expected = F.cross_entropy(16 * cosines, tokens.flatten())

    torch.testing.assert_close(
        RecognisingTask(vq, lambda _: (tokens, shown_pixels)).loss(0)["codes"], expected
    )
    found = vq.encode(shown_pixels).flatten()
    assert torch.equal(found, cosines.argmax(dim=1))


def test_naming_sums_what_there_is_to_name(naming: nn.Linear) -> None:
    features = torch.randn(2, 64, RECIPE.model.hidden_size, generator=seeded(0))
    known = labels(2)
    parts = naming(features).split(CLASSES, dim=-1)
    each = [F.cross_entropy(part.flatten(0, 1), known[..., n].flatten()) for n, part in enumerate(parts)]

    torch.testing.assert_close(naming_loss(naming, features, known), torch.stack(each).sum())

    known[..., 3] = UNKNOWN
    torch.testing.assert_close(naming_loss(naming, features, known), torch.stack(each[:3] + each[4:]).sum())


@pytest.mark.parametrize("stage", ["mix", "drawing", "vq_decoder"])
def test_losses_in_bfloat16_stay_close(
    model: JanusModel, naming: nn.Linear, words: TextTokenizer, stage: str
) -> None:
    task = task_for(stage, model, naming, words)
    exact = torch.stack(list(task.loss(0).values())).sum()
    with torch.autocast("cpu", torch.bfloat16):
        rough = torch.stack([loss.float() for loss in task.loss(0).values()]).sum()
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
