"""Stage "vision": the vision tower and its aligner learn what each patch shows, and where it is.

One linear layer names the thing, its size, the way to its centre, the ground, the row and the column of every
patch, from what the decoder will be given. SigLIP's own loss, captions matched with pictures, sees what is
there but not where; SigLIP 2 adds losses on patches for the same reason.
Source: Tschannen et al. 2025 (arXiv:2502.14786).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from janus_core.model.model import Seeing

from .world.patch_labels import CLASSES, UNKNOWN

Labelled = Callable[[int], tuple[Tensor, Tensor]]


class VisionTask:
    """Naming patches."""

    def __init__(self, seeing: Seeing, naming: nn.Linear, batches: Labelled) -> None:
        """Keep what to train.

        Args:
            seeing: the learner.
            naming: from the decoder's width to all classes; needed in training only.
            batches: sample number to pixel values (b, 3, h, w) and the labels of all patches (b, n, 8).
        """
        self.seeing = seeing
        self.naming = naming
        self.batches = batches

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what learns."""
        return [*self.seeing.parameters(), *self.naming.parameters()]

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the loss of one micro-batch."""
        pixels, labels = self.batches(sample)
        return {"naming": naming_loss(self.naming, self.seeing(pixels), labels)}


def naming_loss(naming: nn.Linear, image_embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy, summed over what there is to name: embeddings (b, n, d), labels (b, n, 8)."""
    named = naming(image_embeddings).float().flatten(0, 1).split(CLASSES, dim=-1)
    losses = [
        F.cross_entropy(one, label, ignore_index=UNKNOWN, reduction="sum")
        / (label != UNKNOWN).sum().clamp(min=1)
        for one, label in zip(named, labels.flatten(0, 1).unbind(-1), strict=True)
    ]
    return torch.stack(losses).sum()
