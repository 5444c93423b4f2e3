"""What nodes of other Janus packs become: their ids, widgets and inputs, and ours in their place.

A table. Where a widget of theirs did nothing, ours gets the value that really applied: answers that claimed a
temperature but were greedy, drawings that ignored top_p. Answers that they sampled had the top_k of 50 that
transformers uses unasked. What has no counterpart is left out; docs/migrating.md lists it.
"""

from .bridge.replacing import CONTROL, Replacement

_SAMPLED = {name: name for name in ("seed", "temperature", "top_p", "max_new_tokens")}
_ABOUT_ONE = {"model": "model", "image": "image", "question": "question"}
_EACH = {"ask_each": True, "top_k": 50}  # a text for each picture, as far as they took several
_EACH_GREEDY = {"ask_each": True, "temperature": 0.0}
_ALL_TOKENS = {"top_p": 1.0}


def _cy(prefix: str = "", suffix: str = "") -> list[Replacement]:
    """Return what draws and answers in CY-CHENYUE's pack, in copies of it under other ids too."""
    has_texts = suffix != "2"  # the second pair takes texts from links only
    question = ("question",) if has_texts else ()
    prompt = ("prompt",) if has_texts else ()
    return [
        Replacement(
            old=f"{prefix}JanusImageUnderstanding{suffix}",
            new="JanusAsk",
            widgets=(*question, "seed", CONTROL, "temperature", "top_p", "max_new_tokens"),
            inputs={**_ABOUT_ONE, **_SAMPLED},
            fixed=_EACH,
        ),
        Replacement(
            old=f"{prefix}JanusImageGeneration{suffix}",
            new="JanusDraw",
            widgets=(*prompt, "seed", CONTROL, "batch_size", "cfg_weight", "temperature", "top_p"),
            inputs={
                name: name for name in ("model", "prompt", "seed", "batch_size", "cfg_weight", "temperature")
            },
            fixed=_ALL_TOKENS,
            widgets_once=("prompt", "batch_size", "temperature", "cfg_weight") if has_texts else (),
            values_since={"seed": 0, CONTROL: "randomize", "top_p": 1.0},
        ),
    ]


def _loader(old: str, model: str, *further: str) -> Replacement:
    """Return a loader, whose first widget is the model."""
    return Replacement(old=old, new="JanusLoad", widgets=(model, *further), inputs={model: "model"})


_CY_CHENYUE = [_loader("JanusModelLoader", "model_name", "load_in_4bit"), *_cy(), *_cy(suffix="2")]

_BIZYAIR = [_loader("BizyAir_JanusModelLoader", "model_name"), *_cy(prefix="BizyAir_")]

_CHFLAME163 = [
    _loader("LoadJanusModel", "model"),
    Replacement(
        old="JanusImage2Text",
        new="JanusAsk",
        widgets=("question", "temperature", "max_new_tokens", "seed", CONTROL),
        inputs={
            "janus_model": "model",
            "image": "image",
            "question": "question",
            "max_new_tokens": "max_new_tokens",
            "seed": "seed",
        },
        fixed=_EACH_GREEDY,
    ),
    Replacement(
        old="JanusTextToImage",
        new="JanusDraw",
        widgets=("prompt", "size", "temperature", "cfg", "token_num", "batch_size", "seed", CONTROL),
        inputs={
            "janus_model": "model",
            "prompt": "prompt",
            "temperature": "temperature",
            "cfg": "cfg_weight",
            "batch_size": "batch_size",
            "seed": "seed",
        },
        fixed=_ALL_TOKENS,
    ),
]

_GREENGERONG = [
    _loader("JanusProModelLoader", "model_name", "precision", "local_dir"),
    Replacement(
        old="JanusProImageUnderstanding",
        new="JanusAsk",
        widgets=("question", "max_tokens"),
        inputs={**_ABOUT_ONE, "max_tokens": "max_new_tokens"},
        fixed=_EACH_GREEDY,
    ),
    Replacement(
        old="JanusProImageGenerator",
        new="JanusDraw",
        widgets=(
            "prompt", "system_prompt", "temperature", "num_images", "cfg_scale", "image_size", "seed",
            CONTROL,
        ),
        inputs={"model": "model", "prompt": "prompt", "num_images": "batch_size", "seed": "seed"},
        fixed={"cfg_weight": 5.0, "temperature": 1.0, **_ALL_TOKENS},  # whatever its widgets said
    ),
]  # fmt: skip

