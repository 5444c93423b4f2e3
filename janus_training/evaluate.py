"""Measure a model folder on unseen compositions: a table on stdout, a JSON file and a contact sheet.

`python -m janus_training evaluate MODEL [--scenes 1000] [--out DIR] [--short]`
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from tqdm import tqdm

from janus_core.janus import Janus
from janus_core.loading import load_autoregressive
from janus_core.options import OnStep

from .measuring import (
    STYLES,
    Captions,
    Share,
    Sketch,
    count_unseen,
    familiar_scenes,
    measure_answers,
    measure_captions,
    measure_drawings,
    measure_round_trip,
    measure_two_pictures,
    measure_vq,
    share,
    unseen_scenes,
)
from .world.contact_sheet import contact_sheet
from .world.rendering import Picture
from .world.vocabulary import Kind

_QUICK_SCENES = 50
_TIMED = 5
_CFG_WEIGHTS: tuple[float, ...] = (1.0, 2.0, 5.0, 8.0)
_PAIRS = "two related objects"
_DRAWN: dict[str, Kind] = {"one object": "single", _PAIRS: "pair"}
_SHEET_EACH = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Everything measured.

    Attributes:
        captions: by style.
        answers: by kind of question.
        drawings: what was drawn, by what and by cfg_weight.
        familiar: at the best cfg_weight, drawings of combinations that training shows, in new pictures.
        round_trip: drawings at the best cfg_weight that the model itself captions as they were asked for.
        restored: by what was drawn, rendered pictures that are still right behind the VQ tokenizer; with them
            the peak signal-to-noise ratio in dB.
        combinations: by what was captioned or drawn, how many different unseen combinations were among them.
        seconds: of one drawing and of one answer, alone.
        scenes: how many of each.
        elapsed_s: seconds in all.
    """

    captions: dict[str, Captions]
    answers: dict[str, Share]
    drawings: dict[str, dict[float, list[Sketch]]]
    familiar: dict[str, list[Sketch]]
    round_trip: dict[str, Share]
    restored: dict[str, tuple[float, Share]]
    combinations: dict[str, int]
    seconds: dict[str, float]
    scenes: int
    elapsed_s: float

    @property
    def all_answers(self) -> Share:
        """Answers of all kinds together."""
        return Share(
            right=sum(part.right for part in self.answers.values()),
            of=sum(part.of for part in self.answers.values()),
        )


def best_cfg(drawings: dict[str, dict[float, list[Sketch]]]) -> float:
    """Return the cfg_weight at which most drawings are right."""
    weights = next(iter(drawings.values()))
    return max(
        weights, key=lambda cfg: sum(sketch.is_right for each in drawings.values() for sketch in each[cfg])
    )


def evaluate(
    janus: Janus, scenes: int, cfg_weights: Sequence[float] = _CFG_WEIGHTS, is_quiet: bool = False
) -> Evaluation:
    """Measure everything on `scenes` unseen compositions of each kind."""
    started = time.perf_counter()
    shown = unseen_scenes(scenes)
    captions: dict[str, Captions] = {}
    for style in STYLES:
        captions[style] = measure_captions(janus, shown, style, _bar(f"captions, {style}", is_quiet))
    answers = measure_answers(janus, shown, _bar("answers", is_quiet))
    answers["which"] = measure_two_pictures(janus, shown, _bar("answers, which", is_quiet))
    combinations = {"captions and answers": count_unseen(shown)}
    drawings: dict[str, dict[float, list[Sketch]]] = {}
    restored: dict[str, tuple[float, Share]] = {}
    for name, kind in _DRAWN.items():
        wished, drawings[name] = unseen_scenes(scenes, (kind,)), {}
        combinations[name], restored[name] = count_unseen(wished), measure_vq(janus, wished)
        for cfg in cfg_weights:
            bar = _bar(f"{name}, cfg {cfg:g}", is_quiet)
            drawings[name][cfg] = measure_drawings(janus, wished, cfg, bar)
    best = best_cfg(drawings)
    familiar = {
        name: measure_drawings(
            janus, familiar_scenes(scenes, kind), best, _bar(f"{name}, familiar", is_quiet)
        )
        for name, kind in _DRAWN.items()
    }
    round_trip = {
        name: measure_round_trip(janus, sketches[best], _bar(f"round trip, {name}", is_quiet))
        for name, sketches in drawings.items()
    }
    return Evaluation(
        captions=captions,
        answers=answers,
        drawings=drawings,
        familiar=familiar,
        round_trip=round_trip,
        restored=restored,
        combinations=combinations,
        seconds=measure_seconds(janus),
        scenes=scenes,
        elapsed_s=time.perf_counter() - started,
    )


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
    best = best_cfg(evaluation.drawings)
    return {
        "scenes": evaluation.scenes,
        "elapsed_s": round(evaluation.elapsed_s, 1),
        "captions": {
            style: {
                "exact": _round(part.exact),
                "with_details": _round(part.details),
                "unseen_sorts": _round(part.unseen_sorts),
                "of_unseen_sorts": part.unseen_sorts.of,
            }
            for style, part in evaluation.captions.items()
        },
        "answers": {"all": _round(evaluation.all_answers)}
        | {kind: _round(part) for kind, part in sorted(evaluation.answers.items())},
        "drawings": {
            name: {f"{cfg:g}": _judged(sketches) for cfg, sketches in by_cfg.items()}
            for name, by_cfg in evaluation.drawings.items()
        },
        "unseen_relations": _judged(
            [sketch for sketch in evaluation.drawings[_PAIRS][best] if sketch.is_unseen_relation]
        ),
        "familiar": {name: _judged(sketches) for name, sketches in evaluation.familiar.items()},
        "best_cfg": best,
        "round_trip": {name: _round(part) for name, part in evaluation.round_trip.items()},
        "combinations": evaluation.combinations,
        "seconds": {name: round(seconds, 3) for name, seconds in evaluation.seconds.items()},
        "vq_tokenizer": {
            name: {"right": _round(right), "psnr_db": round(psnr_db, 2)}
            for name, (psnr_db, right) in evaluation.restored.items()
        },
    }


