from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from janus_core import Janus, JanusConfig, JanusModel, build_model

LAYERS = ("Linear", "Embedding", "Conv2d", "LayerNorm", "GroupNorm", "RMSNorm")


class OurLayer:
    """Marks the layers that came from our own namespace."""


OPERATIONS = SimpleNamespace(**{name: type(name, (OurLayer, getattr(nn, name)), {}) for name in LAYERS})


@pytest.fixture(scope="module")
def model(config: JanusConfig) -> JanusModel:
    return build_model(config, OPERATIONS)


def leaves_with_weights(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }


def test_every_layer_with_weights_comes_from_the_given_namespace(model: JanusModel) -> None:
    foreign = [name for name, layer in leaves_with_weights(model).items() if not isinstance(layer, OurLayer)]
    assert foreign == []


def test_every_kind_of_layer_is_used(model: JanusModel) -> None:
    used = {type(layer).__name__ for layer in leaves_with_weights(model).values()}
    assert used == set(LAYERS)


def test_no_weight_is_held_outside_a_leaf_layer(model: JanusModel) -> None:
    assert all(not list(layer.children()) for layer in leaves_with_weights(model).values())


def test_there_are_no_buffers(model: JanusModel) -> None:
    assert list(model.buffers()) == []


def test_building_allocates_no_memory(model: JanusModel) -> None:
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_building_restores_the_default_device(model: JanusModel) -> None:
    assert torch.empty(1).device.type == "cpu"


def test_a_built_model_is_not_in_training(model: JanusModel) -> None:
    assert not any(module.training for module in model.modules())


def test_no_loaded_parameter_requires_a_gradient(janus: Janus) -> None:
    assert not any(parameter.requires_grad for parameter in janus.model.parameters())


def test_the_three_groups_hold_all_parameters(model: JanusModel) -> None:
    groups = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert groups == {"seeing", "language", "vq_tokenizer"}


# embedding a prompt


@pytest.fixture
def prompt() -> tuple[Tensor, Tensor]:
    """Ids beyond the vocabulary stand where image features go."""
    ids = torch.tensor([[5, 9999, 9999, 6], [9999, 7, 8, 9999]])
    return ids, ids == 9999


def test_image_features_fill_their_places_in_order(janus: Janus, prompt: tuple[Tensor, Tensor]) -> None:
    features = torch.arange(4.0)[:, None].expand(4, 32).reshape(2, 2, 32)
    found = janus.model.language.embed_prompt(*prompt, features, torch.float32)
    assert found[prompt[1]][:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_words_round_a_picture_keep_their_embeddings(janus: Janus, prompt: tuple[Tensor, Tensor]) -> None:
    language = janus.model.language
    found = language.embed_prompt(*prompt, torch.zeros(2, 2, 32), torch.float32)
    expected = language.language_model.embed_tokens(torch.tensor([5, 6, 7, 8]))
    assert torch.equal(found[~prompt[1]], expected)


def test_embeddings_come_in_the_dtype_asked_for(janus: Janus, prompt: tuple[Tensor, Tensor]) -> None:
    found = janus.model.language.embed_prompt(*prompt, torch.zeros(2, 2, 32), torch.bfloat16)
    assert found.dtype == torch.bfloat16
