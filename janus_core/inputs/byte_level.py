"""Repair a `tokenizer.json` whose byte-level steps were lost when it was saved again.

Some releases of transformers write the steps of another kind of vocabulary into it: spaces vanish, and an
answer reads "ĠIĠonlyĠknow". Steps that follow from the vocabulary are restored. How text is split before the
look-up does not follow from it and is not guessed. Knows nothing of models.
"""

from __future__ import annotations

from typing import Any

PROBE = "Hello world, it's 12:30.\nThe café in  Zürich\n\nserves 日本 — tea\t(3 €)."
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
_FOREIGN = ("Metaspace", "Whitespace", "WhitespaceSplit", "ByteLevel")  # replaced by the byte-level step
_MARKS = ("Ġ", "Ċ", "Ã")  # a space, a line break and the first byte of "é" in byte-level letters


def is_byte_level(definition: dict[str, Any]) -> bool:
    """Tell whether the vocabulary of a parsed `tokenizer.json` is written in byte-level letters."""
    model = definition.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    return isinstance(vocab, dict) and all(mark in vocab for mark in _MARKS)


def mended(definition: dict[str, Any]) -> dict[str, Any]:
    """Return a definition with the byte-level steps restored where they are certain.

    Certain are the decoder and the last step before the look-up. Other steps stay. If none is left, text
    would not be split as in training, so the steps before the look-up stay unchanged.
    """
    result = definition | {"decoder": _DECODER, "normalizer": _without_marks(definition.get("normalizer"))}
    steps = [step for step in _steps(definition.get("pre_tokenizer"), "pretokenizers") if _is_kept(step)]
    if steps:
        result["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*steps, _BYTE_LEVEL]}
    return result


def _steps(part: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(part, dict):
        return []
    inner = part.get(key)
    return [step for step in inner if isinstance(step, dict)] if isinstance(inner, list) else [part]


def _is_kept(step: dict[str, Any]) -> bool:
    return step.get("type") not in _FOREIGN


def _without_marks(normalizer: Any) -> Any:
    """Return a normalizer without the steps that write a space as "▁"."""
    steps = _steps(normalizer, "normalizers")
    kept = [step for step in steps if "▁" not in (step.get("content"), step.get("prepend"))]
    if len(kept) == len(steps):
        return normalizer
    return {"type": "Sequence", "normalizers": kept} if kept else None
