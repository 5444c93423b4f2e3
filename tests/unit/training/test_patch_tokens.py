"""Patch tokens: one image token for each different patch, the one it gets most often."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from einops import rearrange
from torch import Tensor

from janus_core.model.vq_tokenizer import VQTokenizer
from janus_training.patch_tokens import PatchTokens
from janus_training.recipe import find_recipe
from janus_training.weights import new_model

SIDE, PATCH_PX = 4, 8


@pytest.fixture(scope="module")
def vq() -> VQTokenizer:
    vq = new_model(find_recipe("micro").model.to_config(), seed=1).vq_tokenizer
    with torch.no_grad():
        vq.codebook.weight.copy_(torch.randn(vq.codebook.weight.shape, generator=seeded(2)))
    return vq


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Return 24 pictures (24, 3, 32, 32), each a random arrangement of the same six patches."""
    levels = torch.randint(0, 256, (6, 3, PATCH_PX, PATCH_PX), generator=seeded(3))
    return arranged(levels / 127.5 - 1, torch.randint(0, 6, (24, SIDE * SIDE), generator=seeded(4)))


def arranged(patches: Tensor, which: Tensor) -> Tensor:
    return rearrange(patches[which], "b (h w) c p q -> b c (h p) (w q)", h=SIDE)


def patches_of(pictures: Tensor) -> list[bytes]:
    parts = rearrange(pictures, "b c (h p) (w q) -> (b h w) (c p q)", p=PATCH_PX, q=PATCH_PX)
    return [part.numpy().tobytes() for part in parts]


def tokens_by_patch(pictures: Tensor, tokens: Tensor) -> dict[bytes, Counter[int]]:
    found: dict[bytes, Counter[int]] = {}
    for patch, token in zip(patches_of(pictures), tokens.flatten().tolist(), strict=True):
        found.setdefault(patch, Counter())[token] += 1
    return found


def test_the_encoder_gives_equal_patches_different_tokens(vq: VQTokenizer, pictures: Tensor) -> None:
    assert any(len(tokens) > 1 for tokens in tokens_by_patch(pictures, vq.encode(pictures)).values())


def test_every_patch_gets_its_most_frequent_token(vq: VQTokenizer, pictures: Tensor) -> None:
    met = tokens_by_patch(pictures, vq.encode(pictures))
    kept = tokens_by_patch(pictures, PatchTokens(vq, pictures.split(5))(pictures))
    for patch, tokens in kept.items():
        (token,) = tokens
        assert met[patch][token] == max(met[patch].values())


def test_the_order_of_pictures_does_not_matter(vq: VQTokenizer, pictures: Tensor) -> None:
    forwards, backwards = PatchTokens(vq, pictures.split(5)), PatchTokens(vq, [pictures.flip(0)])
    assert len(forwards) == len(backwards) == 6
    assert torch.equal(forwards(pictures), backwards(pictures))


def test_a_patch_never_met_gets_the_encoders_token(vq: VQTokenizer, pictures: Tensor) -> None:
    strange = torch.rand(2, 3, 32, 32, generator=seeded(5)) * 2 - 1
    assert torch.equal(PatchTokens(vq, [pictures])(strange), vq.encode(strange))


def test_beside_a_patch_never_met_the_others_keep_their_tokens(vq: VQTokenizer, pictures: Tensor) -> None:
    tokens_of = PatchTokens(vq, [pictures])
    mixed = pictures.clone()
    mixed[:, :, -PATCH_PX:, -PATCH_PX:] = torch.rand(24, 3, PATCH_PX, PATCH_PX, generator=seeded(6)) * 2 - 1

    found, met = tokens_of(mixed).flatten(1), tokens_of(pictures).flatten(1)

    assert torch.equal(found[:, :-1], met[:, :-1])
    assert torch.equal(found[:, -1], vq.encode(mixed).flatten(1)[:, -1])
    assert not torch.equal(found[:, :-1], vq.encode(mixed).flatten(1)[:, :-1])


def test_patches_that_differ_by_one_level_are_different(vq: VQTokenizer, pictures: Tensor) -> None:
    changed = pictures[:1].clone()
    changed[0, 0, 0, 0] += 2 / 255 if changed[0, 0, 0, 0] < 0 else -2 / 255
    assert len(PatchTokens(vq, [torch.cat((pictures, changed))])) == 7


def test_nothing_is_learnt_through_them(vq: VQTokenizer, pictures: Tensor) -> None:
    with torch.enable_grad():
        assert not PatchTokens(vq, [pictures])(pictures.clone().requires_grad_()).requires_grad
