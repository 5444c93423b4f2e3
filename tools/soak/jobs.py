"""What is asked of the server, in an order that follows from one number: good jobs, cancels, bad inputs.

Pictures, prompts, seeds and options come from short lists, so that the same job comes again, after a restart
or between others, and its results can be compared. Knows graphs, and nothing of servers and files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.comfyui.graphs import Graph

Action = Literal["run", "cancel", "drop", "refuse", "free"]
Link = list[Any]

MODEL = "janus-shapes"
PICTURES = ("landscape.png", "portrait.png", "tiny.png")
DAMAGED_TOKENS = "damaged.janus.safetensors"
PREFIX = "soak"
_PROMPTS = (
    "a red circle",
    "two blue squares",
    "a green triangle above a red star",
    "",
    "a dog on a sofa ½ 日本",
)
_QUESTIONS = (
    "What is this?",
    "How many shapes are there?",
    "Is there a circle?",
    "<image_placeholder> Colour?",
)
_SEEDS = (0, 1, 7, 2**64 - 1)
_LONGEST_WAIT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to do.

    Attributes:
        number: its place in the run.
        kind: what it is about, for the figures.
        action: run it, cancel it, drop it from the queue, expect it to be refused, or free memory.
        graph: the prompt.
        wait_s: before it is cancelled, or the server is killed under it.
    """

    number: int
    kind: str
    action: Action
    graph: Any
    wait_s: float


def job(seed: int, number: int, token_files: Sequence[str], picture_files: Sequence[str]) -> Job:
    """Return a job of a run.

    Args:
        seed: of the run.
        number: of the job.
        token_files: saved by earlier jobs, as Load Janus Tokens names them.
        picture_files: with tokens inside, as Load Image names them.
    """
    rng = random.Random(f"{seed} {number}")
    [kind] = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])
    graph = Graph()
    action: Action = "run"
    if kind in _ACTIONS:
        action = _ACTIONS[kind]
        _draw(graph, rng, most=4)
    elif kind == "bad":
        action = "refuse"
        rng.choice(_BAD)(graph, rng)
    elif kind == "load tokens" and token_files:
        tokens = [graph.add("JanusLoadTokens", file=rng.choice(token_files)), 0]
        _save(graph, [graph.add("JanusDecodeTokens", model=_model(graph, rng), image_tokens=tokens), 0])
    elif kind == "carried" and picture_files:
        image = [graph.add("LoadImage", image=rng.choice(picture_files)), 0]
        _reencode(graph, rng, image)
    else:
        _KINDS[kind][1](graph, rng)
    return Job(number=number, kind=kind, action=action, graph=graph, wait_s=rng.uniform(0, _LONGEST_WAIT_S))


def _model(graph: Any, rng: random.Random) -> Link:
    return graph.load(model=MODEL, dtype=rng.choice(("float32", "float32", "float32", "bfloat16")))


def _picture(graph: Any, rng: random.Random) -> Link:
    return graph.picture(rng.choice(PICTURES))


def _save(graph: Any, images: Link) -> None:
    graph.add("SaveImage", images=images, filename_prefix=f"{PREFIX}/core")


def _drawn(graph: Any, rng: random.Random, most: int = 3) -> tuple[Link, Link, Link]:
    """Add a drawing; return the model, the pictures and their tokens."""
    model = _model(graph, rng)
    options = rng.choice(({}, {"top_k": 50}, {"temperature": 0.0}, {"min_p": 0.05}, {"cfg_weight": 1.0}))
    seed, prompt, batch = rng.choice(_SEEDS), rng.choice(_PROMPTS), rng.randint(1, most)
    node = graph.add("JanusDraw", model=model, prompt=prompt, seed=seed, batch_size=batch, **options)
    return model, [node, 0], [node, 1]


def _draw(graph: Any, rng: random.Random, most: int = 3) -> None:
    _, images, tokens = _drawn(graph, rng, most)
    kept = rng.choice(("images", "tokens", "both"))
    if kept == "images":
        _save(graph, images)
    if kept == "both":
        graph.add(
            "JanusSavePictures", images=images, image_tokens=tokens, filename_prefix=f"{PREFIX}/picture"
        )
    if kept != "images":
        graph.add("JanusSaveTokens", image_tokens=tokens, filename_prefix=f"{PREFIX}/tokens")


def _ask(graph: Any, rng: random.Random) -> None:
    graph.add(
        "JanusAsk", model=_model(graph, rng), image=_picture(graph, rng), question=rng.choice(_QUESTIONS),
        temperature=rng.choice((0.0, 0.0, 1.0)), seed=rng.choice(_SEEDS), max_new_tokens=rng.choice((8, 32)),
    )  # fmt: skip


def _chat(graph: Any, rng: random.Random) -> None:
    model = _model(graph, rng)
    chat: dict[str, Link] = {}
    for turn in range(rng.randint(2, 3)):
        picture = {"image": _picture(graph, rng)} if turn == 0 else {}
        node = graph.add("JanusAsk", model=model, question=_QUESTIONS[turn], **picture, **chat)
        chat = {"chat": [node, 1]}


