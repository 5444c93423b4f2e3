"""Read a model folder into a `Checkpoint`: configuration, tokenizer and tensors under our names, checked.

Tensors stay mapped from their files; nothing is converted, and models are built on the meta device only.
Pickles are read with `weights_only`, so that a folder cannot run code.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, SamplingError, shown
from ..inputs.image_tokens import codebook_identity
from ..inputs.text_tokenizer import TextTokenizer, read_tokenizer
from ..model.config import JanusConfig, LanguageConfig
from ..model.model import JanusModel, build_model
from ..options import PUBLISHED_GUIDANCE, Guidance
from ..quantised.weight import QuantisedWeight
from .config_files import parse_authors, parse_transformers
from .folders import resolve_model
from .gaps import refuse_gaps
from .layout import CheckpointFiles, Layout, find_files, read_optional_json
from .names import POSITIONS, is_unused, published_names, to_ours
from .quantised_files import set_apart
from .strangers import remark_on_adapters
from .weight_files import read_weight_file
from .wrappers import fit_names, is_of_an_adapter

log = logging.getLogger("janus.checkpoints")

ReadTensors = Callable[[Path], dict[str, Tensor]]
Model = TypeVar("Model", bound=nn.Module)

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of one model folder.

    Attributes:
        config: the architecture.
        tokenizer: the text tokenizer.
        state_dict: tensors under our names, complete and of the right shapes, in the file's dtype and mapped
            from it, except for the few that a layout stores split.
        folder: where the files are.
        layout: of the files.
        codebook: identity of the VQ codebook.
        guidance: recommended by the folder.
        quantised: matrices of decoder layers that are stored in fewer bits, by the path of their layer; they
            are not in `state_dict`.
    """

    config: JanusConfig
    tokenizer: TextTokenizer
    state_dict: dict[str, Tensor]
    folder: Path
    layout: Layout
    codebook: str
    guidance: Guidance = PUBLISHED_GUIDANCE
    quantised: dict[str, QuantisedWeight] = field(default_factory=dict)


def read_checkpoint(path: str | os.PathLike[str], read_tensors: ReadTensors | None = None) -> Checkpoint:
    """Read a model folder of any published layout.

    Args:
        path: the folder, or the name of a bundled model.
        read_tensors: how to read one weight file; by default mapped safetensors or a `weights_only` pickle.

    Raises:
        CheckpointError: the folder, its tokenizer or its tensors cannot be used.
        ConfigError: its configuration is impossible or unsupported.
    """
    return read_checkpoint_and_model(path, read_tensors)[0]


def read_checkpoint_and_model(
    path: str | os.PathLike[str], read_tensors: ReadTensors | None = None, *, looks_for_gaps: bool = True
) -> tuple[Checkpoint, JanusModel]:
    """Read a model folder; also return the model on the meta device that its tensors were checked against.

    That model has torch's own layers. Building one takes 0.1 s, so a caller who wants such a model for the
    weights can use it.

    Args:
        path: as for `read_checkpoint`.
        read_tensors: likewise.
        looks_for_gaps: False leaves that to a caller who has to keep few pages of the files in memory.

    Raises:
        CheckpointError, ConfigError: as `read_checkpoint`.
    """
    files = find_files(resolve_model(path))
    if files.layout == "janusflow":
        raise CheckpointError(
            f'"{files.folder}" is a JanusFlow model, which draws by rectified flow, and an autoregressive '
            "Janus is wanted here. Choose Janus-1.3B, Janus-Pro-1B, Janus-Pro-7B or a fine-tune of them."
        )
    config = read_config(files)
    tokenizer = read_tokenizer(files.folder)
    check_vocabulary(config.language, tokenizer, files.folder)
    published = read_all(files, read_tensors or read_weight_file)
    apart = set_apart(published, files)
    model = build_structure(lambda: build_model(config), files)
    state_dict = to_our_names(published, model, files)
    quantised = apart.put_back(state_dict)
    if looks_for_gaps:
        refuse_gaps(state_dict.items(), tokenizer.vocab_size, files.folder)
    remark_on_adapters(files.folder)
    checkpoint = Checkpoint(
        config=config,
        tokenizer=tokenizer,
        state_dict=state_dict,
        folder=files.folder,
        layout=files.layout,
        codebook=codebook_identity(state_dict["vq_tokenizer.codebook.weight"]),
        guidance=read_guidance(files.folder),
        quantised=quantised,
    )
    return checkpoint, model


