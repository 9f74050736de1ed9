"""Base class of text encoders."""

from collections.abc import Sequence

from torch import Tensor, nn

from openvocab.structures import TextFeatures
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary


class TextEncoder(nn.Module):
    """Maps a vocabulary or raw texts to `TextFeatures`. Subclasses set `embed_dim`."""

    embed_dim: int
    """D of the joint space."""
    templates: Sequence[str] | None = None
    """Templates that turn class names into prompts; None if there are no prompts."""
    templates_note: str | None = None
    """How precomputed rows were made, if `templates` cannot state it."""
    bidirectional: bool | None = None
    """Whether a token attends to later ones; None for encoders without a tower."""
    token_budget: int | None = None
    """Tokens of a prompt that the encoder reads, without start and end; None for encoders without a tower."""
    separator_tokens: int = 1
    """Tokens of the full stop after each name of a prompt."""
    learns_logit_scale: bool = False
    """Whether the encoder has a learned logit scale, which `clamp_logit_scale` bounds."""

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Encode class names (with templates and synonyms, cached while frozen) or raw captions (without templates).

        Returns:
            `TextFeatures` with rows (K, D), or (R, D) with `row_class` if synonyms compete; K captions give K rows.
        """
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of N raw texts, (N, D) float32, not normalized.

        Raises:
            ValueError: this encoder encodes class names only.
        """
        raise ValueError(f"{type(self).__name__} encodes class names only; free texts need a text tower")

    def with_tokens(self, texts: Sequence[str] | Sequence[Prompt], first_encoded: int = 0) -> TextFeatures:
        """Encode captions, or prompts with their phrases, token by token (`TextFeatures.tokens`).

        Captions are encoded as in `forward`, too, and cut to the context of the tower. A phrase of a prompt must not be
        cut.

        Args:
            texts: N captions, or N prompts.
            first_encoded: index of the first text that goes through the tower. Those before it are only tokenized:
                `TextTokens.ids` has all texts, all embeddings are of the others.

        Returns:
            `embed` (N - first_encoded, D) unit norm, and `tokens` with `ids` (N, T) and `embed` (N - first_encoded, T,
            D); of prompts also `phrases` and `owners`.

        Raises:
            ValueError: this encoder has no token outputs; a phrase begins or ends inside a word, is without tokens, or
                would be cut.
        """
        raise ValueError(f"{type(self).__name__} has no token outputs; this head needs a text tower")

    def token_count(self, text: str) -> int:
        """Return the number of tokens of a text, without start and end.

        Raises:
            ValueError: this encoder has no tokens.
        """
        raise ValueError(f"{type(self).__name__} has no token outputs; this head needs a text tower")

    def empty_text(self) -> Tensor:
        """Return the unit-norm embedding (D,) of the empty text, which represents "none of the classes".

        Raises:
            ValueError: this encoder has no such embedding.
        """
        raise ValueError(
            f"{type(self).__name__} has no embedding of the empty text; use a text tower, or a head that learns its "
            "background (model.head.background=learned)"
        )

    def clamp_logit_scale(self, maximum: float = 100.0) -> None:
        """Clamp the multiplier of the cosines to [1, maximum]; called after each optimizer step, as in CLIP.

        Raises:
            ValueError: this encoder has no learned logit scale.
        """
        raise ValueError(f"{type(self).__name__} has no learned logit scale")

    def knows(self, synonyms: Sequence[str]) -> bool:
        """Return whether a class with these names can be encoded; always, unless the encoder has a fixed list."""
        return True
