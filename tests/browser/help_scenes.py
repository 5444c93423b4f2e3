"""What the pictures of the help pages show: for each node a small graph in which it is at work."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy_server import BUNDLED, PACK
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

Graph = dict[str, list[Any]]
_PICTURE_PX = 240  # the height of a node that shows one picture, or a row of them
_BIG_PICTURE_PX = 360
_PROMPT = "a red circle left of a blue square"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A graph and what is photographed of it.

    Attributes:
        nodes: type and widget values by a name.
        links: (name, output as it is displayed, name, input).
        rows: the names that are photographed, from top to bottom and from left to right.
        heights: of nodes that would be too small or too large as they are, in pixels.
        is_run: whether Run is pressed first.
        prepare: what is done with the server's folders before.
    """

    nodes: Graph
    links: list[tuple[str, str, str, str]]
    rows: list[list[str]]
    heights: dict[str, int] = field(default_factory=dict)
    is_run: bool = True
    prepare: Callable[[Any], None] | None = None


_LOAD = ["JanusLoad", {"model": BUNDLED}]
_ENLARGE = ["ImageScaleBy", {"upscale_method": "nearest-exact", "scale_by": 4}]
_SHOW = ["PreviewImage", {}]


def _drawn(prompt: str, batch_size: int = 1) -> tuple[Graph, list[tuple[str, str, str, str]]]:
    """Return a drawing that is shown large."""
    nodes: Graph = {
        "load": _LOAD,
        "draw": ["JanusDraw", {"prompt": prompt, "seed": 3, "batch_size": batch_size}],
        "large": _ENLARGE,
        "show": _SHOW,
    }
    return nodes, [("load", "janus", "draw", "model"), *_shown("draw", "images")]


def _shown(
    node: str, output: str, large: str = "large", show: str = "show"
) -> list[tuple[str, str, str, str]]:
    return [(node, output, large, "image"), (large, "IMAGE", show, "images")]


def _about_a_picture(kind: str, values: dict[str, Any], prompt: str = _PROMPT, batch_size: int = 1) -> Scene:
    """Return a scene of a node that looks at a drawing: the picture above, the node with its text below."""
    nodes, links = _drawn(prompt, batch_size)
    nodes["node"] = [kind, values]
    links += [("load", "janus", "node", "model"), ("draw", "images", "node", "image")]
    return Scene(nodes=nodes, links=links, rows=[["show"], ["node"]], heights={"show": _PICTURE_PX})


def _red_as_blue(server: Any) -> None:
    """Put an adapter of the word table among the LoRAs: with it, the bundled model reads red as blue."""
    model = PACK / "janus_core" / "bundled" / BUNDLED
    words = Tokenizer.from_file(str(model / "tokenizer.json"))
    red, blue = (words.encode(f"a {colour} circle").ids[1] for colour in ("red", "blue"))
    name = "language_model.model.embed_tokens"
    table = load_file(model / "model.safetensors")[f"{name}.weight"].float()
    row = torch.zeros(1, len(table))
    row[0, red] = 1.0
    factors = {"lora_embedding_A": row, "lora_embedding_B": (table[blue] - table[red])[:, None].contiguous()}
    tensors = {f"base_model.model.{name}.{part}": factor for part, factor in factors.items()}
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    config = json.dumps({"peft_type": "LORA", "lora_alpha": 1})
    save_file(tensors, folder / "red_as_blue.safetensors", {"adapter_config": config})


def _lora() -> Scene:
    nodes, links = _drawn("a red circle")
    nodes |= {
        "node": ["JanusLoRA", {"adapter": "red_as_blue.safetensors", "strength": 1.0}],
        "draw_2": nodes["draw"],
        "large_2": _ENLARGE,
        "after": _SHOW,
    }
    links += [
        ("load", "janus", "node", "model"), ("node", "janus", "draw_2", "model"),
        *_shown("draw_2", "images", "large_2", "after"),
    ]  # fmt: skip
    heights = {"show": _PICTURE_PX, "after": _PICTURE_PX}
    return Scene(
        nodes=nodes, links=links, rows=[["node"], ["show", "after"]], heights=heights, prepare=_red_as_blue
    )


