"""JanusFlowModel: the parts held together in three groups; a host may load some of them apart.

*Seeing* and *language* are built from the rooms of the autoregressive models; the *flow network* stands in
the place of the VQ tokenizer. No loops, no files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..model.heads import Aligner
from ..model.layers import Operations, embedding
from ..model.model import TextLanguage
from ..model.vision_tower import VisionTower
from .flow_config import JanusFlowConfig
from .flow_network import FlowNetwork


class FlowSeeing(nn.Module):
    """Vision tower and aligner, with a learned vector in the place of the begin-of-image token."""

    def __init__(self, config: JanusFlowConfig, operations: Operations) -> None:
        super().__init__()
        self.vision_tower = VisionTower(config.vision, operations)
        self.understanding_aligner = Aligner(config.understanding_aligner, operations)
        self.begin_embedding = embedding(1, config.language.hidden_size, operations)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return image embeddings (b, 1 + n, d), the learned one first, of pixel values (b, 3, h, w)."""
        seen = self.understanding_aligner(self.vision_tower(pixel_values))
        first = torch.zeros(len(seen), 1, dtype=torch.int64, device=seen.device)
        return torch.cat((self.begin_embedding(first).to(seen.dtype), seen), dim=1)


class JanusFlowModel(nn.Module):
    """The three groups of one JanusFlow model."""

    def __init__(self, config: JanusFlowConfig, operations: Operations) -> None:
        super().__init__()
        self.config = config
        self.seeing = FlowSeeing(config, operations)
        self.language = TextLanguage(config.language, operations)
        self.flow = FlowNetwork(config.flow, config.language.hidden_size, operations)


def build_flow_model(config: JanusFlowConfig, operations: Operations | None = None) -> JanusFlowModel:
    """Build a model on the meta device: its structure, without memory for weights.

    Args:
        config: the architecture.
        operations: namespace of layer classes; default `torch.nn`.
    """
    with torch.device("meta"):
        model = JanusFlowModel(config, nn if operations is None else operations)
    return model.eval().requires_grad_(False)
