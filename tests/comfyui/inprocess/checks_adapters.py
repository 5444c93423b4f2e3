"""Adapters on core's patches: merged, streamed, stacked and undone; the model below them stays as it is."""

import hashlib
import json
import tempfile
from pathlib import Path
from unittest import mock

import comfy.model_management as mm
import comfy.ops
import folder_paths
import torch
from janus_pack.janus_core import CheckpointError, DrawOptions, Lora, load_janus
from janus_pack.nodes.bridge import adapters, hosting
from safetensors.torch import save_file

_GREEDY = DrawOptions(temperature=0.0)
_ALPHA = 8.0
# Decoder, head, aligner by the authors' names; a third of a projection by transformers'.
_LAYERS = (
    "language_model.model.layers.0.self_attn.q_proj",
    "language_model.model.layers.1.mlp.down_proj",
    "gen_head.vision_head",
    "aligner.layers.0",
    "model.vision_model.encoder.layers.0.self_attn.k_proj",
)


def hosted(models, residency, layers=None):
    """Return a model in the layers that it has on a GPU, or in given ones."""
    if layers is None:
        layers = comfy.ops.disable_weight_init if residency == "fast" else comfy.ops.manual_cast
    with mock.patch.object(hosting.devices, "layers", return_value=layers):
        return hosting.host(models / "janus-tiny", "float32", residency)


def shapes(models):
    return adapters._shapes(load_janus(models / "janus-tiny", dtype="float32", device="cpu"))


def written(models, seed=0, size=0.2):
    """Write an adapter with seeded factors for all kinds of layers, and return its file."""
    from janus_pack.janus_core.adapters.adapter_names import places_for

    generator, places = torch.Generator().manual_seed(seed), places_for(shapes(models))
    tensors = {}
    for name in _LAYERS:
        bare = ".".join(part for part in name.split(".") if part != "model")
        rows, columns = places[f"{bare}.weight"].shape
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, columns, generator=generator) / columns**0.5
        tensors[f"{name}.lora_B.weight"] = torch.randn(rows, 4, generator=generator) * size
    tensors["language_model.model.norm.weight"] = torch.full((64,), 1.5)
    tensors["gen_head.vision_head.bias"] = torch.randn(
        places["gen_head.vision_head.bias"].shape, generator=generator
    )
    file = Path(tempfile.mkdtemp()) / f"style{seed}.safetensors"
    save_file(tensors, file, {"adapter_config": json.dumps({"lora_alpha": _ALPHA})})
    return file


def tokens(model):
    return model.janus.draw("a red circle", options=_GREEDY).tokens.grid


def checksum(model):
    """Return a digest of all weights, bit for bit, where they are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.janus.model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def in_place(model):
    """Return the weights as this model computes with them."""
    mm.load_models_gpu(model.get_models())
    return {name: tensor.float().clone() for name, tensor in model.janus.model.state_dict().items()}


def expected(models, *loras):
    """Return the engine's own merge."""
    janus = load_janus(models / "janus-tiny", dtype="float32", device="cpu", loras=loras)
    janus.bring_all()
    return janus.model.state_dict()


