"""When kernels are used, whether Triton builds them for GPUs, and, in its interpreter, what they compute."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from janus_core.generation import kernels
from janus_core.generation.counted_attention import splits_of
from janus_core.generation.static_decoder import gate, gate_for

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ROOT = Path(__file__).parents[3]
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(
    not HAS_TRITON, reason="Triton is not installed: what the optional kernels compute goes untested"
)


# what they compute


@pytest.mark.slow
@needs_triton
def test_kernels_compute_what_plain_operators_do() -> None:
    checks = Path(__file__).with_name("checks_kernels.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", checks],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


HALF = {75: "*fp16", 90: "*bf16"}
POINTERS = {"positions": "*i64", "slot": "*i64", "parts": "*fp32", "sums": "*fp32", "scale": "fp32"} | {
    "found": "*fp32", "low": "*i64", "high": "*i64", "attended": "*i1",
}  # fmt: skip
HALVES = {"projected", "keys", "values", "cosines", "sines", "mixed", "gate_up", "gated"}
CONSTANTS: dict[str, dict[str, Any]] = {
    "_attend": {"head_dim": 128, "block": 64, "is_padded": True, "is_whole": False},
    "_combine": {"head_dim": 128, "most": 16},
    "_gate": {"block": 512},
    "_uniforms": {"block": 256},
}


@needs_triton
@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("capability", HALF)
def test_triton_builds_a_kernel_for_a_gpu_that_is_not_there(
    name: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton import compile as build
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from janus_core.generation import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = vars(triton_kernels)[name]
    constants = CONSTANTS[name]

    def kind(argument: str) -> str:
        if argument in constants:
            return "constexpr"
        return HALF[capability] if argument in HALVES else POINTERS.get(argument, "i32")

    names = kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={argument: kind(argument) for argument in names},
        constexprs={(names.index(argument),): value for argument, value in constants.items()},
    )
    built = build(source, target=GPUTarget("cuda", capability, 32), options=triton_kernels._FUSED)
    assert name in built.asm["ptx"]


# where they are used


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    kernels.can_run.cache_clear()
    yield
    kernels.can_run.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for a GPU of Ampere's age and an installed Triton."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())


def test_a_gpu_with_triton_can_run_kernels(gpu: None) -> None:
    assert kernels.can_run(CUDA)


@pytest.mark.parametrize("name", ["cpu", "mps", "xpu", "meta"])
def test_other_devices_cannot(gpu: None, name: str) -> None:
    assert not kernels.can_run(torch.device(name))


def test_rocm_cannot(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.hip", "6.4")
    assert not kernels.can_run(CUDA)


def test_a_gpu_older_than_turing_cannot(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 0))
    assert not kernels.can_run(CUDA)


def test_without_triton_the_log_says_so_once(
    gpu: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, logger="janus.kernels"):
        assert not any(kernels.passes("noise", CUDA, lambda: True) for _ in range(3))
    assert len(caplog.records) == 1


def fail() -> bool:
    raise RuntimeError("no C compiler")


@pytest.mark.parametrize(("trial", "said"), [(lambda: False, "differ"), (fail, "no C compiler")])
def test_a_kernel_that_fails_its_trial_is_not_used(
    gpu: None, trial: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="janus.kernels"):
        assert not kernels.passes("noise", CUDA, trial)
    [record] = caplog.records
    assert record.levelname == "INFO"
    assert said in record.getMessage()


def test_a_kernel_that_passes_is_used_in_silence(gpu: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="janus.kernels"):
        assert kernels.passes("noise", CUDA, lambda: True)
    assert not caplog.records


def test_a_cpu_tries_no_kernel() -> None:
    assert not kernels.passes("noise", CPU, fail)


def test_a_cpu_gates_by_plain_operators() -> None:
    assert gate_for(CPU, torch.float32) is gate


def test_nothing_but_a_gpu_imports_triton() -> None:
    code = (
        "import sys, torch, janus_core; from janus_core.generation import answering, drawing, noise;"
        "noise.gumbel_noise([1], range(2), 8, 'cpu');"
        "print('triton' in sys.modules or 'janus_core.generation.triton_kernels' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("processors", "heads", "splits"), [(132, 32, 8), (132, 64, 4), (132, 512, 1), (28, 32, 1), (132, 2, 16)]
)
def test_few_heads_share_their_keys_among_more_programs(
    processors: int, heads: int, splits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(multi_processor_count=processors)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    assert splits_of(heads, CUDA) == splits
