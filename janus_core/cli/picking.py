"""`score` and `choose`: which pictures show something best, and which of some answers fits each picture."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..captions.finding import find_pictures
from ..generation.choosing import checked_choices
from ..generation.scoring import SCORE_QUESTION, best_first, score_question
from ..options import check_count, check_range
from .models import load
from .terminal import new_seed, progress, remark, report


def score(arguments: Namespace) -> None:
    """Put pictures in order, those first that show most probably what is asked for."""
    question = SCORE_QUESTION if arguments.question is None else arguments.question
    score_question(arguments.prompt, question)  # before the model is loaded
    check_count("--batch-size", arguments.batch_size)
    best_first([], arguments.keep_best)
    paths = _pictures(arguments)
    with progress(arguments, "scores", len(paths)) as on_step:
        found = load(arguments).score(
            paths,
            arguments.prompt,
            question=question,
            batch_size=arguments.batch_size,
            on_step=on_step,
        )
    kept = best_first(found, arguments.keep_best)
    content = [
        {"file": str(paths[row]), "score": found[row].probability, "verdict": found[row].is_verdict}
        for row in kept
    ]
    report(
        arguments,
        {"scores": content},
        "\n".join(f"{found[row].probability:.3f}  {paths[row]}" for row in kept),
    )
    unsaid = sum(not one.is_verdict for one in found)
    if unsaid and not arguments.json:  # which says so itself
        remark(
            arguments,
            f"{unsaid} of {len(found)} were answered with neither yes nor no: their scores mean little. Ask "
            "a --question that can only be answered so",
        )


def choose(arguments: Namespace) -> None:
    """Answer a question about each picture with one of the choices."""
    choices = checked_choices(arguments.choice)
    check_count("--batch-size", arguments.batch_size)
    check_range("--temperature", arguments.temperature, 0, 2)
    paths = _pictures(arguments)
    with progress(arguments, "choices", len(paths)) as on_step:
        found = load(arguments).choose(
            paths,
            arguments.question,
            choices,
            temperature=arguments.temperature,
            seed=new_seed(arguments, arguments.temperature),
            batch_size=arguments.batch_size,
            on_step=on_step,
        )
    chosen = list(zip(paths, found, strict=True))
    content = [
        {"file": str(path), "text": one.text, "index": one.index, "probabilities": one.probabilities}
        for path, one in chosen
    ]
    lines = [one.text if len(chosen) == 1 else f"{path}: {one.text}" for path, one in chosen]
    report(arguments, {"choices": content}, "\n".join(lines))


def _pictures(arguments: Namespace) -> list[Path]:
    """Return the pictures that are meant, and say what was passed over."""
    found = find_pictures(arguments.paths, recursive=arguments.recursive)
    said = found.passed_over()
    if said:
        remark(arguments, said)
    return found.pictures
