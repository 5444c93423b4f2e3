"""Cases of everything else that comes in: token files, pictures, masks, caption styles, numbers and texts."""

from __future__ import annotations

import io
import json
import math
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from janus_core import (
    TOKENS_NOTE,
    DrawOptions,
    ImageTokens,
    RedrawOptions,
    TextOptions,
    Turn,
    carried_by,
    load_janus,
    read_picture,
    read_presets,
    request_for,
    write_note,
)
from janus_core.janus import Janus

from .damage import ODD_VALUES, damaged, flip, splice, truncate, with_stand_ins
from .models import TEXTS, stop_soon
from .originals import write_originals

_STYLES = """poem = "Write a poem about it."

[tags]
ask = "List what is there."
raw = false

["with blanks"]
ask = '''Several
lines'''
raw = true
"""


class InputCases:
    """Cases of inputs, most of them for a small model that is loaded once."""

    def __init__(self, room: Path) -> None:
        self._room = room / "inputs"
        self._room.mkdir(parents=True)
        write_originals(self._room)
        loaded = load_janus(self._room / "safetensors", dtype="float32", device="cpu")
        assert isinstance(loaded, Janus)
        self._janus = loaded
        self._tokens = loaded.encode([torch.rand(32, 32, 3)])
        self._pictures = _picture_files()

    def token_file(self, rng: random.Random) -> None:
        """Load and decode a damaged or odd token file."""
        path = self._room / "x.janus.safetensors"
        path.unlink(missing_ok=True)
        if rng.random() < 0.5:
            self._tokens.save(path)
            path.write_bytes(damaged(path.read_bytes(), rng, is_json=False))
        else:
            odd = (
                self._tokens.grid - 5, self._tokens.grid.float(), self._tokens.grid[0],
                self._tokens.grid.int(),
                torch.full((1, 4, 4), 10**6), torch.zeros(0, 4, 4, dtype=torch.int64), torch.full((1, 16,
                    16), -1),
                torch.zeros(1, 1, 1, dtype=torch.int64), torch.full((3, 16, 16), 2**62), torch.zeros(2000,
                    16, 16).long(),
            )  # fmt: skip
            made = {"format": rng.choice(("janus-image-tokens-1", "x")), "codebook": self._tokens.codebook}
            made["model"] = rng.choice(("", "x" * 10_000, "\0"))
            save_file({"grid": rng.choice(odd).contiguous()}, path, rng.choice((made, made, made, {}, None)))
        tokens = ImageTokens.load(path)
        str(tokens)
        self._janus.begin(1, tokens)
        self._janus.decode(tokens)

    def carried(self, rng: random.Random) -> None:
        """Read the tokens inside a PNG whose note is damaged or odd."""
        picture = Image.new("RGB", (32, 32), "red")
        note = write_note(self._tokens, 0, picture)
        if rng.random() < 0.3:
            text = damaged(note.encode(), rng, is_json=False).decode("utf-8", "replace")
        else:
            content = json.loads(note)
            key = rng.choice(sorted(content))
            grids: tuple[Any, ...] = (
                [-1, -1],
                [-1, 4],
                [0, 4],
                [1e9, 1],
                [float("inf"), 1],
                [float("nan"), 1],
                ["16", "16"],
                [16],
                {},
            )
            content[key] = rng.choice(grids) if key == "grid" else rng.choice(ODD_VALUES)
            text = with_stand_ins(json.dumps(content), rng)
        notes = PngInfo()
        notes.add_text(TOKENS_NOTE, text.encode("utf-8", "replace").decode("utf-8"), zip=rng.random() < 0.5)
        data = _encoded(picture, "PNG", pnginfo=notes)
        if rng.random() < 0.2:
            data = damaged(data, rng, is_json=False)
        path = self._room / "x.png"
        path.write_bytes(data)
        found = carried_by(path)
        if found is not None:
            self._janus.decode(found.tokens)

    def picture_file(self, rng: random.Random) -> None:
        """Read a damaged picture, and show it to the model."""
        kind = rng.choice(sorted(self._pictures))
        data = self._pictures[kind]
        mutations = [flip, truncate, splice, _flip_header]
        if kind.startswith("png"):
            mutations.append(_insert_chunks)
        path = self._room / "picture"
        path.write_bytes(rng.choice(mutations)(data, rng))
        read_picture(path)
        if rng.random() < 0.2:
            self._janus.encode([str(path)], rng.choice(("crop", "pad", "stretch")))

    def picture_value(self, rng: random.Random) -> None:
        """Give the model a tensor, an array or a PIL picture that may be none."""
        shape = rng.choice(
            ((8, 8, 3), (8, 8, 4), (8, 8, 1), (8, 8, 2), (8, 8), (0, 8, 3), (1, 3000, 3), (3, 8, 8), (2, 8,
                8, 3), (),
             (5,), (1, 1, 3))
        )  # fmt: skip
        values = torch.rand(shape) * rng.choice((1, 1, 255, -1, 1e30, math.nan, math.inf))
        kinds: tuple[Callable[[], Any], ...] = (
            lambda: values,
            lambda: values.to(rng.choice((torch.uint8, torch.float16, torch.int64, torch.bool,
                torch.float64))),
            values.numpy,
            lambda: values.to("meta"),
            lambda: _as_array(values, rng.choice(("complex64", "object", "U5", "float16", ">f4"))),
            lambda: Image.new(rng.choice(("1", "L", "P", "RGBA", "CMYK", "I", "F", "I;16", "LAB", "HSV",
                "PA")), (9, 7)),
            lambda: rng.choice((None, 5, b"x", [], "absent.png", "a\0b", object(), {}, Path("/nowhere"),
                self._room)),
        )  # fmt: skip
        source = rng.choice(kinds)()
        asked = rng.choice((source, [source], [source, source], (values,)))
        if rng.random() < 0.5:
            fit: Any = rng.choice(("crop", "pad", "stretch", "x", None))
            self._janus.encode(asked, fit)
        else:
            self._janus.ask("What is it?", images=asked, options=TextOptions(max_new_tokens=1))

    def mask(self, rng: random.Random) -> None:
        """Redraw under an odd mask."""
        shape = rng.choice(
            ((32, 32), (1, 32, 32), (3, 32, 32), (8, 8), (0, 8), (32,), (1, 1, 32, 32), (1, 2000), (2, 5, 7))
        )
        values = torch.rand(shape) * rng.choice((1, 1, 0, 255, math.nan, math.inf, -1))
        kinds = (values, values.numpy(), values.bool(), values.to(torch.float16), values.to(torch.uint8),
            None, "x", [[1.0]],
                 Image.new(rng.choice(("L", "1", "RGB", "F", "P", "LA")), (9, 7)))  # fmt: skip
        mask: Any = rng.choice(kinds)
        source: Any = rng.choice((self._tokens, [torch.rand(20, 20, 3)], [torch.rand(9, 9, 3)] * 2, [], None))
        options = RedrawOptions(strength=rng.choice((1.0, 0.0, 0.5)), candidates=rng.choice((1, 2)))
        self._janus.redraw(source, mask, "a red circle", options=options, on_step=stop_soon)

    def styles(self, rng: random.Random) -> None:
        """Read a damaged file of caption styles, and ask with what it says."""
        odd = (
            "a = " + "[" * 5000, "a." * 5000 + "b = 1", "a = " + "9" * 5000, "a = 2026-99-99", "a = 1e400",
                "a = nan", "a = 1\na = 2",
            "[a]\n[a]", '"" = "x"', '"\\u0000" = "x"', "[[a]]\nask = 'x'", "a = {ask = 'x', raw = 1}",
            "short = 'x'", "a = '''",
            "a = {" * 3000, "\ufeffa = 'x'", "a = 'x'\r\nb = 'y'", "'(' = 3", '"a\\nb" = 5',
                "[x.y]\nask = 'q'", "\0",
        )  # fmt: skip
        data = rng.choice((rng.choice(odd).encode(), damaged(_STYLES.encode(), rng, is_json=False)))
        path = self._room / "captions.toml"
        path.write_bytes(data)
        presets = read_presets(path)
        for style in (*presets, rng.choice(TEXTS)):
            request_for(style, rng.choice(TEXTS), presets)

    def numbers(self, rng: random.Random) -> None:
        """Draw, ask, choose and score with odd numbers and texts, as links may bring them."""

        def odd(usual: Any) -> Any:
            return usual if rng.random() < 0.9 else rng.choice(_ODD_ARGUMENTS)

        text, seed = odd(rng.choice(TEXTS[3:])), odd(rng.choice((0, 2**64 - 1)))
        drawing = DrawOptions.from_numbers(
            cfg_weight=odd(0.0), temperature=odd(1.0), top_k=odd(0), top_p=odd(1.0), min_p=odd(-1.0),
            keep_best=odd(0)
        )  # fmt: skip
        options = TextOptions(
            max_new_tokens=odd(2), temperature=odd(0.0), top_k=odd(0), top_p=odd(0.9), min_p=odd(0.0),
            repetition_penalty=odd(1.0), stop=odd(()),
        )  # fmt: skip
        picture = [torch.rand(20, 20, 3)]
        actions: tuple[Callable[[], Any], ...] = (
            lambda: self._janus.draw(text, num_images=odd(2), seed=seed, negative_prompt=odd(""),
                options=drawing,
                                     batch_size=odd(4), on_step=stop_soon),
            lambda: self._janus.ask(text, images=picture, system=odd("x"), options=options, seed=seed),
            lambda: self._janus.chat([Turn(role=odd("user"), text=text, images=tuple(picture))],
                options=options),
            lambda: self._janus.caption(picture, style=odd("short"), question=odd(""), batch_size=odd(8),
                options=options),
            lambda: self._janus.choose(picture, text, odd(["red", "blue"]), temperature=odd(0.0), seed=seed),
            lambda: self._janus.score(picture, text, question=odd("Is it {prompt}?"), batch_size=odd(4)),
            lambda: self._janus.begin(odd(1), odd(self._tokens)),
        )  # fmt: skip
        rng.choice(actions)()


