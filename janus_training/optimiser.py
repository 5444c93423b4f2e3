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

from janus_core.loading import choose_dtype
from janus_core.model.language_model import DecoderLayer
from janus_core.model.vision_tower import VisionBlock

_BETAS = (0.9, 0.95)
_MOMENTUM = 0.95
_ROUNDS = 5
_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic that brings singular values near 1
_LIKE_ADAMW = 0.2  # root mean square of AdamW's updates


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal; matrices of one shape are worked on together.

    torch has the same, but computes in bfloat16 always, which a CPU without it imitates, twenty times slower.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                pushes = torch.stack([self._push(parameter) for parameter in parameters])
                updates = orthogonal(pushes) * (_LIKE_ADAMW * max(shape) ** 0.5)
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"])

    def _push(self, parameter: nn.Parameter) -> Tensor:
        """Return gradient and momentum together, after Nesterov."""
        gradient = parameter.grad
        assert gradient is not None  # sorted out above
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring all singular values of matrices (b, rows, columns) near 1 by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    has_bfloat16 = choose_dtype("auto", matrices.device) == torch.bfloat16
    x = matrices.to(torch.bfloat16) if has_bfloat16 else matrices
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ROUNDS):
        squares = x @ x.mT
        x = a * x + (b * squares + c * squares @ squares) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)  # type: ignore[no-any-return]


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
            self._parts.append(Muon(for_muon, weight_decay))

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
