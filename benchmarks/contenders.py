"""Who is compared: ours, the authors' loop and transformers' own Janus, each with the same few verbs.

A contender draws tokens, answers about pictures, decodes and encodes; what it lacks raises
NotImplementedError and is left out of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any, Protocol

import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from janus_core import DrawOptions, Janus, JanusConfig, TextOptions, Turn, load_janus
from janus_core.image_generation import DrawPlan, generate_image_tokens
from janus_core.packing import pack_for_drawing
from janus_core.pictures import read_picture
from janus_core.preprocessing import to_pixel_values
from janus_core.prompting import plan_drawing, unconditional

from .weights import Folders, text_config

PROMPT = "A red cube on a table."
QUESTION = "Describe the picture."
CFG_WEIGHT = 5.0


class Contender(Protocol):
    """What every row may ask of a contender."""

    def draw(self, steps: int, *, greedy: bool = False) -> Tensor:
        """Draw the first `steps` image tokens (steps,) of one picture, guided."""

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        """Return greedy answers (b, tokens) to one question about each picture."""

    def decode(self, tokens: Tensor) -> Tensor:
        """Return pixel values (b, 3, h, w) of image tokens (b, h, w)."""

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return image tokens (b, h, w) of pixel values (b, 3, h, w)."""


class Ours:
    """This project, as its public methods run it; `packs` False leaves the layers as they were loaded."""

    def __init__(self, folders: Folders, dtype: torch.dtype, *, packs: bool = True) -> None:
        self.janus: Janus = load_janus(folders.authors, dtype=dtype, device="cpu")
        self.packs = packs

    def draw(self, steps: int, *, greedy: bool = False) -> Tensor:
        janus = self.janus
        if self.packs:
            pack_for_drawing(janus.model.language)
        cond = plan_drawing(PROMPT, janus.tokenizer)
        with torch.inference_mode():
            return generate_image_tokens(
                janus.model.language,
                [DrawPlan(cond=cond, uncond=unconditional(cond, janus.tokenizer), seed=0)],
                DrawOptions(cfg_weight=CFG_WEIGHT, temperature=0.0 if greedy else 1.0),
                num_image_tokens=steps,
                pad=janus.tokenizer.special.pad,
                compute=janus.compute,
            )[0]

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        asked = [(Turn(role="user", text=QUESTION, images=(image,)),) for image in images]
        answers = self.janus.answer(
            asked, system="", options=TextOptions(temperature=0.0, max_new_tokens=tokens)
        )
        return torch.tensor([answer.token_ids for answer in answers])

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        return self.janus.model.vq_tokenizer.decode(tokens, self.janus.vq_dtype)

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor) -> Tensor:
        return self.janus.model.vq_tokenizer.encode(
            pixel_values.to(self.janus.vq_dtype, memory_format=torch.channels_last)
        )


