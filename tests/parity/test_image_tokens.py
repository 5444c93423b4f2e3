from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.testing import assert_close

from janus_core import Janus

ATOL = 1e-4


@torch.inference_mode()
def test_latents_equal_the_golden_ones(janus: Janus, golden: dict[str, Tensor]) -> None:
    found = janus.model.vq_tokenizer.latents(golden["vq.encode_in"])
    assert_close(found, golden["vq.latent_before_quant"], atol=ATOL, rtol=0)


@torch.inference_mode()
def test_encoded_tokens_equal_the_golden_ones(janus: Janus, golden: dict[str, Tensor]) -> None:
    found = janus.model.vq_tokenizer.encode(golden["vq.encode_in"])
    assert torch.equal(found.flatten(1), golden["vq.encode_ids"])


def test_encoding_pictures_gives_the_golden_tokens(janus: Janus, golden: dict[str, Tensor]) -> None:
    pictures = rearrange((golden["vq.encode_in"] + 1) / 2, "b c h w -> b h w c")
    assert torch.equal(janus.encode(list(pictures)).grid.flatten(1), golden["vq.encode_ids"])


@torch.inference_mode()
def test_looked_up_codes_equal_the_golden_ones(janus: Janus, golden: dict[str, Tensor]) -> None:
    codes = janus.model.vq_tokenizer.codes(golden["vq.encode_ids"])
    found = rearrange(codes, "b (h w) c -> b c h w", h=janus.config.grid_side)
    assert_close(found, golden["vq.encode_quant"], atol=ATOL, rtol=0)


@torch.inference_mode()
def test_the_codebook_equals_the_golden_one(janus: Janus, golden: dict[str, Tensor]) -> None:
    expected = golden["vq.codebook_entry"]
    assert_close(janus.model.vq_tokenizer.codes(torch.arange(len(expected))), expected, atol=ATOL, rtol=0)


@torch.inference_mode()
def test_decoded_tokens_equal_the_golden_pixels(janus: Janus, golden: dict[str, Tensor]) -> None:
    grid = rearrange(golden["vq.encode_ids"], "b (h w) -> b h w", h=janus.config.grid_side)
    found = janus.model.vq_tokenizer.decode(grid, torch.float32)
    assert_close(found, golden["vq.decode"], atol=ATOL, rtol=0)


@torch.inference_mode()
def test_image_token_embeddings_equal_the_golden_ones(janus: Janus, golden: dict[str, Tensor]) -> None:
    found = janus.model.language.embed_image_tokens(golden["gen_embed.ids"], torch.float32)
    assert_close(found, golden["gen_embed.aligned"], atol=ATOL, rtol=0)
