"""The measured architectures in four sizes, and how much work a row does at each.

Numbers only; weights are made in `weights.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from janus_core.model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    JanusConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)

_HALF = (0.5, 0.5, 0.5)
_CODE_WIDTH = 8


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much one trial of each row does, so that no row takes minutes on a slow machine.

    Attributes:
        draw_steps: image tokens of a picture.
        check_steps: image tokens compared between contenders before anything is timed.
        answer_tokens: length of one answer.
        captions: pictures captioned in a batch.
        caption_tokens: length of each of those captions.
        singles: how many of them are captioned one by one; the time is scaled up to all.
        together: pictures drawn in a batch.
        timed_steps: drawing steps timed at one length of the cache, the prefill taken off.
        contexts: the two prompt lengths before those steps; they differ by half a picture.
    """

    draw_steps: int
    check_steps: int
    answer_tokens: int
    captions: int
    caption_tokens: int
    singles: int
    together: int
    timed_steps: int
    contexts: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One model and the work done with it, which is more on a GPU."""

    name: str
    config: JanusConfig
    on_cpu: Work
    on_gpu: Work

    def work(self, device_type: str) -> Work:
        """Return the work for a kind of device."""
        return self.on_cpu if device_type == "cpu" else self.on_gpu


def _config(language: LanguageConfig, vision: VisionConfig, vq: VQConfig) -> JanusConfig:
    width = language.hidden_size
    return JanusConfig(
        vision=vision,
        understanding_aligner=AlignerConfig(depth=2, input_width=vision.width, output_width=width),
        language=language,
        generation_aligner=AlignerConfig(depth=2, input_width=_CODE_WIDTH, output_width=width),
        generation_head=GenerationHeadConfig(
            input_width=width, inner_width=width, codebook_size=vq.codebook_size
        ),
        vq=vq,
        preprocess=PreprocessConfig(
            image_size=vision.image_size,
            min_size=14,
            image_mean=_HALF,
            image_std=_HALF,
            rescale_factor=1 / 255,
            do_normalize=True,
        ),
        old_roles=False,
    )


def _language(width: int, inner: int, layers: int, heads: int, vocabulary: int) -> LanguageConfig:
    return LanguageConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        max_position_embeddings=16384,
        vocab_size=vocabulary,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
    )


def _tower(side_px: int, width: int, layers: int, heads: int) -> VisionConfig:
    return VisionConfig(
        image_size=side_px,
        patch_size=16,
        width=width,
        layers=layers,
        heads=heads,
        mlp_ratio=4.0,
        pixel_mean=None,
        pixel_std=None,
    )


def _vq(codebook_size: int, base_channels: int, num_res_blocks: int, latent_channels: int) -> VQConfig:
    return VQConfig(
        codebook_size=codebook_size,
        code_width=_CODE_WIDTH,
        base_channels=base_channels,
        channel_multipliers=(1, 1, 2, 2, 4),
        num_res_blocks=num_res_blocks,
        latent_channels=latent_channels,
        norm_groups=32,
    )


_TINY = _config(_language(64, 176, 2, 4, 512), _tower(64, 64, 2, 4), _vq(256, 32, 1, 32))
_MID = _config(_language(768, 2048, 12, 12, 32768), _tower(384, 768, 12, 12), _vq(16384, 128, 2, 256))
_1B = _config(_language(2048, 5632, 24, 16, 102400), _tower(384, 1024, 24, 16), _vq(16384, 128, 2, 256))
_7B = _config(_language(4096, 11008, 30, 32, 102400), _tower(384, 1024, 24, 16), _vq(16384, 128, 2, 256))

_CONTEXTS = (32, 32 + 288)
_LONG_RUN = 256  # steps on a GPU: fewer are over before a clock can tell them from the prefill
_ON_GPU = Work(
    draw_steps=576,
    check_steps=64,
    answer_tokens=100,
    captions=64,
    caption_tokens=100,
    singles=4,
    together=16,
    timed_steps=_LONG_RUN,
    contexts=(32, 32 + 288 - _LONG_RUN // 2),
)
_MID_ON_CPU = replace(_ON_GPU, check_steps=48, captions=16, together=4, timed_steps=24, contexts=_CONTEXTS)
_1B_ON_CPU = replace(
    _MID_ON_CPU, check_steps=8, answer_tokens=20, captions=4, caption_tokens=20, singles=1, timed_steps=48
)
_TINY_WORK = Work(
    draw_steps=16,
    check_steps=16,
    answer_tokens=8,
    captions=4,
    caption_tokens=4,
    singles=2,
    together=3,
    timed_steps=4,
    contexts=(32, 40),
)

SIZES = {
    size.name: size
    for size in (
        Size(name="tiny", config=_TINY, on_cpu=_TINY_WORK, on_gpu=_TINY_WORK),
        Size(name="mid", config=_MID, on_cpu=_MID_ON_CPU, on_gpu=_ON_GPU),
        Size(name="1b", config=_1B, on_cpu=_1B_ON_CPU, on_gpu=_ON_GPU),
        Size(name="7b", config=_7B, on_cpu=_1B_ON_CPU, on_gpu=_ON_GPU),
    )
}
