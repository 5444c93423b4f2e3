"""Measure a model folder on unseen compositions: a table on stdout, a JSON file and a contact sheet.

`python -m janus_training evaluate MODEL [--scenes 300] [--out DIR] [--short]`
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from tqdm import tqdm

from janus_core.janus import Janus
from janus_core.loading import load_autoregressive
from janus_core.options import DrawOptions, OnStep

from .figures import Share, share
from .measuring import (
    Answered,
    Judged,
    Sketch,
    familiar_scenes,
    measure_answers,
    measure_captions,
    measure_drawings,
    measure_foreign,
    measure_restoring,
    recognised_grids,
    role_grids,
    unseen_scenes,
    wishes,
)
from .telling_apart import measure_telling_apart
from .world.compositions import Combination, is_unseen_by_size_alone
from .world.contact_sheet import contact_sheet
from .world.roles import roles
from .world.vocabulary import KINDS, Kind, Style

_QUICK_SCENES = 40
_TIMED = 5
_STRONG_CFG = 5.0  # what the published models recommend, and what people try
_FOREIGN_SEED = 2026
_SHEET_EACH = 12
_STYLES: tuple[Style, ...] = ("short", "detailed", "tags")

_DRAWN: dict[str, tuple[Kind, Combination | None]] = {
    "unseen relations, two objects": ("pair", "relation"),
    "unseen places, one object": ("single", "place"),
    "unseen sizes, one object": ("single", "thing"),
    "seen, one object": ("single", None),
    "seen, two objects": ("pair", None),
    "seen, several objects": ("mixed", None),
}

Figures = dict[str, Share]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Everything measured.

    Attributes:
        figures: by section, then by name.
        psnr_db: of pictures behind the VQ tokenizer, by what they show.
        sketches: drawings at the recommended guidance, by what was drawn.
        seconds: of one drawing and of one answer, alone.
        scenes: how many of each.
        elapsed_s: seconds in all.
    """

    figures: dict[str, Figures]
    psnr_db: dict[str, float]
    sketches: dict[str, list[Sketch]]
    seconds: dict[str, float]
    scenes: int
    elapsed_s: float


def evaluate(janus: Janus, scenes: int, is_quiet: bool = False) -> Evaluation:
    """Measure everything on `scenes` compositions of each kind."""
    started = time.perf_counter()
    drawings, sketches = _measure_all_drawings(janus, scenes, is_quiet)
    restored, psnr_db = _measure_tokenizer(janus, scenes)
    figures = {
        "drawings": drawings,
        "captions": _measure_all_captions(janus, scenes, is_quiet),
        **_measure_all_answers(janus, scenes, is_quiet),
        "right captions scored above wrong ones (AUC)": measure_telling_apart(
            janus, unseen_scenes(scenes, KINDS), _bar("scores", is_quiet)
        ),
        "foreign pictures": {"colour and shape of one object": _share(measure_foreign(janus, _FOREIGN_SEED))},
        "VQ tokenizer": restored,
    }
    return Evaluation(
        figures=figures,
        psnr_db=psnr_db,
        sketches=sketches,
        seconds=measure_seconds(janus),
        scenes=scenes,
        elapsed_s=time.perf_counter() - started,
    )


def _share(judged: Sequence[Judged]) -> Share:
    return share([(one.key, one.is_right) for one in judged])


def _measure_all_drawings(
    janus: Janus, scenes: int, is_quiet: bool
) -> tuple[Figures, dict[str, list[Sketch]]]:
    """Draw at the recommended guidance and at 5."""
    figures: Figures = {}
    shown: dict[str, list[Sketch]] = {}
    for name, (kind, combination) in _DRAWN.items():
        drawn = (
            familiar_scenes(scenes, (kind,), is_drawn=True)
            if combination is None
            else unseen_scenes(scenes, (kind,), combination)
        )
        wished = wishes(drawn, combination)
        for cfg in dict.fromkeys((janus.guidance.cfg_weight, _STRONG_CFG)):
            label = f"{name}, cfg_weight {cfg:g}"
            sketches = measure_drawings(janus, wished, DrawOptions(cfg_weight=cfg), _bar(label, is_quiet))
            figures[label] = _share([sketch.judged for sketch in sketches])
            shown.setdefault(name, sketches)
    return figures, shown


def _measure_all_captions(janus: Janus, scenes: int, is_quiet: bool) -> Figures:
    """Caption scenes unseen by more than a size first, then all unseen ones, then seen ones."""
    unseen = unseen_scenes(scenes, KINDS)
    figures: Figures = {}
    for style in _STYLES:
        judged = measure_captions(janus, unseen, style, _bar(f"captions, {style}", is_quiet))
        by_more = [
            one for one, scene in zip(judged, unseen, strict=True) if not is_unseen_by_size_alone(scene)
        ]
        figures[f"{style}, unseen by more than a size"] = _share(by_more)
        figures[f"{style}, unseen"] = _share(judged)
    seen = familiar_scenes(scenes, KINDS, is_drawn=False)
    judged = measure_captions(janus, seen, "short", _bar("captions, seen", is_quiet))
    figures["short, seen"] = _by_number(judged)
    return figures


def _by_number(judged: Sequence[Judged]) -> Share:
    """Count every trial as a combination of its own."""
    return share([(str(number), one.is_right) for number, one in enumerate(judged)])