def read_config(files: CheckpointFiles) -> JanusConfig:
    """Parse a folder's configuration files; the message of a ConfigError names the folder."""
    preprocessor = read_optional_json(files.folder / "preprocessor_config.json")
    processor = read_optional_json(files.folder / "processor_config.json")
    try:
        if files.layout == "transformers":
            nested = processor.get("image_processor")
            return parse_transformers(files.config, nested if isinstance(nested, dict) else preprocessor)
        return parse_authors(files.config, preprocessor, processor)
    except ConfigError as error:
        raise ConfigError(f'Cannot load "{files.folder}": {error}') from error


def read_guidance(folder: Path, published: Guidance = PUBLISHED_GUIDANCE) -> Guidance:
    """Return the guidance that a folder's generation_config.json recommends, else that of the published.

    `guidance_scale` is transformers' name for the weight; it writes 0 or nothing where there is none. A value
    that cannot be used is ignored with a warning, since the model can still answer.
    """
    content = _lenient_json(folder / "generation_config.json")
    scale = content.get("guidance_scale")
    is_recommended = scale != 0 or isinstance(scale, bool)  # False == 0, but is no number: warned about below
    return Guidance(
        cfg_weight=_usable(
            "guidance_scale", "cfg_weight", scale if is_recommended else None, published.cfg_weight
        ),
        min_p=_usable("min_p", "min_p", content.get("min_p"), published.min_p),
    )


def _usable(key: str, name: str, value: Any, fallback: float) -> float:
    """Return the value of a file's `key` for the field `name` of `Guidance`, or the fallback."""
    if value is None:
        return fallback
    try:
        Guidance(**{name: value})  # checks the range
    except SamplingError as error:
        reason = str(error).partition("; ")[2]
        log.warning(
            "Janus: generation_config.json recommends a %s of %s; %s Drawing takes %g instead.",
            key,
            shown(value),
            reason,
            fallback,
        )
        return fallback
    return float(value)


def _lenient_json(path: Path) -> dict[str, Any]:
    """Read an optional JSON file; one that cannot be read is ignored with a warning."""
    try:
        return read_optional_json(path)
    except CheckpointError as error:
        log.warning("Janus: %s The model is used without this file.", error)
        return {}


def check_vocabulary(config: LanguageConfig, tokenizer: TextTokenizer, folder: Path) -> None:
    """Raise CheckpointError where the tokenizer knows more tokens than the model has embeddings."""
    rows = config.vocab_size
    if tokenizer.largest_id >= rows:
        raise CheckpointError(
            f'The tokenizer in "{folder}" has ids up to {tokenizer.largest_id}, the model has only {rows} '
            "token embeddings. The tokenizer belongs to another model: fetch the one beside the weights."
        )


def read_all(files: CheckpointFiles, read_tensors: ReadTensors) -> dict[str, Tensor]:
    """Return the tensors of all weight files under their published names."""
    published: dict[str, Tensor] = {}
    for path in files.weights:
        tensors = read_tensors(path)
        cure = f'Files of two downloads seem mixed, "{path.name}" is one of them: fetch the folder again'
        _refuse(published.keys() & tensors.keys(), "in two weight files", cure, files)
        published |= tensors
    return published


