"""Nodes of other packs: told to ComfyUI as replaceable, and put into prompts as nodes of ours.

ComfyUI replaces only what no installed pack provides: the page offers it for a workflow that is opened, the
server does it to a prompt that arrives. Both read one registered mapping, and what suits one fails the other.
The page knows values by their position, among them what becomes of a seed after a run, which no prompt has.
The server fails on a prompt that lacks an input of the mapping, or a title, as prompts written by hand do.
So the page is told more than the server, and prompts are rewritten here before the server looks at them.
"""

import importlib
import logging
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from comfy_api import latest

log = logging.getLogger("janus.replacing")

CONTROL = "control_after_generate"
"""What the page keeps behind every seed: it stays, or changes after a run."""

Prompt = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What becomes of a node of another pack.

    Attributes:
        old: its id.
        new: the id of the node of ours.
        widgets: its widgets in the order in which workflows keep their values, with CONTROL behind a seed.
        inputs: its inputs, links and widgets, to ours.
        by_some: likewise, of inputs that are optional or that not every version has.
        fixed: values of ours that do not come from an input of it.
        outputs: those that mean the same with us, by index.
        widgets_once: the order of an earlier version.
        values_since: what that version did where it had no widget yet.
    """

    old: str
    new: str
    widgets: tuple[str, ...]
    inputs: Mapping[str, str]
    by_some: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (0,)
    widgets_once: tuple[str, ...] = ()
    values_since: Mapping[str, Any] = field(default_factory=dict)

    def mapping_for_server(self) -> list[dict[str, Any]]:
        """Return the input mapping that ComfyUI's own rewriting survives, whatever its order.

        It visits nodes in the order of a set. When it renumbers a loader's output, it looks for the input of
        the node behind it by the old name, which is gone if that node was visited first. So every old name
        stays, with a list to write the number into that is no link: a link begins with a text.
        """
        taken = {**dict.fromkeys(self.inputs.values()), **self.fixed}
        gone = [name for name in (*self.widgets, *self.inputs, *self.by_some) if name not in taken]
        return [
            *_copies(self.inputs),
            *_values(self.fixed),
            *({"new_id": name, "set_value": [None, 0]} for name in dict.fromkeys(gone) if name != CONTROL),
        ]

    def told_to_page(self) -> dict[str, Any]:
        """Return what the page's copy of the mapping has instead of the server's."""
        # some pages call this widget by its default instead, which is "fixed" where our nodes name one
        control = [CONTROL, "fixed"] if CONTROL in self.widgets else []
        return {
            "input_mapping": [
                *_copies({**self.by_some, **self.inputs}),
                *({"new_id": name, "old_id": CONTROL} for name in control),
                *_values(self.fixed),
            ],
            "janus_widgets_once": list(self.widgets_once),
            "janus_values_since": dict(self.values_since),
        }

    def rewrite(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a node of a prompt as one of ours; what it lacks, ours lacks too."""
        given = node["inputs"]
        names = {**self.by_some, **self.inputs}
        inputs = {ours: given[theirs] for theirs, ours in names.items() if theirs in given}
        return {**node, "class_type": self.new, "inputs": {**inputs, **self.fixed}}


def _copies(names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"new_id": ours, "old_id": theirs} for theirs, ours in names.items()]


def _values(fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"new_id": ours, "set_value": value} for ours, value in fixed.items()]


async def register(replacements: Iterable[Replacement]) -> None:
    """Tell ComfyUI which nodes of ours replace which of other packs; older releases have no such thing."""
    from server import PromptServer  # core imports the nodes before the server exists

    server = getattr(PromptServer, "instance", None)
    api = getattr(latest.ComfyAPI(), "node_replacement", None) if hasattr(latest, "ComfyAPI") else None
    if server is None or api is None or not hasattr(latest.io, "NodeReplace"):
        return
    known = {one.old: one for one in replacements}
    for one in known.values():
        await api.register(_entry(one))
    core = importlib.import_module("nodes")  # core's own, which our folder of that name does not hide from it
    server.add_on_prompt_handler(lambda request: on_prompt(request, known, core.NODE_CLASS_MAPPINGS.keys()))


def _entry(one: Replacement) -> Any:
    """Return the mapping as core keeps it: the server reads its attributes, the page gets its `as_dict`."""
    entry = latest.io.NodeReplace(
        new_node_id=one.new,
        old_node_id=one.old,
        old_widget_ids=list(one.widgets),
        input_mapping=one.mapping_for_server(),
        # without this the page drops the links, though every output keeps its place
        output_mapping=[{"new_idx": index, "old_idx": index} for index in one.outputs],
    )
    for_page = {**entry.as_dict(), **one.told_to_page()}
    entry.as_dict = lambda: for_page
    return entry


def on_prompt(
    request: dict[str, Any], known: Mapping[str, Replacement], installed: Set[str]
) -> dict[str, Any]:
    """Return a request to run a prompt, with nodes of absent packs rewritten."""
    prompt = request.get("prompt")
    return {**request, "prompt": rewritten(prompt, known, installed)} if isinstance(prompt, dict) else request


def rewritten(prompt: Prompt, known: Mapping[str, Replacement], installed: Set[str]) -> Prompt:
    """Return a prompt in which nodes that no installed pack provides are nodes of ours.

    Links stay as they are: an output that has a counterpart has it in the same place.
    """
    absent = {
        key: known[node["class_type"]]
        for key, node in prompt.items()
        if _is_node(node) and node["class_type"] in known and node["class_type"] not in installed
    }
    if not absent:
        return prompt
    told = ", ".join(sorted({f"{one.old} as {one.new}" for one in absent.values()}))
    log.info("Janus: nodes of packs that are not installed run as ours: %s.", told)
    return {key: absent[key].rewrite(node) if key in absent else node for key, node in prompt.items()}


def _is_node(node: Any) -> bool:
    return (
        isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
    )
