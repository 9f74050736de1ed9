"""The contract of a text encoder."""

from collections.abc import Sequence

from torch import Tensor, nn

from openvocab.structures import TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary


class TextEncoder(nn.Module):
    """A vocabulary, or raw texts, in; `TextFeatures` out. Subclasses set `embed_dim`."""

    embed_dim: int
    """D of the joint space."""
    templates: Sequence[str] | None = None
    """By which class names become prompts; None where they do not."""
    templates_note: str | None = None
    """How rows were made whose `templates` nobody knows."""
    bidirectional: bool | None = None
    """Whether a word of a prompt sees those after it, where there is a tower that has to be told."""
    learns_logit_scale: bool = False
    """Whether there is a logit scale that `clamp_logit_scale` bounds."""

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Encode class names (with templates and synonyms, cached while frozen) or raw captions (as they are)."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of raw texts as the tower makes them, (N, D) float32, not normalized.

        Raises:
            ValueError: this encoder takes class names only.
        """
        raise ValueError(f"{type(self).__name__} encodes class names only; free texts need a text tower")

    def with_tokens(self, captions: Sequence[str], unread: int = 0) -> TextFeatures:
        """Encode raw captions as `forward` does, and token by token (`TextFeatures.tokens`).

        Args:
            captions: N texts.
            unread: so many of the first ones are split into tokens only; embeddings are those of the others.

        Raises:
            ValueError: this encoder has no token outputs.
        """
        raise ValueError(f"{type(self).__name__} has no token outputs; the loss of this head needs a text tower")

    def empty_text(self) -> Tensor:
        """Return the unit-norm embedding (D,) of the text without words, which stands for "none of the classes".

        Raises:
            ValueError: this encoder has none.
        """
        raise ValueError(
            f"{type(self).__name__} has no embedding of the empty text; take a text tower, or a head that learns its "
            "background (model.head.background=learned)"
        )

    def clamp_logit_scale(self, maximum: float = 100.0) -> None:
        """Hold the multiplier in [1, maximum]; to be called after each optimizer step, as CLIP does.

        Raises:
            ValueError: this encoder learns none.
        """
        raise ValueError(f"{type(self).__name__} has no learned logit scale")

    def knows(self, synonyms: Sequence[str]) -> bool:
        """Say whether a class of these names can be encoded; only a table of texts knows some and not others."""
        return True