def to_our_names(published: dict[str, Tensor], model: nn.Module, files: CheckpointFiles) -> dict[str, Tensor]:
    """Rename published tensors to ours; check that none is missing, unexpected, of another shape or dtype.

    Raises:
        CheckpointError: with the count, the first tensor's name, and what to do.
    """
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    # each of our names to the one or three published tensors that it is made of
    sources = {ours: published_names(ours, files.layout) for ours in expected}
    wanted = {name for names in sources.values() for name in names}
    published = {name: tensor for name, tensor in published.items() if not is_unused(name)}
    renames = fit_names(published, wanted)
    twice = [name for name, count in Counter(renames.values()).items() if count > 1]
    _refuse(twice, "stored twice under different prefixes", "Fetch the weights again", files)
    published = {renames[name]: tensor for name, tensor in published.items()}
    _check_dtypes(published, files)
    missing, foreign = wanted - published.keys(), published.keys() - wanted
    # from the most telling complaint to the least: an adapter leaves tensors over and others missing
    unmerged = filter(is_of_an_adapter, foreign)
    _refuse(unmerged, "of an adapter", "Merge it (merge_and_unload) and save the model again", files)
    _refuse(missing, "missing", "The download is probably incomplete: fetch it again", files)
    _refuse(foreign, "unexpected", "The weights do not belong to this config.json", files)
    _check_shapes(published, sources, expected, files)
    return {ours: _gather([published[name] for name in names], ours) for ours, names in sources.items()}


def build_structure(build: Callable[[], Model], files: CheckpointFiles) -> Model:
    """Build a model without memory for weights; sizes that no computer can hold are a ConfigError."""
    try:
        return build()
    except RuntimeError as error:  # a size that does not fit into 64 bits
        raise ConfigError(
            f'Cannot load "{files.folder}": the sizes in its config.json multiply to more than any computer '
            "can hold. Fetch config.json again."
        ) from error


def _refuse(names: Iterable[str], what: str, cure: str, files: CheckpointFiles) -> None:
    listed = sorted(names)
    if listed:
        count = f"{len(listed)} tensors are" if len(listed) > 1 else "1 tensor is"
        raise CheckpointError(
            f'Cannot load "{files.folder}": {count} {what}, first "{listed[0]:.120}". {cure}.'
        )


def _check_dtypes(published: dict[str, Tensor], files: CheckpointFiles) -> None:
    for name, tensor in published.items():
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(
                f'Cannot load "{files.folder}": "{name:.120}" is stored as {tensor.dtype}, and nothing says '
                "by which scale. Use a file that janus convert or ComfyUI wrote, or the original model."
            )


def _check_shapes(
    published: dict[str, Tensor],
    sources: dict[str, tuple[str, ...]],
    expected: dict[str, torch.Size],
    files: CheckpointFiles,
) -> None:
    wrong: dict[str, str] = {}
    for ours, names in sources.items():
        whole = expected[ours]
        shape = (whole[0] // len(names), *whole[1:])  # of one source: ours is split along axis 0
        fitting = (shape, (1, *shape)) if ours == POSITIONS else (shape,)
        for name in names:
            if published[name].shape not in fitting:
                wrong[name] = f"It has {list(published[name].shape)} instead of {list(shape)}"
    if wrong:
        cure = f"{wrong[min(wrong)]}: fetch weights and config.json again, from one place"
        _refuse(wrong, "of another shape than config.json says", cure, files)


def _gather(parts: list[Tensor], ours: str) -> Tensor:
    """Return one of our tensors, in a dtype that a model is computed in."""
    if parts[0].dtype == torch.float64:  # numpy's default; no device computes a model in it
        parts = [part.float() for part in parts]
    return to_ours(parts, ours)


def assign_weights(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Make the tensors the model's parameters, without copying.

    Args:
        model: as `build_model` or `build_flow_model` made it.
        state_dict: complete, as in `Checkpoint`.

    Raises:
        CheckpointError: a parameter is left on the meta device.
    """
    # not strict: names were compared before (`to_our_names`), and the check below covers a host's layers too
    model.load_state_dict(state_dict, strict=False, assign=True)
    model.requires_grad_(False)
    empty = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if empty:
        raise CheckpointError(f'{len(empty)} tensors of the model got no weights, first "{empty[0]}".')
