"""Muon: gradient momentum, orthogonalized, for weight matrices and convolutions; AdamW for everything else.

Reference: Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024), with the update scale of
Liu et al., Muon is Scalable for LLM Training (arXiv 2502.16982), so that both rules share one learning rate.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that moves every singular value towards one."""
ITERATIONS = 5
UPDATE_RMS = 0.2
"""Root mean square of an update divided by the learning rate; AdamW's is usually about as large."""


class Muon(Optimizer):
    """Train parameters of two or more dimensions by Muon, the others and embedding tables by AdamW.

    torch's own `Muon` (since 2.9) trains only matrices, not convolutions or the other parameters of a network.

    Args:
        params: parameters or groups.
        lr: learning rate of both rules.
        weight_decay: decoupled weight decay of both rules.
        momentum: Nesterov momentum of Muon.
        betas, eps: arguments of AdamW.
        table_rows: a matrix with at least this many rows is treated as an embedding table, whose rows are independent
            of each other, and is trained by AdamW.

    Raises:
        ValueError: a negative `lr` or `weight_decay`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        table_rows: int = 8192,
    ) -> None:
        if lr < 0 or weight_decay < 0:
            raise ValueError(f"expected lr and weight_decay of 0 or more, got {lr} and {weight_decay}")
        self.table_rows = table_rows
        defaults = dict(lr=lr, weight_decay=weight_decay, momentum=momentum, betas=betas, eps=eps)
        super().__init__(params, defaults)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and move the step counters to the parameters' devices: the fused update needs them there."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if "step" in state:
                state["step"] = state["step"].to(parameter.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; `closure` recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in filter(self._takes_muon, parameters):
                self._step_muon(parameter, parameter.grad, group)
            self._step_adamw([parameter for parameter in parameters if not self._takes_muon(parameter)], group)
        return loss

    def _takes_muon(self, parameter: Tensor) -> bool:
        return parameter.ndim >= 2 and len(parameter) < self.table_rows

    def _step_muon(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        # A running mean instead of a sum: orthogonalizing removes the scale anyway.
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        # Nesterov: the gradient counts once more on top of the momentum that already contains it.
        direction = gradient.lerp(state["momentum"], group["momentum"])
        matrix = direction.flatten(1)  # (out, in * window): a convolution as a matrix
        # an orthogonal (m, n) matrix has an RMS of max(m, n) ** -0.5; the scale makes it UPDATE_RMS for any shape
        scale = UPDATE_RMS * max(matrix.shape) ** 0.5
        # Decoupled from the gradient, as in AdamW.
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonalize(matrix).view_as(parameter), alpha=-group["lr"] * scale)

    def _step_adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
                self.state[parameter].update(step=torch.zeros((), device=parameter.device), **zeros)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],  # all have one
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return an approximation of the nearest (semi-)orthogonal matrix: its singular values lie between 0.7 and 1.2.

    Args:
        matrix: (m, n) float32.

    Returns:
        (m, n).
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix  # the smaller side first: the Gram matrix below has its size
    x = x / (x.norm() + 1e-7)  # singular values of at most 1, or the iteration diverges
    for _ in range(ITERATIONS):
        # x (x^T x)^k shares its singular vectors with x, so an odd polynomial changes the singular values only.
        gram = x @ x.T
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)  # b * gram + c * gram @ gram
        x = torch.addmm(x, polynomial, x, beta=a)  # a * x + polynomial @ x
    return x.T if is_tall else x
