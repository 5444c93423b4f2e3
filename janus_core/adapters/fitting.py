"""Bring the tensors of an adapter to their places in a model, and refuse what does not fit.

What belongs nowhere is an error, since an adapter that is used in part gives results that nobody trained.
Reads no files.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checkpoints.names import POSITIONS
from ..checkpoints.wrappers import bare_name
from ..errors import CheckpointError
from .adapter_names import places_for
from .adapter_settings import AdapterSettings, refused
from .changes import Change, LowRank, Place, Whole

log = logging.getLogger("janus.adapters")

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_NAMED = 3  # tensors that a message lists
_MOST = 120  # characters of a name in it

# The middle may be the adapter's own name, "default".
_FACTOR = re.compile(
    r"(?P<module>.+?)\.(?P<part>lora_embedding_A|lora_embedding_B|lora_A|lora_B|lora[_.]down|lora[_.]up)"
    r"(?:\.(?!weight$|bias$)(?P<adapter>[^.]+))?(?:\.(?P<parameter>weight|bias))?"
)
_KEPT = re.compile(r"\.modules_to_save(\.default)?(?=\.)")  # PEFT's word for layers stored whole
_ALPHA = ".alpha"
_DOWN, _UP = ("lora_A", "lora_down", "lora.down"), ("lora_B", "lora_up", "lora.up")
_OTHER_KINDS = {
    "lora_magnitude_vector": "weight-decomposed (DoRA)",
    "dora_scale": "weight-decomposed (DoRA)",
    "hada_w": "a LoHa",
    "lokr_w": "a LoKr",
    "oft_": "an OFT",
    "ia3_": "an IA3",
    "lora_mid": "a LoCon with a third factor",
    "vera_lambda": "a VeRA",
}
_WORDS = "embed_tokens.weight"  # which no adapter holds without factors
_VQ_TOKENIZER = re.compile(r"(^|\.)(gen_vision_model|vqmodel)\.")


@dataclass(kw_only=True)
class _Module:
    """What an adapter holds for one layer of the model."""

    down: Tensor | None = None  # (r, in)
    up: Tensor | None = None  # (out, r)
    bias: Tensor | None = None  # (out,), added with the product
    alpha: float | None = None


@dataclass(kw_only=True)
class _Content:
    """An adapter's tensors by what they are."""

    modules: dict[str, _Module] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)


def fit(
    tensors: Mapping[str, Tensor],
    settings: AdapterSettings,
    shapes: Mapping[str, torch.Size],
    name: str,
    model_name: str,
) -> tuple[Change, ...]:
    """Return what an adapter's tensors do to a model.

    Args:
        tensors: as stored, by their published names.
        settings: of the adapter.
        shapes: of all tensors of the model, by our names.
        name: of the adapter, for messages.
        model_name: likewise.

    Raises:
        CheckpointError: it is of another kind, damaged, or made for another model.
    """
    _refuse_a_model(tensors, name)
    _check_tensors(tensors, name)
    content = _sorted_out(tensors, name)
    places = places_for(shapes)
    changes: list[Change] = []
    foreign: list[str] = []
    taken: set[Place] = set()
    for module, found in content.modules.items():
        place = places.get(bare_name(f"{module}.weight"))
        if place is None:
            foreign.append(module)
            continue
        if place in taken:
            raise CheckpointError(
                f'The adapter "{name}" changes "{module:.{_MOST}}" twice, under different prefixes. Save '
                "it again, or fetch it from where it was published."
            )
        taken.add(place)
        product = _low_rank(module, found, place, settings, (name, model_name))
        changes.append(product)
        if found.bias is not None:
            where = places.get(bare_name(f"{module}.bias"))
            if where is None:
                raise refused(
                    name, f'one that gives "{module:.{_MOST}}" a bias, which the model has not (lora_bias)'
                )
            value = found.bias.float() * product.scale
            changes.append(_whole(f"{module}.bias", value, where, (name, model_name), is_added=True))
    for key, tensor in content.whole.items():
        place = places.get(bare_name(key))
        if place is None:
            foreign.append(key)
        else:
            changes.append(_whole(key, tensor, place, (name, model_name)))
    _refuse_foreign(foreign, len(content.modules) + len(content.whole), settings.base, (name, model_name))
    if settings.alpha is None and any(found.alpha is None for found in content.modules.values()):
        log.warning(
            'Janus: nothing says the scale of the adapter "%s" (lora_alpha), so it is taken as 1. Put its '
            "adapter_config.json beside it if there is one.",
            name,
        )
    return tuple(changes)


def _refuse_a_model(tensors: Mapping[str, Tensor], name: str) -> None:
    if any(key.endswith(_WORDS) for key in tensors) and not any(map(_FACTOR.fullmatch, tensors)):
        raise CheckpointError(
            f'"{name}" is a whole model and no adapter. Choose it as the model, or make an adapter of what '
            "it has learnt with janus extract-lora."
        )