def _draw() -> Scene:
    nodes, links = _drawn("a red circle", batch_size=4)
    return Scene(nodes=nodes, links=links, rows=[["draw"], ["show"]], heights={"show": _BIG_PICTURE_PX})


def _redraw() -> Scene:
    nodes, links = _drawn(_PROMPT)
    nodes |= {
        "kept": ["SolidMask", {"value": 0.0, "width": 64, "height": 64}],
        "part": ["SolidMask", {"value": 1.0, "width": 40, "height": 64}],
        "mask": ["MaskComposite", {"x": 24, "operation": "add"}],
        "node": ["JanusRedraw", {"prompt": "a red circle left of a green square", "seed": 3}],
        "large_2": _ENLARGE,
        "after": _SHOW,
    }
    links += [
        ("kept", "MASK", "mask", "destination"), ("part", "MASK", "mask", "source"),
        ("load", "janus", "node", "model"), ("mask", "MASK", "node", "mask"),
        ("draw", "images", "node", "image"),
        *_shown("node", "images", "large_2", "after"),
    ]  # fmt: skip
    heights = {"show": _PICTURE_PX, "after": _PICTURE_PX, "node": 810}
    return Scene(nodes=nodes, links=links, rows=[["show", "after"], ["node"]], heights=heights)


def _score() -> Scene:
    nodes, links = _drawn("a red circle", batch_size=8)
    nodes["node"] = ["JanusScore", {"prompt": "a red circle", "keep_best": 2}]
    links = [
        ("load", "janus", "draw", "model"), ("load", "janus", "node", "model"),
        ("draw", "images", "node", "image"), *_shown("node", "images"),
    ]  # fmt: skip
    return Scene(nodes=nodes, links=links, rows=[["node"], ["show"]], heights={"show": _PICTURE_PX})


def _saving(kind: str, batch_size: int = 4) -> Scene:
    nodes, links = _drawn("two blue squares", batch_size)
    nodes["node"] = [kind, {}]
    links += [("draw", "images", "node", "images"), ("draw", "tokens", "node", "image_tokens")]
    return Scene(nodes=nodes, links=links, rows=[["draw"], ["node"]], heights={"node": _PICTURE_PX})


def _save_captions() -> Scene:
    nodes, links = _drawn("two blue squares", batch_size=4)
    nodes |= {"caption": ["JanusCaption", {"style": "short"}], "node": ["JanusSaveCaptions", {}]}
    links += [
        ("load", "janus", "caption", "model"), ("draw", "images", "caption", "image"),
        ("draw", "images", "node", "images"), ("caption", "text", "node", "texts"),
    ]  # fmt: skip
    return Scene(nodes=nodes, links=links, rows=[["caption"], ["node"]], heights={"node": 410})


def _photos(server: Any) -> None:
    """Put pictures that an earlier scene saved into a folder to caption."""
    photos = server.base / "input" / "photos"
    photos.mkdir()
    for path in (server.base / "output" / "janus").glob("*.png"):
        shutil.copy(path, photos)


def _caption_folder() -> Scene:
    nodes: Graph = {"load": _LOAD, "node": ["JanusCaptionFolder", {"folder": "photos", "style": "short"}]}
    return Scene(nodes=nodes, links=[("load", "janus", "node", "model")], rows=[["node"]], prepare=_photos)


def _encode() -> Scene:
    nodes, links = _drawn(_PROMPT)
    nodes |= {"node": ["JanusEncodeImage", {}], "save": ["JanusSaveTokens", {}]}
    links += [
        ("load", "janus", "node", "model"), ("draw", "images", "node", "image"),
        ("node", "tokens", "save", "image_tokens"),
    ]  # fmt: skip
    return Scene(nodes=nodes, links=links, rows=[["show"], ["node"], ["save"]], heights={"show": _PICTURE_PX})


def _save_tokens() -> Scene:
    nodes, links = _drawn(_PROMPT)
    nodes["node"] = ["JanusSaveTokens", {}]
    links.append(("draw", "tokens", "node", "image_tokens"))
    return Scene(nodes=nodes, links=links, rows=[["draw"], ["node"]])