def _judged(sketches: Sequence[Sketch]) -> dict[str, float]:
    return {
        "of": len(sketches),
        "right": _round(share([sketch.is_right for sketch in sketches])),
        "right_objects": _round(share([sketch.has_things for sketch in sketches])),
    }


def _round(part: Share) -> float:
    return round(part.percent, 1)


def to_table(figures: dict[str, Any]) -> str:
    """Lay the figures of `to_json` out for reading."""
    rows: list[tuple[str, str]] = []
    for style, part in figures["captions"].items():
        more = f"{part['unseen_sorts']} % exact of {part['of_unseen_sorts']} unseen by more than a size"
        rows.append(
            (f"captions, {style}", f"{part['exact']} % exact, {part['with_details']} % with details; {more}")
        )
    rows += [(f"answers, {kind}", f"{right} %") for kind, right in figures["answers"].items()]
    drawn = {
        f"{name}, cfg {cfg}": part
        for name, by_cfg in figures["drawings"].items()
        for cfg, part in by_cfg.items()
    }
    drawn |= {f"{_PAIRS}, unseen relations": figures["unseen_relations"]}
    drawn |= {f"{name}, familiar": part for name, part in figures["familiar"].items()}
    rows += [
        (f"drawings, {name}", f"{part['right']} % right, {part['right_objects']} % with the right objects")
        for name, part in drawn.items()
    ]
    rows += [(f"round trip, {name}", f"{right} %") for name, right in figures["round_trip"].items()]
    rows += [
        (f"VQ tokenizer, {name}", f"{part['right']} % still right, {part['psnr_db']} dB")
        for name, part in figures["vq_tokenizer"].items()
    ]
    rows += [(f"unseen combinations, {name}", str(many)) for name, many in figures["combinations"].items()]
    rows += [(f"one {name} alone", f"{seconds:.2f} s") for name, seconds in figures["seconds"].items()]
    rows.append(("scenes of each kind", f"{figures['scenes']}, in {figures['elapsed_s']:.0f} s"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {figure}" for name, figure in rows)


def draw_sheet(evaluation: Evaluation) -> Image.Image:
    """Lay drawings at the best cfg_weight out, unseen combinations first, each marked right or wrong."""
    best = best_cfg(evaluation.drawings)
    unseen = [by_cfg[best] for by_cfg in evaluation.drawings.values()]
    pictures: list[Picture] = []
    labels: list[str] = []
    for name, groups in (("unseen", unseen), ("shown in training", evaluation.familiar.values())):
        for sketch in (sketch for group in groups for sketch in group[:_SHEET_EACH]):
            pictures.append(sketch.picture)
            labels.append(f"{sketch.prompt}\n[{name}: {'right' if sketch.is_right else 'wrong'}]")
    return contact_sheet(pictures, labels)


def evaluate_folder(
    model: str, *, scenes: int, is_short: bool, device: str, is_quiet: bool, out: Path | None
) -> str:
    """Measure a model folder or a bundled model; return its figures as a table.

    Args:
        model: folder or bundled name.
        scenes: of each kind.
        is_short: few scenes and the recommended guidance only, whatever `scenes` says.
        device: "auto", "cpu", "cuda" or another torch device.
        is_quiet: show no progress bars.
        out: where evaluation.json and evaluation.png go, or None.

    Raises:
        CheckpointError, ConfigError: the folder cannot be used. SamplingError: no such device.
    """
    janus = load_autoregressive(model, device=device)
    cfg_weights = _CFG_WEIGHTS
    if is_short:
        scenes, cfg_weights = _QUICK_SCENES, (janus.guidance.cfg_weight,)
    evaluation = evaluate(janus, scenes, cfg_weights, is_quiet)
    figures = to_json(evaluation)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        draw_sheet(evaluation).save(out / "evaluation.png")
    return to_table(figures)
