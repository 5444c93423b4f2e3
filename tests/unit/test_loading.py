from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from janus_core import (
    Compute,
    Janus,
    JanusConfig,
    JanusModel,
    SamplingError,
    assemble,
    build_model,
    load_janus,
    read_checkpoint,
)
from janus_core.loading import choose_device, choose_dtype

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded() -> Janus:
    return load_janus(GOLDEN / "janus-tiny-bin", dtype="bfloat16", device="cpu")


def test_seeing_and_language_are_loaded_in_the_dtype_asked_for(loaded: Janus) -> None:
    groups = (loaded.model.seeing, loaded.model.language)
    assert {weight.dtype for group in groups for weight in group.parameters()} == {torch.bfloat16}


def test_only_the_half_of_the_vq_tokenizer_that_is_needed_turns_into_float32() -> None:
    fresh = load_janus(GOLDEN / "janus-tiny-bin", dtype="bfloat16", device="cpu")
    vq, side = fresh.model.vq_tokenizer, fresh.config.grid_side
    assert {weight.dtype for weight in vq.parameters()} == {torch.bfloat16}
    fresh.decode_pixels(torch.zeros(1, side, side, dtype=torch.int64))
    assert {weight.dtype for weight in vq.decoder.parameters()} == {torch.float32}
    assert {weight.dtype for weight in vq.encoder.parameters()} == {torch.bfloat16}


def test_loaded_parameters_need_no_gradient(loaded: Janus) -> None:
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


def test_the_codebook_has_one_identity_whatever_the_layout_and_dtype(loaded: Janus) -> None:
    native = load_janus(GOLDEN / "janus-tiny-hf", dtype="float32", device="cpu")
    assert native.codebook == loaded.codebook


def test_loading_is_reported_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="janus"):
        load_janus(GOLDEN / "janus-tiny-bin", dtype="float32", device="cpu")
    [record] = caplog.records
    assert record.getMessage().startswith("Janus: loaded janus-tiny-bin in float32 on cpu in ")


def test_loading_leaves_the_default_dtype_alone() -> None:
    before = torch.get_default_dtype()
    load_janus(GOLDEN / "janus-tiny-bin", dtype="bfloat16", device="cpu")
    assert torch.get_default_dtype() == before


def test_a_host_may_bring_its_own_layers() -> None:
    class OurLinear(nn.Linear):
        pass

    names = ("Embedding", "Conv2d", "LayerNorm", "GroupNorm", "RMSNorm")
    operations: Any = SimpleNamespace(Linear=OurLinear, **{name: getattr(nn, name) for name in names})
    hosted = load_janus(GOLDEN / "janus-tiny-bin", dtype="float32", device="cpu", operations=operations)
    assert isinstance(hosted.model.language.language_model.lm_head, OurLinear)


def test_torchs_own_layers_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[JanusConfig] = []

    def build(config: JanusConfig) -> JanusModel:
        built.append(config)
        return build_model(config)

    monkeypatch.setattr("janus_core.checkpoints.load.build_model", build)
    monkeypatch.setattr("janus_core.loading.build_model", build)
    janus = load_janus(GOLDEN / "janus-tiny-bin", dtype="float32", device="cpu")
    assert built == [janus.config]


def test_a_host_may_keep_every_tensor_as_it_is_stored() -> None:
    checkpoint = read_checkpoint(GOLDEN / "janus-tiny-bin")
    janus = assemble(
        checkpoint,
        build_model(checkpoint.config),
        Compute(device=CPU, dtype=torch.float32),
        weights_on=CPU,
        weights_dtype=None,
    )
    assert {weight.dtype for weight in janus.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_dtype_is_chosen_by_its_name(name: Any) -> None:
    assert choose_dtype(name, CPU) == getattr(torch, name)


def test_a_dtype_may_be_given_as_such() -> None:
    assert choose_dtype(torch.float64, CPU) == torch.float64


@pytest.mark.parametrize(
    ("machine", "onednn", "instructions", "expected"),
    [
        ("x86_64", True, True, torch.bfloat16),
        ("AMD64", True, False, torch.float32),  # AVX-512 without bfloat16, which oneDNN imitates
        ("aarch64", True, False, torch.bfloat16),
        ("aarch64", False, False, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_a_cpu_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, machine: str, onednn: bool, instructions: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    assert choose_dtype("auto", CPU) == expected


def test_auto_takes_float32_where_torch_has_no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    assert choose_dtype("auto", CPU) == torch.float32


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_takes_bfloat16_where_a_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert choose_dtype("auto", torch.device("cuda")) == expected


def test_auto_takes_float16_on_other_devices() -> None:
    assert choose_dtype("auto", torch.device("mps")) == torch.float16


def test_an_unknown_dtype_names_the_known_ones() -> None:
    with pytest.raises(SamplingError, match=r'no dtype "int4"\. Use auto, float32, bfloat16 or float16\.'):
        choose_dtype("int4", CPU)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_dtype_that_no_layer_computes_in_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(SamplingError, match=rf'no dtype "{dtype}"'):
        choose_dtype(dtype, CPU)


@pytest.mark.parametrize("device", ["tpu-of-nobody", "cuda:99", "hpu", "meta"])
def test_an_unusable_device_is_named(device: str) -> None:
    with pytest.raises(SamplingError, match=rf'The device "{device}" cannot be used'):
        choose_device(device)


def test_the_device_may_be_left_to_us() -> None:
    assert choose_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize("operations", [None, torch.nn])
def test_only_weights_in_layers_of_our_own_choice_are_known_to_stay_in_place(operations: object) -> None:
    janus = load_janus(GOLDEN / "janus-tiny-bin", device="cpu", operations=operations)
    assert janus.compute.is_resident is (operations is None)
