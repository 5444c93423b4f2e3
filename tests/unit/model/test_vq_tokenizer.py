from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from janus_core import Janus
from janus_core.model.vq_tokenizer import (
    Downsample,
    Layers,
    ResBlock,
    SpatialAttention,
    Upsample,
    VQTokenizer,
)

HALF = [torch.bfloat16, torch.float16]
LAYERS = Layers(32, nn)


@pytest.fixture
def vq(janus: Janus) -> VQTokenizer:
    return janus.model.vq_tokenizer


@pytest.fixture
def pixel_values() -> Tensor:
    return torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(0, 64, (2, 4, 4), generator=torch.Generator().manual_seed(5))


def kernel(conv: nn.Conv2d, row: int, column: int) -> None:
    """Make a 3 × 3 convolution copy the pixel at one place of its window."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        conv.weight[:, :, row, column] = torch.eye(conv.in_channels)


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


# codes


def test_codes_have_unit_length(vq: VQTokenizer) -> None:
    assert_close(vq.codes(torch.arange(64)).norm(dim=-1), torch.ones(64))


def test_a_code_is_its_own_nearest(vq: VQTokenizer, tokens: Tensor) -> None:
    assert torch.equal(vq.nearest(vq.codes(tokens).movedim(-1, 1)), tokens)


def test_the_length_of_a_latent_does_not_matter(vq: VQTokenizer, tokens: Tensor) -> None:
    latents = vq.codes(tokens).movedim(-1, 1)
    assert torch.equal(vq.nearest(latents * 1e-3), vq.nearest(latents * 1e3))


def test_the_nearest_code_is_at_the_smallest_distance(vq: VQTokenizer, pixel_values: Tensor) -> None:
    latents = nn.functional.normalize(vq.latents(pixel_values), dim=1)
    distances = (latents.movedim(1, -1)[..., None, :] - vq.codes(torch.arange(64))).norm(dim=-1)
    assert torch.equal(vq.encode(pixel_values), distances.argmin(dim=-1))


def test_the_length_of_a_stored_code_does_not_matter(vq: VQTokenizer, tokens: Tensor) -> None:
    longer = VQTokenizer(vq.config, nn)
    longer.load_state_dict(vq.state_dict() | {"codebook.weight": vq.codebook.weight * 7})
    assert_close(longer.decode(tokens, torch.float32), vq.decode(tokens, torch.float32))


# shapes and dtypes


def test_pictures_become_grids_of_tokens(vq: VQTokenizer, pixel_values: Tensor) -> None:
    found = vq.encode(pixel_values)
    assert (found.shape, found.dtype) == ((2, 4, 4), torch.int64)


def test_grids_of_tokens_become_pictures(vq: VQTokenizer, tokens: Tensor) -> None:
    assert vq.decode(tokens, torch.float32).shape == (2, 3, 16, 16)


def test_a_batch_decodes_to_what_its_grids_decode_to(vq: VQTokenizer, tokens: Tensor) -> None:
    singles = torch.cat([vq.decode(grid[None], torch.float32) for grid in tokens])
    assert_close(vq.decode(tokens, torch.float32), singles)


def test_decoding_keeps_channels_last_from_the_codes_on(vq: VQTokenizer, tokens: Tensor) -> None:
    """On a CPU convolutions and norms take that layout as it is, and it saves a sixth of their time."""
    strayed: list[str] = []

    def look(name: str, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].is_contiguous(memory_format=torch.channels_last):
            strayed.append(name)

    kinds = (nn.Conv2d, nn.GroupNorm)
    parts = [(name, part) for name, part in vq.named_modules() if isinstance(part, kinds)]
    hooks = [
        part.register_forward_pre_hook(lambda _, inputs, name=name: look(name, inputs))
        for name, part in parts
    ]
    with torch.inference_mode():
        pixels = vq.decode(tokens, torch.float32)
    for hook in hooks:
        hook.remove()
    assert strayed == []
    assert pixels.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", HALF)
def test_decoding_in_half_precision_is_close_to_float32(
    make_janus: Callable[[torch.dtype], Janus], vq: VQTokenizer, tokens: Tensor, dtype: torch.dtype
) -> None:
    found = make_janus(dtype).model.vq_tokenizer.decode(tokens, dtype)
    assert found.dtype == dtype
    assert_close(found.float(), vq.decode(tokens, torch.float32), atol=0.1, rtol=0)


@pytest.mark.parametrize("dtype", HALF)
def test_latents_in_half_precision_are_close_to_float32(
    make_janus: Callable[[torch.dtype], Janus], vq: VQTokenizer, pixel_values: Tensor, dtype: torch.dtype
) -> None:
    found = make_janus(dtype).model.vq_tokenizer.latents(pixel_values.to(dtype))
    assert found.dtype == dtype
    assert_close(found.float(), vq.latents(pixel_values), atol=0.1, rtol=0)


@pytest.mark.parametrize("dtype", HALF)
def test_encoding_in_half_precision_finds_nearly_all_tokens(
    make_janus: Callable[[torch.dtype], Janus], vq: VQTokenizer, pixel_values: Tensor, dtype: torch.dtype
) -> None:
    found = make_janus(dtype).model.vq_tokenizer.encode(pixel_values.to(dtype))
    assert (found == vq.encode(pixel_values)).float().mean() > 0.8


# the parts


def test_downsampling_pads_right_and_bottom(pixel_values: Tensor) -> None:
    layer = Downsample(3, LAYERS)
    kernel(layer.conv, 0, 0)
    assert torch.equal(layer(pixel_values), pixel_values[:, :, ::2, ::2])


def test_the_padding_of_a_downsampled_picture_is_black(pixel_values: Tensor) -> None:
    layer = Downsample(3, LAYERS)
    kernel(layer.conv, 2, 2)
    found = layer(pixel_values)
    assert torch.equal(found[:, :, :-1, :-1], pixel_values[:, :, 2::2, 2::2])
    assert not found[:, :, -1].any()
    assert not found[:, :, :, -1].any()


def test_upsampling_repeats_pixels(pixel_values: Tensor) -> None:
    layer = Upsample(3, LAYERS)
    kernel(layer.conv, 1, 1)
    expected = pixel_values.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(layer(pixel_values), expected)


@pytest.mark.parametrize("dtype", HALF)
def test_upsampling_keeps_the_dtype(pixel_values: Tensor, dtype: torch.dtype) -> None:
    assert Upsample(3, LAYERS).to(dtype)(pixel_values.to(dtype)).dtype == dtype


@pytest.mark.parametrize(("out_channels", "has_shortcut"), [(32, False), (64, True)])
def test_a_shortcut_stands_only_where_channels_change(out_channels: int, has_shortcut: bool) -> None:
    assert (ResBlock(32, out_channels, LAYERS).nin_shortcut is not None) == has_shortcut


def test_attention_scales_by_the_root_of_the_channels() -> None:
    layer = SpatialAttention(32, LAYERS).requires_grad_(False)
    x = torch.randn((1, 32, 2, 3), generator=torch.Generator().manual_seed(6))
    normed = layer.norm(x)
    q, k, v = (conv(normed).flatten(2) for conv in (layer.q, layer.k, layer.v))  # (b, c, n)
    weights = (q.transpose(1, 2) @ k * 32**-0.5).softmax(dim=-1)
    mixed = (weights @ v.transpose(1, 2)).transpose(1, 2).reshape(x.shape)
    assert_close(layer(x), x + layer.proj_out(mixed))


@pytest.mark.parametrize(("half", "lowest"), [("encoder", -1), ("decoder", 0)])
def test_only_the_lowest_resolution_attends(vq: VQTokenizer, half: str, lowest: int) -> None:
    levels = list(vq.get_submodule(half).get_submodule("conv_blocks").children())
    attention = [count(level, SpatialAttention) for level in levels]
    assert attention.pop(lowest) > 0
    assert not any(attention)


def test_the_decoder_has_one_block_more_per_level_than_the_encoder(vq: VQTokenizer) -> None:
    deep = VQTokenizer(replace(vq.config, num_res_blocks=2), nn)
    encoder, decoder = (
        {count(level, ResBlock) for level in half.conv_blocks} for half in (deep.encoder, deep.decoder)
    )
    assert (encoder, decoder) == ({2}, {3})


@pytest.mark.parametrize("norm_groups", [1, 16, 32])
def test_norms_divide_channels_into_as_many_groups_as_configured(norm_groups: int, janus: Janus) -> None:
    vq = VQTokenizer(replace(janus.config.vq, norm_groups=norm_groups), nn)
    found = {module.num_groups for module in vq.modules() if isinstance(module, nn.GroupNorm)}
    assert found == {norm_groups}
