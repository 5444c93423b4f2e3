"""Templates that draw and redraw with the bundled model, right after install."""

from __future__ import annotations

from .graph import Link, Node, Template
from .parts import ENLARGED, LARGE, SHAPES, caption, draw, enlarge, load, mask_on_the_right, show

_HARD = "a green star left of a purple cross"
_NEWER = "It needs ComfyUI 0.8.0 or newer: 0.3.64 has no **Switch** yet."
_MANY = "three green triangles"  # hardly half of such drawings are right


def _choose(question: str, node: str, choices: str) -> Node:
    given = {"model": Link("load", "janus"), "image": Link(node, "images")}
    return Node(kind="JanusChoose", inputs={**given, "question": question, "choices": choices}, width=360)


def _is(answer: str) -> Node:
    given = {"string_a": Link("choose", "text"), "string_b": answer, "mode": "Equal"}
    return Node(kind="StringCompare", inputs=given, title=f"Is it {answer}?")


def _switch(condition: str, *, yes: Link, no: Link) -> Node:
    given = {"switch": Link(condition, "BOOLEAN"), "on_true": yes, "on_false": no}
    return Node(kind="ComfySwitchNode", inputs=given)


def _outpainting() -> Template:
    window = {"width": 64, "height": 64, "x": 32, "y": 0}
    return Template(
        note="""
            **Outpaint with Janus, beyond the edge**

            The picture is widened, the model's square window is moved to the right, and what is
            empty in it is drawn. The left part of the picture is put back beside it.

            The wider the picture already is, the farther the window moves: repeat it for a panorama.
        """,
        columns=[
            ["load"],
            [260, "draw"],
            [130, "wider", 330, "left", "before"],
            [130, "window", "empty", 480, "shown"],
            ["redraw"],
            [600, "joined"],
            [600, "large"],
            [600, "show"],
        ],
        nodes={
            "load": load(),
            "draw": draw("a blue square left of a red circle", seed=2, title="A picture to widen"),
            "wider": Node(
                kind="ImagePadForOutpaint",
                inputs={"image": Link("draw", "images"), "left": 0, "right": 32, "feathering": 0},
            ),
            "left": Node(
                kind="ImageCrop",
                inputs={"image": Link("draw", "images"), "width": 32, "height": 64, "x": 0, "y": 0},
                title="The left part",
            ),
            "before": enlarge("draw"),
            "shown": show("before", title="Before"),
            "window": Node(
                kind="ImageCrop",
                inputs={"image": Link("wider", "IMAGE"), **window},
                title="The model's window",
            ),
            "empty": Node(kind="CropMask", inputs={"mask": Link("wider", "MASK"), **window}),
            "redraw": Node(
                kind="JanusRedraw",
                inputs={
                    "model": Link("load", "janus"),
                    "image": Link("window", "IMAGE"),
                    "mask": Link("empty", "MASK"),
                    "prompt": "a red circle left of a green triangle",
                    "seed": 3,
                },
                width=360,
            ),
            "joined": Node(
                kind="ImageStitch",
                inputs={
                    "image1": Link("left", "IMAGE"),
                    "image2": Link("redraw", "images"),
                    "direction": "right",
                    "match_image_size": False,
                },
            ),
            "large": enlarge("joined", "IMAGE"),
            "show": show("large", title="After"),
        },
    )


