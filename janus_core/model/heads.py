"""The small networks round the decoder: aligners into the model width and the head over the codebook.

The understanding aligner maps image features to the model width, the generation aligner does so for embedded
image tokens, and the generation head maps hidden states to logits over the codebook.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .config import AlignerConfig, GenerationHeadConfig
from .layers import Operations


class Aligner(nn.Module):
    """Linear layers with exact GELUs between; published names count the GELUs too: layers 0, 2, 4."""

    def __init__(self, config: AlignerConfig, operations: Operations) -> None:
        super().__init__()
        layers: list[nn.Module] = [operations.Linear(config.input_width, config.output_width)]
        for _ in range(1, config.depth):  # all but the first are square
            layers += [nn.GELU(), operations.Linear(config.output_width, config.output_width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, input_width) to (…, output_width)."""
        return self.layers(x)  # (…, d)


class GenerationHead(nn.Module):
    """Hidden states to image logits."""

    def __init__(self, config: GenerationHeadConfig, operations: Operations) -> None:
        super().__init__()
        self.inner = operations.Linear(config.input_width, config.inner_width)
        self.output = operations.Linear(config.inner_width, config.codebook_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (…, d) to (…, v)."""
        return self.output(F.gelu(self.inner(hidden)))  # (…, v)
