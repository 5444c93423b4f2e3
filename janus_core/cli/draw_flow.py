"""`draw` with a JanusFlow model: text in, latents out, and pictures where a VAE is given."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import OutputError, SamplingError
from ..flow.flow_options import FlowOptions
from ..flow.image_vae import ImageVAE
from ..flow.latents import FlowDrawn, read_noise, save_latents
from ..flow.vae_files import read_vae
from ..inputs.preprocessing import to_images
from ..janus_flow import JanusFlow
from ..options import OnStep, check_count
from ..outputs import ready_folder
from .files import ready_file, save_picture, unused
from .models import drawn_with, load, model_name
from .terminal import new_seed, progress, remark, report

# What belongs to one kind of model, with the value that a flag has where it is not given.
FLOW_FLAGS = {"steps": None, "solver": None, "latents": None, "noise": None, "vae": None}
TOKEN_FLAGS = {
    "prompts": None,
    "tokens": None,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": -1.0,
    "keep_best": 0,
}


def refuse_flags(arguments: Namespace, flags: Mapping[str, object], model: str, kind: str) -> None:
    """Raise SamplingError where a flag is given that the chosen model has no use for."""
    for name, default in flags.items():
        if getattr(arguments, name) != default:
            raise SamplingError(
                f'--{name.replace("_", "-")} is for {kind}, and "{model}" is another kind. Leave it out, or '
                "choose another --model."
            )


def draw_flow(arguments: Namespace) -> int:
    """Draw latents, batch by batch; what is finished stays when the rest is interrupted."""
    refuse_flags(arguments, TOKEN_FLAGS, model_name(arguments), "models with image tokens")
    options = FlowOptions.from_numbers(
        steps=FlowOptions.steps if arguments.steps is None else arguments.steps,
        solver=arguments.solver or FlowOptions.solver,
        cfg_weight=arguments.cfg,
    )
    check_count("--num-images", arguments.num_images)
    check_count("--batch-size", arguments.batch_size)
    folder = ready_folder(Path(arguments.out))
    first_seed = new_seed(arguments)
    latents_file = _latents_file(arguments, folder, first_seed)
    janus = load(arguments)
    assert isinstance(janus, JanusFlow)
    vae = None if arguments.vae is None else read_vae(arguments.vae, janus.compute.device)
    drawing = _Drawing(arguments, options.decided(janus.cfg_weight), vae)
    try:
        with progress(arguments, "steps", arguments.num_images * options.steps) as on_step:
            drawing.run(janus, folder, first_seed, on_step)
    except (KeyboardInterrupt, OutputError):
        drawing.save(latents_file)
        drawing.say_what_is_missing()
        raise
    drawing.save(latents_file)
    files = [*drawing.files, *([str(latents_file)] if latents_file is not None else [])]
    report(
        arguments,
        {
            "files": drawing.files,
            "seeds": drawing.seeds,
            "latents": None if latents_file is None else str(latents_file),
        },
        "\n".join(files),
    )
    if vae is None:
        remark(arguments, "only latents are saved; --vae sdxl_vae.safetensors makes pictures of them")
    return 0


def _latents_file(arguments: Namespace, folder: Path, first_seed: int) -> Path | None:
    """Return where latents go: where it is asked for, else beside the pictures if there will be none."""
    if arguments.latents is not None:
        return ready_file(Path(arguments.latents))
    if arguments.vae is not None:
        return None
    return unused(folder / f"janus_{first_seed % 2**64}.latent")


class _Drawing:
    """The pictures of one `draw`, as far as they are finished."""

    def __init__(self, arguments: Namespace, options: FlowOptions, vae: ImageVAE | None) -> None:
        self._arguments = arguments
        self._options = options
        self._vae = vae
        self._model = drawn_with(arguments)
        self._latents: list[Tensor] = []
        self.files: list[str] = []
        self.seeds: list[int] = []

    def run(self, janus: JanusFlow, folder: Path, first_seed: int, on_step: OnStep) -> None:
        """Draw what is wanted, a batch at a time."""
        arguments, wanted = self._arguments, self._arguments.num_images
        noise = None
        if arguments.noise is not None:
            noise = read_noise(arguments.noise, janus.latent_shape(wanted))
        for start in range(0, wanted, arguments.batch_size):
            count = min(arguments.batch_size, wanted - start)

            def on_latents(done: int, total: int, latents: Tensor, before: int = start) -> None:
                on_step(before * total + done * len(latents), 0)

            drawn = janus.draw(
                arguments.prompt,
                num_images=count,
                seed=first_seed + start,
                negative_prompt=arguments.negative,
                options=self._options,
                batch_size=count,
                noise=None if noise is None else noise[start : start + count],
                on_latents=on_latents,
            )
            self._keep(drawn, folder)

    def _keep(self, drawn: FlowDrawn, folder: Path) -> None:
        for latents, seed in zip(drawn.latents, drawn.seeds, strict=True):
            if self._vae is not None:
                [image] = to_images(self._vae.decode(latents[None])).cpu()
                path = unused(folder / f"janus_{seed}.png")
                self.files.append(str(path))
                save_picture(image, path, self._notes(seed))
            self._latents.append(latents)
            self.seeds.append(seed)

    def _notes(self, seed: int) -> dict[str, str]:
        arguments = self._arguments
        notes = {
            "prompt": arguments.prompt,
            "negative_prompt": arguments.negative,
            "seed": str(seed),
            "options": json.dumps(vars(self._options)),
            "model": self._model,
            "vae": Path(arguments.vae).name,
        }
        return notes if arguments.noise is None else {**notes, "noise": Path(arguments.noise).name}

    def save(self, path: Path | None) -> None:
        """Write the latents of all finished pictures, where they are wanted."""
        if path is not None and self._latents:
            save_latents(torch.stack(self._latents), path)

    def say_what_is_missing(self) -> None:
        """Tell on stderr what an early end has kept."""
        kept, wanted = len(self.seeds), self._arguments.num_images
        if kept < wanted:
            print(f"janus: kept {kept} of {wanted} pictures", file=sys.stderr)
