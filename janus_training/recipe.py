"""What to train, as values: the sizes of a small Janus and the stages it goes through. Read from a JSON file.

"vq_decoder", "vq_encoder" and "vision" make what the published models took ready made; "drawing" begins
the decoder with image tokens alone, and "mix" is the paper's unified pretraining and instruction tuning in
one, of everything but the VQ tokenizer. The paper's first stage, aligners before a trained language model,
has nothing to align here. Source: Janus, arXiv:2410.13848; Janus-Pro, arXiv:2501.17811.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from janus_core.errors import ConfigError
from janus_core.model.config import (
    AlignerConfig,
    GenerationHeadConfig,
    JanusConfig,
    LanguageConfig,
    PreprocessConfig,
    VisionConfig,
    VQConfig,
)
from janus_core.options import CFG_WEIGHT, MOST_CFG_WEIGHT

# Waves of 6 to 470 tokens, since a grid is 64 long: with the usual 10,000 half of them stand still within it.
_ROPE_THETA = 100.0

_RECIPES = Path(__file__).parent / "recipes"

StageName = Literal["vq_decoder", "vq_encoder", "vision", "drawing", "mix", "questions"]


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """The sizes of a small Janus; everything else follows from them."""

    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    context: int
    vocabulary: int
    codebook_size: int
    code_width: int
    vq_channels: int
    vq_multipliers: tuple[int, ...]
    vq_res_blocks: int
    vq_latent_channels: int
    vq_norm_groups: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            numbers = value if name == "vq_multipliers" else (value,)
            least = 0 if name == "vq_res_blocks" else 1  # the decoder has one more than the encoder
            if not all(type(number) is int and number >= least for number in numbers):
                raise ConfigError(
                    f"The recipe's {name} is {value!r}; only whole numbers from {least} upwards will do."
                )

    def to_config(self) -> JanusConfig:
        """Return the full configuration."""
        half = (0.5, 0.5, 0.5)
        return JanusConfig(
            vision=VisionConfig(
                image_size=self.image_size,
                patch_size=self.patch_size,
                width=self.vision_width,
                layers=self.vision_layers,
                heads=self.vision_heads,
                mlp_ratio=4.0,
                pixel_mean=None,
                pixel_std=None,
            ),
            understanding_aligner=AlignerConfig(
                depth=2, input_width=self.vision_width, output_width=self.hidden_size
            ),
            language=LanguageConfig(
                hidden_size=self.hidden_size,
                intermediate_size=self.intermediate_size,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.heads,
                head_dim=self.hidden_size // self.heads,
                max_position_embeddings=self.context,
                vocab_size=self.vocabulary,
                rms_norm_eps=1e-6,
                rope_theta=_ROPE_THETA,
            ),
            generation_aligner=AlignerConfig(
                depth=2, input_width=self.code_width, output_width=self.hidden_size
            ),
            generation_head=GenerationHeadConfig(
                input_width=self.hidden_size, inner_width=self.hidden_size, codebook_size=self.codebook_size
            ),
            vq=VQConfig(
                codebook_size=self.codebook_size,
                code_width=self.code_width,
                base_channels=self.vq_channels,
                channel_multipliers=self.vq_multipliers,
                num_res_blocks=self.vq_res_blocks,
                latent_channels=self.vq_latent_channels,
                norm_groups=self.vq_norm_groups,
            ),
            preprocess=PreprocessConfig(
                image_size=self.image_size,
                min_size=14,
                image_mean=half,
                image_std=half,
                rescale_factor=1 / 255,
                do_normalize=True,
            ),
            old_roles=False,
        )


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A figure that a stage must reach by a step; otherwise going on would be a waste.

    Attributes:
        step: after so many steps of the stage.
        figure: which one, see `gates.py`.
        least: per cent.
    """

    step: int
    figure: str
    least: float


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """One stage.

    Attributes:
        stage: which parts learn and from what.
        steps: optimiser steps.
        batch_size: samples of one micro-batch.
        accumulation: micro-batches of one optimiser step.
        learning_rate: highest, after the warm-up; a cosine leads down to a twentieth of it.
        warmup_steps: steps of linear warm-up.
        decay: share of the steps, the last ones, over which the rate falls. Below 1 a run may be ended early
            or late without having been planned so, since all before is the same.
        weight_decay: of matrices.
        mix: shares of understanding, text and generation (the paper's multimodal : text : text-to-image).
        keep_seeing: vision tower and aligner stay as they are; a rate at which the decoder learns fast makes
            them forget a tenth of what they name.
        questions: about each picture of understanding, every one a sequence of its own behind that picture.
        simple_share: share of scenes with a single thing at the start, falling to 0 halfway; the others
            are of all kinds.
        drop_prompt: share of generation samples whose prompt is replaced by pads, for guidance.
        gates: figures that decide whether the run goes on.
    """

    stage: StageName
    steps: int
    batch_size: int
    learning_rate: float
    accumulation: int = 1
    warmup_steps: int = 50
    decay: float = 1.0
    weight_decay: float = 0.05
    mix: tuple[float, float, float] = (0.0, 0.0, 0.0)
    keep_seeing: bool = False
    questions: int = 8
    simple_share: float = 0.0
    drop_prompt: float = 0.1
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        if self.stage not in get_args(StageName):
            raise ConfigError(
                f'There is no stage "{self.stage}". Stages are {", ".join(get_args(StageName))}.'
            )
        numbers = (self.steps, self.batch_size, self.accumulation, self.questions)
        if min(numbers) < 1 or self.learning_rate <= 0:
            raise ConfigError(
                f'Stage "{self.stage}": steps, batch_size, accumulation, questions and learning_rate must be '
                "above 0."
            )
        if not 0 <= self.decay <= 1:
            raise ConfigError(f'Stage "{self.stage}": decay is a share of the steps, got {self.decay}.')
        if self.stage in ("drawing", "questions", "mix") and (
            len(self.mix) != 3 or not sum(self.mix) > 0 or min(self.mix) < 0
        ):
            raise ConfigError(f'Stage "{self.stage}" needs a mix of three shares, got {self.mix}.')


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a trained model, together with the code.

    Attributes:
        name: of the recipe.
        seed: of weights, scenes and order.
        model: sizes.
        stages: one after the other.
        cfg_weight: the guidance that the model's folder recommends.
        min_p: likewise, the least share of the best probability that a token to draw may have; 0 for none.
    """

    name: str
    seed: int
    model: ModelSizes
    stages: tuple[StageRecipe, ...]
    cfg_weight: float = CFG_WEIGHT
    min_p: float = 0.0

    def __post_init__(self) -> None:
        names = [stage.stage for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f'The recipe "{self.name}" needs stages of different names, got {names}.')
        if not 0 <= self.min_p <= 1:
            raise ConfigError(
                f'The recipe "{self.name}" recommends a min_p of {self.min_p}; it must be between 0 and 1.'
            )
        if not 0 <= self.cfg_weight <= MOST_CFG_WEIGHT:
            raise ConfigError(
                f'The recipe "{self.name}" recommends a cfg_weight of {self.cfg_weight}; it must be between '
                f"0 and {MOST_CFG_WEIGHT}."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def find_recipe(name: str) -> Recipe:
    """Read a recipe file, or one that comes with us by its name.

    Raises:
        ConfigError: there is no such recipe, or it cannot be read.
    """
    own = _RECIPES / f"{name}.json"
    return read_recipe(own if own.is_file() and not Path(name).is_file() else Path(name))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        ConfigError: not readable, or a name or value that no recipe has.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return parse_recipe(content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f'Cannot read the recipe "{path}": {error}. See recipes/ for an example.'
        ) from error


def parse_recipe(content: dict[str, Any]) -> Recipe:
    """Build a recipe from plain JSON values."""
    return Recipe(
        name=str(content["name"]),
        seed=int(content["seed"]),
        model=ModelSizes(**_with_tuples(content["model"])),
        stages=tuple(_parse_stage(stage) for stage in content["stages"]),
        cfg_weight=float(content.get("cfg_weight", CFG_WEIGHT)),
        min_p=float(content.get("min_p", 0.0)),
    )


def _parse_stage(section: dict[str, Any]) -> StageRecipe:
    gates = tuple(sorted((Gate(**gate) for gate in section.get("gates", ())), key=lambda gate: gate.step))
    return StageRecipe(**{**_with_tuples(section), "gates": gates})


def _with_tuples(section: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}
