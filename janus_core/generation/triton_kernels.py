"""Triton kernels, and the functions that launch them.

Each computes in one launch what takes several plain operators, which define its results: those of
`static_attention`, `static_decoder` and `noise`. Every grid depends on shapes alone, and lengths are read on
the device, so that launches can be captured. Importing this file imports Triton: ask `kernels` first.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_KEYS = 64  # keys that a program loads at once
_MOST_SPLITS = 16  # of the keys of one head
_GATES = 512  # entries of one program
_GROUPS = 256  # groups of four codes of one program
_FUSED = {"enable_fp_fusion": True}  # explicit, since the default differs between releases
_LOG2_E = 1.4426950408889634


def attend(
    projected: Tensor,
    both: Tensor,
    table: tuple[Tensor, Tensor],
    *,
    positions: Tensor,
    slot: Tensor,
    attended: Tensor | None,
    splits: int,
) -> Tensor:
    """Rotate the queries and keys of new tokens, store keys and values, and attend to the filled slots.

    It takes one launch, and a second if keys are split among programs, without which few rows would leave
    most of a GPU idle.

    Args:
        projected: (b, (heads + 2 kv_heads) head_dim): queries, keys, values.
        both: (2, b, kv_heads, slots, head_dim), keys and values of one layer, written at `slot`.
        table: cosines and signed sines (positions, head_dim), see `static_attention`.
        positions: (b,) int64, of the new tokens.
        slot: (1,) int64, how many slots are filled.
        attended: (b, slots) bool, False at padding, or None where there is none.
        splits: programs for each head, which split its keys, 1 … 16.

    Returns: (b, heads head_dim) in the dtype of `projected`.
    """
    _, rows, kv_heads, slots, head_dim = both.shape
    heads = projected.shape[1] // head_dim - 2 * kv_heads
    device = projected.device
    mixed = torch.empty(rows, heads * head_dim, dtype=projected.dtype, device=device)
    is_whole = splits == 1
    shape = (rows * heads, splits, head_dim)
    parts = mixed if is_whole else torch.empty(shape, dtype=torch.float32, device=device)
    sums = mixed if is_whole else torch.empty((2, *shape[:2]), dtype=torch.float32, device=device)
    with torch.cuda.device_of(projected):
        _attend[rows * heads, splits](
            projected, both[0], both[1], *table, positions, slot, slot if attended is None else attended,
            mixed, parts, sums, heads, kv_heads, slots, splits, head_dim**-0.5 * _LOG2_E,
            head_dim=head_dim, block=_KEYS, is_padded=attended is not None, is_whole=is_whole, **_FUSED,
        )  # fmt: skip
        if not is_whole:
            _combine[(rows * heads,)](
                parts, sums, mixed, splits, head_dim=head_dim, most=_MOST_SPLITS, **_FUSED
            )
    return mixed


@triton.jit(do_not_specialize=["splits"])
def _attend(
    projected, keys, values, cosines, sines, positions, slot, attended, mixed, parts, sums,
    heads, kv_heads, slots, splits, scale,
    head_dim: tl.constexpr, block: tl.constexpr, is_padded: tl.constexpr, is_whole: tl.constexpr,
):  # fmt: skip
    """Attend with one head of one row to one part of the filled slots: softmax in base 2, in float32."""
    pair = tl.program_id(0)
    split = tl.program_id(1)
    row = pair // heads
    head = pair % heads
    kv_head = head // (heads // kv_heads)
    channel = tl.arange(0, head_dim)
    turn = tl.load(positions + row) * head_dim
    cosines += turn
    sines += turn
    line = projected + row.to(tl.int64) * (heads + 2 * kv_heads) * head_dim
    query = _rotated(line + head * head_dim, cosines, sines, head_dim)
    key = _rotated(line + (heads + kv_head) * head_dim, cosines, sines, head_dim)
    value = tl.load(line + (heads + kv_heads + kv_head) * head_dim + channel)

    filled = tl.load(slot).to(tl.int32)
    lane = (row * kv_heads + kv_head).to(tl.int64) * slots * head_dim
    keys += lane
    values += lane
    # One of the programs of this key head stores; the others read filled slots only, so nobody waits.
    if split == 0 and head % (heads // kv_heads) == 0:
        tl.store(keys + filled * head_dim + channel, key)
        tl.store(values + filled * head_dim + channel, value)

    # The first part starts from the new token. A finite start keeps empty parts free of NaN.
    query = query.to(tl.float32)
    top = tl.where(split == 0, tl.sum(query * key.to(tl.float32)) * scale, -1.0e38)
    total = tl.where(split == 0, 1.0, 0.0)
    mean = tl.where(split == 0, value.to(tl.float32), 0.0)  # (head_dim,), not yet divided
    share = tl.cdiv(tl.cdiv(filled, block), splits) * block  # keys of a part
    end = tl.minimum((split + 1) * share, filled)
    for start in range(split * share, end, block):
        at = start + tl.arange(0, block)
        seen = at < end
        if is_padded:
            seen = seen & (tl.load(attended + row * slots + at, mask=seen, other=0) != 0)
        place = at[:, None] * head_dim + channel[None, :]
        some_keys = tl.load(keys + place, mask=seen[:, None], other=0.0).to(tl.float32)
        some_values = tl.load(values + place, mask=seen[:, None], other=0.0).to(tl.float32)
        scores = tl.sum(some_keys * query[None, :], axis=1) * scale  # (block,)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=0))
        weights = tl.exp2(scores - higher)
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(weights, axis=0)
        mean = mean * shrunk + tl.sum(weights[:, None] * some_values, axis=0)
        top = higher
    if is_whole:
        tl.store(mixed + pair * head_dim + channel, mean / total)
    else:
        part = pair * splits + split
        tl.store(parts + part * head_dim + channel, mean)
        tl.store(sums + part, top)
        tl.store(sums + tl.num_programs(0) * splits + part, total)


@triton.jit
def _rotated(line, cosines, sines, head_dim: tl.constexpr):
    """Rotate head_dim entries by cosines and signed sines, rounded once to their dtype."""
    channel = tl.arange(0, head_dim)
    x = tl.load(line + channel)
    swapped = tl.load(line + (channel + head_dim // 2) % head_dim)
    cosine, sine = tl.load(cosines + channel).to(tl.float32), tl.load(sines + channel).to(tl.float32)
    return (x.to(tl.float32) * cosine + swapped.to(tl.float32) * sine).to(x.dtype)


@triton.jit(do_not_specialize=["splits"])
def _combine(parts, sums, mixed, splits, head_dim: tl.constexpr, most: tl.constexpr):
    """Combine the parts of one head of one row, rescaled to their largest score."""
    pair = tl.program_id(0)
    channel = tl.arange(0, head_dim)
    part = tl.arange(0, most)
    there = part < splits
    tops = tl.load(sums + pair * splits + part, mask=there, other=-1.0e38)
    totals = tl.load(sums + (tl.num_programs(0) + pair) * splits + part, mask=there, other=0.0)
    weights = tl.exp2(tops - tl.max(tops, axis=0))
    place = (pair * splits + part)[:, None] * head_dim + channel[None, :]
    means = tl.load(parts + place, mask=there[:, None], other=0.0)
    mean = tl.sum(means * weights[:, None], axis=0) / tl.sum(totals * weights, axis=0)
    tl.store(mixed + pair * head_dim + channel, mean)


def gate(gate_up: Tensor) -> Tensor:
    """Return silu of the first half of (b, 2 inner) times the second half, (b, inner)."""
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    gated = gate_up.new_empty(rows, inner)
    with torch.cuda.device_of(gate_up):
        _gate[rows, triton.cdiv(inner, _GATES)](gate_up, gated, inner, block=_GATES, **_FUSED)
    return gated


@triton.jit
def _gate(gate_up, gated, inner, block: tl.constexpr):
    """Gate some entries of one row; silu is rounded before the product, as with two operators."""
    row = tl.program_id(0)
    at = tl.program_id(1) * block + tl.arange(0, block)
    there = at < inner
    line = gate_up + row.to(tl.int64) * 2 * inner
    x = tl.load(line + at, mask=there, other=0.0)
    up = tl.load(line + inner + at, mask=there, other=0.0)
    wide = x.to(tl.float32)
    opened = (wide / (1.0 + tl.exp(-wide))).to(x.dtype)
    tl.store(gated + row.to(tl.int64) * inner + at, opened.to(tl.float32) * up.to(tl.float32), mask=there)


def uniforms(key: tuple[Tensor, Tensor], first: int, length: int, num_codes: int) -> Tensor:
    """Return Philox's words of consecutive positions as v = (k + 0.5) / 2^32, held below 1; see `noise`.

    Args:
        key: two words of each seed, each (seeds, 1) int64.
        first: the first position, 0 … 2^32 - 1.
        length: number of positions, all below 2^32.
        num_codes: words of each position.

    Returns: (seeds, length, num_codes) float32.
    """
    low, high = key
    found = torch.empty(len(low), length, num_codes, dtype=torch.float32, device=low.device)
    groups = triton.cdiv(num_codes, 4)
    with torch.cuda.device_of(low):
        _uniforms[len(low), length, triton.cdiv(groups, _GROUPS)](
            found, low, high, first, num_codes, block=_GROUPS, **_FUSED
        )
    return found


@triton.jit(do_not_specialize=["first", "num_codes"])
def _uniforms(found, low, high, first, num_codes, block: tl.constexpr):
    """Compute some groups of four codes, of one position under one seed."""
    seed = tl.program_id(0)
    position = tl.program_id(1)
    group = tl.program_id(2) * block + tl.arange(0, block)
    a, b, c, d = philox_words(group, first + position, tl.load(low + seed), tl.load(high + seed))
    words = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))  # in the order of the codes
    largest: tl.constexpr = 1 - 2.0**-24
    unit = tl.minimum((words.to(tl.float32) + 0.5) * 2.0**-32, largest)
    code = tl.program_id(2) * block * 4 + tl.arange(0, block * 4)
    line = found + (seed.to(tl.int64) * tl.num_programs(1) + position) * num_codes
    tl.store(line + code, unit, mask=code < num_codes)


@triton.jit
def philox_words(group, position, low, high):
    """Return the four words (uint32) of Philox4x32-10 with counter (group, position, 0, 0)."""
    group = group.to(tl.uint32)
    zero = group * 0
    seed = (low & 0xFFFFFFFF) | (high << 32)
    return tl.philox(seed, group, zero + position.to(tl.uint32), zero, zero)
