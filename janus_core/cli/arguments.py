"""Commands, flags and help texts. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from ..downloads.published import PUBLISHED
from .convert_flags import EXAMPLES as _CONVERT_EXAMPLES
from .convert_flags import add_convert_flags
from .text_flags import add_ask_flags, add_caption_flags, add_choose_flags, add_score_flags, seed

_PUBLISHED = tuple(PUBLISHED)
# In which file each command lives.
_ROOMS = {
    "demo": "draw",
    "ask": "ask",
    "caption": "captioning",
    "score": "picking",
    "choose": "picking",
    "draw": "draw",
    "encode": "encode_decode",
    "decode": "encode_decode",
    "inspect": "inspect_model",
    "download": "download_model",
    "convert": "convert_model",
    "extract-lora": "extract_lora",
}
_OVERVIEW = """examples:
  janus demo
  janus draw "a red circle above a blue square" -n 4 --seed 7 --out pictures
  janus ask photo.png -q "What is on the table?" --model path/to/Janus-Pro-1B
  janus caption photos/ --style detailed --sidecar --model path/to/Janus-Pro-1B
  janus inspect path/to/Janus-Pro-1B
  janus download Janus-Pro-1B
  janus convert path/to/Janus-Pro-1B -o Janus-Pro-1B_bf16.safetensors

janus COMMAND --help explains one command. Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted.
"""
_EXAMPLES = {
    "demo": """
  janus demo
  janus demo --out pictures --model path/to/Janus-Pro-1B
""",
    "ask": """
  janus ask photo.png -q "What is on the table?"
  janus ask before.png after.png -q "What has changed?"
  janus ask a.png b.png -q "Is <image_placeholder> older than <image_placeholder>?"
  janus ask photo.png -q "Name the colours." --max-new-tokens 40 --stop . --json

Pictures come before the question, unless <image_placeholder> marks the place of each.
""",
    "caption": """
  janus caption photo.png
  janus caption photos/ --style tags --sidecar
  janus caption photos/ more/ --batch-size 16 --out captions.jsonl
  janus caption signs/ --question "What does the sign say?" --out signs.jsonl
  janus caption dataset/ -r --sidecar --one-line --prefix "mystyle, " --overwrite
  janus caption dataset/ --shard 1/2 --device cuda:0 --sidecar

With --out or --sidecar each batch is written when it is finished; after an interruption the same command
goes on where it stopped.
""",
    "score": """
  janus score drawn/ -p "a red circle above a blue square"
  janus score *.png -p "a lighthouse" --keep-best 3 --model path/to/Janus-Pro-1B
  janus score photos/ -q "Is this picture sharp?" --json --model path/to/Janus-Pro-1B

A score is how probable a yes is against a no, 0 to 1. The best come first.
""",
    "choose": """
  janus choose shapes/ -q "What colour is it?" -c red -c green -c blue
  janus choose photo.png -q "Day or night?" -c day -c night --model path/to/Janus-Pro-1B

Each choice counts as a whole answer, in the words in which the model would give it.
""",
    "draw": """
  janus draw "a lighthouse at dusk"
  janus draw "a lighthouse at dusk" -n 8 --seed 100 --out pictures
  janus draw "a lighthouse at dusk" --negative "people, text" --cfg 7
  janus draw "a lighthouse at dusk" --temperature 0
  janus draw "a lighthouse at dusk" -n 16 --keep-best 4 --batch-size 16
  janus draw "a lighthouse at dusk" --model path/to/JanusFlow-1.3B --vae sdxl_vae.safetensors
  janus draw "a lighthouse at dusk" --seed 100 --tokens janus_100_unfinished.safetensors
  janus draw --prompts prompts.txt --seed random --out pictures

