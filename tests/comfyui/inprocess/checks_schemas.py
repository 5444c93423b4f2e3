"""What the schemas promise: ids in one order everywhere, and defaults that API prompts may leave out."""

import asyncio
import inspect
from pathlib import Path

from janus_pack.nodes import JanusExtension

_ORDER = [
    "model", "image", "image_2", "image_3", "image_4", "image_tokens", "mask", "prompt", "negative_prompt",
    "folder", "style", "question", "choices", "prefix", "suffix", "existing", "one_line", "recursive",
    "chat", "system", "seed", "batch_size", "steps", "solver", "cfg_weight", "temperature", "top_k",
    "top_p", "min_p", "repetition_penalty", "max_new_tokens", "stop", "strength", "candidates", "keep_best",
    "fit", "keep_original",
]  # fmt: skip
_ELSEWHERE = {  # ids that one node alone has, and the id that they stand behind
    ("JanusLoad", "dtype"): "model",
    ("JanusLoad", "residency"): "dtype",
    ("JanusLoRA", "adapter"): "model",
    ("JanusAsk", "ask_each"): "question",
    ("JanusFlowDraw", "noise"): "cfg_weight",
    ("JanusSaveTokens", "filename_prefix"): "image_tokens",
    ("JanusSavePictures", "images"): None,
    ("JanusSavePictures", "filename_prefix"): "image_tokens",
    ("JanusSaveCaptions", "images"): None,
    ("JanusSaveCaptions", "texts"): "images",
    ("JanusSaveCaptions", "filename_prefix"): "texts",
    ("JanusLoadTokens", "file"): None,
}
_WITHOUT_DEFAULT = {"model", "adapter", "prompt", "file", "folder"}  # and links, and some questions:
_ASKING = {("JanusAsk", "question"), ("JanusChoose", "question")}


def nodes():
    """Return the nodes by id, with their inputs by id."""
    listed = asyncio.run(JanusExtension().get_node_list())
    schemas = {node: node.define_schema() for node in listed}
    return {
        schema.node_id: (node, {each.id: each for each in schema.inputs}) for node, schema in schemas.items()
    }


def default_of(given):
    """Return an input's default, or None where it has none."""
    return getattr(given, "default", None)


def check_inputs_stand_in_one_order(models: Path) -> None:
    for name, (_, inputs) in nodes().items():
        ids = list(inputs)
        assert [each for each in _ORDER if each in ids] == [each for each in ids if each in _ORDER], name
        for own in set(ids) - set(_ORDER):
            before = ids[ids.index(own) - 1] if ids.index(own) else None
            assert _ELSEWHERE[name, own] == before, (name, own)


def check_every_input_with_a_default_is_optional(models: Path) -> None:
    for name, (_, inputs) in nodes().items():
        for each in inputs.values():
            assert each.optional or default_of(each) is None, (name, each.id)


def check_only_links_and_what_a_person_must_say_have_no_default(models: Path) -> None:
    for name, (_, inputs) in nodes().items():
        for each in inputs.values():
            # links have no such choice, and some texts come along links only
            is_widget = hasattr(each, "socketless") and not getattr(each, "force_input", False)
            is_said = each.id in _WITHOUT_DEFAULT or (name, each.id) in _ASKING
            assert (default_of(each) is None) == (not is_widget or is_said), (name, each.id)


def check_nodes_are_executed_with_the_defaults_of_their_schema(models: Path) -> None:
    for name, (node, inputs) in nodes().items():
        parameters = inspect.signature(node.execute).parameters
        assert set(parameters) == set(inputs), name
        for each in inputs.values():
            given = parameters[each.id].default
            if not each.optional:
                assert given is inspect.Parameter.empty, (name, each.id)
            elif default_of(each) is None:
                assert given in (None, ()), (name, each.id)
            elif node.define_schema().is_input_list:
                assert given is None, (name, each.id)  # every value comes in a list, the default as well
            else:
                assert (type(given), given) == (type(each.default), each.default), (name, each.id)
