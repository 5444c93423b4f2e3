"""Quantised models: every format is read as core reads it, bit for bit, and core's layers compute with it."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import comfy.model_management as mm
import comfy.model_patcher as mp
import comfy.quant_ops
import comfy.utils
import torch
from janus_pack.janus_core import (
    CheckpointError,
    Lora,
    TextOptions,
    build_model,
    convert,
    load_janus,
    read_checkpoint,
)
from janus_pack.janus_core.checkpoints import load
from janus_pack.janus_core.checkpoints.load import assign_weights
from janus_pack.janus_core.converting.quantising import KINDS
from janus_pack.janus_core.quantised.formats import FORMATS
from janus_pack.nodes.bridge import adapters, hosting, quantised
from safetensors import safe_open
from safetensors.torch import save_file

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_ADAPTED = {
    "language.language_model.layers.0.self_attn.q_proj": "language_model.model.layers.0.self_attn.q_proj",
    "language.language_model.layers.1.mlp.down_proj": "language_model.model.layers.1.mlp.down_proj",
    "language.generation_head.output": "gen_head.vision_head",
}
_PICTURE = torch.linspace(0, 1, 64 * 64 * 3).reshape(64, 64, 3)


@contextlib.contextmanager
def written(models: Path, kind: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tiny_{kind}.safetensors"
        convert(models / "janus-tiny", path, quantise=kind)
        yield path


def contents(path: Path) -> tuple[dict, dict]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def core_weights(path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return what core's layers dequantise each quantised matrix to, by the path of its layer."""
    checkpoint = read_checkpoint(path)
    operations = quantised.layers(checkpoint, dtype, torch.device("cpu"))
    model = build_model(checkpoint.config, operations)
    assign_weights(model, dict(quantised.as_core_takes_it(checkpoint).state_dict))
    held = {layer: model.get_submodule(layer).weight for layer in checkpoint.quantised}
    assert all(isinstance(weight, comfy.quant_ops.QuantizedTensor) for weight in held.values())
    return {layer: weight.dequantize() for layer, weight in held.items()}


def check_every_kind_is_dequantised_as_core_does_it(models: Path) -> None:
    for kind in KINDS:
        with written(models, kind) as path:
            ours = read_checkpoint(path).quantised
            assert len(ours) >= 12, kind
            for dtype in _DTYPES:
                theirs = core_weights(path, dtype)
                for layer, weight in ours.items():
                    assert torch.equal(weight.dequantised(dtype), theirs[layer]), (kind, dtype, layer)


def check_matrices_are_quantised_as_core_does_it(_: Path) -> None:
    """Among 100,000 entries none differs, or few where core rounds in another order."""
    matrix = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    matrix[3], matrix[:, 32:64] = 0, matrix[:, 32:64] * 50
    layouts = {
        "float8_e4m3fn": ("TensorCoreFP8E4M3Layout", {"scale": "recalculate"}, 0),
        "int8_tensorwise": ("TensorWiseINT8Layout", {"per_channel": True}, 0),
        "mxfp8": ("TensorCoreMXFP8Layout", {}, 0),
        "nvfp4": ("TensorCoreNVFP4Layout", {}, 0),
    }
    for name, (layout, how, rotation) in layouts.items():
        ours = FORMATS[name].quantise(matrix, rotation, matrix.abs().amax())
        stored, params = comfy.quant_ops.get_layout_class(layout).quantize(matrix, **how)
        differ = (ours["weight"].view(torch.uint8) != stored.view(torch.uint8)).float().mean().item()
        assert differ < 1e-3, (name, differ)
        scale = getattr(params, "block_scale", params.scale)
        assert torch.equal(*(one.reshape(-1).view(torch.uint8) for one in (ours["weight_scale"], scale))), (
            name
        )


def check_a_rotated_matrix_is_quantised_as_core_does_it(_: Path) -> None:
    matrix = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    ours = FORMATS["int8_tensorwise"].quantise(matrix, 256, matrix.abs().amax())
    layout = comfy.quant_ops.get_layout_class("TensorWiseINT8Layout")
    stored, params = layout.quantize(matrix, per_channel=True, convrot=True)
    assert torch.equal(ours["weight"], stored)
    assert torch.equal(ours["weight_scale"], params.scale)


def markers(tensors: dict) -> dict:
    """Return what tensors of bytes say, by layer."""
    ending = ".comfy_quant"
    marked = {name: tensor for name, tensor in tensors.items() if name.endswith(ending)}
    return {name.removesuffix(ending): json.loads(bytes(text.tolist())) for name, text in marked.items()}


