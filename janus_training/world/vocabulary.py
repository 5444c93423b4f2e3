"""The words of the world and what they look like: shapes, colours, sizes, relations, places and grounds.

Data only. Colours are 8-bit RGB, chosen so that any two object colours, and any object and any ground, lie at
least 90 apart: no object hides in its ground, and a detector that goes by the nearest colour stays right
under noise.
"""

from __future__ import annotations

from typing import Literal, get_args

RGB = tuple[int, int, int]
Shape = Literal["circle", "square", "triangle", "diamond", "star", "cross"]
Colour = Literal["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"]
Size = Literal["small", "medium", "large"]
GroundColour = Literal["white", "grey", "black", "beige"]
Texture = Literal["plain", "striped", "dotted", "checked"]
Relation = Literal["left of", "right of", "above", "below", "inside"]
Place = Literal[
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"
]
Kind = Literal["single", "pair", "count", "mixed"]
Split = Literal["train", "test"]
Style = Literal["short", "detailed", "tags", "text"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)
GROUND_COLOURS: tuple[GroundColour, ...] = get_args(GroundColour)
TEXTURES: tuple[Texture, ...] = get_args(Texture)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
PLACES: tuple[Place, ...] = get_args(Place)
KINDS: tuple[Kind, ...] = get_args(Kind)
STYLES: tuple[Style, ...] = get_args(Style)

COLOUR_RGB: dict[Colour, RGB] = {
    "red": (215, 35, 35),
    "orange": (250, 135, 20),
    "yellow": (250, 225, 50),
    "green": (35, 160, 60),
    "cyan": (50, 205, 225),
    "blue": (40, 75, 215),
    "purple": (130, 40, 165),
    "pink": (250, 100, 180),
}
GROUND_RGB: dict[GroundColour, RGB] = {
    "white": (245, 245, 240),
    "grey": (160, 162, 165),
    "black": (25, 25, 28),
    "beige": (225, 205, 165),
}

# Radius over the picture's side: about 9, 11 and 15 pixels of 64; below that a small model blurs shapes.
RADIUS: dict[Size, float] = {"small": 0.135, "medium": 0.172, "large": 0.23}
OUTER_RADIUS = 0.33
"""Of a thing that holds another one."""

OPPOSITE: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
"""The relation seen from the other object; "inside" has no counterpart among the five."""

PLURAL: dict[Shape, str] = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
NUMBER_WORDS: tuple[str, ...] = ("zero", "one", "two", "three", "four")
PLACE_PHRASE: dict[Place, str] = {
    "top left": "at the top left",
    "top": "at the top",
    "top right": "at the top right",
    "left": "on the left",
    "centre": "in the centre",
    "right": "on the right",
    "bottom left": "at the bottom left",
    "bottom": "at the bottom",
    "bottom right": "at the bottom right",
}

RELATION_WORDINGS: dict[Relation, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
    "inside": ("inside", "within", "inside of", "in"),
}
SIZE_WORDINGS: dict[Size, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "big", "huge"),
}
"""The first wording of each is canonical; prompts and the parser know the others too."""
