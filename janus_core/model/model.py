"""JanusModel: all modules in three groups, which a host may load separately.

*Seeing* maps pictures to embeddings, *language* is the decoder with its two heads, the *VQ tokenizer* maps
pictures to image tokens and back. No loops, no sampling, no files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import JanusConfig, LanguageConfig
from .heads import Aligner, GenerationHead
from .language_model import LanguageModel
from .layers import Operations, embedding
from .vision_tower import VisionTower
from .vq_tokenizer import VQTokenizer


class Seeing(nn.Module):
    """Vision tower and understanding aligner."""

    def __init__(self, config: JanusConfig, operations: Operations) -> None:
        super().__init__()
        self.vision_tower = VisionTower(config.vision, operations)
        self.understanding_aligner = Aligner(config.understanding_aligner, operations)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return image embeddings (b, n, d) of pixel values (b, 3, h, w) in −1..1."""
        return self.understanding_aligner(self.vision_tower(pixel_values))


class TextLanguage(nn.Module):
    """Decoder with its text head: reads words and whatever embeddings stand among them."""

    def __init__(self, config: LanguageConfig, operations: Operations) -> None:
        super().__init__()
        self.language_model = LanguageModel(config, operations)

    def embed_prompt(
        self,
        token_ids: Tensor,
        is_image: Tensor,
        image_embeddings: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return embeddings (b, t, d): words from the table, image embeddings put in their places in order.

        Args:
            token_ids: (b, t) int64.
            is_image: (b, t) bool, True where an image feature stands; the id there is not looked up.
            image_embeddings: (pictures, n, d), as many vectors as `is_image` has True, or None.
            dtype: of the result; a host's layers may keep their tables in another one.
        """
        # the placeholder's id may lie outside the table, so any valid one is looked up instead
        embeddings = self.language_model.embed_words(token_ids.masked_fill(is_image, 0), dtype)
        if image_embeddings is None:
            return embeddings
        flat = image_embeddings.reshape(-1, image_embeddings.shape[-1]).to(dtype)  # (pictures * n, d)
        # scatters in row-major order: by row, then by position, as the pictures are listed
        return embeddings.masked_scatter(is_image[..., None], flat)


class Language(TextLanguage):
    """The decoder, and what lets it read and score image tokens."""

    def __init__(self, config: JanusConfig, operations: Operations) -> None:
        super().__init__(config.language, operations)
        self.image_token_embedding = embedding(config.vq.codebook_size, config.vq.code_width, operations)
        self.generation_aligner = Aligner(config.generation_aligner, operations)
        self.generation_head = GenerationHead(config.generation_head, operations)

    def embed_image_tokens(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """Return embeddings (…, d) in `dtype` of image tokens (…,) int64."""
        return self.generation_aligner(self.image_token_embedding(tokens).to(dtype))


class JanusModel(nn.Module):
    """The three groups of one Janus model."""

    def __init__(self, config: JanusConfig, operations: Operations) -> None:
        super().__init__()
        self.config = config
        self.seeing = Seeing(config, operations)
        self.language = Language(config, operations)
        self.vq_tokenizer = VQTokenizer(config.vq, operations)


def build_model(config: JanusConfig, operations: Operations | None = None) -> JanusModel:
    """Build a model on the meta device: its modules, without memory for weights.

    Args:
        config: the architecture.
        operations: namespace of layer classes; default `torch.nn`.
    """
    with torch.device("meta"):
        model = JanusModel(config, nn if operations is None else operations)
    return model.eval().requires_grad_(False)
