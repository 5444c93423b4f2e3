"""JanusFlow on the real page: latents decode in core's VAE, previews are seen, Cancel acts between steps."""

import pytest
from page_actions import ask_server, build, ended, press_cancel, press_run, run
from random_vae import vae_tensors
from safetensors.numpy import save_file

pytestmark = pytest.mark.browser
VAE = "tiny_sdxl_vae.safetensors"
MANY_STEPS = 1000
# From now on: which nodes previews come for, and every step that is told.
_LISTEN = """() => {
    window.seen = { previews: [], steps: [] };
    const note = (kind, then) => app.api.addEventListener(kind, event => then(event.detail));
    note("b_preview_with_metadata", detail => seen.previews.push(String(detail.displayNodeId)));
    note("progress", detail => seen.steps.push(detail.value));
}"""
_SIZES = "id => (app.rootGraph.getNodeById(id).imgs ?? []).map(i => [i.naturalWidth, i.naturalHeight])"


@pytest.fixture(autouse=True)
def vae(server):
    folder = server.base / "models" / "vae"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / VAE).exists():
        save_file(vae_tensors(), folder / VAE)


@pytest.fixture
def listening(page):
    page.evaluate(_LISTEN)
    return page


DECODED = {
    "load": ["JanusLoad", {"model": "janusflow-tiny"}],
    "vae": ["VAELoader", {"vae_name": VAE}],
    "decode": ["VAEDecode", {}],
    "show": ["PreviewImage", {}],
}
DECODING = [("vae", "VAE", "decode", "vae"), ("decode", "IMAGE", "show", "images")]


def drawing(page, seed, steps, batch_size=1):
    """Make Janus Flow Draw → VAE Decode → Preview Image."""
    options = {"prompt": "a red circle", "seed": seed, "steps": steps, "batch_size": batch_size}
    links = [("load", "janus", "draw", "model"), ("draw", "LATENT", "decode", "samples")]
    return build(page, {**DECODED, "draw": ["JanusFlowDraw", options]}, [*links, *DECODING])


def test_drawn_latents_decode_in_core_and_a_preview_is_seen(listening, server):
    ids = drawing(listening, seed=21, steps=12)
    assert run(listening, server)["status"]["status_str"] == "success"
    listening.wait_for_function(f"id => ({_SIZES})(id).length === 1", arg=ids["show"])
    assert listening.evaluate(_SIZES, ids["show"]) == [[64, 64]]
    assert set(listening.evaluate("seen.previews")) == {ids["draw"]}
    assert max(listening.evaluate("seen.steps")) >= 12


def test_ksampler_draws_with_it_and_a_preview_is_seen(listening, server):
    options = {"seed": 22, "steps": 12, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}
    graph = {
        **DECODED,
        "flow": ["JanusFlowModel", {"prompt": "a red circle"}],
        "empty": ["EmptyLatentImage", {"width": 64, "height": 64}],
        "sample": ["KSampler", options],
    }
    links = [
        ("load", "janus", "flow", "model"), ("flow", "MODEL", "sample", "model"),
        ("flow", "positive", "sample", "positive"), ("flow", "negative", "sample", "negative"),
        ("empty", "LATENT", "sample", "latent_image"), ("sample", "LATENT", "decode", "samples"),
    ]  # fmt: skip
    ids = build(listening, graph, [*links, *DECODING])
    assert run(listening, server)["status"]["status_str"] == "success"
    listening.wait_for_function(f"id => ({_SIZES})(id).length === 1", arg=ids["show"])
    assert listening.evaluate(_SIZES, ids["show"]) == [[64, 64]]
    assert ids["sample"] in listening.evaluate("seen.previews")


def test_cancel_on_the_page_stops_between_two_steps(listening, server):
    ids = drawing(listening, seed=23, steps=MANY_STEPS, batch_size=8)
    before = set(ask_server(server, "/history"))
    press_run(listening)
    listening.wait_for_function("seen.steps.length > 2", timeout=120_000)
    with listening.expect_response("**/interrupt"):
        press_cancel(listening)
    stopped = ended(listening, server, before)
    assert any(message[0] == "execution_interrupted" for message in stopped["status"]["messages"])
    # how many steps are done meanwhile depends on how far the page lags behind; tests/comfyui counts them
    assert listening.evaluate("Math.max(...seen.steps)") < MANY_STEPS
    assert listening.evaluate(_SIZES, ids["show"]) == []
