"""Those we are compared with: the authors' loop, the same compiled, and transformers' own Janus.

All are built from the same tensors as ours, without copying them.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from janus_core import Janus, JanusConfig, Turn
from janus_core.inputs.pictures import read_picture
from janus_core.inputs.preprocessing import to_pixel_values
from janus_core.inputs.prompting import unconditional

from .contenders import CFG_WEIGHT, QUESTION, prompt_plan
from .weights import GENERATION, native_config, published, text_config

_WHOLE_PICTURE = 576  # tokens that a static cache has room for beside the prompt


class Authors:
    """The authors' way of drawing: transformers' Llama with a growing cache, two interleaved rows a picture.

    Rebuilt from its description: rows alternate between prompt and padding, nothing is masked, each step is a
    softmax and a multinomial draw. Seeing and decoding are transformers' part of the table.
    """

    def __init__(self, ours: Janus, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        from transformers import LlamaConfig, LlamaModel
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        config, self.device = ours.config, ours.compute.device
        tensors = {name: tensor.to(dtype) for name, tensor in published(weights, "authors").items()}
        self.llama_config = LlamaConfig(**text_config(config))
        self.llama_config._attn_implementation = "sdpa"
        with torch.device("meta"):
            self.llama: Any = LlamaModel(self.llama_config)
            self.parts = _generation_parts(config)
        self.llama.rotary_emb = LlamaRotaryEmbedding(self.llama_config).to(self.device)
        prefix = "language_model.model."
        _assign(self.llama, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        _assign(self.parts, {k: v for k, v in tensors.items() if k.startswith("gen_") and ".gen" not in k})
        self.tokenizer, self.cache_name = ours.tokenizer, _cache_argument(self.llama)

    def prompt(self, pictures: int, context: int) -> Tensor:
        """Return embeddings (2 pictures, t, d) of prompt and padding in turns."""
        cond = prompt_plan(self.tokenizer, context)
        rows = [cond.token_ids, unconditional(cond, self.tokenizer).token_ids] * pictures
        embeddings: Tensor = self.llama.embed_tokens(torch.tensor(rows, device=self.device))
        return embeddings

    def choose(self, hidden: Tensor, greedy: bool) -> Tensor:
        """Return the next token (pictures, 1) of hidden states (2 pictures, d)."""
        logits = self.parts["gen_head"](hidden)
        cond, uncond = logits[0::2], logits[1::2]
        probabilities = torch.softmax(uncond + CFG_WEIGHT * (cond - uncond), dim=-1)
        return probabilities.argmax(-1, keepdim=True) if greedy else probabilities.multinomial(1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return embeddings (2 pictures, 1, d) of tokens (pictures, 1), given to both rows."""
        both = tokens.repeat_interleave(2, dim=0)
        embeddings: Tensor = self.parts["gen_aligner"](self.parts["gen_embed"](both))
        return embeddings

    @torch.inference_mode()
    def draw(self, steps: int, *, greedy: bool = False, pictures: int = 1, context: int = 0) -> Tensor:
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
        raise NotImplementedError

    def decode(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, pixel_values: Tensor) -> Tensor:
        raise NotImplementedError


class Compiled(Authors):
    """The same loop with a static cache, its whole step compiled, with CUDA graphs where there is CUDA."""

    def __init__(self, ours: Janus, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__(ours, weights, dtype)
        self.steps: dict[tuple[int, int], tuple[Any, Any]] = {}

    def _prepared(self, pictures: int, slots: int) -> tuple[Any, Any]:
        """Return cache and compiled step for a number of pictures and slots, made when first asked for."""
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
        embeddings = self.prompt(pictures, context)
        cache, step = self._prepared(pictures, embeddings.shape[1] + _WHOLE_PICTURE)
        cache.reset()
        drawn = torch.zeros(pictures, steps, dtype=torch.int64, device=self.device)
        hidden = self.llama(inputs_embeds=embeddings, use_cache=True, **{self.cache_name: cache})
        chosen = self.choose(hidden.last_hidden_state[:, -1], greedy)
        drawn[:, 0] = chosen[:, 0]
        for index in range(1, steps):
            torch.compiler.cudagraph_mark_step_begin()
            chosen = step(chosen.clone(), greedy)
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

    def __init__(self, ours: Janus, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        from transformers import GenerationConfig, JanusForConditionalGeneration, logging
        from transformers import JanusConfig as NativeConfig

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.ours, self.device = ours, ours.compute.device
        self.model: Any = JanusForConditionalGeneration.from_pretrained(
            None,
            config=NativeConfig.from_dict(native_config(ours.config)),
            state_dict=published(weights, "transformers"),
            dtype=dtype,
            attn_implementation="sdpa",
            device_map=None if self.device.type == "cpu" else {"": self.device},
        )
        self.model.generation_config = GenerationConfig(**GENERATION)
        self.model.requires_grad_(False)

    def draw(self, steps: int, *, greedy: bool = False, pictures: int = 1, context: int = 0) -> Tensor:
        plan = prompt_plan(self.ours.tokenizer, context)
        prompt = torch.tensor([plan.token_ids], device=self.device)
        tower = self.model.model.vision_model.config
        whole = tower.num_image_tokens
        tower.num_image_tokens = steps  # the loop's length; the cache keeps the size of a whole picture
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
        return drawn  # type: ignore[no-any-return]

    def answer(self, images: Sequence[Image], tokens: int) -> Tensor:
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
        return answers[:, prompt.shape[1] :].cpu()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        return self.model.model.vqmodel.decode(tokens.flatten(1))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor) -> Tensor:
        found = self.model.model.vqmodel.encode(pixel_values.to(self.model.dtype))
        return found.image_tokens  # type: ignore[no-any-return]