def check_both_markers_and_the_old_one_are_read_as_core_reads_them(models: Path) -> None:
    with written(models, "fp8_scaled") as path, tempfile.TemporaryDirectory() as folder:
        tensors, texts = contents(path)
        wanted = read_checkpoint(path).quantised
        layers = markers(tensors)
        bare = {name: tensor for name, tensor in tensors.items() if not name.endswith(".comfy_quant")}
        header = Path(folder) / "header.safetensors"
        said = json.dumps({"format_version": "1.0", "layers": layers})
        save_file(bare, header, {**texts, "_quantization_metadata": said})
        old = {name.replace(".weight_scale", ".scale_weight"): tensor for name, tensor in bare.items()}
        old |= {f"{layer}.scale_input": torch.tensor(1.0) for layer in layers}
        old["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
        older = Path(folder) / "older.safetensors"
        save_file(old, older, texts)
        for file in (header, older):
            ours = read_checkpoint(file).quantised
            assert ours.keys() == wanted.keys()
            for layer, weight in ours.items():
                assert torch.equal(
                    weight.dequantised(torch.float32), wanted[layer].dequantised(torch.float32)
                )
            loaded, metadata = contents(file)
            core, _ = comfy.utils.convert_old_quants(loaded, "", metadata=metadata)
            authors = "language_model.model.", "language.language_model."
            assert {layer.replace(*authors): marker for layer, marker in markers(core).items()} == {
                layer: dict(weight.marker) for layer, weight in ours.items()
            }


@torch.inference_mode()  # as ComfyUI executes nodes
def check_every_kind_answers_in_cores_layers_and_one_draws(models: Path) -> None:
    for kind, residency in zip(KINDS, ("fast", "offload", "fast", "offload", "fast"), strict=True):
        with written(models, kind) as path:
            janus = hosting.host(path, "float32", residency).autoregressive("a check")
            layer = janus.model.language.language_model.layers[0].self_attn.q_proj
            assert isinstance(layer.weight, comfy.quant_ops.QuantizedTensor), kind
            assert janus.ask("What is it?", [_PICTURE], options=TextOptions(max_new_tokens=3))
    assert janus.draw("a cat", num_images=1).images.isfinite().all()


def check_eight_bits_move_hidden_states_little_in_cores_layers(models: Path) -> None:
    """Core quantises activations as well, so its layers and ours differ by more than rounding."""
    for kind in ("int8", "int8_convrot", "fp8_scaled", "mxfp8"):
        with written(models, kind) as path:
            ours = load_janus(path, dtype="float32", device="cpu")
            ours.bring_all()
            theirs = hosting.host(path, "float32", "fast").janus
            x = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
            positions = torch.arange(9)[None]
            hidden = [model.model.language.language_model(x, positions).flatten() for model in (ours, theirs)]
            cosine = torch.cosine_similarity(*hidden, dim=0).item()
            assert cosine > 0.998, (kind, cosine)


def check_a_format_that_core_lacks_is_said(models: Path) -> None:
    with written(models, "nvfp4") as path:
        message = ""
        try:
            with mock.patch.object(quantised, "_known", return_value={"float8_e4m3fn"}):
                hosting.host(path, "float32", "auto")
        except CheckpointError as error:
            message = str(error)
        assert "is quantised as nvfp4, which this ComfyUI cannot compute with" in message


@torch.inference_mode()
def check_a_large_model_between_two_descriptions_costs_no_second_reading(models: Path) -> None:
    """The large one takes all the memory that core manages, so every part of Janus is unloaded for it."""
    for kind in (None, "int8"):
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(written(models, kind)) if kind else models / "janus-tiny"
            reader = mock.Mock(wraps=load.read_weight_file)
            stack.enter_context(mock.patch.object(load, "read_weight_file", reader))
            model = hosting.host(path, "float32", "fast")
            files = reader.call_count
            first = model.janus.caption([_PICTURE], options=TextOptions(max_new_tokens=4))
            mm.unload_all_models()
            large = mp.ModelPatcher(torch.nn.Linear(1000, 1000), mm.get_torch_device(), torch.device("cpu"))
            mm.load_models_gpu([large])
            assert not {id(part) for part in model.get_models()} & {
                id(one.model) for one in mm.current_loaded_models
            }
            assert model.janus.caption([_PICTURE], options=TextOptions(max_new_tokens=4)) == first
            assert files == (1 if kind else 2)
            assert reader.call_count == files


def adapter(shapes: dict) -> dict[str, torch.Tensor]:
    """Return an adapter's tensors for two of the decoder's matrices and a head, by the authors' names."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for ours, name in _ADAPTED.items():
        rows, columns = shapes[f"{ours}.weight"]
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, columns, generator=generator) / columns**0.5
        tensors[f"{name}.lora_B.weight"] = torch.randn(rows, 4, generator=generator) * 0.2
    return tensors


def hidden(model) -> torch.Tensor:
    """Return what the decoder answers to noise, with a model's parts in place."""
    mm.load_models_gpu(model.get_models())
    x = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
    return model.janus.model.language.language_model(x, torch.arange(9)[None]).float().flatten()


def stored(model) -> dict[str, torch.Tensor]:
    """Return every tensor as it is stored, quantised ones by their bytes."""
    return {
        name: tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).clone()
        for name, tensor in model.janus.model.language.state_dict().items()
        if tensor.numel()
    }


@torch.inference_mode()
def check_adapters_apply_to_quantised_weights_and_go_again(models: Path) -> None:
    """Core dequantises, adds and rounds to the format again, so the gap is that of the format."""
    for kind, residency in (("int8", "fast"), ("int8_convrot", "offload"), ("fp8_scaled", "fast")):
        with written(models, kind) as path, tempfile.TemporaryDirectory() as folder:
            plain = load_janus(path, dtype="float32", device="cpu")
            file = Path(folder) / "style.safetensors"
            texts = {"adapter_config": json.dumps({"lora_alpha": 8})}
            save_file(adapter(adapters._shapes(plain)), file, texts)
            base = hosting.host(path, "float32", residency)
            before, unchanged = stored(base), hidden(base)
            style = adapters.with_lora(base, Lora(path=file))
            assert adapters.with_lora(base, Lora(path=file, strength=0)) is base
            found = hidden(style)
            merged = load_janus(path, dtype="float32", device="cpu", loras=[Lora(path=file)])
            merged.bring_all()
            x = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
            wanted = merged.model.language.language_model(x, torch.arange(9)[None]).flatten()
            near, far = (torch.cosine_similarity(found, one, dim=0).item() for one in (wanted, unchanged))
            assert near > 0.995, (kind, near)
            assert far < 0.97, (kind, far)
            assert torch.equal(hidden(base), unchanged), kind
            mm.unload_all_models()
            after = stored(base)
            assert before.keys() == after.keys()
            assert all(torch.equal(before[name], after[name]) for name in before), kind
