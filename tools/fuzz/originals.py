"""Small whole models, one of each layout and kind of weight file, for damaged copies to be made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from janus_core.checkpoints.config_files import parse_authors
from janus_core.checkpoints.config_writing import write_authors
from janus_core.checkpoints.layout import Layout
from janus_core.checkpoints.names import published_names
from janus_core.model.config import JanusConfig
from janus_core.model.model import build_model

GOLDEN = Path(__file__).parents[2] / "tests" / "parity" / "golden"
SHARDED = "pytorch_model-0000{}-of-00002.bin"


def small_config() -> JanusConfig:
    """Return the numbers of a model even smaller than the golden one."""
    config = json.loads((GOLDEN / "janus-tiny-bin" / "config.json").read_text(encoding="utf-8"))
    config["vision_config"]["params"] |= {"image_size": 32, "width": 32, "layers": 1}
    config["gen_vision_config"]["params"] |= {"ch_mult": [1], "image_token_size": 32}
    config["language_config"] |= {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config["gen_head_config"]["params"] |= {"n_embed": 32, "image_token_embed": 32, "image_token_size": 32}
    config["aligner_config"]["params"] |= {"input_dim": 32, "n_embed": 32}
    config["gen_aligner_config"]["params"] |= {"n_embed": 32}
    return parse_authors(config, {}, {})


def small_weights(config: JanusConfig, layout: Layout) -> dict[str, Tensor]:
    """Return random weights under a layout's names."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}
    for ours, meta in build_model(config).state_dict().items():
        names = published_names(ours, layout)
        parts = torch.randn(meta.shape, generator=generator).chunk(len(names))
        weights |= {name: part.clone() for name, part in zip(names, parts, strict=True)}
    return weights


def native_config(config: JanusConfig) -> dict[str, Any]:
    """Return the same numbers as transformers writes them."""
    native: dict[str, Any] = json.loads((GOLDEN / "janus-tiny-hf" / "config.json").read_text("utf-8"))
    native["text_config"] |= vars(config.language)
    native["vision_config"] |= {"hidden_size": 32, "num_hidden_layers": 1, "image_size": 32}
    native["vision_config"] |= {"projection_dim": 32}
    native["vq_config"] |= {"channel_multiplier": [1], "num_embeddings": 32, "projection_dim": 32}
    native["vq_config"] |= {"image_token_embed_dim": 32}
    return native


def _write_side_files(folder: Path, config: JanusConfig, source: str) -> None:
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((GOLDEN / source / name).read_bytes())
    for name, content in write_authors(config).items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_originals(root: Path) -> None:
    """Write the folders `safetensors`, `shards`, `legacy` and `native`."""
    config = small_config()
    weights = small_weights(config, "authors")
    for name in ("safetensors", "shards", "legacy"):
        _write_side_files(root / name, config, "janus-tiny-bin")
    save_file(weights, root / "safetensors" / "model.safetensors")
    torch.save(weights, root / "legacy" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    weight_map = {name: SHARDED.format(1 + index % 2) for index, name in enumerate(weights)}
    for shard in set(weight_map.values()):
        torch.save({n: t for n, t in weights.items() if weight_map[n] == shard}, root / "shards" / shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (root / "shards" / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    _write_side_files(root / "native", config, "janus-tiny-hf")
    (root / "native" / "config.json").write_text(json.dumps(native_config(config)), encoding="utf-8")
    processor = json.loads((GOLDEN / "janus-tiny-hf" / "processor_config.json").read_text("utf-8"))
    processor["image_processor"]["size"] = {"height": 32, "width": 32}
    (root / "native" / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    save_file(small_weights(config, "transformers"), root / "native" / "model.safetensors")
