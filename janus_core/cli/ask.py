"""`ask`: one question about any number of pictures."""

from __future__ import annotations

import sys
from argparse import Namespace

from ..captions.finding import expanded
from ..generation.endings import is_finished, whole_sentences
from ..inputs.pictures import read_picture
from ..inputs.prompting import SYSTEM_TEXT
from ..inputs.turns import Turn
from .models import load
from .terminal import GrowingAnswer, new_seed, remark, report
from .text_flags import text_options


def ask(arguments: Namespace) -> None:
    """Answer one question."""
    options = text_options(arguments)
    paths = [path for given in arguments.images for path in expanded(given)]
    pictures = tuple(read_picture(path) for path in paths)
    janus = load(arguments)
    streams = sys.stdout.isatty() and not arguments.json and not arguments.trim
    growing = GrowingAnswer(options.stop)
    [answer] = janus.answer(
        [[Turn(role="user", text=arguments.question, images=pictures)]],
        system=SYSTEM_TEXT if arguments.system is None else arguments.system,
        options=options,
        seed=new_seed(arguments, options.temperature),
        on_text=growing.on_text if streams else None,
    )
    finished = is_finished(answer.token_ids, janus.tokenizer, options.stop)
    text = whole_sentences(answer.text) if arguments.trim and not finished else answer.text
    content = {
        "text": text,
        "token_ids": answer.token_ids,
        "prompt_tokens": answer.prompt_tokens,
        "finished": finished,
    }
    if streams:
        growing.finish(text)
    else:
        report(arguments, content, text)
    if not finished and not arguments.json:  # which says so itself
        remark(
            arguments, f"cut off at {options.max_new_tokens} tokens: raise --max-new-tokens, or use --trim"
        )