def _measure_all_answers(janus: Janus, scenes: int, is_quiet: bool) -> dict[str, Figures]:
    """Ask about unseen and seen scenes; count by kind and by number of objects."""
    unseen = measure_answers(janus, unseen_scenes(scenes, KINDS), "test", _bar("answers", is_quiet))
    seen_scenes = familiar_scenes(scenes, KINDS, is_drawn=False)
    seen = measure_answers(janus, seen_scenes, "train", _bar("answers, seen", is_quiet))
    kinds = sorted({one.kind for one in unseen})
    by_kind = {"all": _answered(unseen)} | {
        kind: _answered([one for one in unseen if one.kind == kind]) for kind in kinds
    }
    seen_by_kind = {"all": _answered(seen)} | {
        kind: _answered([one for one in seen if one.kind == kind]) for kind in kinds
    }
    by_objects = {
        f"{objects} objects": _answered(
            [one for one in unseen if one.objects == objects and one.kind != "which"]
        )
        for objects in (1, 2, 3, 4)
    }
    return {"answers, unseen": by_kind, "answers, seen": seen_by_kind, "answers by objects": by_objects}


def _answered(answers: Sequence[Answered]) -> Share:
    return share([(str(number), one.is_right) for number, one in enumerate(answers)])


def _measure_tokenizer(janus: Janus, scenes: int) -> tuple[Figures, dict[str, float]]:
    """Send image tokens through the decoder: the world's own, and those that the encoder finds."""
    figures: Figures = {}
    psnr_db: dict[str, float] = {}
    knows_roles = janus.config.vq.codebook_size >= len(roles())
    for kind in ("single", "pair"):
        for name, shown in (
            ("seen", familiar_scenes(scenes, (kind,), is_drawn=True)),
            ("unseen", unseen_scenes(scenes, (kind,), "relation" if kind == "pair" else "place")),
        ):
            label = f"{'one object' if kind == 'single' else 'two objects'}, {name}"
            found = recognised_grids(janus, shown)
            psnr_db[label], judged = measure_restoring(janus, shown, found)
            figures[f"{label}, there and back"] = _by_number(judged)
            if knows_roles:
                given = role_grids(shown)
                judged = measure_restoring(janus, shown, given)[1]
                figures[f"{label}, from the world's tokens"] = _by_number(judged)
                same = (found == given).flatten(1).all(dim=1).tolist()
                figures[f"{label}, every token found"] = share([(str(n), one) for n, one in enumerate(same)])
    return figures, psnr_db


def measure_seconds(janus: Janus) -> dict[str, float]:
    """Return the median seconds of a drawing and of an answer about it, each alone."""
    drawing, answer = [], []
    for seed in range(_TIMED):
        started = time.perf_counter()
        [picture] = janus.draw("a red circle", seed=seed).images
        drawn = time.perf_counter()
        janus.ask("What is in the picture?", picture)
        drawing.append(drawn - started)
        answer.append(time.perf_counter() - drawn)
    return {"drawing": median(drawing), "answer": median(answer)}


def _bar(name: str, is_quiet: bool) -> OnStep:
    """Return what moves a progress bar of its own on stderr."""
    bar = tqdm(desc=name, disable=is_quiet)

    def on_step(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return on_step


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return all figures as plain JSON values, shares in per cent."""
    return {
        "scenes": evaluation.scenes,
        "elapsed_s": round(evaluation.elapsed_s, 1),
        **{
            section: {
                name: {
                    key: round(value, 1) if isinstance(value, float) else value
                    for key, value in asdict(part).items()
                }
                for name, part in figures.items()
            }
            for section, figures in evaluation.figures.items()
        },
        "psnr_db": {name: round(value, 2) for name, value in evaluation.psnr_db.items()},
        "seconds": {name: round(value, 3) for name, value in evaluation.seconds.items()},
    }


def to_table(evaluation: Evaluation) -> str:
    """Lay the figures out for reading, as rows that a Markdown table takes."""
    rows = [
        (f"{section}: {name}", f"{part} of {part.of}, {part.combinations} combinations")
        for section, figures in evaluation.figures.items()
        for name, part in figures.items()
    ]
    rows += [(f"there and back: {name}", f"{value:.1f} dB") for name, value in evaluation.psnr_db.items()]
    rows += [(f"one {name} alone", f"{value:.2f} s") for name, value in evaluation.seconds.items()]
    rows.append(("scenes of each kind", f"{evaluation.scenes}, in {evaluation.elapsed_s:.0f} s"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}} | {figure}" for name, figure in rows)


def draw_sheet(evaluation: Evaluation) -> Image.Image:
    """Lay drawings at the recommended guidance out, unseen combinations first, each marked right or wrong."""
    pictures, labels = [], []
    for name, sketches in evaluation.sketches.items():
        for sketch in sketches[:_SHEET_EACH]:
            pictures.append(sketch.picture)
            verdict = "right" if sketch.is_right else "wrong"
            labels.append(f"{sketch.wish.prompt}\n[{name.split(',', maxsplit=1)[0]}: {verdict}]")
    return contact_sheet(pictures, labels)


def evaluate_folder(
    model: str, *, scenes: int, is_short: bool, device: str, is_quiet: bool, out: Path | None
) -> str:
    """Measure a model folder or a bundled model; return its figures as a table.

    Args:
        model: folder or bundled name.
        scenes: of each kind.
        is_short: few scenes, whatever `scenes` says.
        device: "auto", "cpu", "cuda" or another torch device.
        is_quiet: show no progress bars.
        out: where evaluation.json and evaluation.png go, or None.

    Raises:
        CheckpointError, ConfigError: the folder cannot be used. SamplingError: no such device.
    """
    janus = load_autoregressive(model, device=device)
    evaluation = evaluate(janus, _QUICK_SCENES if is_short else scenes, is_quiet)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json(evaluation), indent=2) + "\n"
        (out / "evaluation.json").write_text(text, encoding="utf-8")
        draw_sheet(evaluation).save(out / "evaluation.png")
    return to_table(evaluation)
