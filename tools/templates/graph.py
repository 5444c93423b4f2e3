"""A template written briefly, turned into the file that the page opens and the prompt that the page sends.

It knows how the page lays out a node's values and nothing of what a template is for. Nodes are described by
`object_info` of a running ComfyUI, so that their inputs are never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Schemas = Mapping[str, Mapping[str, Any]]
"""Nodes by their id, as a ComfyUI answers to `/object_info`."""

BUNDLED = "janus-shapes"
"""The model that comes with the pack."""

_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_NOTE = "MarkdownNote"  # known to the page alone
_ABOVE, _BELOW, _BESIDE = 30, 45, 80  # a node's title; free room below and beside a node
_PREVIEW, _GROWS = 140, ("JanusDraw", "JanusRedraw")  # what previews and a remark add to a node while it runs
_SLOT, _WIDGET, _TEXT = 20, 24, 110  # heights of a row, in pixels of the page
_MARGIN = 20
_PICTURE = 330  # added where the page shows pictures on a node
_SHOWS_PICTURES = ("PreviewImage", "SaveImage", "LoadImage")
_SHOWS_TEXT = ("PreviewAny", "JanusLoad", "JanusCaption", "JanusAsk", "JanusChoose", "JanusScore")


@dataclass(frozen=True)
class Link:
    """What an input is connected to: a node of the template, and the name of its output."""

    node: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a template.

    Attributes:
        kind: its id.
        inputs: values and links by the inputs' names; what is absent has its default.
        title: shown instead of the node's own.
        width: in pixels of the page.
        files: name and address of files that the page offers to download, with their folder.
    """

    kind: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    width: int = 320
    files: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Template:
    """A workflow that people open.

    Attributes:
        note: what it does and what to change, in Markdown; the lines of a paragraph are joined.
        columns: names of nodes from left to right, from top to bottom; a number is free height in pixels.
        nodes: by name.
    """

    note: str
    columns: Sequence[Sequence[str | int]]
    nodes: Mapping[str, Node]

    def runs_as_installed(self) -> bool:
        """Return True if it needs the bundled model and nothing else."""
        loaded = {node.inputs["model"] for node in self.nodes.values() if node.kind == "JanusLoad"}
        return loaded == {BUNDLED} and not any(node.files for node in self.nodes.values())


@dataclass(frozen=True)
class _Value:
    """One slot of a node's values: the input it belongs to, unless it is the page's own."""

    name: str | None
    value: Any
    link: Link | None = None


def page_file(template: Template, schemas: Schemas) -> dict[str, Any]:
    """Return what the page opens."""
    numbers = _numbers(template)
    links: list[list[Any]] = []
    nodes = [_page_node(template, name, numbers, schemas) for name in template.nodes]
    by_name = dict(zip(template.nodes, nodes, strict=True))
    for name, node in by_name.items():
        given = template.nodes[name].inputs
        for slot, socket in enumerate(node["inputs"]):
            link = given.get(socket["name"])
            if not isinstance(link, Link):
                continue
            source = by_name[link.node]
            at = _output_number(template.nodes[link.node].kind, link.output, schemas)
            links.append([len(links) + 1, source["id"], at, node["id"], slot, source["outputs"][at]["type"]])
            socket["link"] = len(links)
            source["outputs"][at]["links"].append(len(links))
    note = _note(template, numbers)
    _arrange(template, by_name, note)
    nodes.append(note)
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 0.8, "offset": [140, 180]}},
        "version": 0.4,
    }


def prompt(template: Template, schemas: Schemas) -> dict[str, Any]:
    """Return what the page sends when Run is pressed, without titles."""
    numbers = _numbers(template)
    sent: dict[str, Any] = {}
    for name, node in template.nodes.items():
        values = {one.name: one.value for one in _values(node, schemas) if one.name and not one.link}
        linked = {
            key: [
                str(numbers[link.node]),
                _output_number(template.nodes[link.node].kind, link.output, schemas),
            ]
            for key, link in node.inputs.items()
            if isinstance(link, Link)
        }
        sent[str(numbers[name])] = {"class_type": node.kind, "inputs": values | linked}
    return sent


def _numbers(template: Template) -> dict[str, int]:
    return {name: number for number, name in enumerate(template.nodes, start=1)}


def _inputs(kind: str, schemas: Schemas) -> list[tuple[str, Any, Mapping[str, Any]]]:
    """Return name, type and options of a node's inputs in the page's order: required ones first."""
    wanted = schemas[kind]["input"]
    return [
        (name, spec[0], spec[1] if len(spec) > 1 else {})
        for part in ("required", "optional")
        for name, spec in wanted.get(part, {}).items()
    ]


