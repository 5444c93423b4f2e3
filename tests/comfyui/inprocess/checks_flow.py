"""JanusFlow in core's samplers gives what our own loop gives; weights are shared, streamed and released."""

from pathlib import Path
from unittest import mock

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.sample
import torch
from janus_pack.janus_core import (
    CheckpointError,
    Compute,
    FlowOptions,
    ImageError,
    PromptError,
    build_flow_model,
    normal_noise,
    read_flow_checkpoint,
)
from janus_pack.janus_core.checkpoints.load import assign_weights
from janus_pack.nodes import draw_flow
from janus_pack.nodes.bridge import flow_sampling, hosting
from janus_pack.nodes.draw import JanusDraw
from janus_pack.nodes.keep_tokens import JanusDecodeTokens, JanusEncodeImage

META, CPU = torch.device("meta"), torch.device("cpu")
PROMPT, STEPS, CFG = "a red circle", 6, 2.0
SHAPE = (4, 8, 8)


def hosted(models: Path, residency: str = "fast", dtype: str = "float32"):
    """Return the tiny JanusFlow in the layers that it has on a GPU."""
    layers = comfy.ops.disable_weight_init if residency == "fast" else comfy.ops.manual_cast
    with mock.patch.object(hosting.devices, "layers", return_value=layers):
        return hosting.host(models / "janusflow-tiny", dtype, residency)


def sampled(model, noise, latents=None, negative="", **options):
    """Return what core's sampler makes of the outputs of Janus Flow Model."""
    made = draw_flow.JanusFlowModel.execute(model, PROMPT, negative)
    patcher, positive, away = made.result
    chosen = {"steps": STEPS, "scheduler": "normal", "sampler_name": "euler", "cfg": CFG, **options}
    empty = torch.zeros_like(noise) if latents is None else latents
    return comfy.sample.sample(
        patcher,
        noise,
        positive=positive,
        negative=away,
        latent_image=empty,
        disable_pbar=True,
        seed=0,
        **chosen,
    )


def drawn(model, count=1, seed=3, **options):
    janus = model.flow("a check")
    return janus.draw(
        PROMPT, num_images=count, seed=seed, options=FlowOptions(steps=STEPS), **options
    ).latents


def differ(found, expected) -> float:
    return float((found - expected).abs().max())


def check_ksampler_equals_our_own_loop(models: Path) -> None:
    model = hosted(models)
    for count in (1, 3):
        with torch.inference_mode():
            found = sampled(model, normal_noise(range(3, 3 + count), SHAPE))
        off = differ(found, drawn(model, count))
        assert off < 1e-3, f"{count} pictures differ by {off}"


def check_ksampler_equals_our_own_loop_away_from_a_negative_prompt(models: Path) -> None:
    model = hosted(models)
    with torch.inference_mode():
        found = sampled(model, normal_noise([3], SHAPE), negative="a blue square")
    expected = drawn(model, negative_prompt="a blue square")
    assert differ(found, expected) < 1e-3
    assert differ(expected, drawn(model)) > 0.1


def check_other_samplers_and_schedulers_run(models: Path) -> None:
    model = hosted(models)
    pairs = [("heun", "normal"), ("dpmpp_2m", "karras"), ("euler_ancestral", "beta"), ("uni_pc", "simple")]
    with torch.inference_mode():
        for sampler, scheduler in pairs:
            found = sampled(model, normal_noise([3], SHAPE), sampler_name=sampler, scheduler=scheduler)
            assert bool(found.isfinite().all()), (sampler, scheduler)


def check_even_schedules_end_with_the_picture(models: Path) -> None:
    import comfy.samplers

    sampling = hosted(models).patcher.model.model_sampling
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 30)
    even = 1 - torch.arange(31) / 30
    assert differ(sigmas, even) < 1e-6
    assert float(sigmas[-1]) == 0


def check_times_of_even_schedules_are_exact(models: Path) -> None:
    for steps in (7, 30, 50):
        sigmas = torch.tensor([1 - step / steps for step in range(steps)])
        found = flow_sampling.network_times(sigmas * 1000).double()
        expected = torch.tensor([step / steps * 1000 for step in range(steps)]).double()
        assert torch.equal(found, expected.float().double()), (found - expected).abs().max()
    assert flow_sampling.network_times(torch.zeros(1)).item() == 999  # the network has not learned 1000
    odd = torch.tensor([123.456])
    assert differ(flow_sampling.network_times(odd), 1000 - odd) < 1e-4


def check_prompts_are_prefilled_once_a_run(models: Path) -> None:
    model, prepared = hosted(models), []
    original = flow_sampling.PreparedRows

    def counted(*arguments, **options):
        prepared.append(1)
        return original(*arguments, **options)

    with mock.patch.object(flow_sampling, "PreparedRows", counted), torch.inference_mode():
        sampled(model, normal_noise([3], SHAPE))
        assert len(prepared) == 2, prepared  # positive and negative
        sampled(model, normal_noise([3], SHAPE))
        assert len(prepared) == 4, "prompts outlive their run"