def _caption(graph: Any, rng: random.Random) -> None:
    image = _picture(graph, rng)
    style = rng.choice(("short", "detailed", "tags"))
    node = graph.add("JanusCaption", model=_model(graph, rng), image=image, style=style)
    if rng.random() < 0.5:
        graph.add("JanusSaveCaptions", images=image, texts=[node, 0], filename_prefix=f"{PREFIX}/caption")


def _redraw(graph: Any, rng: random.Random) -> None:
    image = _picture(graph, rng)
    if rng.random() < 0.5:
        mask = [graph.add("ImageToMask", image=image, channel=rng.choice(("red", "green"))), 0]
    else:
        mask = [graph.add("SolidMask", value=rng.choice((0.0, 1.0)), width=64, height=64), 0]
    node = graph.add(
        "JanusRedraw", model=_model(graph, rng), image=image, mask=mask, prompt=rng.choice(_PROMPTS),
        seed=rng.choice(_SEEDS), strength=rng.choice((0.5, 1.0)), candidates=rng.choice((1, 1, 2)),
    )  # fmt: skip
    _save(graph, [node, 0])


def _judge(graph: Any, rng: random.Random) -> None:
    model, images, tokens = _drawn(graph, rng)
    best = graph.add("JanusScore", model=model, image=images, image_tokens=tokens, keep_best=1)
    graph.add("JanusChoose", model=model, image=[best, 0], question="Which?", choices="red\nblue\ngreen")
    _save(graph, [best, 0])


def _encode(graph: Any, rng: random.Random) -> None:
    _reencode(graph, rng, _picture(graph, rng))


def _reencode(graph: Any, rng: random.Random, image: Link) -> None:
    model = _model(graph, rng)
    tokens = [graph.add("JanusEncodeImage", model=model, image=image), 0]
    graph.add("JanusSaveTokens", image_tokens=tokens, filename_prefix=f"{PREFIX}/tokens")
    _save(graph, [graph.add("JanusDecodeTokens", model=model, image_tokens=tokens), 0])


# --- what must be refused ---


def _bad_picture(graph: Any, rng: random.Random) -> None:
    kinds = ("nan", "infinite", "five channels", "no channels", "empty batch", "three axes", "0 to 255")
    image = graph.made(rng.choice(kinds))
    model = _model(graph, rng)
    if rng.random() < 0.5:
        graph.add("JanusCaption", model=model, image=image)
    else:
        graph.add("JanusAsk", model=model, image=image)


def _bad_model(graph: Any, rng: random.Random) -> None:
    name = rng.choice(("../janus/x", "..", "", "never-seen", "C:\\janus", "x\0", MODEL + "/"))
    model = graph.load(model=rng.choice((name, graph.text(name))))
    graph.add("JanusAsk", model=model, question="What is this?")


def _bad_tokens(graph: Any, rng: random.Random) -> None:
    name = rng.choice(
        ("../x.janus.safetensors", "missing.janus.safetensors", DAMAGED_TOKENS, "landscape.png")
    )
    tokens = [graph.add("JanusLoadTokens", file=graph.text(name)), 0]
    graph.add("JanusSaveTokens", image_tokens=tokens, filename_prefix=f"{PREFIX}/tokens")


def _bad_prefix(graph: Any, rng: random.Random) -> None:
    _, _, tokens = _drawn(graph, rng, most=1)
    prefix = rng.choice(("../outside", "../../outside", "a/../../../outside", "long" * 100, "null\0"))
    graph.add("JanusSaveTokens", image_tokens=tokens, filename_prefix=prefix)


def _bad_question(graph: Any, rng: random.Random) -> None:
    question = rng.choice(("<image_placeholder>" * 3, "word " * 5000))
    graph.add("JanusAsk", model=_model(graph, rng), image=_picture(graph, rng), question=question)


def _bad_number(graph: Any, rng: random.Random) -> None:
    options = rng.choice(({"temperature": 9.0}, {"batch_size": 0}, {"top_p": 0.0}, {"seed": -1}))
    graph.saved([graph.add("JanusDraw", model=_model(graph, rng), **options), 0])


def _bad_choice(graph: Any, rng: random.Random) -> None:
    graph.add("JanusChoose", model=_model(graph, rng), image=_picture(graph, rng), choices=" \n\n")


def _bad_source(graph: Any, rng: random.Random) -> None:
    mask = [graph.add("SolidMask", value=1.0, width=64, height=64), 0]
    graph.saved([graph.add("JanusRedraw", model=_model(graph, rng), mask=mask), 0])


_ACTIONS: dict[str, Action] = {"cancel": "cancel", "drop": "drop", "free": "free"}
_Add = Callable[[Any, random.Random], None]
_BAD: tuple[_Add, ...] = (
    _bad_picture, _bad_model, _bad_tokens, _bad_prefix, _bad_question, _bad_number, _bad_choice, _bad_source,
)  # fmt: skip
_KINDS: dict[str, tuple[int, _Add]] = {
    "draw": (5, _draw),
    "ask": (3, _ask),
    "chat": (2, _chat),
    "caption": (3, _caption),
    "redraw": (4, _redraw),
    "judge": (3, _judge),
    "encode": (2, _encode),
    "load tokens": (3, _draw),  # where no tokens are saved yet, a drawing
    "carried": (2, _draw),
    "cancel": (3, _draw),
    "drop": (1, _draw),
    "bad": (4, _bad_question),
    "free": (1, _draw),
}