DRAWING = {
    "Draw four pictures with Janus": Template(
        note=f"""
            **Draw four pictures with Janus**

            Picture *k* of the batch is the first picture of *seed + k*. *cfg_weight* 0 is
            what the model recommends.

            {SHAPES} For everything else choose *{LARGE}* in **Load Janus**. {ENLARGED}
        """,
        columns=[["load"], ["draw"], ["large"], ["show"]],
        nodes={
            "load": load(),
            "draw": draw("a red circle above a blue square", batch_size=4),
            "large": enlarge("draw"),
            "show": show("large"),
        },
    ),
    "Inpaint with Janus, redraw by mask": Template(
        note=f"""
            **Inpaint with Janus, redraw by mask**

            The prompt says what the *whole* picture shows. Cells of the model's grid that the
            mask touches are drawn anew and see all that stays.

            For your own picture put **Load Image** in place of **Janus Draw**, paint its mask
            in the mask editor, and choose *{LARGE}* in **Load Janus**. {SHAPES}
        """,
        columns=[
            ["load", "kept", "part"],
            [130, "draw", "mask"],
            ["redraw", "before"],
            ["large"],
            ["show", "shown"],
        ],
        nodes={
            "load": load(),
            **mask_on_the_right(),
            "draw": draw("a purple square left of an orange circle", seed=2, title="A picture to change"),
            "redraw": Node(
                kind="JanusRedraw",
                inputs={
                    "model": Link("load", "janus"),
                    "image": Link("draw", "images"),
                    "mask": Link("mask", "MASK"),
                    "prompt": "a purple square left of a green triangle",
                    "seed": 2,
                },
                width=360,
            ),
            "large": enlarge("redraw"),
            "show": show("large", title="After"),
            "before": enlarge("draw"),
            "shown": show("before", title="Before"),
        },
    ),
    "Outpaint with Janus, beyond the edge": _outpainting(),
    "Caption, then draw from the caption with Janus": Template(
        note=f"""
            **Caption, then draw from the caption with Janus**

            The caption of the first picture is the prompt of the second. What is lost on the
            way, the model did not say.

            {SHAPES}
        """,
        columns=[
            ["load"],
            [260, "draw"],
            [130, "caption", "before"],
            ["again", "shown"],
            ["large"],
            ["show"],
        ],
        nodes={
            "load": load(),
            "draw": draw("a blue triangle left of a yellow cross", title="A picture to describe"),
            "caption": caption(Link("draw", "images"), style="short"),
            "before": enlarge("draw"),
            "shown": show("before", title="Before"),
            "again": Node(
                kind="JanusDraw",
                inputs={"model": Link("load", "janus"), "prompt": Link("caption", "text"), "seed": 5},
                title="Draw what the caption says",
                width=360,
            ),
            "large": enlarge("again"),
            "show": show("large", title="After"),
        },
    ),
    "Encode, change, decode Janus image tokens": Template(
        note="""
            **Encode, change, decode Janus image tokens**

            A picture becomes the tokens that Janus draws with, a part of them is drawn anew,
            and all become a picture. **Save Janus Tokens** keeps them in the output folder.
        """,
        columns=[
            ["load"],
            [390, "draw", "kept", "part"],
            [260, "encode", "mask", "before"],
            [130, "redraw", "shown"],
            ["decode", "save"],
            ["large"],
            ["show"],
        ],
        nodes={
            "load": load(),
            **mask_on_the_right(),
            "draw": draw("a purple square left of an orange circle", seed=2, title="A picture to change"),
            "encode": Node(
                kind="JanusEncodeImage",
                inputs={"model": Link("load", "janus"), "image": Link("draw", "images")},
            ),
            "before": enlarge("draw"),
            "shown": show("before", title="Before"),
            "redraw": Node(
                kind="JanusRedraw",
                inputs={
                    "model": Link("load", "janus"),
                    "image_tokens": Link("encode", "tokens"),
                    "mask": Link("mask", "MASK"),
                    "prompt": "a purple square left of a red triangle",
                    "seed": 5,
                },
                width=360,
            ),
            "decode": Node(
                kind="JanusDecodeTokens",
                inputs={"model": Link("load", "janus"), "image_tokens": Link("redraw", "tokens")},
            ),
            "save": Node(kind="JanusSaveTokens", inputs={"image_tokens": Link("redraw", "tokens")}),
            "large": enlarge("decode"),
            "show": show("large", title="After"),
        },
    ),
    "Draw eight with Janus, keep the best two": Template(
        note=f"""
            **Draw eight with Janus, keep the best two**

            Eight pictures are drawn, and the same model looks at each and is asked whether it shows the
            prompt. The two with the surest yes go on. *keep_best* of **Janus Draw** is the quicker way: it
            gives up poor ones while they are drawn.

            {SHAPES}
        """,
        columns=[["load"], [130, "draw"], ["score"], ["large"], ["show"]],
        nodes={
            "load": load(),
            "draw": draw(_MANY, batch_size=8),
            "score": Node(
                kind="JanusScore",
                inputs={
                    "model": Link("load", "janus"),
                    "image": Link("draw", "images"),
                    "prompt": _MANY,
                    "keep_best": 2,
                },
                width=360,
            ),
            "large": enlarge("score"),
            "show": show("large", title="The best two"),
        },
    ),
    "Check a Janus drawing, draw again": Template(
        note=f"""
            **Check a Janus drawing, draw again**

            The model looks at what it drew. Only where the answer is No is a second picture drawn, with
            another seed: a switch asks for nothing that it does not need.

            {SHAPES} {_NEWER}
        """,
        columns=[
            ["load"],
            [600, "first", "second"],
            ["choose"],
            ["is_right"],
            [600, "switch"],
            ["large"],
            ["show"],
        ],
        nodes={
            "load": load(),
            "first": draw(_HARD, title="First try"),
            "second": draw(_HARD, seed=2, title="Second try, if need be"),
            "choose": _choose(f"Is there {_HARD}?", "first", "Yes\nNo"),
            "is_right": _is("Yes"),
            "switch": _switch("is_right", yes=Link("first", "images"), no=Link("second", "images")),
            "large": enlarge("switch", "output"),
            "show": show("large"),
        },
    ),
    "Switch by what Janus sees": Template(
        note=f"""
            **Switch by what Janus sees**

            **Janus Choose** answers with one of the lines given and nothing else, so that its answer can
            drive a switch: here the prompt of the next drawing.

            {SHAPES} {_NEWER}
        """,
        columns=[
            ["load"],
            [390, "draw"],
            [260, "choose", "before"],
            [130, "is_right", "yes", "no", "shown"],
            [130, "switch"],
            ["again"],
            ["large"],
            ["show"],
        ],
        nodes={
            "load": load(),
            "draw": draw("a red circle", title="A picture to choose by"),
            "choose": _choose("What colour is the circle?", "draw", "Red\nBlue"),
            "before": enlarge("draw"),
            "shown": show("before", title="Before"),
            "is_right": _is("Red"),
            "yes": Node(kind="PrimitiveString", inputs={"value": "a red square"}, title="If red"),
            "no": Node(kind="PrimitiveString", inputs={"value": "a blue square"}, title="If blue"),
            "switch": _switch("is_right", yes=Link("yes", "STRING"), no=Link("no", "STRING")),
            "again": Node(
                kind="JanusDraw",
                inputs={"model": Link("load", "janus"), "prompt": Link("switch", "output"), "seed": 6},
                title="Draw what was switched to",
                width=360,
            ),
            "large": enlarge("again"),
            "show": show("large", title="After"),
        },
    ),
}
