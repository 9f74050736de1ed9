"""The projector between a tower and the joint space that GroupViT puts behind both of its towers."""

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
        """Map (..., in_dim) to (..., out_dim); all rows share one batch statistic in training.

        Raises:
            ValueError: a single row in training.
        """
        rows = embed.flatten(0, -2).to(self.hidden.weight.dtype)  # (N, in_dim)
        if self.training and len(rows) < 2:
            raise ValueError(
                "the projector's batch norm needs at least two rows in training, got a batch of one; raise batch_size "
                "(and drop_last the remainder)"
            )
        return self.out(self.norm(self.hidden(rows)).relu()).unflatten(0, embed.shape[:-1])