def _decode(rows: list[list[str]]) -> Scene:
    """Return tokens that an earlier scene saved, on their way to a picture."""
    nodes: Graph = {
        "load": _LOAD,
        "file": ["JanusLoadTokens", {"file": "janus/tokens_00001_.janus.safetensors [output]"}],
        "node": ["JanusDecodeTokens", {}],
        "large": _ENLARGE,
        "show": _SHOW,
    }
    links = [
        ("load", "janus", "node", "model"), ("file", "tokens", "node", "image_tokens"),
        *_shown("node", "images"),
    ]  # fmt: skip
    return Scene(nodes=nodes, links=links, rows=rows, heights={"show": _PICTURE_PX}, prepare=lambda _: None)


def _vae_to_choose(server: Any) -> None:
    """Have a VAE to choose, which is not read: the graph is not run."""
    folder = server.base / "models" / "vae"
    folder.mkdir(exist_ok=True)
    (folder / "sdxl_vae.safetensors").touch()


_LIGHTHOUSE = "A lighthouse on a cliff at dusk, waves breaking on the rocks below"
_FLOW = ["JanusLoad", {"model": "JanusFlow-1.3B"}]


def _flow_draw() -> Scene:
    nodes: Graph = {
        "load": _FLOW,
        "node": ["JanusFlowDraw", {"prompt": _LIGHTHOUSE, "batch_size": 2}],
        "vae": ["VAELoader", {"vae_name": "sdxl_vae.safetensors"}],
        "decode": ["VAEDecode", {}],
        "show": _SHOW,
    }
    links = [
        ("load", "janus", "node", "model"), ("node", "LATENT", "decode", "samples"),
        ("vae", "VAE", "decode", "vae"), ("decode", "IMAGE", "show", "images"),
    ]  # fmt: skip
    return Scene(
        nodes=nodes, links=links, rows=[["node"], ["vae", "decode"]], is_run=False, prepare=_vae_to_choose
    )


def _flow_model() -> Scene:
    nodes: Graph = {
        "load": _FLOW,
        "node": ["JanusFlowModel", {"prompt": _LIGHTHOUSE}],
        "empty": ["EmptyLatentImage", {"width": 384, "height": 384}],
        "sampler": ["KSampler", {"steps": 30, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}],
    }
    links = [
        ("load", "janus", "node", "model"), ("node", "MODEL", "sampler", "model"),
        ("node", "positive", "sampler", "positive"), ("node", "negative", "sampler", "negative"),
        ("empty", "LATENT", "sampler", "latent_image"),
    ]  # fmt: skip
    return Scene(nodes=nodes, links=links, rows=[["node"], ["sampler"]], is_run=False)


_CHOICES = {"question": "What colour is the circle?", "choices": "Red.\nBlue.\nGreen."}
SCENES = {
    "JanusLoad": Scene(nodes={"load": _LOAD}, links=[], rows=[["load"]], is_run=False),
    "JanusLoRA": _lora(),
    "JanusDraw": _draw(),
    "JanusCaption": _about_a_picture("JanusCaption", {"style": "short"}, batch_size=2),
    "JanusAsk": _about_a_picture("JanusAsk", {"question": "What colour is the square?"}),
    "JanusChoose": _about_a_picture("JanusChoose", _CHOICES, "a red circle"),
    "JanusSaveCaptions": _save_captions(),
    "JanusCaptionFolder": _caption_folder(),  # captions what the scene above it saved
    "JanusRedraw": _redraw(),
    "JanusScore": _score(),
    "JanusEncodeImage": _encode(),
    "JanusSaveTokens": _save_tokens(),
    "JanusDecodeTokens": _decode([["node"], ["show"]]),  # of what the scenes above saved
    "JanusLoadTokens": _decode([["file"], ["node"]]),
    "JanusSavePictures": _saving("JanusSavePictures"),
    "JanusFlowDraw": _flow_draw(),
    "JanusFlowModel": _flow_model(),
}