def check_denoise_below_1_starts_from_the_given_latents(models: Path) -> None:
    """Less noise leaves more of them: the weights are random, so how much is only compared."""
    model = hosted(models)
    given = torch.nn.functional.interpolate(normal_noise([1], (4, 2, 2)), scale_factor=4) / 0.13025
    likeness = []
    with torch.inference_mode():
        for denoise in (0.1, 0.5, 1.0):
            found = sampled(model, normal_noise([3], SHAPE), given, denoise=denoise)
            likeness.append(float(torch.corrcoef(torch.stack((given.flatten(), found.flatten())))[0, 1]))
    assert likeness[0] > 0.9 > likeness[1] > likeness[2], likeness


def refusal(kind, call) -> str:
    """Return what an error of a kind says; anything else that happens fails the check."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError("nothing was refused")


def check_latents_of_another_shape_are_refused(models: Path) -> None:
    model = hosted(models)
    for shape in ((1, 4, 6, 6), (1, 16, 8, 8)):
        said = refusal(ImageError, lambda shape=shape: sampled(model, torch.ones(shape), torch.ones(shape)))
        assert "this JanusFlow model draws 8 × 8 of 4 channels, a picture of 64 × 64" in said, said


def check_conditioning_of_another_model_is_refused(models: Path) -> None:
    patcher, empty = flow_sampling.for_samplers(hosted(models).patcher), torch.zeros(1, *SHAPE)
    foreign = [[torch.zeros(1, 77, 64), {"pooled_output": None}]]
    said = refusal(
        PromptError,
        lambda: comfy.sample.sample(
            patcher, empty, 2, CFG, "euler", "normal", foreign, foreign, empty, disable_pbar=True
        ),
    )
    assert "Connect positive and negative of Janus Flow Model" in said, said


def check_each_kind_is_refused_by_the_others_nodes(models: Path) -> None:
    flow, other = hosted(models), hosting.host(models / "janus-tiny", "float32", "fast")
    picture = torch.zeros(1, 8, 8, 3)
    calls = [
        (lambda: JanusDraw.execute(flow, PROMPT), "Janus Draw works with image tokens"),
        (lambda: JanusEncodeImage.execute(flow, picture), "Janus Encode Image works with image tokens"),
        (lambda: JanusDecodeTokens.execute(flow, None), "Janus Decode Tokens works with image tokens"),
        (lambda: draw_flow.JanusFlowDraw.execute(other, PROMPT), "Janus Flow Draw needs a JanusFlow model"),
        (lambda: draw_flow.JanusFlowModel.execute(other, PROMPT), "Janus Flow Model needs a JanusFlow model"),
    ]
    for call, expected in calls:
        said = refusal(CheckpointError, call)
        assert expected in said, said


def check_streamed_weights_draw_the_same_latents(models: Path) -> None:
    whole, streamed = hosted(models, "fast"), hosted(models, "offload")
    off = differ(drawn(whole, 2), drawn(streamed, 2))
    assert off < 1e-3, off


def check_half_precision_runs_streamed_and_whole(models: Path) -> None:
    for residency in ("fast", "offload"):
        for dtype in ("bfloat16", "float16"):
            model = hosted(models, residency, dtype)
            assert bool(drawn(model).isfinite().all())
            with torch.inference_mode():
                assert bool(sampled(model, normal_noise([3], SHAPE)).isfinite().all())


def check_the_flow_network_draws_half_loaded(models: Path) -> None:
    """The device is torch's meta device, which refuses to compute with anything left on the CPU."""
    checkpoint, _ = read_flow_checkpoint(models / "janusflow-tiny")
    model = build_flow_model(checkpoint.config, comfy.ops.manual_cast)
    assign_weights(model, checkpoint.state_dict)
    compute = Compute(device=META, dtype=torch.float32)
    base = flow_sampling.FlowBaseModel(model, compute)
    patcher = comfy.model_patcher.ModelPatcher(base, load_device=META, offload_device=CPU)
    patcher.patch_model(META, lowvram_model_memory=patcher.model_size() // 2)
    places = {parameter.device.type for parameter in base.parameters()}
    assert places == {"cpu", "meta"}, places
    encoded = model.flow.encode(torch.zeros(2, *SHAPE, device=META), torch.zeros(2, device=META))
    words = torch.zeros(2, 5, 64, device=META)
    rows = flow_sampling.PreparedRows(model, flow_sampling.rows_of_one_length(words, 9), 16, compute)
    assert rows.velocities(encoded).shape == (2, *SHAPE)


def check_sampler_and_node_share_their_weights(models: Path) -> None:
    model = hosted(models)
    patcher = flow_sampling.for_samplers(model.patcher)
    assert patcher.is_clone(model.patcher)
    assert patcher.model is model.patcher.model


def check_all_parts_are_known_to_comfyui_and_released_on_request(models: Path) -> None:
    model = hosted(models)
    drawn(model)
    model.janus.ask("What?")
    loaded = [loaded.model for loaded in mm.current_loaded_models]
    assert all(any(part is one for one in loaded) for part in (model.parts["language"], model.parts["words"]))
    mm.unload_all_models()
    loaded = [loaded.model for loaded in mm.current_loaded_models]
    assert not any(part is one for part in model.get_models() for one in loaded)
    assert differ(drawn(model), drawn(hosted(models))) < 1e-3


def check_the_global_random_state_is_untouched_by_core_noise(models: Path) -> None:
    before = torch.get_rng_state()
    noise = draw_flow._noise("as KSampler", 5, (2, *SHAPE))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(noise, comfy.sample.prepare_noise(torch.zeros(2, *SHAPE), 5))
