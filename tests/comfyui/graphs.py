"""Prompts in the API format, put together node by node with the defaults of every widget."""

from typing import Any

Link = list[Any]

_TEXT = {"seed": 0, "temperature": 0.0, "top_k": 0, "top_p": 0.95, "max_new_tokens": 16}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "JanusLoad": {"model": "janus-tiny", "dtype": "float32", "residency": "auto"},
    "JanusLoRA": {"strength": 1.0},
    "JanusCaption": {"style": "short", "question": "", "prefix": "", "suffix": "", **_TEXT},
    "JanusCaptionFolder": {
        "style": "short",
        "question": "",
        "prefix": "",
        "suffix": "",
        "existing": "skip",
        "one_line": False,
        "recursive": False,
        **_TEXT,
    },
    "JanusSaveCaptions": {"filename_prefix": "janus/caption"},
    "JanusAsk": {"question": "What is this?", "ask_each": False, **_TEXT},
    "JanusDraw": {
        "prompt": "a red circle",
        "negative_prompt": "",
        "seed": 0,
        "batch_size": 1,
        "cfg_weight": 0.0,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": -1.0,
        "keep_best": 0,
    },
    "JanusRedraw": {
        "prompt": "a red circle",
        "negative_prompt": "",
        "seed": 0,
        "batch_size": 1,
        "strength": 1.0,
        "candidates": 1,
        "fit": "crop",
        "keep_original": True,
    },
    "JanusScore": {"prompt": "a red circle"},
    "JanusChoose": {"question": "Which?", "choices": "red\na blue house\ngreen"},
    "JanusEncodeImage": {"fit": "crop"},
    "JanusDecodeTokens": {},
    "JanusSavePictures": {"filename_prefix": "janus/picture"},
    "JanusSaveTokens": {"filename_prefix": "janus/tokens"},
    "JanusLoadTokens": {},
    "SaveImage": {"filename_prefix": "test"},
}


class Graph(dict[str, Any]):
    """A prompt; `add` returns the new node's id, `link` an output of it."""

    def add(self, kind: str, /, **inputs: Any) -> str:
        node = str(len(self) + 1)
        self[node] = {"class_type": kind, "inputs": {**_DEFAULTS.get(kind, {}), **inputs}}
        return node

    def load(self, **inputs: Any) -> Link:
        return [self.add("JanusLoad", **inputs), 0]

    def picture(self, name: str) -> Link:
        """Return the picture of a file in the input folder."""
        return [self.add("LoadImage", image=name), 0]

    def made(self, kind: str, count: int = 1, height: int = 64, width: int = 64) -> Link:
        """Return pictures computed by the test pack; `kind` may be one that no node should accept."""
        return [self.add("JanusTestPicture", kind=kind, count=count, height=height, width=width), 0]

    def text(self, value: str) -> Link:
        """Return a text that arrives along a link and so escapes core's check of choices."""
        return [self.add("JanusTestText", value=value), 0]

    def saved(self, images: Link) -> str:
        return self.add("SaveImage", images=images)
