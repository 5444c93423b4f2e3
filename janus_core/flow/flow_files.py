"""Turn JanusFlow's published configuration files into one `JanusFlowConfig`.

The authors wrote some sizes into their classes; they follow from those that stand in the file. What would
change the arithmetic is refused. Source: the authors' modeling_vlm.py and uvit.py of JanusFlow.
"""

from __future__ import annotations

from typing import Any

from ..checkpoints.config_files import (
    MOST_BLOCKS,
    parse_authors_vision,
    parse_language,
    parse_preprocess,
)
from ..checkpoints.config_sections import Section
from ..errors import ConfigError
from ..model.config import AlignerConfig
from .flow_config import PATCH, FlowConfig, JanusFlowConfig

_LATENT_CHANNELS = 4
_NORM_EPS = 1e-6


def parse_janusflow(config: dict[str, Any], preprocessor: dict[str, Any]) -> JanusFlowConfig:
    """Parse `config.json` and `preprocessor_config.json`; a missing second one is an empty dictionary.

    Raises:
        ConfigError: a value is missing, impossible, contradictory, or asks for arithmetic that JanusFlow does
            not have.
    """
    top = Section(config, "")
    vision = parse_authors_vision(top.section("vision_und_enc_config").section("params"))
    language = parse_language(top.section("language_config"))
    encoder = top.section("vision_gen_enc_config").section("params")
    decoder = top.section("vision_gen_dec_config").section("params")
    return JanusFlowConfig(
        vision=vision,
        understanding_aligner=AlignerConfig(
            depth=1, input_width=vision.width, output_width=language.hidden_size
        ),
        language=language,
        flow=_flow(encoder, decoder, language.hidden_size),
        preprocess=parse_preprocess(preprocessor, vision),
    )


def _flow(encoder: Section, decoder: Section, width: int) -> FlowConfig:
    for section in (encoder, decoder):
        section.fallbacks = {"norm_eps": _NORM_EPS, "hidden_size": width}
        section.refuse("use_bias", (True,), "only layers with biases are computed")
        section.refuse("use_mid_block", (True,), "only networks with a middle block are computed")
    encoder.refuse("kernel_size", (PATCH,), f"only patches of {PATCH} are computed")
    encoder.refuse("stride", (PATCH,), f"only patches of {PATCH} are computed")
    encoder.refuse("padding", (0,), "only patches without padding are computed")
    decoder.refuse("upsamples", (1,), "only one doubling is computed")
    decoder.refuse("elementwise_affine", (True,), "only norms with weights are computed")
    flow = FlowConfig(
        latent_channels=encoder.integer("input_channels"),
        channels=_only(encoder),
        encoder_blocks=encoder.integer("layers_in_middle", MOST_BLOCKS),
        decoder_blocks=decoder.integer("layers_in_middle", MOST_BLOCKS),
        norm_eps=encoder.number("norm_eps"),
    )
    agreements = (
        ("vision_gen_enc_config's input_channels", flow.latent_channels, _LATENT_CHANNELS),
        ("vision_gen_dec_config's in_channels", decoder.integer("in_channels"), flow.channels),
        ("vision_gen_dec_config's block_out_channels", _only(decoder), flow.channels),
        ("vision_gen_dec_config's out_channels", decoder.integer("out_channels"), flow.latent_channels),
        ("vision_gen_enc_config's hidden_size", encoder.integer("hidden_size"), width),
        ("vision_gen_dec_config's hidden_size", decoder.integer("hidden_size"), width),
    )
    for name, found, wanted in agreements:
        if found != wanted:
            raise ConfigError(f"The configuration contradicts itself: {name} is {found}, not {wanted}.")
    if decoder.number("norm_eps") != flow.norm_eps:
        raise ConfigError(
            f"The configuration contradicts itself: norm_eps is {flow.norm_eps} in the flow encoder and "
            f"{decoder.number('norm_eps')} in the decoder."
        )
    return flow


def _only(section: Section) -> int:
    """Return the one number of channels that a network has at its one resolution."""
    channels = section.integers("block_out_channels")
    if len(channels) > 1:
        raise ConfigError(
            f"The configuration's {section.name}.block_out_channels is {list(channels)}; networks of one "
            "resolution are computed."
        )
    return channels[0]
