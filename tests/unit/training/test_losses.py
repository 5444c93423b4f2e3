"""Losses: worked out by hand on a micro model, and what learns in which stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from janus_core import Compute, JanusModel
from janus_core.generation.drawing import DrawingStep, DrawPlan
from janus_core.generation.prefill import pad_left, prefill
from janus_core.generation.static_decoder import decoder_for
from janus_core.inputs.prompting import SYSTEM_TEXT, PromptPlan, plan_drawing, unconditional
from janus_core.inputs.text_tokenizer import TextTokenizer
from janus_core.options import DrawOptions
from janus_training.conversations import Exchange, write_conversation
from janus_training.language_task import DrawSample, LanguageTask, Mixture, TextSample, in_buckets
from janus_training.loop import take_step
from janus_training.optimiser import Optimiser, hidden_matrices
from janus_training.recipe import StageRecipe, find_recipe
from janus_training.shared_start import hidden_states, shared_tokens
from janus_training.vision_task import TextTower, VisionTask
from janus_training.vq_task import VQTask
from janus_training.weights import fill, new_model
from janus_training.words import learn_tokenizer
from janus_training.world.passages import passage

RECIPE = find_recipe("micro")
CPU = torch.device("cpu")
COMPUTE = Compute(device=CPU, dtype=torch.float32)
STAGE = StageRecipe(stage="II", steps=5, batch_size=4, learning_rate=0.01, mix=(2, 1, 1))


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


def pixels(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def seen(words: TextTokenizer, *talk: Exchange, seed: int = 0) -> TextSample:
    lesson = write_conversation(talk, words, image_tokens=16, tokens=10_000)
    return TextSample(plan=lesson.plan, is_learnt=lesson.is_learnt, pixel_values=pixels(1, seed))


def understanding(words: TextTokenizer) -> list[TextSample]:
    short, long = (
        Exchange(question="What is this?", answer="A star."),
        Exchange(question="And?", answer="Red."),
    )
    return [seen(words, short), seen(words, long, short, seed=1)]


def read(words: TextTokenizer) -> list[TextSample]:
    ids = tuple(words.encode("A red circle."))
    plan = PromptPlan(token_ids=ids, is_image=(False,) * len(ids), num_images=0)
    return [TextSample(plan=plan, is_learnt=(False,) + (True,) * (len(ids) - 1), pixel_values=None)]


def generation(words: TextTokenizer) -> list[DrawSample]:
    plans = [plan_drawing(text, words) for text in ("a red circle", "a star", "two blue squares")]
    plans[1] = unconditional(plans[1], words)
    return [DrawSample(plan=plan, pixel_values=pixels(1, 5 + n)[0]) for n, plan in enumerate(plans)]


def task_of(
    model: JanusModel, words: TextTokenizer, stage: StageRecipe = STAGE, **kinds: Any
) -> LanguageTask:
    mixture = Mixture(**({"understanding": (), "text": (), "generation": ()} | kinds))
    return LanguageTask(model, stage, lambda _: mixture, words.special.pad)


def text_log_probabilities(model: JanusModel, sample: TextSample) -> Tensor:
    """Score each token of one sequence alone by the plainest path: one row, no padding, no sharing."""
    ids, is_image = torch.tensor([sample.plan.token_ids]), torch.tensor([sample.plan.is_image])
    images = None if sample.pixel_values is None else model.seeing(sample.pixel_values)
    embeddings = model.language.embed_prompt(ids, is_image, images, torch.float32)
    hidden = model.language.language_model(embeddings, torch.arange(ids.shape[1])[None])
    logits = model.language.language_model.lm_head(hidden)[0, :-1]
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]  # (t - 1)


def learnt_log_probabilities(model: JanusModel, samples: list[TextSample]) -> list[Tensor]:
    return [
        score
        for sample in samples
        for score, is_learnt in zip(text_log_probabilities(model, sample), sample.is_learnt[1:], strict=True)
        if is_learnt
    ]


def test_buckets_hold_like_lengths_and_change_no_loss(model: JanusModel, words: TextTokenizer) -> None:
    long = read(words)
    short = [
        TextSample(plan=plan_of(sample, 2), is_learnt=sample.is_learnt[:2], pixel_values=None)
        for sample in long
    ]
    samples = [long[0], *short, *long[1:]]
    buckets = in_buckets(samples)
    scores = learnt_log_probabilities(model, samples)

    loss = task_of(model, words, replace(STAGE, mix=(0, 1, 0)), text=samples).loss(0)

    assert len(buckets) > 1
    assert sorted(map(id, samples)) == sorted(id(sample) for bucket in buckets for sample in bucket)
    for bucket in buckets:
        lengths = [len(sample.plan) for sample in bucket]
        assert max(lengths) <= 1.25 * min(lengths)
    torch.testing.assert_close(loss["text"], -torch.stack(scores).mean())


def plan_of(sample: TextSample, tokens: int) -> PromptPlan:
    """Return the first tokens of a text without pictures."""
    return PromptPlan(
        token_ids=sample.plan.token_ids[:tokens], is_image=sample.plan.is_image[:tokens], num_images=0
    )


@pytest.mark.parametrize("kind", ["understanding", "text"])
def test_the_text_loss_is_the_mean_cross_entropy_of_what_is_learnt(
    model: JanusModel, words: TextTokenizer, kind: str
) -> None:
    samples = understanding(words) if kind == "understanding" else read(words)
    scores = learnt_log_probabilities(model, samples)

    loss = task_of(model, words, replace(STAGE, mix=(1, 0, 0)), understanding=samples).loss(0)

    assert len(scores) == sum(sum(sample.is_learnt) for sample in samples)
    torch.testing.assert_close(loss["understanding"], -torch.stack(scores).mean())


def test_the_drawing_loss_is_what_the_inference_path_gives_the_true_tokens(
    model: JanusModel, words: TextTokenizer
) -> None:
    samples = generation(words)
    tokens = model.vq_tokenizer.encode(torch.stack([s.pixel_values for s in samples])).flatten(1)
    plans = [DrawPlan(cond=sample.plan, uncond=sample.plan, seed=0) for sample in samples]
    scores = []
    with torch.no_grad():
        step = DrawingStep(
            model.language,
            plans,
            DrawOptions(cfg_weight=1.0),
            num_image_tokens=16,
            pad=words.special.pad,
            compute=COMPUTE,
        )
        hidden = step.first
        for cell in range(16):
            scores.append(step.score(hidden).log_softmax(-1).gather(1, tokens[:, cell : cell + 1]))
            hidden = step.feed(tokens[:, cell])

    loss = task_of(model, words, replace(STAGE, mix=(0, 0, 1)), generation=samples).loss(0)

    torch.testing.assert_close(loss["generation"], -torch.cat(scores).mean())


def test_given_tokens_are_drawn_instead_of_the_vq_tokenizers(model: JanusModel, words: TextTokenizer) -> None:
    samples, stage = generation(words), replace(STAGE, mix=(0, 0, 1))
    others = pixels(3, seed=9)
    mixture = Mixture(understanding=(), text=(), generation=samples)
    encode = model.vq_tokenizer.encode
    task = LanguageTask(model, stage, lambda _: mixture, words.special.pad, lambda _: encode(others))
    redrawn = [replace(one, pixel_values=other) for one, other in zip(samples, others, strict=True)]
    expected = task_of(model, words, stage, generation=redrawn).loss(0)["generation"]
    torch.testing.assert_close(task.loss(0)["generation"], expected)
    assert (
        task.loss(0)["generation"] != task_of(model, words, stage, generation=samples).loss(0)["generation"]
    )


def test_an_answer_is_scored_as_the_inference_path_scores_it(model: JanusModel, words: TextTokenizer) -> None:
    sample = seen(words, Exchange(question="What is this?", answer="A star."))
    start = sample.is_learnt.index(True)
    plan = PromptPlan(
        token_ids=sample.plan.token_ids[:start], is_image=sample.plan.is_image[:start], num_images=1
    )
    answer = torch.tensor(sample.plan.token_ids[start:])
    scores = []
    assert sample.pixel_values is not None
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

    loss = task_of(model, words, replace(STAGE, mix=(1, 0, 0)), understanding=[sample]).loss(0)

    torch.testing.assert_close(loss["understanding"], -torch.stack(scores).mean())


def test_losses_are_weighted_by_their_share_of_the_mixture(model: JanusModel, words: TextTokenizer) -> None:
    samples: dict[str, Any] = {
        "understanding": understanding(words),
        "text": read(words),
        "generation": generation(words),
    }
    mixed = task_of(model, words, replace(STAGE, mix=(5, 1, 4)), **samples).loss(0)

    for kind, weight in (("understanding", 0.5), ("text", 0.1), ("generation", 0.4)):
        shares = tuple(float(name == kind) for name in samples)
        alone = task_of(model, words, replace(STAGE, mix=shares), **{kind: samples[kind]}).loss(0)
        torch.testing.assert_close(mixed[kind], alone[kind] * weight)


def test_rows_that_begin_alike_are_read_as_one_plain_pass_reads_them(model: JanusModel) -> None:
    decoder = model.language.language_model
    embeddings = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(0))
    embeddings[1:, :5] = embeddings[0, :5]
    positions = torch.arange(9)[None].expand(3, -1)

    torch.testing.assert_close(hidden_states(decoder, embeddings, 5), decoder(embeddings, positions))


def test_sharing_a_start_changes_no_gradient(model: JanusModel) -> None:
    decoder = model.language.language_model
    ids = torch.tensor([[7, 8, 9, 1, 2], [7, 8, 9, 3, 4]])

    def gradients(shared: int) -> list[Tensor]:
        hidden = hidden_states(decoder, decoder.embed_tokens(ids), shared)
        loss = hidden.square().sum()
        return list(torch.autograd.grad(loss, [decoder.embed_tokens.weight, *decoder.layers.parameters()]))

    for plain, quick in zip(gradients(0), gradients(3), strict=True):
        torch.testing.assert_close(quick, plain)


@pytest.mark.parametrize(
    ("ids", "images", "expected"),
    [
        ([[1, 2, 3, 4], [1, 2, 9, 4]], [], 2),
        ([[1, 2, 3, 4], [5, 2, 3, 4]], [], 0),
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [], 3),
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [1], 1),
    ],
)
def test_a_common_start_ends_at_the_first_difference_or_picture(
    ids: list[list[int]], images: list[int], expected: int
) -> None:
    is_image = torch.zeros(2, 4, dtype=torch.bool)
    is_image[:, images] = True

    assert shared_tokens(torch.tensor(ids), is_image) == expected


LEARNING = {
    "language": ("language.language_model.",),
    "I": (
        "seeing.understanding_aligner.",
        "language.generation_aligner.",
        "language.image_token_embedding.",
        "language.generation_head.",
    ),
    "II": ("seeing.understanding_aligner.", "language."),
    "III": ("seeing.", "language."),
}


@pytest.mark.parametrize("stage", LEARNING)
def test_a_stage_changes_its_own_parts_and_no_others(
    model: JanusModel, words: TextTokenizer, stage: Any
) -> None:
    kinds: dict[str, Any] = {"text": read(words)}
    if stage != "language":
        kinds |= {"understanding": understanding(words), "generation": generation(words)}
    recipe = replace(STAGE, stage=stage, mix=() if stage == "language" else (2, 1, 1), warmup_steps=0)
    task = task_of(model, words, recipe, **kinds)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    learning = list(task.parameters())
    model.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    take_step(task, Optimiser(learning, hidden_matrices(model), 0.05), recipe, 0)

    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if name.startswith(LEARNING[stage])}


@pytest.mark.parametrize(("stage", "takes_over"), [("I", True), ("II", False), ("III", False)])
def test_image_tokens_begin_stage_one_lying_as_their_codes(
    model: JanusModel, words: TextTokenizer, stage: Any, takes_over: bool
) -> None:
    codes = F.normalize(model.vq_tokenizer.codebook.weight, dim=-1)

    task_of(model, words, replace(STAGE, stage=stage)).begin()

    assert torch.allclose(model.language.image_token_embedding.weight, codes) == takes_over


def near_an_outline(shown: Tensor) -> Tensor:
    """Walk over all pixels: how clear is the clearest edge among those at most two rows and columns away?"""
    edges = torch.zeros(len(shown), 1, *shown.shape[2:])
    for row in range(shown.shape[2] - 1):
        edges[:, 0, row] = (shown[:, :, row + 1] - shown[:, :, row]).abs().amax(1)
    for column in range(shown.shape[3] - 1):
        right = (shown[..., column + 1] - shown[..., column]).abs().amax(1)
        edges[:, 0, :, column] = edges[:, 0, :, column].maximum(right)
    found = torch.zeros_like(edges)
    for row in range(shown.shape[2]):
        for column in range(shown.shape[3]):
            window = edges[..., max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            found[:, :, row, column] = (window.amax(dim=(2, 3)) / 0.5).clamp(max=1)
    return found


def test_the_vq_loss_compares_pixels_edges_and_codes(model: JanusModel) -> None:
    vq, shown = model.vq_tokenizer, pixels(2)
    with torch.no_grad():
        latents = F.normalize(vq.latents(shown), dim=1)
        tokens = vq.encode(shown)
        codes = vq.codes(tokens).permute(0, 3, 1, 2)
        restored = vq.decode(tokens, torch.float32)

    losses = VQTask(vq, lambda _: shown, samples=100).loss(99)

    weight = 1 + 4 * near_an_outline(shown)
    torch.testing.assert_close(losses["pixels"], (weight * (restored - shown).abs()).mean())
    torch.testing.assert_close(losses["squares"], 2 * (weight * (restored - shown).square()).mean())
    across = (restored[..., 1:] - restored[..., :-1]) - (shown[..., 1:] - shown[..., :-1])
    down = (restored[:, :, 1:] - restored[:, :, :-1]) - (shown[:, :, 1:] - shown[:, :, :-1])
    torch.testing.assert_close(losses["edges"], across.abs().mean() + down.abs().mean())
    distance = (codes - latents).square().sum(dim=1).mean()
    torch.testing.assert_close(losses["codebook"], distance)
    torch.testing.assert_close(losses["commitment"], 0.25 * distance)


@pytest.mark.parametrize("sample", [1, 99])
def test_equal_patches_are_drawn_together(model: JanusModel, sample: int) -> None:
    vq, shown = model.vq_tokenizer, pixels(2)
    shown[0, :, :8, :8] = shown[1, :, 24:, 16:24] = 0.5  # one patch of each picture
    latents = F.normalize(vq.latents(shown), dim=1)
    first, second = latents[0, :, 0, 0], latents[1, :, 3, 2]

    found = VQTask(vq, lambda _: shown, samples=100).loss(sample)["alike"]

    mean = (first + second) / 2
    expected = ((first - mean).square().sum() + (second - mean).square().sum()) / (2 * 4 * 4)
    torch.testing.assert_close(found, 4 * expected)


def test_the_vq_encoder_learns_through_the_codes(model: JanusModel) -> None:
    vq = model.vq_tokenizer
    losses = VQTask(vq, lambda _: pixels(2), samples=100).loss(99)

    [gradient] = torch.autograd.grad(losses["pixels"], [vq.encoder.conv_in.weight])

    assert gradient.abs().sum() > 0


def test_latents_pass_without_codes_at_first(model: JanusModel) -> None:
    vq = model.vq_tokenizer
    losses = VQTask(vq, lambda _: pixels(2), samples=100).loss(1)

    assert set(losses) == {"pixels", "squares", "edges", "alike"}
    [gradient] = torch.autograd.grad(losses["pixels"], [vq.encoder.conv_in.weight])
    assert gradient.abs().sum() > 0


def test_codes_are_placed_among_latents_when_their_time_comes(model: JanusModel) -> None:
    vq = model.vq_tokenizer

    def coming(sample: int) -> Tensor:
        return pixels(4) * (1 + sample % 7) / 7

    def distance() -> Tensor:
        latents = torch.cat([F.normalize(vq.latents(coming(sample)), dim=1) for sample in range(40, 64)])
        codes = vq.codes(vq.nearest(latents)).permute(0, 3, 1, 2)
        return (codes - latents).square().sum(dim=1).mean().detach()

    before = distance()
    VQTask(vq, coming, samples=100).loss(40)

    assert distance() < before / 2


def test_unused_codes_move_onto_latents(model: JanusModel) -> None:
    vq, shown = model.vq_tokenizer, pixels(4)
    before = vq.codebook.weight.detach().clone()
    used = set(vq.encode(shown).flatten().tolist())

    VQTask(vq, lambda _: shown, samples=100).loss(45)

    latents = F.normalize(vq.latents(shown), dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    for code in range(32):
        if code in used:
            assert torch.equal(vq.codebook.weight[code], before[code])
        else:
            assert (latents - vq.codebook.weight[code]).norm(dim=1).min() < 1e-5


def tower() -> TextTower:
    with torch.device("meta"):
        text_tower = TextTower(vocabulary=40, width=32, context=8, pad=0)
    fill(text_tower, 1)
    return text_tower


def test_the_matching_loss_takes_every_pair_for_itself(model: JanusModel) -> None:
    text_tower, shown, captions = tower(), pixels(3), [[5, 6, 7], [8, 9], [5, 6, 7]]

    labels = torch.zeros(3, model.seeing.vision_tower(shown).shape[1], 4, dtype=torch.int64)
    task = VisionTask(model.seeing.vision_tower, text_tower, lambda _: (shown, captions, labels))
    loss = task.loss(0)["matching"]

    pictures = text_tower.picture_projection(model.seeing.vision_tower(shown).mean(1))
    texts = torch.cat([text_tower(torch.tensor([ids])) for ids in captions])
    expected = torch.zeros(())
    for i in range(3):
        for j in range(3):
            logit = 10 * torch.cosine_similarity(pictures[i], texts[j], dim=0) - 10
            expected += F.softplus(-logit if captions[i] == captions[j] else logit) / 3
    torch.testing.assert_close(loss, 0.2 * expected)


def test_the_naming_loss_compares_every_patch_with_its_colour_shape_size_and_ground(
    model: JanusModel,
) -> None:
    text_tower, shown = tower(), pixels(2)
    features = model.seeing.vision_tower(shown)
    labels = torch.arange(2 * features.shape[1] * 4).reshape(2, -1, 4) % 4
    task = VisionTask(model.seeing.vision_tower, text_tower, lambda _: (shown, [[5], [6]], labels))

    loss = task.loss(0)["naming"]

    named, expected, start = text_tower.naming(features), torch.zeros(()), 0
    for column, classes in enumerate((9, 7, 4, 6)):
        shares = named[..., start : start + classes].log_softmax(-1)
        expected -= shares.gather(-1, labels[..., column : column + 1]).mean()
        start += classes
    torch.testing.assert_close(loss, expected)


def test_padding_does_not_change_a_caption(model: JanusModel) -> None:
    text_tower = tower()
    alone = text_tower(torch.tensor([[8, 9]]))

    torch.testing.assert_close(text_tower(torch.tensor([[8, 9, 0, 0]])), alone)


@pytest.mark.parametrize("kind", ["understanding", "generation", "vq"])
def test_losses_in_bfloat16_stay_close(model: JanusModel, words: TextTokenizer, kind: str) -> None:
    vq_task = VQTask(model.vq_tokenizer, lambda _: pixels(2), samples=100)
    mixed = task_of(model, words, understanding=understanding(words), generation=generation(words))
    task = vq_task if kind == "vq" else mixed

    exact = task.loss(0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = task.loss(0)

    name = "pixels" if kind == "vq" else kind
    torch.testing.assert_close(rounded[name].float(), exact[name], rtol=0.1, atol=0.02)
