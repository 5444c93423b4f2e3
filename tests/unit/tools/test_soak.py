"""A long run repeats itself from its seed, goes on where it was cut off, and notices what went wrong."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tools.soak.figures import WARM_UP, growth, robust_slope, summary
from tools.soak.jobs import job
from tools.soak.records import Records, digest_of, is_whole, must_save, output_files, results_of

TOKENS = ["soak/tokens_00001_.janus.safetensors [output]"]
PICTURES = ["soak/picture_00001_.png [output]"]


def test_a_job_follows_from_seed_and_number() -> None:
    jobs = [job(3, number, TOKENS, PICTURES) for number in range(300)]
    assert [job(3, number, TOKENS, PICTURES) for number in range(300)] == jobs
    assert [job(4, number, TOKENS, PICTURES).graph for number in range(300)] != [one.graph for one in jobs]
    assert len({one.kind for one in jobs}) == 13
    assert {one.action for one in jobs} == {"run", "cancel", "drop", "refuse", "free"}


def test_equal_jobs_come_again() -> None:
    graphs = [str(one.graph) for number in range(2000) if (one := job(0, number, [], [])).kind == "draw"]
    assert len(set(graphs)) < len(graphs)


def test_records_go_on_where_they_were_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    records = Records.open(path)
    assert (records.next_number, records.elapsed_s) == (0, 0.0)
    records.add("job", 5.0, number=0, files={"a.txt": "1"}, results={"x/1": "2"})
    with path.open("a") as file:
        file.write('{"event": "job", "at_s": 9.0, "numb')
    again = Records.open(path)
    assert (again.next_number, again.elapsed_s) == (1, 5.0)
    assert (again.files, again.results) == ({"a.txt": "1"}, {"x/1": "2"})
    again.add("job", 6.0, number=1)
    assert len(Records.open(path).lines) == 2


def test_another_result_of_an_equal_job_is_noticed(tmp_path: Path) -> None:
    records = Records.open(tmp_path / "ledger.jsonl")
    records.add("job", 1.0, number=0, results={"x/1": "a"})
    assert records.differing({"x/1": "a", "y/1": "b"}) == []
    assert records.differing({"x/1": "b"}) == ["x/1"]
    records.add("job", 2.0, number=1, results={"x/1": "a"})
    assert records.repeated == 1


def test_lost_and_changed_files_are_noticed(tmp_path: Path) -> None:
    records = Records.open(tmp_path / "ledger.jsonl")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    digests = {name: digest_of(tmp_path / name) for name in ("a.txt", "b.txt")}
    records.add("job", 1.0, number=0, files=digests)
    assert records.lost(tmp_path) == []
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.txt").write_text("c")
    assert records.lost(tmp_path) == ["a.txt", "b.txt"]


def test_half_a_file_is_not_whole(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(samples).save(tmp_path / "a.png")
    save_file({"grid": np.zeros((1, 4, 4), np.int64)}, tmp_path / "a.safetensors")
    (tmp_path / "a.txt").write_text("a red circle")
    for path in sorted(tmp_path.iterdir()):
        assert is_whole(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if path.suffix != ".txt" else 0])
        assert not is_whole(path)
    assert not is_whole(tmp_path / "absent.png")


def test_files_and_results_of_a_job_are_found(tmp_path: Path) -> None:
    graph = {
        "1": {"class_type": "JanusSaveTokens", "inputs": {"filename_prefix": "soak/tokens"}},
        "2": {"class_type": "JanusSaveCaptions", "inputs": {"filename_prefix": "soak/caption"}},
        "3": {"class_type": "JanusAsk", "inputs": {"question": "x"}},
    }
    shown = {"subfolder": "soak", "filename": "caption_00001_.png", "type": "output"}
    outputs: dict[str, Any] = {
        "1": {"text": ["t.safetensors"]},
        "2": {"images": [shown]},
        "3": {"text": ["red"]},
    }
    (tmp_path / "soak").mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "soak" / "caption_00001_.png")
    names = ["soak/t.safetensors", "soak/caption_00001_.png", "soak/caption_00001_.txt"]
    assert output_files(outputs, graph) == names
    assert must_save(graph) == {"1", "2"}
    results = results_of(outputs, graph, tmp_path)
    assert sorted(key.partition("/")[2] for key in results) == ["2/0", "3"]
    graph["2"]["inputs"]["filename_prefix"] = "elsewhere"  # where it goes is no matter
    assert results_of(outputs, graph, tmp_path) == results
    outputs["3"]["text"] = ["blue"]
    assert results_of(outputs, graph, tmp_path) != results


def test_the_slope_ignores_outliers() -> None:
    rng = random.Random(0)
    values = [100 + 0.01 * i + rng.uniform(-3, 3) + (500 if i % 40 == 0 else 0) for i in range(900)]
    assert robust_slope(values) == pytest.approx(0.01, abs=0.002)
    assert robust_slope([]) == robust_slope([5.0]) == 0


def lines(growing_kib: float) -> list[dict[str, Any]]:
    jobs = [
        {"event": "job", "at_s": float(n), "number": n, "kind": "draw", "end": "finished", "life": 0,
         "rss_kib": 1_000_000 + growing_kib * n + n % 7}
        for n in range(WARM_UP + 200)
    ]  # fmt: skip
    return [{"event": "start", "at_s": 0.0, "life": 0}, *jobs]


def test_memory_that_grows_is_a_failure() -> None:
    steady, leaking = lines(0.0), lines(200.0)
    found = growth(leaking[1:], 0)
    assert found is not None
    assert found.share == pytest.approx(0.04, abs=0.002)
    assert summary(steady, 0)[1]
    assert not summary(leaking, 0)[1]
    assert not summary(steady[:50], 0)[1]  # too few jobs to tell


def test_a_failure_is_told() -> None:
    failed = [*lines(0.0), {"event": "failure", "at_s": 400.0, "what": "lost", "detail": "a.png", "life": 0}]
    said, is_good = summary(failed, 3)
    assert not is_good
    assert "| failure: lost | a.png |" in said