def _check_tensors(tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuse other kinds of adapters and values that cannot be computed with."""
    for key, tensor in tensors.items():
        kind = next((what for mark, what in _OTHER_KINDS.items() if f".{mark}" in f".{key}"), None)
        if kind:
            raise refused(name, kind)
        if _VQ_TOKENIZER.search(key):  # image tokens would mean other colours than other models' do
            raise refused(name, "one that changes the VQ tokenizer")
        if tensor.dtype not in _DTYPES and not _is_number(key, tensor):
            raise CheckpointError(
                f'The adapter "{name}" stores "{key:.{_MOST}}" as {tensor.dtype}. Quantised adapters are not '
                "supported: use one in float32, bfloat16 or float16."
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f'The adapter "{name}" holds values in "{key:.{_MOST}}" that are no finite numbers. Its '
                "training failed, or the file is damaged: fetch it again."
            )


def _is_number(key: str, tensor: Tensor) -> bool:
    """Tell whether a tensor is an alpha, which some tools store as a whole number."""
    return key.endswith(_ALPHA) and tensor.numel() == 1 and not tensor.is_complex()


def _sorted_out(tensors: Mapping[str, Tensor], name: str) -> _Content:
    """Return an adapter's tensors by the layer they belong to."""
    content, adapters = _Content(), set[str | None]()
    for key, tensor in tensors.items():
        found = _FACTOR.fullmatch(key)
        if found:
            adapters.add(found["adapter"])
            module = content.modules.setdefault(found["module"], _Module())
            _put(module, found["part"], found["parameter"] == "bias", tensor)
        elif key.endswith(_ALPHA) and tensor.numel() == 1:
            content.modules.setdefault(key.removesuffix(_ALPHA), _Module()).alpha = float(tensor.item())
        else:
            content.whole[_KEPT.sub("", key)] = tensor
    if len(adapters) > 1:
        names = ", ".join(f"{one!s:.40}" for one in sorted(map(str, adapters))[:_NAMED])
        raise CheckpointError(
            f'The file of "{name}" holds {len(adapters)} adapters ({names}). Save each in a file of its own.'
        )
    return content


def _put(module: _Module, part: str, is_bias: bool, tensor: Tensor) -> None:
    if is_bias and part in _UP:
        module.bias = tensor
        return
    # a convolution's is (r, in, h, w); what is no matrix at all is refused when the two are put together
    matrix = tensor.flatten(1) if tensor.ndim > 1 else tensor
    if part in _DOWN:
        module.down = matrix
    elif part in _UP:
        module.up = matrix
    elif part == "lora_embedding_A":  # (r, rows): a table's product is transposed
        module.up = matrix.t()
    else:
        module.down = matrix.t()  # (r, width) of (width, r)


def _low_rank(
    module: str, found: _Module, place: Place, settings: AdapterSettings, names: tuple[str, str]
) -> LowRank:
    """Return the product of one layer's two factors, checked against the layer's shape."""
    up, down = found.up, found.down
    if up is None or down is None or not _fit_together(up, down):
        raise CheckpointError(
            f'The adapter "{names[0]}" holds no two matrices that fit together for "{module:.{_MOST}}". '
            "The file is damaged: fetch it again."
        )
    inputs, outputs = math.prod(place.shape[1:]), place.shape[0]
    if (down.shape[1], up.shape[0]) != (inputs, outputs):
        raise _of_another_model(
            module, f"{down.shape[1]} × {up.shape[0]}", f"{inputs} × {outputs}", settings.base, names
        )
    scale = settings.scale_of(_unwrapped(module), len(down), found.alpha)
    return LowRank(place=place, up=up, down=down, scale=scale)


def _fit_together(up: Tensor, down: Tensor) -> bool:
    return up.ndim == down.ndim == 2 and up.shape[1] == down.shape[0] > 0


def _whole(key: str, value: Tensor, place: Place, names: tuple[str, str], *, is_added: bool = False) -> Whole:
    if place.tensor == POSITIONS and value.shape == (1, *place.shape):  # the authors' is a batch of one
        value = value[0]
    if value.shape != place.shape:
        there, here = (" × ".join(map(str, reversed(shape))) or "1" for shape in (value.shape, place.shape))
        raise _of_another_model(key, there, here, "", names)
    return Whole(place=place, value=value, is_added=is_added)


def _of_another_model(
    module: str, there: str, here: str, base: str, names: tuple[str, str]
) -> CheckpointError:
    name, model_name = names
    return CheckpointError(
        f'The adapter "{name}" was made for another model: its "{module:.{_MOST}}" is {there} wide, that of '
        f'"{model_name}" {here}. Use it with {_base(base)}.'
    )


def _refuse_foreign(foreign: Sequence[str], total: int, base: str, names: tuple[str, str]) -> None:
    """Raise CheckpointError where layers of an adapter have no place in the model."""
    name, model_name = names
    if total == 0:
        raise CheckpointError(f'The adapter "{name}" holds no tensors. Fetch it again.')
    listed = ", ".join(f'"{key:.{_MOST}}"' for key in sorted(foreign)[:_NAMED])
    if len(foreign) == total:
        raise CheckpointError(
            f'The adapter "{name}" has nothing for "{model_name}": none of its {total} layers is there, '
            f"first {listed}. It was made for another kind of model; use it with {_base(base)}."
        )
    if foreign:
        raise CheckpointError(
            f'{len(foreign)} of the {total} layers of the adapter "{name}" are not in "{model_name}": '
            f"{listed}. It was made for a larger or another model; use it with {_base(base)}."
        )


def _base(base: str) -> str:
    return f'the model that it was trained on, "{base}"' if base else "the model that it was trained on"


def _unwrapped(module: str) -> str:
    """Return a module's name as the configuration counts it: without PEFT's own two words in front."""
    return module.removeprefix("base_model.model.")
