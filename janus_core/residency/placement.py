"""Which parts of a model are on the device: each is brought when a task first needs it, and stays.

Drawing never looks at the text head, and of the word embedding only at a few rows, which are looked up where
the weights rest. So a task holds on the device what it multiplies by, and no more; on a CPU, likewise, only
that is converted from the file's dtype. Not for hosts: they move whole groups themselves.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from ..model.model import JanusModel

Task = Literal["draw", "answer", "see", "encode", "decode"]

_PARTS: dict[Task, tuple[str, ...]] = {
    "draw": (
        "language.language_model.layers",
        "language.language_model.norm",
        "language.image_token_embedding",
        "language.generation_aligner",
        "language.generation_head",
    ),
    "answer": (
        "language.language_model.layers",
        "language.language_model.norm",
        "language.language_model.embed_tokens",
        "language.language_model.lm_head",
    ),
    "see": ("seeing",),
    "encode": ("vq_tokenizer.codebook", "vq_tokenizer.encoder", "vq_tokenizer.quant_conv"),
    "decode": ("vq_tokenizer.codebook", "vq_tokenizer.decoder", "vq_tokenizer.post_quant_conv"),
}


class Placement:
    """Brings parts of a model from where its weights rest to the device."""

    def __init__(
        self, model: JanusModel, device: torch.device, dtype: torch.dtype, vq_dtype: torch.dtype
    ) -> None:
        """Bring nothing yet.

        Args:
            model: with weights resting on the CPU.
            device: where it computes.
            dtype: of seeing and language there.
            vq_dtype: of the VQ tokenizer there.
        """
        self._model, self._device, self._dtype, self._vq_dtype = model, device, dtype, vq_dtype
        self._there: set[str] = set()

    def bring(self, task: Task) -> None:
        """Put what a task needs on the device, in the dtype that it runs in."""
        with torch.inference_mode(False), torch.no_grad():
            for name in _PARTS[task]:
                if name not in self._there:
                    dtype = self._vq_dtype if name.startswith("vq_tokenizer.") else self._dtype
                    self._model.get_submodule(name).to(self._device, dtype)
                    self._there.add(name)

    def bring_all(self) -> None:
        """Put everything on the device, for those who use the model's parts without a task."""
        for task in get_args(Task):
            self.bring(task)
