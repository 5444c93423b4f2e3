"""Nodes that many templates have, with the inputs that they share."""

from __future__ import annotations

from typing import Any

from .graph import BUNDLED, Link, Node

_HUB = "https://huggingface.co"
VAE = {
    "name": "sdxl_vae.safetensors",
    "url": f"{_HUB}/stabilityai/sdxl-vae/resolve/main/sdxl_vae.safetensors",
    "directory": "vae",
}
SDXL = {
    "name": "sd_xl_base_1.0.safetensors",
    "url": f"{_HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    "directory": "checkpoints",
}
SHAPES = "*janus-shapes* ships with the pack and knows coloured shapes only."
ENLARGED = "The pictures of *janus-shapes* have 64 × 64 pixels and are enlarged to be seen."
LARGE = "Janus-Pro-1B"
LIGHTHOUSE = "A lighthouse on a cliff at dusk, waves breaking on the rocks below"


def load(model: str = BUNDLED) -> Node:
    """The loader of a model."""
    return Node(kind="JanusLoad", inputs={"model": model})


def draw(prompt: str, seed: int = 1, title: str | None = None, **inputs: Any) -> Node:
    """A drawing with the loaded model."""
    given = {"model": Link("load", "janus"), "prompt": prompt, "seed": seed, **inputs}
    return Node(kind="JanusDraw", inputs=given, title=title, width=360)


def enlarge(node: str, output: str = "images") -> Node:
    """Enlarge small pictures without blurring them."""
    given = {"image": Link(node, output), "upscale_method": "nearest-exact", "scale_by": 6.0}
    return Node(kind="ImageScaleBy", inputs=given, title="Enlarge, to be seen", width=280)


def show(node: str, output: str = "IMAGE", title: str | None = None) -> Node:
    """What is seen of pictures."""
    return Node(kind="PreviewImage", inputs={"images": Link(node, output)}, title=title)


def text(node: str, output: str, title: str | None = None) -> Node:
    """What is read of a text."""
    return Node(kind="PreviewAny", inputs={"source": Link(node, output)}, title=title)


def caption(image: Link, **inputs: Any) -> Node:
    """A caption by the loaded model."""
    return Node(
        kind="JanusCaption", inputs={"model": Link("load", "janus"), "image": image, **inputs}, width=360
    )


def ask(question: str, image: Link | None, title: str | None = None, **inputs: Any) -> Node:
    """A question to the loaded model, about a picture or none."""
    given: dict[str, Any] = {"model": Link("load", "janus"), "question": question, **inputs}
    if image:
        given["image"] = image
    return Node(kind="JanusAsk", inputs=given, title=title, width=360)


def mask_on_the_right() -> dict[str, Node]:
    """The right half of a picture of the bundled model as a mask."""
    size = {"width": 64, "height": 64}
    return {
        "kept": Node(kind="SolidMask", inputs={"value": 0.0, **size}, title="Keep all"),
        "part": Node(kind="SolidMask", inputs={"value": 1.0, "width": 32, "height": 64}, title="Draw anew"),
        "mask": Node(
            kind="MaskComposite",
            inputs={
                "destination": Link("kept", "MASK"),
                "source": Link("part", "MASK"),
                "x": 32,
                "operation": "add",
            },
            title="Draw the right half anew",
            width=360,
        ),
    }