Files are called janus_<seed>.png, with --prompts by number and words. They never replace
another one, and carry prompt, seed and options inside.
""",
    "encode": """
  janus encode photo.png -o photo.safetensors
  janus encode photos/*.png -o photos.safetensors --fit pad
""",
    "decode": """
  janus decode photo.safetensors -o again.png
""",
    "inspect": """
  janus inspect path/to/Janus-Pro-1B
  janus inspect path/to/Janus-Pro-1B --json

Weights are mapped from the disk, not loaded, and no model is built.
""",
    "extract-lora": """
  janus extract-lora Janus-Pro-1B path/to/my-finetune -o style.safetensors --rank 32
  janus draw "a lighthouse" --model Janus-Pro-1B --lora style.safetensors:0.8

Without the ending .safetensors a folder is written as PEFT reads it.
""",
    "download": """
  janus download Janus-Pro-1B
  janus download Janus-Pro-7B --into path/to/ComfyUI/models/janus

Needs huggingface_hub, which comes with transformers. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are
honoured. An interrupted download goes on where it stopped.
""",
    "convert": _CONVERT_EXAMPLES,
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse arguments; wrong usage ends the process with code 2."""
    parser = argparse.ArgumentParser(
        prog="janus",
        description="One model that looks at pictures and draws them.",
        epilog=_OVERVIEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = _common()
    with_model = _with_model(common)
    _add_demo(commands, with_model)
    _add_answering(commands, with_model)
    for add in (_add_draw, _add_encode, _add_decode, _add_inspect):
        add(commands, with_model)
    _add_extract(commands, common)
    _add_download(commands, common)
    add_convert_flags(_command(commands, common, "convert", "write a model as one file, or as a folder"))
    _add_train(commands)
    return parser.parse_args(argv)


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    group.add_argument("--quiet", action="store_true", help="no progress bars and no remarks")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return common


def _with_model(common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False, parents=[common])
    group = made.add_argument_group("model")
    group.add_argument(
        "--model", metavar="NAME_OR_PATH", help="model folder or file (default: the bundled janus-shapes)"
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="to compute in (default: auto)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="an adapter, .safetensors or a PEFT folder, and how strongly (default: 1); may be repeated",
    )
    return made


def _command(
    commands: Any, common: argparse.ArgumentParser, name: str, summary: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        parents=[common],
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="examples:" + _EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def execute(arguments: argparse.Namespace) -> Any:  # imports torch, so only now
        room = import_module(f".{_ROOMS[name]}", __package__)
        return getattr(room, name.replace("-", "_"))(arguments)

    made.set_defaults(execute=execute)
    return made


def _add_demo(commands: Any, common: argparse.ArgumentParser) -> None:
    made = _command(commands, common, "demo", "draw a few pictures, then ask about them")
    made.add_argument(
        "--out", default="out/demo", metavar="DIR", help="where the PNGs go (default: out/demo)"
    )


def _add_answering(commands: Any, common: argparse.ArgumentParser) -> None:
    add_ask_flags(_command(commands, common, "ask", "answer a question about any number of pictures"))
    add_caption_flags(_command(commands, common, "caption", "describe pictures or whole folders"))
    add_score_flags(_command(commands, common, "score", "find the pictures that show something best"))
    add_choose_flags(_command(commands, common, "choose", "answer about each picture with one of some texts"))


def _add_draw(commands: Any, common: argparse.ArgumentParser) -> None:
    made = _command(commands, common, "draw", "draw pictures from a prompt")
    asked = made.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "prompt", nargs="?", metavar="TEXT", help="what to draw; an empty one leaves it to the model"
    )
    asked.add_argument(
        "--prompts", metavar="FILE", help="a prompt on each line; lines that begin with # are not"
    )
    made.add_argument("-n", "--num-images", type=int, default=1, metavar="N", help="pictures (default: 1)")
    made.add_argument(
        "--tokens", metavar="T.safetensors", help="go on with a drawing that was interrupted, with its --seed"
    )
    made.add_argument("--batch-size", type=int, default=4, metavar="N", help="pictures at once (default: 4)")
    made.add_argument(
        "--keep-best",
        type=int,
        default=0,
        metavar="N",
        help="write only so many pictures of each prompt, those that fit it best, and give the others up "
        "early; 0 writes all (default)",
    )
    made.add_argument(
        "--cfg",
        type=float,
        default=0.0,
        metavar="W",
        help="guidance weight; 1 is off, 0 is what the model recommends, mostly 5 (default: 0)",
    )
    made.add_argument("--negative", default="", metavar="TEXT", help="what to draw away from")
    made.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default: 1)")
    made.add_argument("--top-k", type=int, default=0, metavar="K", help="0 is off (default)")
    made.add_argument("--top-p", type=float, default=1.0, metavar="P", help="1 is off (default)")
    made.add_argument(
        "--min-p",
        type=float,
        default=-1.0,
        metavar="P",
        help="before guidance, leave out tokens less likely than this share of the likeliest one; 0 is off, "
        "-1 is what the model recommends (default: -1)",
    )
    made.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="S",
        help="picture k uses seed + k; random or -1 takes a new one and prints it (default: 0)",
    )
    made.add_argument("--out", default=".", metavar="DIR", help="where the PNGs go (default: here)")
    _add_flow_only(made)


def _add_flow_only(made: argparse.ArgumentParser) -> None:
    flow = made.add_argument_group("JanusFlow only")
    flow.add_argument("--steps", type=int, metavar="N", help="from noise to picture (default: 30)")
    flow.add_argument(
        "--solver",
        choices=("euler", "midpoint", "heun"),
        help="midpoint and heun take twice the time a step (default: euler)",
    )
    flow.add_argument(
        "--vae",
        metavar="FILE",
        help="a .safetensors with an SDXL VAE, alone or in a checkpoint; without it only latents are saved",
    )
    flow.add_argument(
        "--latents", metavar="FILE", help="write latents here; ComfyUI loads what ends in .latent"
    )
    flow.add_argument(
        "--noise", metavar="FILE", help='begin with "noise" of a .safetensors instead of the seeds\' own'
    )


def _add_encode(commands: Any, common: argparse.ArgumentParser) -> None:
    made = _command(commands, common, "encode", "turn pictures into image tokens")
    made.add_argument("images", nargs="+", metavar="IMAGE", help="one picture or several")
    made.add_argument("-o", "--out", required=True, metavar="T.safetensors", help="the file to write")
    made.add_argument(
        "--fit",
        choices=("crop", "pad", "stretch"),
        default="crop",
        help="how pictures of other sizes are fitted (default: crop)",
    )


def _add_decode(commands: Any, common: argparse.ArgumentParser) -> None:
    made = _command(commands, common, "decode", "turn image tokens into pictures")
    made.add_argument("tokens", metavar="T.safetensors", help="a file that encode wrote")
    made.add_argument(
        "-o", "--out", required=True, metavar="IMAGE", help="several pictures get _1, _2 and so on"
    )


def _add_inspect(commands: Any, common: argparse.ArgumentParser) -> None:
    made = _command(commands, common, "inspect", "show what a model folder holds and what memory it needs")
    made.add_argument("folder", nargs="?", metavar="MODEL", help="default: --model")


def _add_extract(commands: Any, common: argparse.ArgumentParser) -> None:
    made = _command(commands, common, "extract-lora", "make an adapter of what two models differ in")
    made.add_argument("base", metavar="BASE", help="model folder: what the adapter will be used with")
    made.add_argument("tuned", metavar="TUNED", help="model folder: what it is to become")
    made.add_argument("-o", "--out", required=True, metavar="FILE", help="a .safetensors, or a PEFT folder")
    made.add_argument("--rank", type=int, default=32, metavar="N", help="of each matrix (default: 32)")


def _add_download(commands: Any, common: argparse.ArgumentParser) -> None:
    made = _command(commands, common, "download", "fetch a published model")
    made.add_argument("name", choices=_PUBLISHED, metavar="NAME", help=", ".join(_PUBLISHED))
    made.add_argument(
        "--into", default=".", metavar="DIR", help="where the model's folder is made (default: here)"
    )


def _add_train(commands: Any) -> None:
    """Keep the command, which says that training is another package."""
    made = commands.add_parser("train", help="say how to start training", add_help=False)
    made.add_argument("ignored", nargs=argparse.REMAINDER)

    def execute(_: argparse.Namespace) -> Any:
        made.exit(
            2,
            "janus: training is a package of its own. Use janus-train run RECIPE --run DIR, or python -m "
            "janus_training; --help explains it.\n",
        )

    made.set_defaults(execute=execute, debug=False, quiet=False)
