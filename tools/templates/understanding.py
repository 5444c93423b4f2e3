"""Templates that caption, ask and chat."""

from __future__ import annotations

from .graph import Link, Node, Template
from .parts import LARGE, SHAPES, ask, caption, draw, enlarge, load, show, text

UNDERSTANDING = {
    "Caption a picture with Janus": Template(
        note=f"""
            **Caption a picture with Janus**

            The caption appears on the node while it is written and goes on as text to any
            other node. A batch gives a list, one caption per picture.

            {SHAPES} For your own pictures open *Describe my picture*.
        """,
        columns=[["load"], [130, "draw"], ["caption", "large"], ["text", "show"]],
        nodes={
            "load": load(),
            "draw": draw("a green star left of a pink cross", title="A picture to describe"),
            "caption": caption(Link("draw", "images"), style="short"),
            "large": enlarge("draw"),
            "text": text("caption", "text"),
            "show": show("large"),
        },
    ),
    "Describe my picture (needs Janus-Pro-1B)": Template(
        note=f"""
            **Describe my picture**

            Choose your picture in **Load Image**. *{LARGE}* (4.2 GB) is downloaded on the
            first run, unless it is in `models/janus` already; *Janus-Pro-7B* describes better
            and needs 16 GB.

            {SHAPES} It cannot describe a photograph.
        """,
        columns=[["load", "picture"], ["caption"], ["text"]],
        nodes={
            "load": load(LARGE),
            "picture": Node(kind="LoadImage", inputs={"image": "example.png"}),
            "caption": caption(Link("picture", "IMAGE"), style="detailed"),
            "text": text("caption", "text"),
        },
    ),
    "Ask Janus about two pictures": Template(
        note="""
            **Ask Janus about two pictures**

            Up to four picture inputs, each a single picture or a batch, may differ in size.
            *one answer each* asks the question once per picture of the first input.

            Connect *chat* to another **Janus Ask** to go on with the conversation.
        """,
        columns=[["load"], [130, "first", "second"], ["ask", "large", "large_2"], ["text", "show", "show_2"]],
        nodes={
            "load": load(),
            "first": draw("a red circle", title="First picture"),
            "second": draw("a blue square", seed=2, title="Second picture"),
            "ask": ask(
                "What is in the second picture?", Link("first", "images"), image_2=Link("second", "images")
            ),
            "large": enlarge("first"),
            "large_2": enlarge("second"),
            "text": text("ask", "text"),
            "show": show("large"),
            "show_2": show("large_2"),
        },
    ),
    "Chat with Janus in two turns": Template(
        note=f"""
            **Chat with Janus in two turns**

            The second question goes on with the conversation of the first: it needs no
            picture of its own.

            {SHAPES}
        """,
        columns=[["load"], [260, "draw"], [130, "first", "large"], ["second", "text", "show"], ["text_2"]],
        nodes={
            "load": load(),
            "draw": draw("a green triangle above an orange square", title="A picture to talk about"),
            "first": ask("What is in the picture?", Link("draw", "images"), title="First question"),
            "second": ask(
                "How many objects are there?", None, title="Second question", chat=Link("first", "chat")
            ),
            "large": enlarge("draw"),
            "show": show("large"),
            "text": text("first", "text", title="First answer"),
            "text_2": text("second", "text", title="Second answer"),
        },
    ),
    "Caption a batch with Janus, save pairs": Template(
        note=f"""
            **Caption a batch with Janus, save pairs**

            Every picture is saved as a PNG with its caption in a text file of the same name, as trainers read
            them, in `output/janus`. Files that are there are never overwritten.

            {SHAPES}
        """,
        columns=[["load"], [750, "draw"], ["caption"], [750, "save"]],
        nodes={
            "load": load(),
            "draw": draw("a blue square above a yellow star", batch_size=4, title="Pictures to caption"),
            "caption": caption(Link("draw", "images"), style="short"),
            "save": Node(
                kind="JanusSaveCaptions",
                inputs={"images": Link("draw", "images"), "texts": Link("caption", "text")},
            ),
        },
    ),
    "Caption a folder (needs Janus-Pro-1B)": Template(
        note=f"""
            **Caption a folder**

            Put your pictures into a folder of ComfyUI's `input`, here `input/photos`. A text file appears
            beside each; Cancel keeps what is done, and Run goes on.

            *{LARGE}* (4.2 GB) is downloaded on the first run. With nodes of core alone: *Load Image Dataset
            from Folder*, **Janus Caption**, *Save Image and Text Dataset to Folder*.

            {SHAPES} It cannot caption photographs.
        """,
        columns=[["load"], ["folder"], ["text"]],
        nodes={
            "load": load(LARGE),
            "folder": Node(
                kind="JanusCaptionFolder",
                inputs={"model": Link("load", "janus"), "folder": "photos", "style": "detailed"},
                width=360,
            ),
            "text": text("folder", "counts"),
        },
    ),
}
