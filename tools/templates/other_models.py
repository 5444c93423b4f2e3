"""Templates that hand over to other models, or are of JanusFlow: what they need is named in their notes."""

from __future__ import annotations

from typing import Any

from .graph import Link, Node, Template
from .parts import LARGE, LIGHTHOUSE, SDXL, VAE, caption, load, show


def _sampler(**inputs: Any) -> Node:
    return Node(kind="KSampler", inputs={"seed": 1, **inputs}, width=300)


def _decode(samples: str, vae: Link, output: str = "LATENT") -> Node:
    return Node(kind="VAEDecode", inputs={"samples": Link(samples, output), "vae": vae}, width=220)


_VAE_LOADER = Node(kind="VAELoader", inputs={"vae_name": VAE["name"]}, files=(VAE,))
_CHECKPOINT = Node(kind="CheckpointLoaderSimple", inputs={"ckpt_name": SDXL["name"]}, files=(SDXL,))


def _words(text: str | Link, clip: str = "base", title: str | None = None) -> Node:
    return Node(kind="CLIPTextEncode", inputs={"text": text, "clip": Link(clip, "CLIP")}, title=title)


def _flow_draw(**inputs: Any) -> Node:
    given = {"model": Link("load", "janus"), "prompt": LIGHTHOUSE, "seed": 1, **inputs}
    return Node(kind="JanusFlowDraw", inputs=given, width=360)


OTHER_MODELS = {
    "Caption my picture for SDXL (needs Janus-Pro-1B, SDXL)": Template(
        note=f"""
            **Caption my picture for SDXL**

            Janus says what your picture shows, and SDXL draws a new one from its words. Any
            other generator takes the text just so.

            Needs *{LARGE}* (4.2 GB) and *{SDXL["name"]}* (6.9 GB) in `models/checkpoints`.
        """,
        columns=[
            ["load", "picture"],
            ["base", "caption"],
            [260, "words", "without", "empty"],
            [130, "sampler"],
            ["decode"],
            ["show"],
        ],
        nodes={
            "load": load(LARGE),
            "picture": Node(kind="LoadImage", inputs={"image": "example.png"}),
            "caption": caption(Link("picture", "IMAGE"), style="detailed"),
            "base": _CHECKPOINT,
            "words": _words(Link("caption", "text")),
            "without": _words("blurry, low quality", title="Negative prompt"),
            "empty": Node(kind="EmptyLatentImage", inputs={"width": 1024, "height": 1024}),
            "sampler": _sampler(
                model=Link("base", "MODEL"),
                positive=Link("words", "CONDITIONING"),
                negative=Link("without", "CONDITIONING"),
                latent_image=Link("empty", "LATENT"),
                steps=25,
                cfg=6.0,
                sampler_name="dpmpp_2m",
                scheduler="karras",
            ),
            "decode": _decode("sampler", Link("base", "VAE")),
            "show": show("decode"),
        },
    ),
    "Draw with JanusFlow": Template(
        note=f"""
            **Draw with JanusFlow**

            *JanusFlow-1.3B* (4.1 GB) is downloaded on the first run; put *{VAE["name"]}* (335
            MB) into `models/vae`.

            The LATENT is SDXL's: any node for latents takes it. *cfg_weight* 0 is what the
            model recommends.
        """,
        columns=[["load"], ["draw", "vae"], ["decode"], ["show"]],
        nodes={
            "load": load("JanusFlow-1.3B"),
            "vae": _VAE_LOADER,
            "draw": _flow_draw(batch_size=2),
            "decode": _decode("draw", Link("vae", "VAE")),
            "show": show("decode"),
        },
    ),
    "Draw with JanusFlow, refine with SDXL": Template(
        note=f"""
            **Draw with JanusFlow, refine with SDXL**

            JanusFlow lays the picture out at 384, SDXL redraws it at 1024 with *denoise* 0.4.
            Needs *JanusFlow-1.3B* and *{SDXL["name"]}* (6.9 GB) in `models/checkpoints`,
            whose VAE decodes both.
        """,
        columns=[
            ["base", 780, "load"],
            [980, "draw"],
            [850, "small"],
            [720, "large", "shown"],
            [260, "encode", "words", "without"],
            [130, "sampler"],
            ["decode"],
            ["show"],
        ],
        nodes={
            "load": load("JanusFlow-1.3B"),
            "base": _CHECKPOINT,
            "draw": _flow_draw(),
            "words": _words(LIGHTHOUSE),
            "without": _words("", title="Negative prompt"),
            "small": _decode("draw", Link("base", "VAE")),
            "shown": show("small", title="Before"),
            "large": Node(
                kind="ImageScale",
                inputs={
                    "image": Link("small", "IMAGE"),
                    "upscale_method": "lanczos",
                    "width": 1024,
                    "height": 1024,
                },
            ),
            "encode": Node(
                kind="VAEEncode",
                inputs={"pixels": Link("large", "IMAGE"), "vae": Link("base", "VAE")},
                width=220,
            ),
            "sampler": _sampler(
                model=Link("base", "MODEL"),
                positive=Link("words", "CONDITIONING"),
                negative=Link("without", "CONDITIONING"),
                latent_image=Link("encode", "LATENT"),
                steps=25,
                cfg=6.0,
                sampler_name="dpmpp_2m",
                scheduler="karras",
                denoise=0.4,
            ),
            "decode": _decode("sampler", Link("base", "VAE")),
            "show": show("decode", title="After"),
        },
    ),
    "Picture to picture with JanusFlow": Template(
        note="""
            **Picture to picture with JanusFlow**

            **Janus Flow Model** makes JanusFlow a MODEL for core's samplers. *denoise* below
            1 keeps the layout of the picture. The model draws 384 × 384 only, so the picture
            is brought to that size first.
        """,
        columns=[
            ["picture"],
            ["vae", "load", "small"],
            [260, "model", "encode"],
            [130, "sampler"],
            ["decode"],
            ["show"],
        ],
        nodes={
            "load": load("JanusFlow-1.3B"),
            "picture": Node(kind="LoadImage", inputs={"image": "example.png"}),
            "vae": _VAE_LOADER,
            "model": Node(
                kind="JanusFlowModel",
                inputs={
                    "model": Link("load", "janus"),
                    "prompt": "An oil painting of the same scene in winter, snow on the ground",
                },
            ),
            "small": Node(
                kind="ImageScale",
                inputs={
                    "image": Link("picture", "IMAGE"),
                    "upscale_method": "lanczos",
                    "width": 384,
                    "height": 384,
                    "crop": "center",
                },
            ),
            "encode": Node(
                kind="VAEEncode",
                inputs={"pixels": Link("small", "IMAGE"), "vae": Link("vae", "VAE")},
                width=220,
            ),
            "sampler": _sampler(
                model=Link("model", "MODEL"),
                positive=Link("model", "positive"),
                negative=Link("model", "negative"),
                latent_image=Link("encode", "LATENT"),
                steps=30,
                cfg=2.0,
                sampler_name="euler",
                scheduler="normal",
                denoise=0.6,
            ),
            "decode": _decode("sampler", Link("vae", "VAE")),
            "show": show("decode"),
        },
    ),
}
