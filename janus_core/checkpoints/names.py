"""Names of our tensors in each layout: one table of patterns per layout, and the renaming by it.

A placeholder such as {i} stands for one number, {p} for the parameter's own name. The few tensors that a
layout stores otherwise shaped are brought from one shape to the other. Nothing here reads a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from .layout import Layout

# The authors store it as a batch of one.
POSITIONS = "seeing.vision_tower.position_embedding.weight"

# Ours on the left. The first pattern that fits decides, so special names stand before general ones.
_AUTHORS = (
    ("seeing.vision_tower.position_embedding.weight", "vision_model.vision_tower.pos_embed"),
    ("seeing.vision_tower.patch_embedding.{p}", "vision_model.vision_tower.patch_embed.proj.{p}"),
    ("seeing.vision_tower.blocks.{i}.attention.{m}.{p}", "vision_model.vision_tower.blocks.{i}.attn.{m}.{p}"),
    ("seeing.vision_tower.blocks.{i}.mlp.{m}.{p}", "vision_model.vision_tower.blocks.{i}.mlp.{m}.{p}"),
    ("seeing.vision_tower.blocks.{i}.{m}.{p}", "vision_model.vision_tower.blocks.{i}.{m}.{p}"),
    ("seeing.vision_tower.norm.{p}", "vision_model.vision_tower.norm.{p}"),
    ("seeing.understanding_aligner.layers.{i}.{p}", "aligner.layers.{i}.{p}"),
    ("language.language_model.lm_head.weight", "language_model.lm_head.weight"),
    ("language.language_model.{rest}", "language_model.model.{rest}"),
    ("language.image_token_embedding.weight", "gen_embed.weight"),
    ("language.generation_aligner.layers.{i}.{p}", "gen_aligner.layers.{i}.{p}"),
    ("language.generation_head.inner.{p}", "gen_head.output_mlp_projector.{p}"),
    ("language.generation_head.output.{p}", "gen_head.vision_head.{p}"),
    ("vq_tokenizer.codebook.weight", "gen_vision_model.quantize.embedding.weight"),
    ("vq_tokenizer.{rest}", "gen_vision_model.{rest}"),
)

_VISION = "model.vision_model."
_VQ = "model.vqmodel."
_TRANSFORMERS = (
    ("seeing.vision_tower.position_embedding.weight", _VISION + "embeddings.position_embedding.weight"),
    ("seeing.vision_tower.patch_embedding.{p}", _VISION + "embeddings.patch_embedding.{p}"),
    (
        "seeing.vision_tower.blocks.{i}.attention.qkv.{p}",
        _VISION + "encoder.layers.{i}.self_attn.{{q,k,v}}_proj.{p}",
    ),
    (
        "seeing.vision_tower.blocks.{i}.attention.proj.{p}",
        _VISION + "encoder.layers.{i}.self_attn.projection_layer.{p}",
    ),
    ("seeing.vision_tower.blocks.{i}.mlp.{m}.{p}", _VISION + "encoder.layers.{i}.mlp.{m}.{p}"),
    ("seeing.vision_tower.blocks.{i}.norm{j}.{p}", _VISION + "encoder.layers.{i}.layer_norm{j}.{p}"),
    ("seeing.vision_tower.norm.{p}", _VISION + "post_layernorm.{p}"),
    ("seeing.understanding_aligner.layers.0.{p}", "model.aligner.fc1.{p}"),
    ("seeing.understanding_aligner.layers.{2k+2}.{p}", "model.aligner.hidden_layers.{2k+2}.{p}"),
    ("language.language_model.lm_head.weight", "lm_head.weight"),
    ("language.language_model.{rest}", "model.language_model.{rest}"),
    ("language.image_token_embedding.weight", "model.generation_embeddings.weight"),
    ("language.generation_aligner.layers.0.{p}", "model.generation_aligner.fc1.{p}"),
    ("language.generation_aligner.layers.{2k+2}.{p}", "model.generation_aligner.hidden_layers.{2k+2}.{p}"),
    ("language.generation_head.inner.{p}", "model.generation_head.proj_out.{p}"),
    ("language.generation_head.output.{p}", "model.generation_head.vision_head.{p}"),
    ("vq_tokenizer.codebook.weight", _VQ + "quantize.embedding.weight"),
    ("vq_tokenizer.{half}.mid.1.{rest}", _VQ + "{half}.mid.attn_1.{rest}"),
    ("vq_tokenizer.{half}.mid.0.{rest}", _VQ + "{half}.mid.block_1.{rest}"),
    ("vq_tokenizer.{half}.mid.2.{rest}", _VQ + "{half}.mid.block_2.{rest}"),
    ("vq_tokenizer.encoder.conv_blocks.{i}.res.{j}.{rest}", _VQ + "encoder.down.{i}.block.{j}.{rest}"),
    ("vq_tokenizer.encoder.conv_blocks.{i}.{rest}", _VQ + "encoder.down.{i}.{rest}"),
    ("vq_tokenizer.decoder.conv_blocks.{i}.res.{j}.{rest}", _VQ + "decoder.up.{i}.block.{j}.{rest}"),
    ("vq_tokenizer.decoder.conv_blocks.{i}.{rest}", _VQ + "decoder.up.{i}.{rest}"),
    ("vq_tokenizer.{rest}", _VQ + "{rest}"),
)

_SEES = "vision_und_enc_model.vision_tower."
_JANUSFLOW = (
    ("seeing.vision_tower.position_embedding.weight", _SEES + "pos_embed"),
    ("seeing.vision_tower.patch_embedding.{p}", _SEES + "patch_embed.proj.{p}"),
    ("seeing.vision_tower.blocks.{i}.attention.{m}.{p}", _SEES + "blocks.{i}.attn.{m}.{p}"),
    ("seeing.vision_tower.{rest}", _SEES + "{rest}"),
    ("seeing.understanding_aligner.layers.0.{p}", "vision_und_enc_aligner.{p}"),
    ("seeing.begin_embedding.weight", "beg_of_und_embed"),
    ("language.language_model.lm_head.weight", "language_model.lm_head.weight"),
    ("language.language_model.{rest}", "language_model.model.{rest}"),
    ("flow.encoder_aligner.{p}", "vision_gen_enc_aligner.{p}"),
    ("flow.decoder_aligner_norm.weight", "vision_gen_dec_aligner_norm.weight"),
    ("flow.decoder_aligner.{p}", "vision_gen_dec_aligner.{p}"),
    ("flow.encoder.{rest}", "vision_gen_enc_model.{rest}"),
    ("flow.decoder.norm.weight", "vision_gen_dec_model.out_convs.0.norm.weight"),
    ("flow.decoder.unpatch_conv.{p}", "vision_gen_dec_model.out_convs.0.unpatch_conv.{p}"),
    ("flow.decoder.{rest}", "vision_gen_dec_model.{rest}"),
)

_TABLES = {"authors": _AUTHORS, "transformers": _TRANSFORMERS, "janusflow": _JANUSFLOW}

# Tensors in files that no computation reads: SigLIP's pooling head, training statistics of the codebook,
# tables that old versions of transformers saved, leftovers of training and of profilers, the tokenizer.
_UNUSED = re.compile(
    r".*(\.attn_pool\..*|quantize\.(codebook_used|cluster_size|embed_avg|initted)|\.position_ids"
    r"|\.rotary_emb\.(inv_freq|cos_cached|sin_cached)|\.num_batches_tracked|(^|\.)total_(ops|params)"
    r"|gen_vision_model\.loss\..*|tokenizer_json)"
)

_PLACEHOLDER = re.compile(r"\{(2k\+2|\w+)\}")
_WIDER = {"rest": r".+", "half": r"encoder|decoder", "m": r"\w+", "p": r"weight|bias"}


def is_unused(name: str) -> bool:
    """Tell whether no computation reads a published tensor."""
    return _UNUSED.fullmatch(name) is not None


def published_names(ours: str, layout: Layout) -> tuple[str, ...]:
    """Return the name of one of our tensors in a layout, or the three names to stack along axis 0.

    Args:
        ours: a key of the model's `state_dict()`.
        layout: of the file.
    """
    for pattern, template in _compiled(layout):
        found = pattern.fullmatch(ours)
        if found:
            name = _fill(template, found)
            if "{{q,k,v}}" in name:
                return tuple(name.replace("{{q,k,v}}", part) for part in "qkv")
            return (name,)
    raise KeyError(ours)


def to_published(weights: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return tensors under our names as a layout stores them, sharing memory."""
    published: dict[str, Tensor] = {}
    for ours, tensor in weights.items():
        names = published_names(ours, layout)
        stored = tensor[None] if ours == POSITIONS and layout != "transformers" else tensor
        published |= zip(names, stored.chunk(len(names)), strict=True)
    return published


def to_ours(parts: Sequence[Tensor], ours: str) -> Tensor:
    """Return one of our tensors from the one that a layout stores, sharing memory, or several to stack."""
    if len(parts) > 1:
        return torch.cat(list(parts))  # a copy in memory
    return parts[0].reshape(parts[0].shape[-2:]) if ours == POSITIONS else parts[0]


def _fill(template: str, found: re.Match[str]) -> str:
    def value(mark: re.Match[str]) -> str:
        placeholder = mark.group(1)
        if placeholder == "2k+2":  # authors' aligners count their GELUs, native ones do not
            return str(int(found.group("even")) // 2 - 1)
        return found.group(placeholder)

    return _PLACEHOLDER.sub(value, template)


@cache
def _compiled(layout: Layout) -> tuple[tuple[re.Pattern[str], str], ...]:
    def to_group(mark: re.Match[str]) -> str:
        name = mark.group(1)
        return r"(?P<even>\d+)" if name == "2k+2" else f"(?P<{name}>{_WIDER.get(name, chr(92) + 'd+')})"

    return tuple(
        (re.compile(_PLACEHOLDER.sub(to_group, ours.replace(".", r"\."))), theirs)
        for ours, theirs in _TABLES[layout]
    )
