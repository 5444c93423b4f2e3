"""Core's graphs for paged layers: known by their shape, off by default, the same drawing through them."""

import types
from pathlib import Path
from unittest import mock

import comfy.model_prefetch
import comfy.ops
import torch
from janus_pack.janus_core import DrawOptions
from janus_pack.nodes.bridge import hosting, paging

_GREEDY = DrawOptions(temperature=0.0)
CPU = torch.device("cpu")


def hosted(models):
    with mock.patch.object(hosting.devices, "layers", return_value=comfy.ops.manual_cast):
        return hosting.host(models / "janus-tiny", "float32", "offload")


def check_graphs_of_this_release_are_known_and_others_are_left_alone(models: Path) -> None:
    assert paging.core_graphs() is comfy.model_prefetch
    for pop in (lambda queue, device, module: None, lambda *args, **kwargs: None, None):
        with mock.patch.object(comfy.model_prefetch, "prefetch_queue_pop", pop):
            assert paging.core_graphs() is None


def check_paging_is_off_until_it_is_wanted_and_memory_is_dynamic(models: Path) -> None:
    dynamic = types.SimpleNamespace(is_dynamic=lambda: True)
    assert paging.runner_for(dynamic, CPU) is None
    assert not isinstance(hosted(models).parts["language"].model, paging.UnitsOfLayers)
    with mock.patch.object(paging, "IS_WANTED", True):
        assert isinstance(paging.runner_for(dynamic, CPU), paging.CoreRunner)
        assert paging.runner_for(hosted(models).parts["language"], CPU) is None
        assert paging.runner_for(types.SimpleNamespace(), CPU) is None


def check_a_drawing_through_cores_own_queue_is_the_drawing(models: Path) -> None:
    """On a CPU core has no queue and runs each layer at once."""
    wanted = hosted(models).janus.draw("a red circle", options=_GREEDY).tokens.grid
    runner = paging.CoreRunner(comfy.model_prefetch, CPU)
    with (
        mock.patch.object(paging, "IS_WANTED", True),
        mock.patch.object(paging, "runner_for", return_value=runner),
        mock.patch.object(
            comfy.model_prefetch, "prefetch_queue_pop", wraps=comfy.model_prefetch.prefetch_queue_pop
        ) as pop,
    ):
        model = hosted(models)
        units, last = model.parts["language"].model.get_dynamic_vram__units()
        found = model.janus.draw("a red circle", options=_GREEDY).tokens.grid
    assert torch.equal(found, wanted)
    layers = model.janus.config.language.num_hidden_layers
    assert (len(units), last) == (layers, [])
    assert pop.call_count == layers * (model.janus.config.num_image_tokens - 1), pop.call_count