def _values(node: Node, schemas: Schemas) -> list[_Value]:
    """Return a node's values as the page keeps them: by place, with a slot of its own behind a seed."""
    values: list[_Value] = []
    known = [name for name, _, _ in _inputs(node.kind, schemas)]
    unknown = set(node.inputs) - set(known)
    if unknown:
        raise ValueError(f"{node.kind} has no input {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    for name, kind, options in _inputs(node.kind, schemas):
        if not _is_widget(kind, options):
            continue
        choices = kind if isinstance(kind, list) else options.get("options")
        default = options.get("default", choices[0] if choices else "")
        given = node.inputs.get(name, default)
        link = given if isinstance(given, Link) else None
        values.append(_Value(name, default if link else given, link))
        if options.get("control_after_generate"):
            values.append(_Value(None, "fixed"))
        if options.get("image_upload"):
            values.append(_Value(None, "image"))
    return values


def _is_widget(kind: Any, options: Mapping[str, Any]) -> bool:
    return (isinstance(kind, list) or kind in _WIDGETS) and not options.get("forceInput")


def _output_number(kind: str, output: str, schemas: Schemas) -> int:
    names = schemas[kind]["output_name"]
    if output not in names:
        raise ValueError(f"{kind} has no output {output!r}; it has {', '.join(names)}")
    return int(names.index(output))


def _page_node(template: Template, name: str, numbers: Mapping[str, int], schemas: Schemas) -> dict[str, Any]:
    node = template.nodes[name]
    schema = schemas[node.kind]
    sockets = []
    for key, kind, options in _inputs(node.kind, schemas):
        is_widget = _is_widget(kind, options)
        if not is_widget:
            sockets.append({"name": key, "type": kind, "link": None})
        elif isinstance(node.inputs.get(key), Link):
            typed = "COMBO" if isinstance(kind, list) else kind
            sockets.append({"name": key, "type": typed, "widget": {"name": key}, "link": None})
    outputs = [
        {"name": key, "type": kind, "links": []}
        for key, kind in zip(schema["output_name"], schema["output"], strict=True)
    ]
    is_ours = node.kind.startswith("Janus")
    properties: dict[str, Any] = {
        "Node name for S&R": node.kind,
        "cnr_id": "janus-nodes" if is_ours else "comfy-core",
        "ver": "0.1.0" if is_ours else "0.33.0",
    }
    if node.files:
        properties["models"] = [dict(file) for file in node.files]
    made = {
        "id": numbers[name],
        "type": node.kind,
        "pos": [0, 0],
        "size": [node.width, _height(node, len(sockets), len(outputs), schemas)],
        "flags": {},
        "order": numbers[name] - 1,
        "mode": 0,
        "inputs": sockets,
        "outputs": outputs,
        "properties": properties,
        "widgets_values": [one.value for one in _values(node, schemas)],
    }
    return made | ({"title": node.title} if node.title else {})


def _height(node: Node, sockets: int, outputs: int, schemas: Schemas) -> int:
    widgets = [
        _TEXT if options.get("multiline") else _WIDGET
        for _, kind, options in _inputs(node.kind, schemas)
        if _is_widget(kind, options)
    ]
    of_the_page = len(_values(node, schemas)) - len(widgets)
    shown = _PICTURE if node.kind in _SHOWS_PICTURES else _TEXT if node.kind in _SHOWS_TEXT else 0
    rows = max(sockets, outputs) * _SLOT + sum(widgets) + of_the_page * _WIDGET
    return _MARGIN + rows + shown


def _note(template: Template, numbers: Mapping[str, int]) -> dict[str, Any]:
    paragraphs = [" ".join(paragraph.split()) for paragraph in template.note.split("\n\n")]
    lines = sum(2 + len(paragraph) // 40 for paragraph in paragraphs)
    return {
        "id": len(numbers) + 1,
        "type": _NOTE,
        "pos": [0, 0],
        "size": [320, 50 + 22 * lines],
        "flags": {},
        "order": len(numbers),
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": ["\n\n".join(paragraphs)],
    }


def _arrange(template: Template, nodes: Mapping[str, dict[str, Any]], note: dict[str, Any]) -> None:
    """Give every node its place. The nodes of a column are equally wide, so that links leave it freely."""
    x = 0
    for number, column in enumerate(template.columns):
        placed: list[dict[str, Any] | int] = [
            each if isinstance(each, int) else nodes[each] for each in column
        ]
        if number == 0:
            placed.append(note)
        width = max(each["size"][0] for each in placed if not isinstance(each, int))
        y = 0
        for each in placed:
            if isinstance(each, int):
                y += each
                continue
            each["pos"] = [x, y]
            each["size"][0] = width
            y += each["size"][1] + _ABOVE + _BELOW + (_PREVIEW if each["type"] in _GROWS else 0)
        x += width + _BESIDE
