"""The JanusFlow nodes in a running ComfyUI: latents that core's nodes take, previews, Cancel, captions."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comfy_client import Client, Run
from comfy_server import Server
from conftest import GOLDEN
from graphs import Graph, Link
from random_vae import vae_tensors
from safetensors.numpy import load_file, save_file

PAGES = GOLDEN.parents[1] / "browser" / "golden"
SIDE_PX, STEPS = 64, 6


@pytest.fixture(scope="module", autouse=True)
def flow_files(server: Server) -> Path:
    """Install the tiny JanusFlow and a small VAE; returns the base folder."""
    shutil.copytree(GOLDEN / "janusflow-tiny", server.base / "models" / "janus" / "janusflow-tiny")
    folder = server.base / "models" / "vae"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(vae_tensors(), folder / "tiny_sdxl_vae.safetensors")
    return server.base


class FlowGraph(Graph):
    """A prompt with a JanusFlow model."""

    def flow(self) -> Link:
        return self.load(model=self.text("janusflow-tiny"))

    def draw(self, model: Link | None = None, **inputs: object) -> str:
        options = {"prompt": "a red circle", "steps": STEPS, **inputs}
        return self.add("JanusFlowDraw", model=model or self.flow(), **options)

    def sampled(self, model: Link, latents: Link, **inputs: object) -> str:
        made = self.add("JanusFlowModel", model=model, prompt="a red circle")
        options = {
            "seed": 0, "steps": STEPS, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1.0, **inputs,
        }  # fmt: skip
        return self.add(
            "KSampler",
            model=[made, 0],
            positive=[made, 1],
            negative=[made, 2],
            latent_image=latents,
            **options,
        )

    def empty(self, count: int = 1, side_px: int = SIDE_PX) -> Link:
        return [self.add("EmptyLatentImage", width=side_px, height=side_px, batch_size=count), 0]

    def kept(self, node: str) -> str:
        return self.add("SaveLatent", samples=[node, 0], filename_prefix="flow/latents")


@pytest.fixture
def graph() -> FlowGraph:
    return FlowGraph()


def finished(client: Client, graph: Graph) -> Run:
    run = client.run(graph)
    assert run.error is None, run.error
    return run


def latents(base: Path, run: Run, node: str) -> np.ndarray:
    """Return the latents that a SaveLatent node wrote."""
    [file] = run.outputs[node]["latents"]
    return load_file(base / "output" / file["subfolder"] / file["filename"])["latent_tensor"]


def test_drawn_latents_decode_in_core(client: Client, graph: FlowGraph) -> None:
    vae = [graph.add("VAELoader", vae_name="tiny_sdxl_vae.safetensors"), 0]
    draw = graph.draw(batch_size=2, seed=1)
    saved = graph.saved([graph.add("VAEDecode", samples=[draw, 0], vae=vae), 0])
    pictures = client.pictures(finished(client, graph), saved)
    assert pictures.shape == (2, SIDE_PX, SIDE_PX, 3)
    assert np.ptp(pictures) > 50


def test_ksampler_equals_janus_flow_draw(client: Client, graph: FlowGraph, flow_files: Path) -> None:
    model = graph.flow()
    own = graph.kept(graph.draw(model, batch_size=2, seed=7, noise="as KSampler"))
    core = graph.kept(graph.sampled(model, graph.empty(2), seed=7))
    run = finished(client, graph)
    found, expected = latents(flow_files, run, core), latents(flow_files, run, own)
    assert np.abs(found - expected).max() < 1e-3
    assert np.abs(expected).max() > 1


def test_picture_k_of_a_batch_is_the_first_of_seed_plus_k(
    client: Client, graph: FlowGraph, flow_files: Path
) -> None:
    model = graph.flow()
    batch, alone = graph.kept(graph.draw(model, batch_size=3, seed=5)), graph.kept(graph.draw(model, seed=7))
    run = finished(client, graph)
    found, expected = latents(flow_files, run, batch)[2], latents(flow_files, run, alone)[0]
    assert np.abs(found - expected).max() < 1e-3


def test_every_step_is_told_and_shown(client: Client, graph: FlowGraph) -> None:
    draw = graph.draw(seed=2, steps=40)
    graph.kept(draw)
    run = finished(client, graph)
    progress = run.progress_of(draw)
    assert progress[-1] == (40, 40)
    assert progress == sorted(progress)
    assert run.previews
    assert set(run.preview_nodes) == {draw}


def test_cancel_takes_effect_within_a_step(client: Client, graph: FlowGraph) -> None:
    draw = graph.draw(seed=3, steps=1000, batch_size=8)
    graph.kept(draw)

    def interrupt(run: Run) -> None:
        if run.progress_of(draw) and not asked:
            asked.append(run.progress_of(draw)[-1][0])
            client.interrupt()

    asked: list[int] = []
    run = client.follow(client.submit(graph), interrupt)
    assert run.interrupted
    assert asked[0] < 1000
    assert run.progress_of(draw)[-1][0] < 1000


def test_captions_and_answers_come_from_janusflow_too(client: Client, graph: FlowGraph) -> None:
    model, picture = graph.flow(), graph.picture("landscape.png")
    caption = graph.add("JanusCaption", model=model, image=picture)
    answer = graph.add("JanusAsk", model=model, image=picture)
    run = finished(client, graph)
    assert run.answers(caption)
    assert run.answers(answer)


@pytest.fixture
def published_size(server: Server) -> str:
    """Install the tiny JanusFlow for pictures of 384 × 384; only what sees changes its size."""
    folder = server.base / "models" / "janus" / "janusflow-384"
    shutil.copytree(GOLDEN / "janusflow-tiny", folder)
    for name in ("config.json", "preprocessor_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace('"image_size": 64', '"image_size": 384'), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    positions = "vision_und_enc_model.vision_tower.pos_embed"
    tensors[positions] = np.resize(tensors[positions], (1, 576, tensors[positions].shape[-1]))
    save_file(tensors, folder / "model.safetensors")
    return folder.name


def test_the_workflow_that_draws_shows_its_pictures(client: Client, published_size: str) -> None:
    workflow = json.loads((PAGES / "Draw with JanusFlow.json").read_text(encoding="utf-8"))
    kinds = {node["class_type"]: key for key, node in workflow.items()}
    workflow[kinds["JanusLoad"]]["inputs"]["model"] = published_size
    workflow[kinds["VAELoader"]]["inputs"]["vae_name"] = "tiny_sdxl_vae.safetensors"
    workflow[kinds["JanusFlowDraw"]]["inputs"]["steps"] = 3
    run = client.run(workflow)
    assert run.error is None, run.error
    assert client.pictures(run, kinds["PreviewImage"]).shape == (2, 384, 384, 3)


# --- bad input: each one clear sentence, and the next run works ---


@pytest.fixture
def works_afterwards(client: Client) -> Iterator[None]:
    yield
    graph = FlowGraph()
    graph.kept(graph.draw(seed=99))
    finished(client, graph)


def failure(client: Client, graph: Graph) -> str:
    run = client.run(graph)
    assert run.error is not None
    said = str(run.error["exception_message"])
    assert re.search(r"[A-Z].*\.\s*$", said, re.DOTALL), said
    return said


@pytest.mark.usefixtures("works_afterwards")
def test_an_autoregressive_model_in_a_flow_node(client: Client, graph: FlowGraph) -> None:
    graph.kept(graph.draw(graph.load()))
    assert "Janus Flow Draw needs a JanusFlow model" in failure(client, graph)


@pytest.mark.usefixtures("works_afterwards")
def test_a_janusflow_model_in_a_node_for_image_tokens(client: Client, graph: FlowGraph) -> None:
    graph.saved([graph.add("JanusDraw", model=graph.flow()), 0])
    assert "Janus Draw works with image tokens, and this is a JanusFlow model" in failure(client, graph)


@pytest.mark.usefixtures("works_afterwards")
def test_latents_of_another_size_in_ksampler(client: Client, graph: FlowGraph) -> None:
    graph.kept(graph.sampled(graph.flow(), graph.empty(side_px=128)))
    assert "this JanusFlow model draws 8 × 8 of 4 channels, a picture of 64 × 64" in failure(client, graph)


@pytest.mark.usefixtures("works_afterwards")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("solver", "rk45", 'There is no solver "rk45"'), ("noise", "pink", 'There is no noise "pink"')],
)
def test_a_choice_that_is_not_in_the_list(
    client: Client, graph: FlowGraph, name: str, value: str, said: str
) -> None:
    graph.kept(graph.draw(**{name: graph.text(value)}))
    assert said in failure(client, graph)


def test_less_denoise_keeps_more_of_the_given_latents(
    client: Client, graph: FlowGraph, flow_files: Path
) -> None:
    model = graph.flow()
    given = graph.draw(model, seed=1)
    kept = [graph.kept(given)]
    kept += [
        graph.kept(graph.sampled(model, [given, 0], seed=2, steps=10, denoise=denoise))
        for denoise in (0.2, 0.5, 1.0)
    ]
    run = finished(client, graph)
    first, *others = (latents(flow_files, run, node).ravel() for node in kept)
    little, half, all_anew = (float(np.corrcoef(first, other)[0, 1]) for other in others)
    assert little > 0.9
    assert half > 0.6
    assert abs(all_anew) < 0.4 < half
