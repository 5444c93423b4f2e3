"""The gallery, from the descriptions of the templates: `python -m tools.gallery` writes docs/gallery.md.

Its pictures are the templates' thumbnails, which `make templates` makes anew from what the templates give.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from .templates.drawing import DRAWING
from .templates.graph import Template
from .templates.other_models import OTHER_MODELS
from .templates.understanding import UNDERSTANDING

PAGE = Path(__file__).parents[1] / "docs" / "gallery.md"
_INTRODUCTION = """# Gallery

What each template gives, as it comes: nothing was chosen, and the seed is in the template. Those of
`janus-shapes` run as they are; the others name the model that they need, and show what they do in words until
you have it. In ComfyUI a search for `janus` in the template browser finds them; its list has them last, under
*janus-nodes*.

Those of `janus-shapes` were run over the API on ComfyUI 0.33.0, 0.8.0 and 0.3.64, and what the others send
was held against the nodes of these releases. All work, but for the two with a **Switch** on 0.3.64, which has
no such node yet: *Check a Janus drawing, draw again* and *Switch by what Janus sees*.

Pictures and page are made anew by one command, `make templates` with a running ComfyUI.
"""
_MINIATURE = """## What the miniature draws

The first drawings of each kind that its evaluation makes, right and wrong ones alike: first combinations that
training never showed. `janus-train evaluate janus-shapes --out out/evaluation` makes the sheet anew, as
`evaluation.png`; figures are on the [model's card](../janus_core/bundled/janus-shapes/README.md).

![Drawings of janus-shapes, each with its prompt](janus-shapes.png)
"""
_THEMES = {"Seeing": UNDERSTANDING, "Drawing": DRAWING, "With other models": OTHER_MODELS}


def _entry(name: str, template: Template) -> str:
    file = f"../workflows/{quote(name)}"
    _, *paragraphs = (" ".join(part.split()) for part in template.note.split("\n\n"))
    words = paragraphs[0].replace("|", "\\|")
    return f"### {name}\n\n{words}\n\n[![{name}]({file}.jpg)]({file}.json)\n"


def page() -> str:
    """Return the page: a heading for each theme, and for each template its words, picture and file."""
    parts = [_INTRODUCTION]
    for theme, templates in _THEMES.items():
        parts.append(f"## {theme}\n")
        parts += [_entry(name, template) for name, template in templates.items()]
    return "\n".join([*parts, _MINIATURE])


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
