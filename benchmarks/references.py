"""The other contenders: the authors' loop, the same compiled, and transformers' own Janus.

All share their tensors with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from janus_core import Janus, JanusConfig, Turn
from janus_core.checkpoints.names import to_published
from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values
from janus_core.inputs.prompting import unconditional

from .contenders import CFG_WEIGHT, QUESTION, Contender, Ours, prompt_plan
from .rows import Contenders
from .sizes import Size
from .weights import GENERATION, native_config, text_config, weights_for

_WHOLE_PICTURE = 576  # slots of the static cache beyond the prompt


class Authors:
    """The authors' way of drawing: transformers' Llama with a growing cache, two interleaved rows a picture.

    Rebuilt from its description: rows alternate between prompt and padding, nothing is masked, each step is a
    softmax and a multinomial draw. The authors' code for seeing and decoding is not rebuilt: there
    `Transformers` is the contender.
    """

    def __init__(self, ours: Janus, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        from transformers import LlamaConfig, LlamaModel
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        config = ours.config
        self.device = ours.compute.device
        tensors = {name: tensor.to(dtype) for name, tensor in to_published(weights, "authors").items()}
        self.llama_config = LlamaConfig(**text_config(config))
        self.llama_config._attn_implementation = "sdpa"
        with torch.device("meta"):
            self.llama: Any = LlamaModel(self.llama_config)
            self.parts = _generation_parts(config)
        # Its frequencies are computed, not loaded, so this one module cannot start on the meta device.
        self.llama.rotary_emb = LlamaRotaryEmbedding(self.llama_config).to(self.device)
        prefix = "language_model.model."
        _assign(self.llama, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        _assign(self.parts, {k: v for k, v in tensors.items() if k.startswith("gen_") and ".gen" not in k})
        self.tokenizer = ours.tokenizer
        self.cache_name = _cache_argument(self.llama)

    def prompt(self, pictures: int, context: int) -> Tensor:
        """Return embeddings (2 pictures, t, d), prompt and padded rows alternating."""
        cond = prompt_plan(self.tokenizer, context)
        rows = [cond.token_ids, unconditional(cond, self.tokenizer).token_ids] * pictures
        embeddings: Tensor = self.llama.embed_tokens(torch.tensor(rows, device=self.device))
        return embeddings

    def choose(self, hidden: Tensor, greedy: bool) -> Tensor:
        """Return the next token (pictures, 1) of hidden states (2 pictures, d)."""
        logits = self.parts["gen_head"](hidden)
        cond, uncond = logits[0::2], logits[1::2]  # (pictures, v) each
        probabilities = torch.softmax(uncond + CFG_WEIGHT * (cond - uncond), dim=-1)
        return probabilities.argmax(-1, keepdim=True) if greedy else probabilities.multinomial(1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return embeddings (2 pictures, 1, d) of tokens (pictures, 1), one for each of the two rows."""
        both = tokens.repeat_interleave(2, dim=0)
        embeddings: Tensor = self.parts["gen_aligner"](self.parts["gen_embed"](both))
        return embeddings

    @torch.inference_mode()
    def draw(self, steps: int, *, greedy: bool = False, pictures: int = 1, context: int = 0) -> Tensor:
        """Draw image tokens (pictures, steps), sampled from torch's global generator unless greedy."""
        from transformers import DynamicCache

        cache = {self.cache_name: DynamicCache()}
        drawn = torch.zeros(pictures, steps, dtype=torch.int64, device=self.device)
        embeddings = self.prompt(pictures, context)
        for step in range(steps):
            hidden = self.llama(inputs_embeds=embeddings, use_cache=True, **cache).last_hidden_state[:, -1]
            chosen = self.choose(hidden, greedy)
            drawn[:, step] = chosen[:, 0]
            embeddings = self.embed(chosen)
        return drawn

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        """Not rebuilt."""
        raise NotImplementedError

    def decode(self, tokens: Tensor) -> Tensor:
        """Not rebuilt."""
        raise NotImplementedError

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Not rebuilt."""
        raise NotImplementedError


class Compiled(Authors):
    """The authors' loop with a static cache and a compiled step, on CUDA with CUDA graphs."""

    def __init__(self, ours: Janus, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__(ours, weights, dtype)
        self.steps: dict[tuple[int, int], tuple[Any, Any]] = {}

    def _prepared(self, pictures: int, slots: int) -> tuple[Any, Any]:
        """Return the cache and the compiled step for these shapes, made on first use."""
        from transformers import StaticCache

        if (pictures, slots) not in self.steps:
            cache = StaticCache(config=self.llama_config, max_cache_len=slots)

            def step(tokens: Tensor, is_greedy: bool) -> Tensor:
                found = self.llama(
                    inputs_embeds=self.embed(tokens), use_cache=True, **{self.cache_name: cache}
                )
                return self.choose(found.last_hidden_state[:, -1], is_greedy)

            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            self.steps[pictures, slots] = cache, torch.compile(step, mode=mode)
        return self.steps[pictures, slots]

    @torch.inference_mode()
    def draw(self, steps: int, *, greedy: bool = False, pictures: int = 1, context: int = 0) -> Tensor:
        """Draw image tokens (pictures, steps) through the compiled step, the first from the prefill."""
        embeddings = self.prompt(pictures, context)
        cache, step = self._prepared(pictures, embeddings.shape[1] + _WHOLE_PICTURE)
        cache.reset()
        drawn = torch.zeros(pictures, steps, dtype=torch.int64, device=self.device)
        hidden = self.llama(inputs_embeds=embeddings, use_cache=True, **{self.cache_name: cache})
        chosen = self.choose(hidden.last_hidden_state[:, -1], greedy)
        drawn[:, 0] = chosen[:, 0]
        for index in range(1, steps):
            torch.compiler.cudagraph_mark_step_begin()
            chosen = step(chosen.clone(), greedy)  # a graph overwrites its output at the next replay
            drawn[:, index] = chosen[:, 0]
        return drawn


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
        return self.vision_head(nn.functional.gelu(self.output_mlp_projector(hidden)))


class _Projector(nn.Module):
    def __init__(self, config: JanusConfig) -> None:
        super().__init__()
        width = config.language.hidden_size
        self.layers = nn.Sequential(
            nn.Linear(config.vq.code_width, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(codes)


def _generation_parts(config: JanusConfig) -> nn.ModuleDict:
    embed = nn.Embedding(config.vq.codebook_size, config.vq.code_width)
    return nn.ModuleDict({"gen_embed": embed, "gen_aligner": _Projector(config), "gen_head": _Head(config)})


def _assign(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    wanted = module.state_dict().keys()
    module.load_state_dict({name: tensors[name] for name in wanted}, assign=True)
    module.eval().requires_grad_(False)


def _let_images_have_a_cache(model: Any) -> None:
    """Give the static cache's maker the argument that the image mode of transformers 5.17 leaves out."""
    make = model._prepare_static_cache
    if "prefill_chunk_size" in signature(make).parameters:
        model._prepare_static_cache = partial(make, prefill_chunk_size=None)  # a caller's own value wins


class Transformers:
    """transformers' `JanusForConditionalGeneration`, used through its `generate`."""

    def __init__(self, ours: Janus, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        from transformers import GenerationConfig, JanusForConditionalGeneration, logging
        from transformers import JanusConfig as NativeConfig

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.ours = ours
        self.device = ours.compute.device
        self.model: Any = JanusForConditionalGeneration.from_pretrained(
            None,
            config=NativeConfig.from_dict(native_config(ours.config)),
            state_dict=to_published(weights, "transformers"),
            dtype=dtype,
            attn_implementation="sdpa",
            device_map=None if self.device.type == "cpu" else {"": self.device},
        )
        self.model.generation_config = GenerationConfig(**GENERATION)
        self.model.requires_grad_(False)
        _let_images_have_a_cache(self.model)

    def draw(self, steps: int, *, greedy: bool = False, pictures: int = 1, context: int = 0) -> Tensor:
        """Draw image tokens (pictures, steps) with `generate`."""
        plan = prompt_plan(self.ours.tokenizer, context)
        prompt = torch.tensor([plan.token_ids], device=self.device)
        tower = self.model.model.vision_model.config
        whole = tower.num_image_tokens
        tower.num_image_tokens = steps  # `generate` loops this often; the cache still holds a whole picture
        several = {"num_return_sequences": pictures} if pictures > 1 else {}
        try:
            drawn = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_mode="image",
                do_sample=not greedy,
                guidance_scale=CFG_WEIGHT,
                max_length=whole + len(plan),
                **several,
            )
        finally:
            tower.num_image_tokens = whole
        return drawn

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
        """Return greedy answers (b, tokens) of `generate`."""
        config, dtype = self.ours.config, self.model.dtype
        turn = Turn(role="user", text=QUESTION, images=(images[0],))
        plan = self.ours.plan_conversation([turn], system="")
        prompt = torch.tensor([plan.token_ids] * len(images), device=self.device)
        rows = [to_pixel_values(read_picture(image), config.preprocess) for image in images]
        answers = self.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            pixel_values=torch.stack(rows).to(self.device, dtype),
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
        )
        return answers[:, prompt.shape[1] :].cpu()

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Return pixel values of image tokens (b, h, w)."""
        return self.model.model.vqmodel.decode(tokens.flatten(1))

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return image tokens of pixel values (b, 3, h, w); codes are compared without normalising them."""
        found = self.model.model.vqmodel.encode(pixel_values.to(self.model.dtype))
        return found.image_tokens


def make_contenders(
    size: Size, dtype: torch.dtype, device: torch.device, workdir: Path, which: list[str] | set[str]
) -> Contenders:
    """Build contenders from the same weights; "ours" always."""
    ours, makers = ours_and_makers(size, dtype, device, workdir)
    return {"ours": ours, **{name: make() for name, make in makers.items() if name in which}}


def ours_and_makers(
    size: Size, dtype: torch.dtype, device: torch.device, workdir: Path
) -> tuple[Ours, dict[str, Callable[[], Contender]]]:
    """Build our contender, and return what builds the others from the same weights."""
    weights = weights_for(size, dtype, device, workdir)
    ours = Ours(size.config, weights, dtype, device)
    return ours, {
        "ours unpacked": lambda: Ours(size.config, weights, dtype, device, packs=False),
        "authors": lambda: Authors(ours.janus, weights, dtype),
        "transformers": lambda: Transformers(ours.janus, weights, dtype),
        "compiled": lambda: Compiled(ours.janus, weights, dtype),
    }
