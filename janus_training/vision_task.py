"""Stage "vision": the vision tower learns which caption belongs to which picture, and what each patch shows.

A small text tower, needed for this stage only, stands in for SigLIP's; with it comes a linear layer that
names the thing and the ground of each patch. Matching alone sees what is there but not where, and stalls at
pictures that differ in one thing; SigLIP 2 adds losses on patches for the same reason.
Source: Zhai et al. 2023 (arXiv:2303.15343), the pairwise sigmoid loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from janus_core.model.vision_tower import VisionTower

from .world.patch_labels import CLASSES

_MATCHING = 0.2  # weight; at 1 its gradients drown those of naming
_SCALE, _BIAS = 10.0, -10.0  # where SigLIP's temperature and bias start; what is learnt is the difference


class TextTower(nn.Module):
    """Embeds captions by a small bidirectional transformer, mean-pooled; holds what only the losses need."""

    def __init__(self, vocabulary: int, width: int, context: int, pad: int) -> None:
        super().__init__()
        self.naming = nn.Linear(width, sum(CLASSES))
        self.pad = pad
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.picture_projection = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, token_ids: Tensor) -> Tensor:
        """Map captions (b, t) int64, padded on the right, to (b, c)."""
        is_padding = token_ids == self.pad
        places = self.positions(torch.arange(token_ids.shape[1], device=token_ids.device))
        states = self.layers(self.tokens(token_ids) + places, src_key_padding_mask=is_padding)
        kept = (~is_padding)[..., None].to(states.dtype)
        return (states * kept).sum(1) / kept.sum(1)  # type: ignore[no-any-return]


Captioned = Callable[[int], tuple[Tensor, Sequence[Sequence[int]], Tensor]]


class VisionTask:
    """Matching pictures and captions, and naming patches."""

    def __init__(self, tower: VisionTower, text_tower: TextTower, batches: Captioned) -> None:
        """Keep what to train.

        Args:
            tower: the learner.
            text_tower: learns with it.
            batches: sample number to pixel values (b, 3, h, w), each caption's token ids and the labels of
                all patches (b, n, 4).
        """
        self.tower, self.text_tower, self.batches = tower, text_tower, batches

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return both towers' parameters."""
        return [*self.tower.parameters(), *self.text_tower.parameters()]

    def begin(self) -> None:
        """Take over nothing: this stage starts from first weights."""

    def loss(self, sample: int) -> dict[str, Tensor]:
        """Return the losses of one micro-batch."""
        pixels, captions, labels = self.batches(sample)
        features = self.tower(pixels)
        named = self.text_tower.naming(features).float().flatten(0, 1).split(CLASSES, dim=-1)
        naming = [F.cross_entropy(*one) for one in zip(named, labels.flatten(0, 1).unbind(-1), strict=True)]
        matching = _MATCHING * self._matching(features, captions)
        return {"matching": matching, "naming": torch.stack(naming).sum()}

    def _matching(self, features: Tensor, captions: Sequence[Sequence[int]]) -> Tensor:
        """Return the sigmoid loss: every pair is right or wrong on its own.

        Two pictures of a batch may deserve the same caption; equal captions count as right for both.
        """
        length = max(len(ids) for ids in captions)
        padded = [list(ids) + [self.text_tower.pad] * (length - len(ids)) for ids in captions]
        token_ids = torch.tensor(padded, device=features.device)
        pictures = self.text_tower.picture_projection(features.mean(dim=1))
        pictures, texts = F.normalize(pictures, dim=-1), F.normalize(self.text_tower(token_ids), dim=-1)
        logits = pictures @ texts.T * (_SCALE * self.text_tower.scale.exp())
        logits = logits + self.text_tower.bias + _BIAS
        is_right = (token_ids[:, None] == token_ids[None]).all(dim=-1)
        signs = is_right.to(logits.dtype) * 2 - 1
        return -F.logsigmoid(signs * logits).sum() / len(features)
