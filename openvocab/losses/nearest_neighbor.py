"""DeCLIP's nearest-neighbor supervision: a queue of past texts, searched for the one most similar to a caption."""

import torch
from torch import Tensor, nn

from openvocab.losses.chunked_sum import chunks
from openvocab.losses.distributed_batch import gather_rows, rank_count


class TextQueue(nn.Module):
    """The last `size` text embeddings of all ranks, first in first out. Saved with the weights, so that runs resume.

    Args:
        size: capacity in rows; DeCLIP: 65,536.
        dim: D.

    Raises:
        ValueError: a size below 1.

    Reference: https://arxiv.org/abs/2110.05208.
    """

    rows: Tensor
    """(size, D), the queue."""
    pushed: Tensor
    """() int64, how many texts have been added so far."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size: expected a queue of at least one text, got {size}")
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        """Return the number of texts in the queue."""
        return min(int(self.pushed), len(self.rows))

    @torch.no_grad()
    def push(self, text_embed: Tensor) -> None:
        """Add the texts (B, D) of every rank, in the order of ranks, in place of the oldest ones."""
        new = gather_rows(text_embed.detach().to(self.rows.dtype), rank_count(True))  # (ranks * B, D)
        start, size = int(self.pushed), len(self.rows)
        self.pushed += len(new)
        # a batch larger than the queue: its first rows would be overwritten by its last ones
        new, start = new[-size:], start + max(0, len(new) - size)
        index = (start + torch.arange(len(new), device=new.device)) % size  # a ring buffer
        self.rows[index] = new

    @torch.no_grad()
    def nearest(self, text_embed: Tensor, chunk_size: int = 256) -> Tensor:
        """Return the row with the highest cosine to each text, without a gradient.

        Args:
            text_embed: (B, D) unit norm.
            chunk_size: texts searched for at a time.

        Returns:
            (B, D) float32.

        Raises:
            ValueError: the queue is empty.
        """
        if not len(self):
            raise ValueError("the queue holds no texts yet; push a batch before searching")
        rows = self.rows[: len(self)]
        with torch.autocast(rows.device.type, enabled=False):
            queries = text_embed.to(rows.dtype)
            # (chunk, rows in the queue) exists for one chunk at a time
            nearest = [(queries[chunk] @ rows.T).argmax(1) for chunk in chunks(len(queries), chunk_size)]
        return rows[torch.cat(nearest)]
