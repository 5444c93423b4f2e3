"""What the core alone answers and draws in float32, for comparison with the nodes.

Run by the project's own Python: `python core_results.py MODEL_FOLDER PICTURE_FOLDER OUT_FOLDER`.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch

from janus_core import DrawOptions, Janus, TextOptions, Turn, load_janus, to_uint8

_SHORT = TextOptions(max_new_tokens=16)
_SAMPLED = TextOptions(
    max_new_tokens=16, temperature=1.0, top_k=50, top_p=0.9, min_p=0.01, repetition_penalty=1.3
)


def _pattern(count: int, height: int, width: int) -> list[torch.Tensor]:
    path = Path(__file__).parent / "packs" / "janus-test-tools" / "pattern.py"
    spec = importlib.util.spec_from_file_location("pattern", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.pattern(count, height, width))


def texts(janus: Janus, folder: Path) -> dict[str, list[str]]:
    """Return the texts of every case."""
    landscape, portrait = folder / "landscape.png", folder / "portrait.png"
    first = (Turn(role="user", text="What is this?", images=(landscape,)),)
    chat = janus.chat(first, options=_SHORT)
    chat = janus.chat((*chat, Turn(role="user", text="And where?")), options=_SHORT)
    each = [
        (*janus.chat((Turn(role="user", text="What is this?", images=(p,)),), options=_SHORT),)
        for p in _pattern(3, 64, 64)
    ]
    raw = (Turn(role="user", text="A picture of", images=(folder / "tiny.png",), is_raw=True),)
    sizes = [*_pattern(1, 64, 64), *_pattern(2, 40, 97), *_pattern(1, 120, 33)]
    return {
        "caption": janus.caption([landscape], "short", options=_SHORT),
        "folder": janus.caption([landscape, portrait, folder / "tiny.png"], "short", options=_SHORT),
        "raw": [janus.answer([raw], options=_SHORT)[0].text],
        "caption each style": [
            janus.caption([landscape], style, options=_SHORT)[0] for style in ("detailed", "tags", "text")
        ],
        "caption custom": janus.caption([landscape], question="Which colours?", options=_SHORT),
        "caption and question": janus.caption(
            [landscape],
            question="Describe this image in one short sentence. Which colours?",
            options=_SHORT,
        ),
        "caption 3": janus.caption(_pattern(3, 64, 64), "short", options=_SHORT),
        "caption 17": janus.caption(_pattern(17, 64, 64), "short", options=_SHORT),
        "caption sampled": janus.caption(_pattern(3, 64, 64), "short", options=_SAMPLED, seed=7),
        "caption list": janus.caption(sizes, "short", options=_SHORT),
        "ask without picture": [janus.ask("What is this?", options=_SHORT)],
        "ask about two": [janus.ask("What is this?", [landscape, portrait], options=_SHORT)],
        "ask each": [turns[-1].text for turns in each],
        "ask each again": [
            janus.chat((*turns, Turn(role="user", text="Sure?")), options=_SHORT)[-1].text for turns in each
        ],
        "ask with system": [janus.ask("What is this?", system="Be brief.", options=_SHORT)],
        "chat": [turn.text for turn in chat if turn.role == "assistant"],
    }  # fmt: skip


def drawings(janus: Janus, folder: Path) -> dict[str, np.ndarray]:
    """Return pictures as 8-bit samples, and image tokens, of every case."""
    steered = DrawOptions(cfg_weight=2.0, temperature=0.7, top_k=20, top_p=0.8, min_p=0.2)
    cases = {
        "draw 1": janus.draw("a red circle"),
        "draw 3": janus.draw("a red circle", num_images=3, seed=5),
        "draw 17": janus.draw("a red circle", num_images=17, seed=2**64 - 3),
        "draw unguided": janus.draw("a red circle", options=DrawOptions(cfg_weight=1.0)),
        "draw steered": janus.draw("a red circle", seed=3, negative_prompt="blue", options=steered),
    }
    results = {name: to_uint8(drawn.images) for name, drawn in cases.items()}
    results |= {f"{name} tokens": drawn.tokens.grid.numpy() for name, drawn in cases.items()}
    for fit in ("crop", "pad", "stretch"):
        tokens = janus.encode([folder / "landscape.png"], fit)  # type: ignore[arg-type]
        results[f"encode {fit} tokens"] = tokens.grid.numpy()
        results[f"encode {fit}"] = to_uint8(janus.decode(tokens))
    tokens = janus.encode(_pattern(3, 64, 64))
    return {
        **results,
        "encode exact tokens": tokens.grid.numpy(),
        "encode exact": to_uint8(janus.decode(tokens)),
    }


def main(model: Path, pictures: Path, out: Path) -> None:
    """Compute everything and write `texts.json` and `drawings.npz`."""
    janus = load_janus(model, dtype="float32", device="cpu")
    (out / "texts.json").write_text(json.dumps(texts(janus, pictures)), encoding="utf-8")
    np.savez(out / "drawings.npz", **drawings(janus, pictures))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
