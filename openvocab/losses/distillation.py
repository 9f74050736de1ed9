"""Distillation of a teacher's embeddings."""

from torch import Tensor


def embedding_distillation(embed: Tensor, teacher: Tensor) -> Tensor:
    """Return the L1 distance of embeddings to a teacher's, summed over dimensions and averaged over rows.

    Args:
        embed: (N, D) unit norm.
        teacher: (N, D) unit norm, not trained.

    Returns:
        () float32, 0 if N is 0. With D = 512 it is the "512 times mean L1" of ViLD's official code.

    Raises:
        ValueError: shapes differ.

    Reference: ViLD, arXiv 2104.13921, equation 2.
    """
    if embed.shape != teacher.shape:
        raise ValueError(
            f"the student embeds regions as {tuple(embed.shape)}, the teacher as {tuple(teacher.shape)}; they must "
            "share the joint space of one CLIP"
        )
    # float32: the difference of two close unit vectors would cancel most digits of bfloat16
    return (embed.float() - teacher.detach().float()).abs().sum() / max(1, len(embed))
