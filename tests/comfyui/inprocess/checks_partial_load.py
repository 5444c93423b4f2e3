"""Half of a part's weights on the device, the rest streamed: all layers must be ComfyUI's, and called.

The device is torch's meta device, which refuses to compute with anything that was left on the CPU.
"""

from pathlib import Path

import comfy.model_patcher
import comfy.ops
import torch
from janus_pack.janus_core import Compute, build_model, read_checkpoint, split_parts
from janus_pack.janus_core.checkpoints.load import assign_weights
from janus_pack.janus_core.generation.prefill import PaddedPrompts, prefill
from janus_pack.janus_core.generation.static_decoder import decoder_for
from torch import nn

META, CPU = torch.device("meta"), torch.device("cpu")
_DTYPE = torch.float32
_PICTURES, _ROWS, _LENGTH, _NEW = 2, 2, 24, 4


def half_loaded(models, part, operations=comfy.ops.manual_cast, on=("cpu", "meta")):
    """Return the model with one part half on the meta device, all else on the CPU."""
    checkpoint = read_checkpoint(models / "janus-tiny")
    model = build_model(checkpoint.config, operations)
    assign_weights(model, checkpoint.state_dict)
    module = split_parts(model)[part]
    patcher = comfy.model_patcher.ModelPatcher(module, load_device=META, offload_device=CPU)
    patcher.patch_model(META, lowvram_model_memory=patcher.model_size() // 2)
    places = {parameter.device.type for parameter in module.parameters()}
    assert places == set(on), places
    return model


def with_words_loaded(model):
    """Have the table of words on the meta device, whose ids cannot be looked up elsewhere."""
    model.language.language_model.embed_tokens.to(META)
    return model


def see(model):
    side = model.config.vision.image_size
    return model.seeing(torch.zeros(_PICTURES, 3, side, side, device=META, dtype=_DTYPE))


def prefilled(model, *, is_padded):
    """Return the hidden states after a prompt with a picture, and the decoder that goes on from there."""
    patches = model.config.vision.num_patches
    is_image = torch.zeros(_ROWS, _LENGTH, dtype=torch.bool, device=META)
    prompts = PaddedPrompts(
        token_ids=torch.zeros(_ROWS, _LENGTH, dtype=torch.int64, device=META),
        is_image=is_image,
        positions=torch.zeros(_ROWS, _LENGTH, dtype=torch.int64, device=META),
        attended=torch.ones(_ROWS, _LENGTH, dtype=torch.bool, device=META) if is_padded else None,
    )
    pictures = torch.zeros(_ROWS, patches, model.config.language.hidden_size, device=META, dtype=_DTYPE)
    compute = Compute(device=META, dtype=_DTYPE)
    sequences = prefill(model.language, prompts, pictures, new_tokens=_NEW, compute=compute)
    return sequences.hidden, decoder_for(model.language.language_model, sequences, compute)


def check_seeing_runs_half_loaded(models: Path) -> None:
    model = half_loaded(models, "seeing")
    shape = see(model).shape
    assert shape == (_PICTURES, model.config.vision.num_patches, model.config.language.hidden_size), shape


def check_language_answers_half_loaded(models: Path) -> None:
    model = with_words_loaded(half_loaded(models, "language"))
    hidden, decoder = prefilled(model, is_padded=True)
    language_model = model.language.language_model
    logits = language_model.lm_head(hidden)
    assert logits.shape == (_ROWS, model.config.language.vocab_size), logits.shape
    words = torch.zeros(_ROWS, dtype=torch.int64, device=META)
    hidden = decoder.step(language_model.embed_words(words, _DTYPE))
    assert language_model.lm_head(hidden).device == META


def check_words_answer_streamed(models: Path) -> None:
    """With room for half of them ComfyUI keeps both their table and the text head away."""
    decoder = half_loaded(models, "words", on=("cpu",)).language.language_model
    hidden = torch.zeros(_ROWS, decoder.config.hidden_size, device=META, dtype=_DTYPE)
    assert decoder.lm_head(hidden).shape == (_ROWS, decoder.config.vocab_size)


def check_language_draws_half_loaded(models: Path) -> None:
    model = with_words_loaded(half_loaded(models, "language"))
    hidden, decoder = prefilled(model, is_padded=False)
    logits = model.language.generation_head(hidden)
    assert logits.shape == (_ROWS, model.config.vq.codebook_size), logits.shape
    tokens = torch.zeros(_ROWS, dtype=torch.int64, device=META)
    hidden = decoder.step(model.language.embed_image_tokens(tokens, _DTYPE))
    assert model.language.generation_head(hidden).device == META


def check_parts_hold_every_weight_once(models: Path) -> None:
    checkpoint = read_checkpoint(models / "janus-tiny")
    model = build_model(checkpoint.config, comfy.ops.manual_cast)
    held = [id(parameter) for part in split_parts(model).values() for parameter in part.parameters()]
    assert sorted(held) == sorted(map(id, model.parameters()))


def check_vq_tokenizer_encodes_half_loaded(models: Path) -> None:
    model = half_loaded(models, "vq_tokenizer")
    side, grid = model.config.vision.image_size, model.config.grid_side
    tokens = model.vq_tokenizer.encode(torch.zeros(_PICTURES, 3, side, side, device=META))
    assert tokens.shape == (_PICTURES, grid, grid), tokens.shape


def check_vq_tokenizer_decodes_half_loaded(models: Path) -> None:
    model = half_loaded(models, "vq_tokenizer")
    side, grid = model.config.vision.image_size, model.config.grid_side
    tokens = torch.zeros(_PICTURES, grid, grid, dtype=torch.int64, device=META)
    pixels = model.vq_tokenizer.decode(tokens, torch.float32)
    assert pixels.shape == (_PICTURES, 3, side, side), pixels.shape


def check_layers_of_torch_itself_would_be_noticed(models: Path) -> None:
    """The check has teeth: without ComfyUI's layers the half that stayed on the CPU is an error."""
    try:
        model = half_loaded(models, "seeing", operations=nn)
        see(model)
    except (RuntimeError, AssertionError):
        return
    raise AssertionError("layers of torch.nn went unnoticed")
