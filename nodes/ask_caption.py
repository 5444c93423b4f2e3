"""Janus Caption describes every picture of a batch; Janus Ask answers questions, turn after turn."""

from typing import Any

import torch
from comfy_api.latest import io

from ..janus_core import SYSTEM_TEXT, Chat, PromptError, TextOptions, Turn
from .bridge import presets
from .bridge.batching import in_batches
from .bridge.hosting import HostedJanus
from .bridge.images import ask_each_named, pictures_named, to_pictures
from .bridge.progress import AnswerProgress, Endings
from .bridge.remarks import KEY as REMARKS
from .bridge.remarks import on_answer, on_caption
from .compat import schema, widget
from .types import ChatSocket, JanusSocket
from .widgets import caption_frame, caption_options, stop_texts, text_options

_BATCH = 8  # pictures answered together, fewer where memory is short


class JanusCaption(io.ComfyNode):
    """Describe pictures, one text each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusCaption",
            display_name="Janus Caption (Image to Text)",
            category="Janus",
            description="Describes every picture of a batch. The texts come as a list, one per picture.",
            search_aliases=[
                "caption", "describe", "image to text", "interrogate", "tag", "ocr", "vlm", "janus",
                "janus pro", "deepseek",
            ],
            is_output_node=True,
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                io.Image.Input("image", tooltip="The pictures to describe."),
                *caption_options(),
                *caption_frame(),
                *text_options(),
            ],
            outputs=[
                io.String.Output(
                    "text", display_name="text", is_output_list=True,
                    tooltip="One caption per picture, in order.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        image: torch.Tensor,
        style: str = "detailed",
        question: str = "",
        prefix: str = "",
        suffix: str = "",
        seed: int = 0,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 0.95,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        max_new_tokens: int = 512,
        stop: str = "",
    ) -> io.NodeOutput:
        """Caption the batch."""
        options = TextOptions(
            max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty, stop=stop_texts(stop),
        )  # fmt: skip
        pictures, asked = to_pictures(image), presets.request(style, question)
        progress = AnswerProgress(cls.hidden.unique_id, len(pictures), max_new_tokens)

        chats = [asked.about(picture) for picture in pictures]
        endings = Endings(model.janus, options)

        def attempt(batch_size: int) -> list[str]:
            progress.restart()
            endings.restart()
            with pictures_named("Picture", len(pictures)):
                return model.janus.answer_in_batches(
                    chats, batch_size=batch_size, options=options, seed=seed, on_text=progress.on_text,
                    on_answer=endings.on_answer,
                )  # fmt: skip

        # prefix and suffix go round the text only when all retries are over
        texts = [prefix + text + suffix for text in in_batches(attempt, min(_BATCH, len(pictures)))]
        shown = endings.shown(texts)
        progress.finish(shown)
        said = [*endings.remarks(), *presets.presets().problems, *on_caption(model.world)]
        return io.NodeOutput(texts, ui={"text": shown, REMARKS: said})

    @classmethod
    def validate_inputs(cls, style: str | None = None) -> bool | str:
        """Say of a style that is not there which ones are, and what is wrong with the file of one's own."""
        return presets.check_style(style)

    @classmethod
    def fingerprint_inputs(cls, style: str | None = None, **_: Any) -> Any:
        """Return what changes when the style is rewritten in its file."""
        return presets.style_state(style)


class JanusAsk(io.ComfyNode):
    """Ask about pictures, once or turn after turn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="JanusAsk",
            display_name="Janus Ask (Questions about Images)",
            category="Janus",
            description="Answers a question about any number of pictures, or about none. Connect its chat "
            "to the next Janus Ask to go on with the conversation.",
            search_aliases=[
                "ask", "question", "vqa", "chat", "describe", "image to text", "vlm", "llm", "janus",
                "janus pro", "deepseek",
            ],
            is_output_node=True,
            inputs=[
                JanusSocket.Input("model", tooltip="From Load Janus."),
                io.Image.Input("image", optional=True, tooltip="The picture or pictures asked about."),
                io.Image.Input(
                    "image_2", optional=True, tooltip="Further pictures; they may differ in size."
                ),
                io.Image.Input(
                    "image_3", optional=True, tooltip="Further pictures; they may differ in size."
                ),
                io.Image.Input(
                    "image_4", optional=True, tooltip="Further pictures; they may differ in size."
                ),
                widget(
                    io.String.Input, "question", multiline=True,
                    tooltip="The question. <image_placeholder> marks where a picture belongs; without it "
                    "all pictures come first.",
                ),
                widget(
                    io.Boolean.Input, "ask_each", default=False, label_on="one answer each",
                    label_off="one answer about all",
                    tooltip="Whether the question is asked once about all pictures together or once for "
                    "each picture of the first input.",
                ),
                ChatSocket.Input("chat", optional=True, tooltip="A conversation to go on with."),
                widget(
                    io.String.Input, "system", default=SYSTEM_TEXT, multiline=True, advanced=True,
                    tooltip="What the model is told before the conversation.",
                ),
                *text_options(),
            ],
            outputs=[
                io.String.Output(
                    "text", display_name="text", is_output_list=True, tooltip="The answer or answers."
                ),
                ChatSocket.Output(
                    "chat_out", display_name="chat", is_output_list=True,
                    tooltip="The conversation with the answer, for the next Janus Ask.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: HostedJanus,
        question: str,
        image: torch.Tensor | None = None,
        image_2: torch.Tensor | None = None,
        image_3: torch.Tensor | None = None,
        image_4: torch.Tensor | None = None,
        ask_each: bool = False,
        chat: tuple[Turn, ...] = (),
        system: str = SYSTEM_TEXT,
        seed: int = 0,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 0.95,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        max_new_tokens: int = 512,
        stop: str = "",
    ) -> io.NodeOutput:
        """Answer the question, about all pictures or about each."""
        options = TextOptions(
            max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty, stop=stop_texts(stop),
        )  # fmt: skip
        first = to_pictures(image)
        further = [
            *to_pictures(image_2, "image_2"),
            *to_pictures(image_3, "image_3"),
            *to_pictures(image_4, "image_4"),
        ]
        if ask_each and not first:
            raise PromptError(
                'The question is to be asked about each picture, but none is connected to "image". Connect '
                "a batch, or switch to one answer about all."
            )
        # the pictures of each question: one with all further ones, or all together
        groups = [(picture, *further) for picture in first] if ask_each else [(*first, *further)]
        chats = [(*chat, Turn(role="user", text=question, images=group)) for group in groups]
        progress = AnswerProgress(cls.hidden.unique_id, len(chats), max_new_tokens)

        endings = Endings(model.janus, options)

        def attempt(batch_size: int) -> list[str]:
            progress.restart()
            endings.restart()
            with pictures_named("Answer", len(chats)), ask_each_named(len(groups[0])):
                return model.janus.answer_in_batches(
                    chats, batch_size=batch_size, system=system, options=options, seed=seed,
                    on_text=progress.on_text, on_answer=endings.on_answer,
                )  # fmt: skip

        texts = in_batches(attempt, min(_BATCH, len(chats)))
        shown = endings.shown(texts)
        progress.finish(shown)
        chats_out = [
            Chat((*turns, Turn(role="assistant", text=text)))
            for turns, text in zip(chats, texts, strict=True)
        ]
        told = [turn for turn in chats[0] if turn.role == "user"]
        said = on_answer(model.world, [turn.text for turn in told], sum(len(turn.images) for turn in told))
        said = [*endings.remarks(), *said]
        return io.NodeOutput(texts, chats_out, ui={"text": shown, REMARKS: said})
