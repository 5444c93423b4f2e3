"""Graphs as people made them for other Janus packs, as a prompt and as the page saves them.

Each pack has a loader, and a node that answers, one that draws, or both; values are in the order of the
widgets, with what becomes of the seed behind it. `become` is what our nodes must be given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CONTROL = "control_after_generate"


@dataclass(frozen=True)
class Foreign:
    """A node of another pack.

    Attributes:
        kind: its id.
        links: inputs that come from the loader, with the loader's output.
        source: the input for a picture; of a drawing node the prompt.
        values: its widgets in order.
        become: inputs of ours.
    """

    kind: str
    links: dict[str, int]
    source: str
    values: dict[str, Any]
    become: dict[str, Any]


@dataclass(frozen=True)
class Pack:
    """Nodes of one pack."""

    loader: str
    model: str
    further: tuple[Any, ...] = ()
    outputs: tuple[str, ...] = ("JANUS_MODEL", "JANUS_PROCESSOR", "TOKENIZER")
    answer: Foreign | None = None
    draw: Foreign | None = None
    chat: Foreign | None = None


def _sampled(**values: Any) -> dict[str, Any]:
    return {"seed": 9, "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 8, "top_k": 50, **values}


_BOTH, _THREE = {"model": 0, "processor": 1}, {"model": 0, "processor": 1, "tokenizer": 2}
_DRAWN = {"seed": 5, "batch_size": 2, "cfg_weight": 3.0, "temperature": 0.7, "top_p": 1.0}


def _cy(prefix: str) -> Pack:
    return Pack(
        loader=f"{prefix}JanusModelLoader",
        model="model_name",
        answer=Foreign(
            f"{prefix}JanusImageUnderstanding", _BOTH, "image",
            {"question": "What?", "seed": 9, CONTROL: "randomize", "temperature": 0.5, "top_p": 0.9,
             "max_new_tokens": 8},
            _sampled(question="What?", ask_each=True),
        ),
        draw=Foreign(
            f"{prefix}JanusImageGeneration", _BOTH, "prompt",
            {"prompt": "a red circle", "seed": 5, CONTROL: "fixed", "batch_size": 2, "cfg_weight": 3.0,
             "temperature": 0.7, "top_p": 0.95},
            _DRAWN,
        ),
    )  # fmt: skip


PACKS = {
    "CY-CHENYUE": _cy(""),
    "BizyAir": _cy("BizyAir_"),
    "chflame163": Pack(
        loader="LoadJanusModel",
        model="model",
        answer=Foreign(
            "JanusImage2Text", {"janus_model": 0}, "image",
            {"question": "What?", "temperature": 0.5, "max_new_tokens": 8, "seed": 9, CONTROL: "randomize"},
            {"question": "What?", "temperature": 0.0, "max_new_tokens": 8, "seed": 9, "ask_each": True},
        ),
        draw=Foreign(
            "JanusTextToImage", {"janus_model": 0}, "prompt",
            {"prompt": "a red circle", "size": 384, "temperature": 0.7, "cfg": 3.0, "token_num": 576,
             "batch_size": 2, "seed": 5, CONTROL: "fixed"},
            _DRAWN,
        ),
    ),
    "greengerong": Pack(
        loader="JanusProModelLoader",
        model="model_name",
        further=("int4", "models/Janus-Pro"),
        answer=Foreign(
            "JanusProImageUnderstanding", _BOTH, "image",
            {"question": "What?", "max_tokens": 8},
            {"question": "What?", "temperature": 0.0, "max_new_tokens": 8, "ask_each": True},
        ),
        draw=Foreign(
            "JanusProImageGenerator", _BOTH, "prompt",
            {"prompt": "a red circle", "system_prompt": "be good", "temperature": 0.8, "num_images": 2,
             "cfg_scale": 7.0, "image_size": "384", "seed": 5, CONTROL: "fixed"},
            {**_DRAWN, "cfg_weight": 5.0, "temperature": 1.0},
        ),
    ),
    "MieMieeeee": Pack(
        loader="JanusProModelLoader|Mie",
        model="model_name",
        answer=Foreign(
            "JanusProDescribeImage|Mie", {"model": 0}, "image",
            {"question": "What?", "seed": 9, CONTROL: "randomize", "temperature": 0.5, "top_p": 0.9,
             "max_new_tokens": 8, "keep_model_loaded": True},
            _sampled(question="What?", ask_each=True),
        ),
    ),
    "ShmuelRonen": Pack(
        loader="VisionModelLoader",
        model="model_path",
        chat=Foreign(
            "UnifiedVisionAnalyzer", {"janus_model": 0}, "image_a",
            {"prompt": "What?", "chat_mode": False, "seed": 9, CONTROL: "randomize", "temperature": 0.5,
             "top_p": 0.9, "max_tokens": 8, "image_size": 1024, "frame_size": 2, "reset_chat": False},
            _sampled(question="What?"),
        ),
    ),
    "ZHO-ZHO-ZHO": Pack(
        loader="Janus_ModelLoader",
        model="model_path",
        answer=Foreign(
            "Janus_MultimodalUnderstanding", _THREE, "image",
            {"question": "What?", "seed": 9, CONTROL: "randomize", "top_p": 0.9, "temperature": 0.5,
             "max_new_tokens": 8},
            _sampled(question="What?", ask_each=True),
        ),
        draw=Foreign(
            "Janus_ImageGeneration", _THREE, "prompt",
            {"prompt": "a red circle", "seed": 5, CONTROL: "fixed", "cfg_weight": 3.0, "temperature": 0.7},
            {**_DRAWN, "batch_size": 5},
        ),
    ),
    "yanhuifair": Pack(
        loader="JanusProModelLoaderNode",
        model="model_name",
        answer=Foreign(
            "JanusProMultimodalUnderstandingNode", {"vl_gpt": 0, "vl_chat_processor": 1}, "images",
            {"question": "What?", "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 8, "seed": 9,
             CONTROL: "randomize"},
            _sampled(question="What?", ask_each=True),
        ),
        draw=Foreign(
            "JanusProImageGenerationNode", {"vl_gpt": 0, "vl_chat_processor": 1}, "prompt",
            {"prompt": "a red circle", "temperature": 0.7, "parallel_size": 2, "cfg_weight": 3.0,
             "image_token_num_per_image": 576, "img_size": 384, "patch_size": 16, "seed": 5,
             CONTROL: "fixed"},
            _DRAWN,
        ),
    ),
    "yichengup": Pack(
        loader="JanusProLoader",
        model="model_path",
        answer=Foreign(
            "ImageAnalyzer", {"janus_model": 0}, "image",
            {"question": "What?", "seed": 9, CONTROL: "randomize", "temperature": 0.5, "top_p": 0.9,
             "max_new_tokens": 8},
            _sampled(question="What?", ask_each=True),
        ),
        draw=Foreign(
            "JanusImageGenerator", {"janus_model": 0}, "prompt",
            {"prompt": "a red circle", "seed": 5, CONTROL: "fixed", "batch_size": 2, "cfg_weight": 3.0,
             "temperature": 0.7, "top_p": 0.9},
            {**_DRAWN, "top_p": 0.9},
        ),
        chat=Foreign(
            "JanusChatAnalyzer", {"janus_model": 0}, "image_a",
            {"question": "What?", "seed": 9, CONTROL: "randomize", "temperature": 0.5, "top_p": 0.9,
             "max_new_tokens": 8, "target_size": 1024, "border_thickness": 2, "clear_history": False},
            _sampled(question="What?"),
        ),
    ),
}  # fmt: skip

Node = tuple[str, Foreign]  # its key in the graph


@dataclass
class Made:
    """A graph of one pack: a picture or a drawing is described, and the text drawn where the pack can.

    Attributes:
        prompt: as the server gets it, without titles.
        nodes: keys of the pack's nodes, with what they must become.
    """

    prompt: dict[str, Any]
    nodes: list[Node] = field(default_factory=list)


def chain(pack: Pack, model: str, picture: str) -> Made:
    """Return load, draw, answer about the drawing, draw the answer, as a prompt; chats get two pictures."""
    made = Made({
        "1": {"class_type": pack.loader, "inputs": {pack.model: model}},
        "2": {"class_type": "LoadImage", "inputs": {"image": picture}},
    })  # fmt: skip
    shown = ["2", 0]
    if pack.draw:
        shown = [_add(made, pack.draw), 0]
        _end(made, "PreviewImage", images=shown)
    for asked in [one for one in (pack.answer, pack.chat) if one]:
        key = _add(made, asked, **{asked.source: shown})
        if asked is pack.chat:
            made.prompt[key]["inputs"]["image_b"] = ["2", 0]
        _end(made, "PreviewAny", source=[key, 0])
        if pack.draw:
            _end(made, "PreviewImage", images=[_add(made, pack.draw, **{pack.draw.source: [key, 0]}), 0])
    return made


def _add(made: Made, node: Foreign, **linked: Any) -> str:
    key = str(len(made.prompt) + 1)
    values = {name: value for name, value in node.values.items() if name != CONTROL}
    links = {name: ["1", output] for name, output in node.links.items()}
    made.prompt[key] = {"class_type": node.kind, "inputs": {**values, **links, **linked}}
    made.nodes.append((key, node))
    return key


def _end(made: Made, kind: str, **inputs: Any) -> None:
    made.prompt[str(len(made.prompt) + 1)] = {"class_type": kind, "inputs": inputs}


def saved(
    nodes: Sequence[dict[str, Any]], links: Sequence[tuple[int, int, int, int, str]], **further: Any
) -> dict[str, Any]:
    """Return a workflow as the page saves it.

    Args:
        nodes: id, type, and what else differs from a node without sockets.
        links: (node, output, node, input, type).
    """
    numbered = [[number, *link] for number, link in enumerate(links, 1)]
    whole = [
        {"pos": [(one["id"] - 1) * 480, 0], "size": [400, 200], "flags": {}, "order": one["id"], "mode": 0,
         "inputs": [], "outputs": [], "properties": {"Node name for S&R": one["type"]}, **one}
        for one in nodes
    ]  # fmt: skip
    for node in whole:
        for at, socket in enumerate(node["inputs"]):
            socket["link"] = next(
                (n for n, *_, to, slot, _t in numbered if (to, slot) == (node["id"], at)), None
            )
        for at, socket in enumerate(node["outputs"]):
            socket["links"] = [n for n, start, slot, *_ in numbered if (start, slot) == (node["id"], at)]
    return {
        "last_node_id": max(node["id"] for node in whole), "last_link_id": len(links), "nodes": whole,
        "links": numbered, "groups": [], "config": {}, "extra": {}, "version": 0.4, **further,
    }  # fmt: skip
