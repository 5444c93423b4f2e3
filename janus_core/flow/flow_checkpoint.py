"""Read a JanusFlow folder into a `FlowCheckpoint`: configuration, tokenizer, and tensors under our names.

What holds for every published folder is in the room of the checkpoints; nothing is converted here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..checkpoints.folders import resolve_model
from ..checkpoints.gaps import refuse_gaps
from ..checkpoints.layout import CheckpointFiles, find_files, read_optional_json
from ..checkpoints.load import (
    ReadTensors,
    build_structure,
    check_vocabulary,
    read_all,
    read_guidance,
    to_our_names,
)
from ..checkpoints.quantised_files import set_apart
from ..checkpoints.strangers import remark_on_adapters
from ..checkpoints.weight_files import read_weight_file
from ..errors import CheckpointError, ConfigError
from ..inputs.text_tokenizer import TextTokenizer, read_tokenizer
from ..options import Guidance
from ..quantised.weight import QuantisedWeight
from .flow_config import JanusFlowConfig
from .flow_files import parse_janusflow
from .flow_model import JanusFlowModel, build_flow_model
from .flow_options import FLOW_CFG_WEIGHT


@dataclass(frozen=True, kw_only=True)
class FlowCheckpoint:
    """One JanusFlow folder, read.

    Attributes:
        config: the architecture.
        tokenizer: the text tokenizer.
        state_dict: tensors under our names, complete and of right shape, mapped from the file.
        folder: where it came from.
        cfg_weight: the guidance that its makers recommend.
        quantised: as in `Checkpoint`.
    """

    config: JanusFlowConfig
    tokenizer: TextTokenizer
    state_dict: dict[str, Tensor]
    folder: Path
    cfg_weight: float = FLOW_CFG_WEIGHT
    quantised: dict[str, QuantisedWeight] = field(default_factory=dict)


def read_flow_checkpoint(
    path: str | os.PathLike[str], read_tensors: ReadTensors | None = None
) -> tuple[FlowCheckpoint, JanusFlowModel]:
    """Read a JanusFlow folder, and return beside it the model that its tensors were checked against.

    That model has torch's own layers, on the meta device.

    Args:
        path: the folder.
        read_tensors: how to read one weight file; by default mapped safetensors or a `weights_only` pickle.

    Raises:
        CheckpointError: the folder, its tokenizer or its tensors cannot be used, or it is another Janus.
        ConfigError: its configuration is impossible or unsupported.
    """
    files = find_files(resolve_model(path))
    if files.layout != "janusflow":
        raise CheckpointError(
            f'"{files.folder}" is an autoregressive Janus, and a JanusFlow model is wanted here. Choose '
            "JanusFlow-1.3B or a fine-tune of it."
        )
    config = read_flow_config(files)
    tokenizer = read_tokenizer(files.folder)
    check_vocabulary(config.language, tokenizer, files.folder)
    published = read_all(files, read_tensors or read_weight_file)
    apart = set_apart(published, files)
    model = build_structure(lambda: build_flow_model(config), files)
    state_dict = to_our_names(published, model, files)
    quantised = apart.put_back(state_dict)
    # The convolutional networks begin with zeros in places, and nobody has seen whether training leaves any.
    looked_at = {name: tensor for name, tensor in state_dict.items() if not name.startswith("flow.")}
    refuse_gaps(looked_at.items(), tokenizer.vocab_size, files.folder)
    remark_on_adapters(files.folder)
    checkpoint = FlowCheckpoint(
        config=config,
        tokenizer=tokenizer,
        state_dict=state_dict,
        folder=files.folder,
        cfg_weight=read_guidance(files.folder, Guidance(cfg_weight=FLOW_CFG_WEIGHT)).cfg_weight,
        quantised=quantised,
    )
    return checkpoint, model


def read_flow_config(files: CheckpointFiles) -> JanusFlowConfig:
    """Parse a folder's configuration files; the message of a ConfigError names the folder."""
    try:
        return parse_janusflow(files.config, read_optional_json(files.folder / "preprocessor_config.json"))
    except ConfigError as error:
        raise ConfigError(f'Cannot load "{files.folder}": {error}') from error
