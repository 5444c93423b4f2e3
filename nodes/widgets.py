"""Inputs that several nodes share, so that an input has the same meaning and range everywhere."""

from typing import Any

from comfy_api.latest import io

from .bridge.presets import style_choices
from .compat import widget

SEED_TOOLTIP = (
    "Same seed, same result. Picture k of a batch is the first picture of seed + k "
    "(in half precision up to rounding)."
)


def prompt(tooltip: str = "What to draw. Empty draws whatever comes.") -> Any:
    """Return the prompt, in which the page expands {a|b}."""
    return widget(io.String.Input, "prompt", multiline=True, dynamic_prompts=True, tooltip=tooltip)


def negative_prompt() -> Any:
    """Return the negative prompt, likewise."""
    return widget(
        io.String.Input, "negative_prompt", default="", multiline=True, dynamic_prompts=True,
        tooltip="What to draw away from. Empty is how the model was trained.",
    )  # fmt: skip


def seed(*, is_kept: bool = False) -> Any:
    """Return the seed, over ComfyUI's full range.

    Args:
        is_kept: it stays as it is after a run unless the person says otherwise; older releases change it.
    """
    control = getattr(io, "ControlAfterGenerate", None)
    return widget(
        io.Int.Input, "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=control.fixed if is_kept and control is not None else True,
        tooltip=SEED_TOOLTIP,
    )  # fmt: skip


def temperature(default: float, tooltip: str) -> Any:
    """Return the temperature, with the node's default and tooltip."""
    return widget(
        io.Float.Input, "temperature", default=default, min=0.0, max=2.0, step=0.05, round=0.001,
        tooltip=tooltip,
    )  # fmt: skip


def top_k() -> Any:
    """Return the number of likeliest tokens to choose among."""
    return widget(
        io.Int.Input, "top_k", default=0, min=0, max=1_000_000,
        tooltip="Choose among this many likeliest tokens only. 0 is off.",
    )  # fmt: skip


def top_p(default: float) -> Any:
    """Return the share of probability to choose within."""
    return widget(
        io.Float.Input, "top_p", default=default, min=0.01, max=1.0, step=0.01, round=0.001,
        tooltip="Choose among the likeliest tokens that together have this probability. 1 is off.",
    )  # fmt: skip


def caption_options() -> list[Any]:
    """Return the inputs that say what is asked for a caption: the style, and a question besides."""
    return [
        widget(
            io.Combo.Input, "style", options=style_choices(), default="detailed",
            tooltip="short: one sentence. detailed: a paragraph. tags: words and commas. text: what "
            "is written in the picture. custom: your own question alone. raw: your question is the whole "
            "prompt, without the chat template. Further styles stand in captions.toml.",
        ),
        widget(
            io.String.Input, "question", default="", multiline=True,
            tooltip="What to ask about each picture: alone when the style is custom or raw, else in "
            "addition to what the style asks.",
        ),
    ]  # fmt: skip


def caption_frame() -> list[Any]:
    """Return the inputs for what is put round every caption."""
    return [
        widget(
            io.String.Input, "prefix", default="", tooltip="Put in front of every caption as it stands."
        ),
        widget(io.String.Input, "suffix", default="", tooltip="Put behind every caption as it stands."),
    ]  # fmt: skip


def text_options() -> list[Any]:
    """Return the inputs for writing text: the seed, and the fields of `TextOptions`.

    A text is greedy by default and the same with every seed, so a seed that changed after each run would
    have it written again for nothing.
    """
    return [
        seed(is_kept=True),
        temperature(0.0, "0 always writes the likeliest word; higher values vary more."),
        top_k(),
        top_p(0.95),
        widget(
            io.Float.Input, "min_p", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True,
            tooltip="Leave out tokens less likely than this share of the likeliest one. 0 is off.",
        ),
        widget(
            io.Float.Input, "repetition_penalty", default=1.0, min=0.1, max=10.0, step=0.05, round=0.001,
            advanced=True,
            tooltip="Above 1 discourages words that the answer already has. 1 is off.",
        ),
        widget(
            io.Int.Input, "max_new_tokens", default=512, min=1, max=4096,
            tooltip="The longest answer, in tokens. A token is about three quarters of a word.",
        ),
        widget(
            io.String.Input, "stop", default="", multiline=True, advanced=True,
            tooltip="Texts that end the answer, one per line; they are not part of it.",
        ),
    ]  # fmt: skip


def drawing_options() -> list[Any]:
    """Return the inputs that steer how pictures are drawn: how many, away from what, and `DrawOptions`."""
    return [
        negative_prompt(),
        seed(),
        widget(
            io.Int.Input, "batch_size", default=1, min=1, max=64,
            tooltip="How many pictures. Several at once take little longer than one on a GPU.",
        ),
        widget(
            io.Float.Input, "cfg_weight", default=0.0, min=0.0, max=20.0, step=0.1, round=0.001,
            tooltip="How strongly the prompt guides. 0 is what the model recommends: 5 for "
            "DeepSeek's models. 1 is off, and faster.",
        ),
        temperature(
            1.0, "0 always takes the likeliest token, which looks flat; higher varies more."
        ),
        top_k(),
        top_p(1.0),
        widget(
            io.Float.Input, "min_p", default=-1.0, min=-1.0, max=1.0, step=0.01, round=0.001,
            advanced=True,
            tooltip="Before guidance, leave out tokens less likely than this share of the likeliest "
            "one. 0 is off, below 0 is what the model recommends: off for DeepSeek's models.",
        ),
    ]  # fmt: skip


def stop_texts(stop: str) -> tuple[str, ...]:
    """Return the stop texts of the multi-line widget; empty lines count for nothing."""
    return tuple(line for line in stop.splitlines() if line)