_MIEMIEEEEE = [
    _loader("JanusProModelLoader|Mie", "model_name"),
    Replacement(
        old="JanusProDescribeImage|Mie",
        new="JanusAsk",
        widgets=(
            "question", "seed", CONTROL, "temperature", "top_p", "max_new_tokens", "keep_model_loaded",
        ),
        inputs={**_ABOUT_ONE, **_SAMPLED},
        fixed=_EACH,
    ),
    Replacement(
        old="JanusProCaptionImageUnderDirectory|Mie",
        new="JanusCaptionFolder",
        # behind these its two packs differ, and nothing there has a counterpart
        widgets=("directory", "question", "seed", CONTROL, "temperature", "top_p", "max_new_tokens"),
        inputs={"model": "model", "directory": "folder", "question": "question", **_SAMPLED},
        fixed={"style": "custom", "top_k": 50},
    ),
]  # fmt: skip

_SHMUELRONEN = [
    _loader("VisionModelLoader", "model_path"),
    Replacement(
        old="UnifiedVisionAnalyzer",
        new="JanusAsk",
        widgets=(
            "prompt", "chat_mode", "seed", CONTROL, "temperature", "top_p", "max_tokens", "image_size",
            "frame_size", "reset_chat",
        ),
        inputs={
            "janus_model": "model",
            "image_a": "image",
            "prompt": "question",
            "seed": "seed",
            "temperature": "temperature",
            "top_p": "top_p",
            "max_tokens": "max_new_tokens",
        },
        by_some={"image_b": "image_2"},
        fixed={"top_k": 50},
        outputs=(0, 1),
    ),
]  # fmt: skip

_ZHO = [
    _loader("Janus_ModelLoader", "model_path"),
    Replacement(
        old="Janus_MultimodalUnderstanding",
        new="JanusAsk",
        widgets=("question", "seed", CONTROL, "top_p", "temperature", "max_new_tokens"),
        inputs={**_ABOUT_ONE, "seed": "seed", "top_p": "top_p", "temperature": "temperature"},
        by_some={"max_new_tokens": "max_new_tokens"},
        fixed=_EACH,
    ),
    Replacement(
        old="Janus_ImageGeneration",
        new="JanusDraw",
        widgets=("prompt", "seed", CONTROL, "cfg_weight", "temperature"),
        inputs={
            name: name for name in ("model", "prompt", "seed", "cfg_weight", "temperature")
        },
        fixed={"batch_size": 5, **_ALL_TOKENS},  # it always drew five
    ),
]  # fmt: skip

_YANHUIFAIR = [
    _loader("JanusProModelLoaderNode", "model_name"),
    Replacement(
        old="JanusProMultimodalUnderstandingNode",
        new="JanusAsk",
        widgets=("question", "temperature", "top_p", "max_new_tokens", "seed", CONTROL),
        inputs={"vl_gpt": "model", "images": "image", "question": "question", **_SAMPLED},
        by_some={"image": "image"},  # its name before 1.0.5
        fixed=_EACH,
    ),
    Replacement(
        old="JanusProImageGenerationNode",
        new="JanusDraw",
        widgets=(
            "prompt", "temperature", "parallel_size", "cfg_weight", "image_token_num_per_image", "img_size",
            "patch_size", "seed", CONTROL,
        ),
        inputs={
            "vl_gpt": "model",
            "prompt": "prompt",
            "temperature": "temperature",
            "parallel_size": "batch_size",
            "cfg_weight": "cfg_weight",
            "seed": "seed",
        },
        fixed=_ALL_TOKENS,
    ),
]  # fmt: skip

_YICHENGUP = [
    _loader("JanusProLoader", "model_path"),
    Replacement(
        old="ImageAnalyzer",
        new="JanusAsk",
        widgets=("question", "seed", CONTROL, "temperature", "top_p", "max_new_tokens"),
        inputs={"janus_model": "model", "image": "image", "question": "question", **_SAMPLED},
        fixed=_EACH,
    ),
    Replacement(
        old="JanusImageGenerator",
        new="JanusDraw",
        widgets=("prompt", "seed", CONTROL, "batch_size", "cfg_weight", "temperature", "top_p"),
        inputs={
            "janus_model": "model",
            "prompt": "prompt",
            "seed": "seed",
            "batch_size": "batch_size",
            "cfg_weight": "cfg_weight",
            "temperature": "temperature",
            "top_p": "top_p",  # the only one whose drawings it reached
        },
    ),
    Replacement(
        old="JanusChatAnalyzer",
        new="JanusAsk",
        widgets=(
            "question", "seed", CONTROL, "temperature", "top_p", "max_new_tokens", "target_size",
            "border_thickness", "clear_history",
        ),
        inputs={"janus_model": "model", "image_a": "image", "question": "question", **_SAMPLED},
        by_some={"image_b": "image_2"},
        fixed={"top_k": 50},
        outputs=(0, 1),
    ),
]  # fmt: skip

REPLACEMENTS = [
    *_CY_CHENYUE,
    *_BIZYAIR,
    *_CHFLAME163,
    *_GREENGERONG,
    *_MIEMIEEEEE,
    *_SHMUELRONEN,
    *_ZHO,
    *_YANHUIFAIR,
    *_YICHENGUP,
]