class Authors:
    """The authors' way of drawing: transformers' Llama with a growing cache, two interleaved rows.

    Rebuilt from its description: rows alternate between prompt and padding, nothing is masked, each step is a
    softmax and a multinomial draw. Seeing and decoding are transformers' part of the table.
    """

    def __init__(self, folders: Folders, dtype: torch.dtype, ours: Janus) -> None:
        from transformers import LlamaConfig, LlamaModel
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        config, tensors = ours.config, load_file(folders.authors / "model.safetensors")
        llama_config = LlamaConfig(**text_config(config))
        llama_config._attn_implementation = "sdpa"
        with torch.device("meta"):
            self.llama: Any = LlamaModel(llama_config)
            self.parts = _generation_parts(config)
        self.llama.rotary_emb = LlamaRotaryEmbedding(llama_config)
        prefix = "language_model.model."
        _assign(self.llama, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        _assign(self.parts, {k: v for k, v in tensors.items() if k.startswith("gen_") and ".gen" not in k})
        modules: tuple[nn.Module, ...] = (self.llama, self.parts)
        for module in modules:
            module.to(dtype)
        cond = plan_drawing(PROMPT, ours.tokenizer)
        self.prompt = torch.tensor([cond.token_ids, unconditional(cond, ours.tokenizer).token_ids])

    @torch.inference_mode()
    def draw(self, steps: int, *, greedy: bool = False) -> Tensor:
        from transformers import DynamicCache

        parts, cache = self.parts, {_cache_argument(self.llama): DynamicCache()}
        drawn = torch.zeros(steps, dtype=torch.int64)
        embeddings = self.llama.embed_tokens(self.prompt)
        for step in range(steps):
            hidden = self.llama(inputs_embeds=embeddings, use_cache=True, **cache)
            cond, uncond = parts["gen_head"](hidden.last_hidden_state[:, -1])
            logits = uncond + CFG_WEIGHT * (cond - uncond)
            probabilities = torch.softmax(logits, dim=-1)
            chosen = probabilities.argmax(-1, keepdim=True) if greedy else probabilities.multinomial(1)
            drawn[step] = chosen
            embeddings = parts["gen_aligner"](parts["gen_embed"](chosen.expand(2, 1)))
        return drawn

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        raise NotImplementedError

    def decode(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, pixel_values: Tensor) -> Tensor:
        raise NotImplementedError


def _cache_argument(llama: Any) -> str:
    """Return what transformers calls the cache: `cache` from 5.24 on, `past_key_values` before."""
    return "cache" if "cache" in signature(llama.forward).parameters else "past_key_values"


class _Head(nn.Module):
    def __init__(self, config: JanusConfig) -> None:
        super().__init__()
        head = config.generation_head
        self.output_mlp_projector = nn.Linear(head.input_width, head.inner_width)
        self.vision_head = nn.Linear(head.inner_width, head.codebook_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.vision_head(nn.functional.gelu(self.output_mlp_projector(hidden)))  # type: ignore[no-any-return]


class _Projector(nn.Module):
    def __init__(self, config: JanusConfig) -> None:
        super().__init__()
        width = config.language.hidden_size
        self.layers = nn.Sequential(
            nn.Linear(config.vq.code_width, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(codes)  # type: ignore[no-any-return]


def _generation_parts(config: JanusConfig) -> nn.ModuleDict:
    embed = nn.Embedding(config.vq.codebook_size, config.vq.code_width)
    return nn.ModuleDict({"gen_embed": embed, "gen_aligner": _Projector(config), "gen_head": _Head(config)})


def _assign(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    wanted = module.state_dict().keys()
    module.load_state_dict({name: tensors[name] for name in wanted}, assign=True)
    module.eval().requires_grad_(False)


class Transformers:
    """transformers' `JanusForConditionalGeneration`, used through its `generate`."""

    def __init__(self, folders: Folders, dtype: torch.dtype, ours: Janus) -> None:
        from transformers import JanusForConditionalGeneration, logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        self.model: Any = JanusForConditionalGeneration.from_pretrained(
            folders.native, dtype=dtype, attn_implementation="sdpa"
        )
        self.model.requires_grad_(False)
        self.ours = ours

    def draw(self, steps: int, *, greedy: bool = False) -> Tensor:
        plan = plan_drawing(PROMPT, self.ours.tokenizer)
        prompt = torch.tensor([plan.token_ids])
        tower = self.model.model.vision_model.config
        whole = tower.num_image_tokens
        tower.num_image_tokens = steps  # the loop's length; the cache keeps the size of a whole picture
        try:
            drawn = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_mode="image",
                do_sample=not greedy,
                guidance_scale=CFG_WEIGHT,
                max_length=whole + len(plan),
            )
        finally:
            tower.num_image_tokens = whole
        return drawn[0]  # type: ignore[no-any-return]

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        config, dtype = self.ours.config, self.model.dtype
        turn = Turn(role="user", text=QUESTION, images=(images[0],))
        prompt = torch.tensor([self.ours.plan_conversation([turn], system="").token_ids] * len(images))
        rows = [to_pixel_values(read_picture(image), config.preprocess) for image in images]
        answers = self.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            pixel_values=torch.stack(rows).to(dtype),
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
        )
        return answers[:, prompt.shape[1] :]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        return self.model.model.vqmodel.decode(tokens.flatten(1))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor) -> Tensor:
        found = self.model.model.vqmodel.encode(pixel_values.to(self.model.dtype))
        return found.image_tokens  # type: ignore[no-any-return]
