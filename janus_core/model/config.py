"""The numbers that fix a Janus model's architecture, as frozen dataclasses without defaults.

A forgotten number fails at construction; numbers that do not fit each other fail in `__post_init__`. This
file knows nothing of JSON, layouts on disk or published models: `checkpoints/config_files.py` reads and
writes those.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError


def _require_divisible(whole: int, part: int, what: str) -> None:
    if part <= 0 or whole % part:
        raise ConfigError(f"The configuration says {what}, but {whole} is not divisible by {part}.")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The SigLIP vision tower.

    Attributes:
        image_size: side of the square input in pixels.
        patch_size: side of one patch in pixels.
        width: channels of the image features.
        layers: transformer blocks that are computed; a file may list more, whose output nobody reads.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over `width`; the product is truncated.
        pixel_mean: the tower's own normalisation of its input, or None (all published Janus models).
        pixel_std: goes with `pixel_mean`.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float
    pixel_mean: tuple[float, ...] | None
    pixel_std: tuple[float, ...] | None

    def __post_init__(self) -> None:
        _require_divisible(self.image_size, self.patch_size, "a vision image_size and patch_size")
        _require_divisible(self.width, self.heads, "a vision width and a number of heads")
        if self.mlp_width < 1:
            raise ConfigError(f"The configuration's vision mlp_ratio {self.mlp_ratio} leaves an MLP empty.")

    @property
    def mlp_width(self) -> int:
        """Hidden width of each block's MLP."""
        return int(self.width * self.mlp_ratio)  # truncated, as timm builds the published towers

    @property
    def num_patches(self) -> int:
        """Image features per picture."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, kw_only=True)
class AlignerConfig:
    """An MLP of `depth` linear layers from features of `input_width` to the model width."""

    depth: int
    input_width: int
    output_width: int


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """The Llama decoder. Field names equal the JSON keys of the published files."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float

    def __post_init__(self) -> None:
        _require_divisible(
            self.num_attention_heads, self.num_key_value_heads, "num_attention_heads and num_key_value_heads"
        )
        # head_dim may differ from hidden_size / heads, so that quotient is not checked
        _require_divisible(self.head_dim, 2, "a head_dim for rotary pairs")


@dataclass(frozen=True, kw_only=True)
class GenerationHeadConfig:
    """The two-layer head from hidden states to scores over the codebook."""

    input_width: int
    inner_width: int
    codebook_size: int


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """The VQ tokenizer: `len(channel_multipliers) - 1` halvings between pixels and image tokens.

    Attributes:
        norm_groups: parts into which each group norm divides the channels; 32 in all published models.
    """

    codebook_size: int
    code_width: int
    base_channels: int
    channel_multipliers: tuple[int, ...]
    num_res_blocks: int
    latent_channels: int
    norm_groups: int

    def __post_init__(self) -> None:
        groups = self.norm_groups
        for multiplier in (1, *self.channel_multipliers):  # 1: the first convolution's own channels
            _require_divisible(
                self.base_channels * multiplier, groups, f"VQ channels that are split into {groups} groups"
            )

    @property
    def stride(self) -> int:
        """Pixels per image token along one side."""
        return int(2 ** (len(self.channel_multipliers) - 1))  # the last level does not downsample


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How a picture becomes the vision tower's input. Field names equal `preprocessor_config.json`."""

    image_size: int
    min_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    rescale_factor: float
    do_normalize: bool


@dataclass(frozen=True, kw_only=True)
class JanusConfig:
    """Everything that fixes an autoregressive Janus model.

    Attributes:
        old_roles: conversations are written with the plain words of Janus-1.3B whatever the tokenizer offers.
    """

    vision: VisionConfig
    understanding_aligner: AlignerConfig
    language: LanguageConfig
    generation_aligner: AlignerConfig
    generation_head: GenerationHeadConfig
    vq: VQConfig
    preprocess: PreprocessConfig
    old_roles: bool

    def __post_init__(self) -> None:
        width = self.language.hidden_size
        # The parts are configured apart and multiplied together: every width where two of them meet.
        agreements = (
            ("vision width", self.vision.width, "aligner input", self.understanding_aligner.input_width),
            ("aligner output", self.understanding_aligner.output_width, "hidden_size", width),
            ("generation aligner output", self.generation_aligner.output_width, "hidden_size", width),
            (
                "generation aligner input",
                self.generation_aligner.input_width,
                "code width",
                self.vq.code_width,
            ),
            ("generation head input", self.generation_head.input_width, "hidden_size", width),
            ("generation head", self.generation_head.codebook_size, "codebook", self.vq.codebook_size),
            ("vision image_size", self.vision.image_size, "preprocessor's", self.preprocess.image_size),
        )
        for name, value, other_name, other in agreements:
            if value != other:
                raise ConfigError(
                    f"The configuration contradicts itself: {name} is {value}, {other_name} is {other}."
                )
        _require_divisible(self.vision.image_size, self.vq.stride, "an image_size and a VQ stride")

    @property
    def learned_begin(self) -> bool:
        """No learned vector takes the place of begin-of-image tokens; JanusFlow has one."""
        return False

    @property
    def grid_side(self) -> int:
        """Rows (and columns) of image tokens in one drawn picture."""
        return self.vision.image_size // self.vq.stride

    @property
    def num_image_tokens(self) -> int:
        """Image tokens of one drawn picture."""
        return self.grid_side**2
