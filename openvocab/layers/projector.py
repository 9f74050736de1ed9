"""GroupViT's projector from the output of a tower to the joint space."""

from torch import Tensor, nn


class ProjectMLP(nn.Module):
    """Linear, batch norm, ReLU, linear.

    Args:
        in_dim, hidden_dim, out_dim: widths.

    Reference: GroupViT, arXiv 2202.11094.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_dim, hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim)
        self.out = nn.Linear(hidden_dim, out_dim)

    def forward(self, embed: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim); in training, the batch norm takes its statistics over all rows.

        Raises:
            ValueError: there is a single row in training.
        """
        rows = embed.flatten(0, -2).to(self.hidden.weight.dtype)  # (N, in_dim)
        if self.training and len(rows) < 2:
            raise ValueError(
                "the projector's batch norm needs at least two rows in training, got a batch of one; raise batch_size "
                "(and drop_last the remainder)"
            )
        return self.out(self.norm(self.hidden(rows)).relu()).unflatten(0, embed.shape[:-1])  # (..., out_dim)
