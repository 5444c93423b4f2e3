"""Adapters that PEFT itself wrote: the same numbers from PEFT's layers round transformers' own Janus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from janus_core import Janus, Lora, load_janus
from janus_core.adapters.extraction import extract
from janus_core.checkpoints.load import read_checkpoint

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:::transformers\..*"),
    pytest.mark.filterwarnings(r"ignore:::peft\..*"),
    pytest.mark.filterwarnings(r"ignore:::accelerate\..*"),
]
peft = pytest.importorskip("peft", reason="peft is not installed: live equality with it is not checked")

FOLDER = Path(__file__).parent / "golden" / "janus-tiny-hf"
ATOL = 1e-4
DECODER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# All kinds of layers, two ranks, two alphas.
KINDS: dict[str, dict[str, Any]] = {
    "decoder": {"target_modules": r"model\.language_model.*\.(q|k|v|o|gate|up|down)_proj"},
    "everything": {"target_modules": "all-linear"},
    "stabilised": {"target_modules": DECODER, "use_rslora": True},
    "patterns": {
        "target_modules": DECODER,
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 6},
        "alpha_pattern": {"down_proj": 3, r"language_model\.layers\.0\.self_attn\.o_proj": 11},
    },
    "heads saved whole": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["generation_head.proj_out", "lm_head"],
    },
}
TOKENS = torch.tensor([[100, 3, 77, 12, 250, 9]])


def reference() -> Any:
    transformers = pytest.importorskip("transformers", minversion="5.0")
    loaded = transformers.JanusForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32)
    return loaded.eval()


def trained(folder: Path, seed: int = 0, **config: Any) -> Any:
    """Return a model in PEFT's layers whose second factors are no longer zero, and save the adapter."""
    torch.manual_seed(seed)
    wrapped = peft.get_peft_model(reference(), peft.LoraConfig(r=4, lora_alpha=7, **config))
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * (0.05 if "lora_" in name else 0.02)
    wrapped.save_pretrained(folder)
    return wrapped.eval()


@torch.inference_mode()
def their_logits(wrapped: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return text logits, image logits and image features."""
    model = wrapped.base_model.model
    hidden = model.model.language_model(input_ids=TOKENS).last_hidden_state[:, -1]
    side = model.config.vision_config.image_size
    pixels = torch.linspace(-1, 1, 3 * side * side).reshape(1, 3, side, side)
    seen = model.model.get_image_features(pixels)
    seen = seen if isinstance(seen, Tensor) else seen.pooler_output
    return model.lm_head(hidden), model.model.generation_head(hidden), seen.reshape(1, -1, hidden.shape[-1])


@torch.inference_mode()
def our_logits(janus: Janus) -> tuple[Tensor, Tensor, Tensor]:
    janus.bring_all()
    language, side = janus.model.language, janus.config.vision.image_size
    words = language.language_model.embed_words(TOKENS, torch.float32)
    positions = torch.arange(TOKENS.shape[1])[None]
    hidden = language.language_model(words, positions)[:, -1]
    pixels = torch.linspace(-1, 1, 3 * side * side).reshape(1, 3, side, side)
    return (
        language.language_model.lm_head(hidden),
        language.generation_head(hidden),
        janus.model.seeing(pixels),
    )


def load(*loras: Lora) -> Janus:
    janus = load_janus(FOLDER, dtype="float32", device="cpu", loras=loras)
    assert isinstance(janus, Janus)
    return janus


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS.keys())
def test_logits_equal_those_of_pefts_layers(tmp_path: Path, config: dict[str, Any]) -> None:
    wrapped = trained(tmp_path / "adapter", **config)
    ours, plain = our_logits(load(Lora(path=tmp_path / "adapter"))), our_logits(load())
    for found, expected in zip(ours, their_logits(wrapped), strict=True):
        assert_close(found, expected, atol=ATOL, rtol=0)
    assert float((ours[1] - plain[1]).abs().max()) > 100 * ATOL


def test_two_adapters_with_strengths_equal_pefts_weighted_sum(tmp_path: Path) -> None:
    config = {"target_modules": DECODER}
    trained(tmp_path / "one", 1, **config)
    trained(tmp_path / "two", 2, **config)
    wrapped = peft.PeftModel.from_pretrained(reference(), tmp_path / "one", adapter_name="one")
    wrapped.load_adapter(tmp_path / "two", adapter_name="two")
    wrapped.add_weighted_adapter(["one", "two"], [0.6, 1.5], "both", combination_type="cat")
    wrapped.set_adapter("both")
    ours = our_logits(
        load(Lora(path=tmp_path / "two", strength=1.5), Lora(path=tmp_path / "one", strength=0.6))
    )
    for found, expected in zip(ours, their_logits(wrapped.eval()), strict=True):
        assert_close(found, expected, atol=ATOL, rtol=0)


def test_weights_equal_pefts_own_merge(tmp_path: Path) -> None:
    merged = trained(tmp_path / "adapter", **KINDS["decoder"]).merge_and_unload()
    expected = merged.model.language_model.layers[1].mlp.up_proj.weight
    janus = load(Lora(path=tmp_path / "adapter"))
    janus.bring_all()
    assert_close(
        janus.model.language.language_model.layers[1].mlp.up_proj.weight, expected, atol=1e-6, rtol=1e-6
    )


def test_pefts_dora_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "adapter", target_modules=DECODER, use_dora=True)
    with pytest.raises(OSError, match=r"weight-decomposed \(DoRA\)"):
        load(Lora(path=tmp_path / "adapter"))


def test_peft_reads_what_we_extract(tmp_path: Path) -> None:
    """By the authors' names, on a tree of modules that is called as theirs."""
    base = dict(read_checkpoint(FOLDER).state_dict)
    name = "language.language_model.layers.0.self_attn.q_proj.weight"
    tuned = {**base, name: base[name] + 0.1}  # a difference of rank 1
    extract(base, tuned, 2, "authors").save(tmp_path / "adapter")
    tree, layer = torch.nn.Module(), torch.nn.Linear(*reversed(base[name].shape), bias=False)
    layer.weight.data = base[name].float().clone()
    parent = tree
    for part in ("language_model", "model", "layers", "0", "self_attn"):
        setattr(parent, part, torch.nn.Module())
        parent = getattr(parent, part)
    parent.q_proj = layer
    merged = peft.PeftModel.from_pretrained(tree, tmp_path / "adapter").merge_and_unload()
    found = merged.language_model.model.layers.get_submodule("0.self_attn.q_proj").weight
    assert_close(found, tuned[name].float(), atol=1e-2, rtol=0)
