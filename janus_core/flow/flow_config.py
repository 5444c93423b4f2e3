"""The numbers that fix a JanusFlow model's architecture, as frozen dataclasses without defaults.

Decoder, vision tower and preprocessing are those of the autoregressive models and described there.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..model.config import AlignerConfig, LanguageConfig, PreprocessConfig, VisionConfig

LATENT_SCALE = 8  # pixels per latent along one side: the SDXL VAE's, which the models were trained with
PATCH = 2  # latents per token along one side


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The two shallow convolutional networks round the decoder.

    Attributes:
        latent_channels: of the picture being drawn.
        channels: of the encoder's feature map, which the decoder joins to as many of the language model's.
        encoder_blocks: convolutional blocks before the language model.
        decoder_blocks: convolutional blocks behind it.
        norm_eps: of the norms over channels.
    """

    latent_channels: int
    channels: int
    encoder_blocks: int
    decoder_blocks: int
    norm_eps: float

    def __post_init__(self) -> None:
        if self.channels % 2:
            raise ConfigError(
                f"The configuration gives the flow encoder {self.channels} channels; the time "
                "embedding needs an even number."
            )


@dataclass(frozen=True, kw_only=True)
class JanusFlowConfig:
    """Everything that fixes a JanusFlow model."""

    vision: VisionConfig
    understanding_aligner: AlignerConfig
    language: LanguageConfig
    flow: FlowConfig
    preprocess: PreprocessConfig

    def __post_init__(self) -> None:
        if self.vision.image_size != self.preprocess.image_size:
            raise ConfigError(
                f"The configuration contradicts itself: vision image_size is {self.vision.image_size}, "
                f"preprocessor's is {self.preprocess.image_size}."
            )
        if self.vision.image_size % (LATENT_SCALE * PATCH):
            raise ConfigError(
                f"The configuration's image_size {self.vision.image_size} is not divisible by "
                f"{LATENT_SCALE * PATCH}, the pixels that a token stands for."
            )

    @property
    def old_roles(self) -> bool:
        """Conversations are written with the plain words of Janus-1.3B, whatever the tokenizer offers."""
        return True

    @property
    def learned_begin(self) -> bool:
        """A learned vector takes the place of each begin-of-image token."""
        return True

    @property
    def latent_side(self) -> int:
        """Rows (and columns) of the latents of one picture."""
        return self.vision.image_size // LATENT_SCALE

    @property
    def num_latent_tokens(self) -> int:
        """Tokens that the language model reads for one picture being drawn."""
        return (self.latent_side // PATCH) ** 2
