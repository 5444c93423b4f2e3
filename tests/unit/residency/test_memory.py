"""What a host is told about the memory of a task covers the largest things that the task makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from janus_core import VQ_TOGETHER, answer_bytes, decode_bytes, draw_bytes
from janus_core.generation.noise import block_words
from janus_core.model.kv_cache import kv_cache_bytes

from ..conftest import TINY

_TEXT = 32
_SEEN = TINY.vision.num_patches
WIDE = replace(TINY, vision=replace(TINY.vision, mlp_ratio=1000.0))  # its tower outweighs all else


def answering(pictures: int, rows: int = 1) -> int:
    return answer_bytes(WIDE, rows, _TEXT + pictures * _SEEN, 16, torch.float32)


@pytest.mark.parametrize("pictures", [1, 2, 5])
def test_answering_counts_the_tower_for_every_picture_of_a_conversation(pictures: int) -> None:
    inside_and_after_gelu = 2 * pictures * _SEEN * WIDE.vision.mlp_width * torch.float32.itemsize
    assert answering(pictures) >= inside_and_after_gelu


def test_answering_counts_every_row_and_a_second_cache_for_those_that_outlast_the_first() -> None:
    cache = kv_cache_bytes(WIDE.language, 1, _TEXT + 2 * _SEEN + 16, torch.float32)
    assert answering(2, rows=3) == 3 * answering(2) + 2 * cache


@pytest.mark.parametrize("rows", [1, 8, 64])
def test_sampled_answers_count_the_noise_that_is_made_for_them(rows: int) -> None:
    greedy, sampled = (
        answer_bytes(TINY, rows, _TEXT, 16, torch.float32, is_sampled=is_sampled)
        for is_sampled in (False, True)
    )
    block = rows * block_words(rows) * TINY.language.vocab_size * torch.float32.itemsize
    assert sampled - greedy >= 2 * block  # the one in use and the next


def test_drawing_counts_two_cached_rows_for_every_picture() -> None:
    cache = kv_cache_bytes(TINY.language, 2, _TEXT + TINY.num_image_tokens, torch.float32)
    one, five = (draw_bytes(TINY, count, _TEXT, torch.float32) for count in (1, 5))
    assert one > cache + decode_bytes(TINY, 1)
    assert five - one >= 4 * cache


def test_drawing_counts_a_second_cache_for_those_that_outlast_the_others() -> None:
    cache = kv_cache_bytes(TINY.language, 2, _TEXT + TINY.num_image_tokens, torch.float32)
    all_kept, halved = (draw_bytes(TINY, 8, _TEXT, torch.float32, going_on=count) for count in (0, 4))
    assert halved - all_kept == 4 * cache


def test_drawing_counts_a_longer_prompt() -> None:
    short, long = (draw_bytes(TINY, 1, tokens, torch.float32) for tokens in (_TEXT, 50 * _TEXT))
    assert long - short >= kv_cache_bytes(TINY.language, 2, 49 * _TEXT, torch.float32)


def test_decoding_counts_every_picture_that_goes_through_at_once() -> None:
    assert decode_bytes(TINY, 17) == 17 * decode_bytes(TINY, 1)


def test_a_drawing_decodes_a_few_pictures_at_a_time() -> None:
    wide = replace(TINY, vq=replace(TINY.vq, base_channels=2**20))  # feature maps outweigh all else
    whole = decode_bytes(wide, VQ_TOGETHER)
    assert whole <= draw_bytes(wide, 17, _TEXT, torch.float32) < whole + decode_bytes(wide, 1)
