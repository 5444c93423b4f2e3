"""What turns gradients into steps: Muon for the matrices inside transformer blocks, AdamW for the rest.

Knows nothing of losses or stages. Muon makes the update of a matrix orthogonal; small towers and decoders
learn shapes and words in a fraction of the steps that AdamW alone takes.
Source: Jordan et al. 2024, Muon; Liu et al. 2025 (arXiv:2502.16982) for one learning rate for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from janus_core.errors import ConfigError
from janus_core.model.language_model import DecoderLayer
from janus_core.model.vision_tower import VisionBlock

_BETAS = (0.9, 0.95)


class Optimiser:
    """Muon and AdamW side by side, stepped as one.

    Attributes:
        parameters: all that learn, in the order in which their moments are numbered on disk.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], hidden: set[nn.Parameter], weight_decay: float
    ) -> None:
        """Sort the parameters.

        Args:
            parameters: those that need no gradient are left out.
            hidden: matrices for Muon, see `hidden_matrices`.
            weight_decay: of all matrices.

        Raises:
            ConfigError: this torch is too old.
        """
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        for_muon = [p for p in self.parameters if p in hidden]
        others = [p for p in self.parameters if p not in hidden]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._parts: list[torch.optim.Optimizer] = []
        if others:
            self._parts.append(
                torch.optim.AdamW([group for group in groups if group["params"]], betas=_BETAS)
            )
        if for_muon:
            if not hasattr(torch.optim, "Muon"):
                raise ConfigError(
                    f"Training needs torch 2.9 or newer, this is {torch.__version__}. Update torch."
                )
            self._parts.append(
                torch.optim.Muon(for_muon, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> None:
        """Take one step."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def moments(self, parameter: nn.Parameter) -> dict[str, Any]:
        """Return what is remembered of a parameter's gradients; nothing before its first step."""
        return next((part.state[parameter] for part in self._parts if parameter in part.state), {})

    def set_moments(self, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
        """Put back what `moments` returned."""
        for part in self._parts:
            if any(parameter is known for group in part.param_groups for known in group["params"]):
                part.state[parameter] = moments


def hidden_matrices(modules: nn.Module) -> set[nn.Parameter]:
    """Return the matrices inside transformer blocks of the decoder and the vision tower."""
    blocks = [module for module in modules.modules() if isinstance(module, DecoderLayer | VisionBlock)]
    return {parameter for block in blocks for parameter in block.parameters() if parameter.ndim == 2}