def assert_close(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        gap = float((tensor - wanted[name]).abs().max())
        assert gap <= tolerance * max(1.0, float(wanted[name].abs().max())), (name, gap)


def check_patched_weights_are_the_engines_merge(models: Path) -> None:
    lora = Lora(path=written(models), strength=0.7)
    for residency, tolerance in (
        ("fast", 1e-5),
        ("offload", 2**-8),
    ):  # streamed ones stay in the file's bfloat16
        model = adapters.with_lora(hosted(models, residency), lora)
        assert_close(in_place(model), expected(models, lora), tolerance)
    assert str(model.janus).startswith("janus-tiny + style0 × 0.7,")


def check_a_drawing_with_an_adapter_is_the_engines(models: Path) -> None:
    lora = Lora(path=written(models))
    model = adapters.with_lora(hosted(models, "fast"), lora)
    merged = load_janus(models / "janus-tiny", dtype="float32", device="cpu", loras=[lora])
    wanted = merged.draw("a red circle", options=_GREEDY).tokens.grid
    assert torch.equal(tokens(model), wanted)
    assert not torch.equal(tokens(hosted(models, "fast")), wanted)


def check_unloading_restores_every_bit(models: Path) -> None:
    for residency in ("fast", "offload"):
        base = hosted(models, residency)
        before, drawn = checksum(base), tokens(base)
        one = adapters.with_lora(base, Lora(path=written(models, 0)))
        two = adapters.with_lora(one, Lora(path=written(models, 1), strength=-0.5))
        assert base.loras == ()
        in_place(two)
        assert checksum(base) != before  # the modules are shared, so this is the patched state
        assert torch.equal(tokens(base), drawn)
        in_place(base)  # the eyes too, which a drawing leaves as they are
        assert checksum(base) == before
        assert not torch.equal(tokens(two), drawn)
        mm.unload_all_models()
        assert checksum(base) == before


def check_adapters_stack_in_any_order(models: Path) -> None:
    one, two = Lora(path=written(models, 0)), Lora(path=written(models, 1), strength=0.4)
    base = hosted(models, "fast")
    first = in_place(adapters.with_lora(adapters.with_lora(base, one), two))
    other = in_place(adapters.with_lora(adapters.with_lora(base, two), one))
    assert_close(first, other, 1e-6)
    assert_close(first, expected(models, one, two), 1e-5)


def check_strength_zero_is_the_model_itself(models: Path) -> None:
    base = hosted(models, "offload")
    assert adapters.with_lora(base, Lora(path=written(models), strength=0)) is base


def check_streamed_layers_apply_the_adapter_at_each_use(models: Path) -> None:
    """Without room core leaves weights where they rest, and hangs the patches on the layers as functions."""
    lora = Lora(path=written(models))
    model = adapters.with_lora(hosted(models, "offload"), lora)
    language = model.janus.model.language
    x = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    patcher, before = model.parts["language"], checksum(model)
    with torch.inference_mode():
        plain = language.generation_head(language.language_model(x, torch.arange(5)[None]))
    results = []
    for memory in (0, 1):  # all the room there is, none
        patcher.patch_model(torch.device("cpu"), lowvram_model_memory=memory)
        hooked = [m for m in patcher.model.modules() if getattr(m, "weight_function", None)]
        assert bool(hooked) == bool(memory), (memory, len(hooked))
        with torch.inference_mode():
            results.append(language.generation_head(language.language_model(x, torch.arange(5)[None])))
        patcher.unpatch_model(torch.device("cpu"))
        assert checksum(model) == before
    whole, streamed = results  # merged weights are rounded to the file's bfloat16, streamed ones are not
    assert float((whole - streamed).abs().max()) < 0.05 * float(whole.abs().max())
    assert float((whole - plain).abs().max()) > 0.3 * float(whole.abs().max())


def check_a_packed_model_gets_merged_weights_and_shares_the_others(models: Path) -> None:
    """Whole on a CPU: torch's own layers, which the engine packs and no patch can reach."""
    base = hosting.host(models / "janus-tiny", "float32", "fast")
    drawn = tokens(base)
    lora = Lora(path=written(models))
    model = adapters.with_lora(base, lora)
    merged = load_janus(models / "janus-tiny", dtype="float32", device="cpu", loras=[lora])
    wanted = merged.draw("a red circle", options=_GREEDY).tokens.grid
    assert torch.equal(tokens(model), wanted)
    assert torch.equal(tokens(base), drawn)
    name = "seeing.vision_tower.blocks.1.mlp.fc1.weight"
    ours, theirs = (m.janus.model.get_parameter(name) for m in (model, base))
    assert ours.data_ptr() == theirs.data_ptr()
    twice = adapters.with_lora(model, Lora(path=lora.path, strength=-1.0))
    assert torch.equal(tokens(twice), drawn)


def check_an_adapter_of_the_word_table_reaches_every_look_up(models: Path) -> None:
    """The table is read where it rests, past core's patches, so such a model has a table of its own."""
    rows, width = shapes(models)["language.language_model.embed_tokens.weight"]
    name = "language_model.model.embed_tokens"
    file = Path(tempfile.mkdtemp()) / "words.safetensors"
    save_file(
        {f"{name}.lora_embedding_A": torch.randn(2, rows), f"{name}.lora_embedding_B": torch.randn(width, 2)},
        file,
    )
    base = hosted(models, "offload")
    with mock.patch.object(hosting.devices, "layers", return_value=comfy.ops.manual_cast):
        model = adapters.with_lora(base, Lora(path=file))
    ids = torch.arange(9)
    found, plain = (
        m.janus.model.language.language_model.embed_words(ids, torch.float32) for m in (model, base)
    )
    wanted = expected(models, Lora(path=file))["language.language_model.embed_tokens.weight"][:9]
    assert float((found - wanted).abs().max()) < 0.05
    assert float((found - plain).abs().max()) > 0.5


def check_janusflow_takes_adapters_too(models: Path) -> None:
    with mock.patch.object(hosting.devices, "layers", return_value=comfy.ops.disable_weight_init):
        base = hosting.host(models / "janusflow-tiny", "float32", "fast")
    name = "language.language_model.layers.0.mlp.up_proj.weight"
    before = base.janus.model.get_parameter(name).clone()
    rows, columns = before.shape
    down, up = torch.randn(2, columns), torch.randn(rows, 2)
    file = Path(tempfile.mkdtemp()) / "flow.safetensors"
    module = "language_model.model.layers.0.mlp.up_proj"
    save_file({f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}, file)
    model = adapters.with_lora(base, Lora(path=file))
    found = in_place(model)[name]
    assert float((found - before - up @ down).abs().max()) < 1e-4
    assert torch.equal(in_place(base)[name], before)


def check_an_adapter_of_another_model_is_refused(models: Path) -> None:
    file = Path(tempfile.mkdtemp()) / "wide.safetensors"
    module = "language_model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{module}.lora_A.weight": torch.ones(2, 4096), f"{module}.lora_B.weight": torch.ones(4096, 2)}, file
    )
    said = ""
    try:
        adapters.with_lora(hosted(models, "offload"), Lora(path=file))
    except CheckpointError as error:
        said = str(error)
    assert "is 4096 × 4096 wide, that of" in said, said
    assert "64 × 64" in said, said


def check_adapters_are_listed_found_and_seen_to_change(models: Path) -> None:
    loras = Path(tempfile.mkdtemp())
    folder_paths.add_model_folder_path("loras", str(loras))
    peft = loras / "mine"
    peft.mkdir()
    file = written(models)
    (peft / "adapter_model.safetensors").write_bytes(file.read_bytes())
    (peft / "adapter_config.json").write_text("{}", encoding="utf-8")
    (loras / "style.safetensors").write_bytes(file.read_bytes())
    (loras / "old.pt").write_bytes(b"x")
    mine = str(Path("mine") / "adapter_model.safetensors")
    listed = adapters.adapter_choices()
    assert {mine, "style.safetensors"} <= set(listed), listed
    assert "old.pt" not in listed
    assert adapters.adapter_path(mine) == peft / "adapter_model.safetensors"
    state = adapters.adapter_state(mine)
    (peft / "adapter_config.json").write_text('{"lora_alpha": 2}', encoding="utf-8")
    assert adapters.adapter_state(mine) != state
    for name in ("../janus/x.safetensors", "absent.safetensors", "a\0b", "x" * 5000):
        try:
            adapters.adapter_path(name)
        except CheckpointError:
            continue
        raise AssertionError(name)
