"""Janus Score ranks pictures by how well they show something; Janus Choose answers with one of some lines."""

import dataclasses

import torch
from comfy_api.latest import io

from ..janus_core import SCORE_QUESTION, Choice, ImageError, ImageTokens, Score, best_first
from .bridge.absence import nothing
from .bridge.batching import in_batches
from .bridge.hosting import HostedJanus
from .bridge.images import pictures_named, to_pictures
from .bridge.progress import Progress
from .bridge.remarks import KEY as REMARKS
from .bridge.remarks import on_caption
from .compat import schema, widget
from .types import ImageTokensSocket, JanusSocket
from .widgets import prompt as prompt_input
from .widgets import seed as seed_input
from .widgets import temperature as temperature_input

_TOGETHER = 8  # pictures looked at together, fewer where memory is short


class JanusScore(io.ComfyNode):
    """Rank pictures by how well they show something."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusScore",
            display_name="Janus Score (Rank Images)",
            category="Janus",
            description="Tells how well each picture of a batch shows something, and passes the best on.",
            search_aliases=[
                "score", "rank", "best of", "select", "judge", "filter", "vlm", "janus", "janus pro",
                "deepseek",
            ],
            is_output_node=True,
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                io.Image.Input("image", tooltip="The pictures to score."),
                ImageTokensSocket.Input(
                    "image_tokens", optional=True,
                    tooltip="Their image tokens, to be put in the same order. They are not looked at.",
                ),
                prompt_input("What the pictures should show."),
                widget(
                    io.String.Input, "question", default=SCORE_QUESTION, multiline=True,
                    tooltip="A question that can be answered with yes or no; {prompt} marks where the "
                    "prompt belongs.",
                ),
                widget(
                    io.Int.Input, "keep_best", default=0, min=0, max=4096,
                    tooltip="How many pictures go on, the best first. 0, or more than there are, is all.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The best pictures, best first."),
                io.Float.Output(
                    "scores", display_name="scores", is_output_list=True,
                    tooltip="Of each of them, how probable a yes is against a no, 0 to 1.",
                ),
                io.Int.Output(
                    "index", display_name="index", is_output_list=True,
                    tooltip="Of each of them, its place in the batch that came in, from 0.",
                ),
                ImageTokensSocket.Output(
                    "tokens", display_name="tokens",
                    tooltip="Their image tokens, where image_tokens is connected.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        image: torch.Tensor,
        prompt: str,
        image_tokens: ImageTokens | None = None,
        question: str = SCORE_QUESTION,
        keep_best: int = 0,
    ) -> io.NodeOutput:
        """Score the batch."""
        pictures = to_pictures(image)
        if image_tokens is not None and len(image_tokens) != len(pictures):
            raise ImageError(
                f"Janus Score has image tokens of {len(image_tokens)} pictures for {len(pictures)} pictures. "
                "Connect those of the same batch."
            )
        best_first([], keep_best)  # a bad number is told before the work
        progress = Progress(cls.hidden.unique_id)

        def attempt(together: int) -> list[Score]:
            with pictures_named("Picture", len(pictures)):
                return model.janus.score(
                    pictures, prompt, question=question, batch_size=together, on_step=progress.on_step
                )

        found = in_batches(attempt, min(_TOGETHER, len(pictures)))
        kept = best_first(found, keep_best)
        tokens = (
            nothing('Janus Score passes image tokens on only where some are connected to "image_tokens".')
            if image_tokens is None
            else dataclasses.replace(image_tokens, grid=image_tokens.grid[kept])
        )
        return io.NodeOutput(
            image[kept],
            [found[row].probability for row in kept],
            kept,
            tokens,
            ui={
                "text": [f"{found[row].probability:.3f}  picture {row + 1}" for row in kept],
                REMARKS: [*_unsure(found), *on_caption(model.world)],
            },
        )


def _unsure(found: list[Score]) -> list[str]:
    """Say which pictures have scores that mean little, if any."""
    unsure = [str(row + 1) for row, score in enumerate(found) if not score.is_verdict]
    if not unsure:
        return []
    said = (
        f"Answered with neither yes nor no: picture {', '.join(unsure)} of {len(found)}. Such a score means "
        "little; ask a question that can only be answered so."
    )
    return [said]


class JanusChoose(io.ComfyNode):
    """Answer with one of some lines."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusChoose",
            display_name="Janus Choose (Classify Images)",
            category="Janus",
            description="Answers a question about each picture with one of the lines given, nothing else.",
            search_aliases=[
                "choose", "classify", "multiple choice", "switch", "route", "vlm", "janus", "janus pro",
                "deepseek",
            ],
            is_output_node=True,
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                io.Image.Input("image", tooltip="The pictures asked about, each by itself."),
                widget(
                    io.String.Input, "question", multiline=True, tooltip="What to ask about each picture."
                ),
                widget(
                    io.String.Input, "choices", default="Yes\nNo", multiline=True,
                    tooltip="The answers allowed, one a line, in words that the model would use.",
                ),
                seed_input(),
                temperature_input(
                    0.0, "0 takes the most probable line; above 0 one is drawn, the flatter the higher."
                ),
            ],
            outputs=[
                io.String.Output(
                    "text", display_name="text", is_output_list=True,
                    tooltip="The line chosen for each picture.",
                ),
                io.Int.Output(
                    "index", display_name="index", is_output_list=True,
                    tooltip="Its place among the lines, from 0, for a switch.",
                ),
                io.Float.Output(
                    "probabilities", display_name="probabilities", is_output_list=True,
                    tooltip="How probable every line is, in their order: all of the first picture, then all "
                    "of the next. Those of one picture add up to 1.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        image: torch.Tensor,
        question: str,
        choices: str = "Yes\nNo",
        seed: int = 0,
        temperature: float = 0.0,
    ) -> io.NodeOutput:
        """Choose for each picture of the batch."""
        # a line break behind the last line is no line of its own
        pictures, lines = to_pictures(image), choices.strip().splitlines()
        progress = Progress(cls.hidden.unique_id)

        def attempt(together: int) -> list[Choice]:
            with pictures_named("Picture", len(pictures)):
                return model.janus.choose(
                    pictures, question, lines, temperature=temperature, seed=seed, batch_size=together,
                    on_step=progress.on_step,
                )  # fmt: skip

        found = in_batches(attempt, min(_TOGETHER, len(pictures)))
        told = [f"{one.text} ({one.probabilities[one.index]:.0%})" for one in found]
        return io.NodeOutput(
            [one.text for one in found],
            [one.index for one in found],
            [share for one in found for share in one.probabilities],
            ui={"text": told, REMARKS: on_caption(model.world)},
        )
