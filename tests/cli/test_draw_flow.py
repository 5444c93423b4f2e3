"""`draw`, `ask` and `inspect` with a JanusFlow model, and flags that belong to the other kind."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from janus_core import SCALING, JanusFlow, read_flow_checkpoint
from janus_core.flow.image_vae import ImageVAE, VAEConfig

from .conftest import GOLDEN, MODEL, PICTURES

FLOW = GOLDEN / "janusflow-tiny"
PROMPT = "A small red house"


@pytest.fixture
def flow(janus):
    return lambda *arguments: janus(*arguments, model=FLOW)


@pytest.fixture(scope="module")
def vae_file(tmp_path_factory):
    """Write a small VAE under the names of the first checkpoints of latent diffusion."""
    made = torch.Generator().manual_seed(0)
    config = VAEConfig(
        base_channels=32, channel_multipliers=(1, 1, 1, 1), num_res_blocks=1, latent_channels=4
    )
    middle = {"mid.0": "mid.block_1", "mid.1": "mid.attn_1", "mid.2": "mid.block_2"}
    tensors = {}
    for name, tensor in ImageVAE(config).state_dict().items():
        for ours, theirs in middle.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        for level in range(4):
            name = name.replace(f"conv_blocks.{level}.", f"up.{3 - level}.")  # noqa: PLW2901
        tensors[name.replace(".res.", ".block.")] = torch.randn(tensor.shape, generator=made) * 0.1
    path = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    save_file(tensors, path)
    return path


def latents_of(path):
    return load_file(path)["latent_tensor"]


def test_without_a_vae_latents_alone_are_saved(flow, tmp_path):
    code, out, err = flow(
        "draw", PROMPT, "--seed", 7, "-n", 3, "--batch-size", 2, "--steps", 2, "--out", tmp_path
    )
    assert code == 0
    assert out.strip() == str(tmp_path / "janus_7.latent")
    assert "only latents are saved; --vae sdxl_vae.safetensors makes pictures" in err
    assert latents_of(tmp_path / "janus_7.latent").shape == (3, 4, 8, 8)
    assert list(tmp_path.iterdir()) == [tmp_path / "janus_7.latent"]


def test_with_a_vae_pictures_say_how_they_were_made(flow, tmp_path, vae_file):
    code, out, err = flow(
        "draw", PROMPT, "--vae", vae_file, "--negative", "blue", "--steps", 2, "--solver", "heun",
        "--out", tmp_path,
    )  # fmt: skip
    assert (code, err) == (0, "")
    with Image.open(out.strip()) as picture:
        assert picture.size == (64, 64)
        notes = picture.text
    assert (notes["prompt"], notes["negative_prompt"], notes["seed"]) == (PROMPT, "blue", "0")
    assert json.loads(notes["options"]) == {"steps": 2, "solver": "heun", "cfg_weight": 2.0}
    assert (notes["model"], notes["vae"]) == ("janusflow-tiny", "vae.safetensors")


def test_noise_from_a_file_gives_the_references_latents(flow, tmp_path):
    golden = load_file(GOLDEN / "janusflow-tiny.golden.safetensors")
    facts = json.loads((GOLDEN / "janusflow-tiny.golden.json").read_text())["generation"]["0"]
    save_file({"noise": golden["flow.0.z0"]}, tmp_path / "noise.safetensors")
    code, out, _ = flow(
        "draw", facts["text"], "-n", 2, "--batch-size", 1, "--steps", facts["steps"],
        "--cfg", facts["cfg_weight"],
        "--noise", tmp_path / "noise.safetensors", "--latents", tmp_path / "drawn.safetensors",
        "--dtype", "float32",
        "--json",
    )  # fmt: skip
    assert code == 0
    said = json.loads(out)
    assert said == {"files": [], "seeds": [0, 1], "latents": str(tmp_path / "drawn.safetensors")}
    assert_close(latents_of(said["latents"]) * SCALING, golden["flow.0.traj.z4"], atol=1e-4, rtol=0)


def test_picture_k_of_a_batch_is_the_first_of_seed_plus_k(flow, tmp_path):
    def drawn(*arguments):
        out = flow(
            "draw", PROMPT, "--dtype", "float32", "--json", "--steps", 3, "--out", tmp_path, *arguments
        )[1]
        return latents_of(json.loads(out)["latents"])

    batch = drawn("-n", 3, "--seed", 5, "--batch-size", 2)
    assert_close(batch[2:], drawn("--seed", 7), atol=1e-3, rtol=0)


def test_an_interrupted_drawing_keeps_finished_latents(flow, tmp_path, monkeypatch):
    draw, calls = JanusFlow.draw, []

    def interrupted(self, *arguments, **options):
        calls.append(options)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, *arguments, **options)

    monkeypatch.setattr(JanusFlow, "draw", interrupted)
    code, _, err = flow("draw", PROMPT, "-n", 3, "--batch-size", 2, "--steps", 2, "--out", tmp_path)
    assert code == 130
    assert "kept 2 of 3 pictures" in err
    assert len(latents_of(tmp_path / "janus_0.latent")) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--steps", 0), "steps is 0; it must be a whole number between 1 and 1000"),
        (("--cfg", -1), "cfg_weight is -1.0; it must be above 0"),
        (("-n", 0), "--num-images is 0; it must be at least 1"),
        (("--batch-size", 0), "--batch-size is 0; it must be at least 1"),
        (
            ("--temperature", 0.5),
            '--temperature is for models with image tokens, and "janusflow-tiny" is another',
        ),
        (("--min-p", 0.1), "--min-p is for models with image tokens"),
        (("--vae", "nothing.safetensors"), 'Cannot read the VAE "nothing.safetensors"'),
        (("--vae", FLOW / "model.safetensors"), "has no VAE decoder"),
        (("--noise", FLOW / "model.safetensors"), 'has no tensor called "noise"'),
        (("--latents", FLOW), "it is a folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(flow, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = flow("draw", PROMPT, *arguments)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("flag", ["--steps", "--solver", "--vae", "--latents", "--noise"])
def test_flags_of_janusflow_are_refused_by_other_models(janus, tmp_path, flag):
    value = {"--steps": 3, "--solver": "heun"}.get(flag, "file.safetensors")
    code, _, err = janus("draw", PROMPT, flag, value, "--out", tmp_path, model=MODEL)
    assert code == 1
    assert f'{flag} is for JanusFlow models, and "janus-tiny-bin" is another kind' in err


@pytest.mark.parametrize("command", [("encode", PICTURES / "tiny.png", "-o", "t.safetensors"), ("demo",)])
def test_commands_that_need_image_tokens_name_the_kind(flow, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    code, _, err = flow(*command)
    assert code == 1
    assert (
        "is a JanusFlow model, which draws latents and has no image tokens. Choose an autoregressive" in err
    )


def test_a_question_is_answered(flow):
    code, out, _ = flow("ask", PICTURES / "tiny.png", "-q", "What?", "--max-new-tokens", 5, "--json")
    assert code == 0
    assert len(json.loads(out)["token_ids"]) == 5


def test_pictures_are_captioned(flow):
    code, out, _ = flow("caption", PICTURES / "tiny.png", "--max-new-tokens", 5, "--json")
    assert code == 0
    assert len(json.loads(out)["captions"]) == 1


def test_inspect_says_what_the_folder_holds(flow):
    found = json.loads(flow("inspect", "--json")[1])
    checkpoint, _ = read_flow_checkpoint(FLOW)
    total = sum(tensor.numel() for tensor in checkpoint.state_dict.values())
    assert found["layout"] == "janusflow, model.safetensors"
    assert found["latents"] == "4 × 8 × 8 drawn, 16 tokens; 16 seen"
    assert found["parameters"]["total"] == total
    assert found["memory"]["float32"]["weights"] == 4 * total
    assert found["problems"] == []