_ODD_ARGUMENTS: tuple[Any, ...] = (
    None, True, -1, 0, 2**64, 2**70, -(2**63), 1.5, math.nan, math.inf, "", "x", "1", b"x", [], [1], {}, (),
    ("",),
    np.float32(0.5), np.int64(3), torch.tensor(1.0), 10**400, "a" * 20_000, "\ud800", ["\0"], object(),
    1 + 2j,
)  # fmt: skip


def _as_array(values: torch.Tensor, kind: str) -> Any:
    with np.errstate(all="ignore"):
        return values.numpy().astype(kind)


def _encoded(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def _picture_files() -> dict[str, bytes]:
    samples = np.random.default_rng(0).integers(0, 256, (18, 24, 3), dtype=np.uint8)
    rgb = Image.fromarray(samples)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90), rgb]}
    return {
        "png": _encoded(rgb, "PNG", exif=exif, dpi=(72, 72)),
        "png alpha": _encoded(rgb.convert("RGBA"), "PNG"),
        "png 16 bit": _encoded(Image.new("I;16", (9, 9), 700), "PNG", transparency=700),
        "png animated": _encoded(rgb, "PNG", **frames),
        "jpeg": _encoded(rgb, "JPEG", exif=exif),
        "jpeg progressive": _encoded(rgb, "JPEG", progressive=True),
        "jpeg cmyk": _encoded(rgb.convert("CMYK"), "JPEG"),
        "gif animated": _encoded(rgb, "GIF", **frames),
        "bmp": _encoded(rgb, "BMP"),
        "ppm": _encoded(rgb, "PPM"),
        "tga": _encoded(rgb, "TGA"),
        "ico": _encoded(rgb, "ICO"),
        "webp animated": _encoded(rgb, "WEBP", **frames),
        "tiff": _encoded(rgb, "TIFF", exif=exif),
        "tiff lzw": _encoded(rgb.convert("RGBA"), "TIFF", compression="tiff_lzw"),
        "tiff float": _encoded(rgb.convert("F"), "TIFF"),
    }


def _flip_header(data: bytes, rng: random.Random) -> bytes:
    return flip(data[:80], rng) + data[80:]


def _insert_chunks(data: bytes, rng: random.Random) -> bytes:
    """Insert chunks whose checksum is right, so that the decoder gets as far as their content."""
    chunks = b""
    for _ in range(rng.randrange(1, 4)):
        kind = rng.choice(
            (b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"gAMA", b"pHYs")
        )
        content = rng.choice(
            (rng.randbytes(rng.choice((0, 1, 3, 8, 26, 40))), b"a\0\0" + zlib.compress(bytes(2**22)))
        )
        chunks += (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )
    return data[:33] + chunks + data[33:]
