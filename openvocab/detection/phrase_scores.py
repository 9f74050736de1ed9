"""Between the tokens of a prompt and the classes that its phrases name: targets of objects, and scores of classes."""

from typing import Literal, get_args

from torch import Tensor

from openvocab.argument_checks import check_choice

PhraseScore = Literal["mean", "max"]
"""How the score of a phrase is computed from those of its tokens (official GLIP: SCORE_AGG "MEAN" and "MAX")."""


def object_tokens(classes: Tensor, phrases: Tensor, owners: Tensor, sample_id: str) -> Tensor:
    """Return which tokens describe each object of one image.

    Args:
        classes: (G,) of the objects; a class of several phrases has the tokens of all of them.
        phrases: (P, T) bool, the tokens of each phrase of the image's prompt.
        owners: (P,) class of each phrase. Phrases without an object are plain negatives.
        sample_id: of the image, for the message.

    Returns:
        (G, T) bool.

    Raises:
        ValueError: an object whose class has no token in the prompt.
    """
    owned = classes[:, None] == owners.to(classes)  # (G, P)
    # a product of 0 and 1 in float32: the (G, P, T) array of all pairs never exists
    tokens = owned.float() @ phrases.to(classes.device).float() > 0  # (G, T)
    without = classes[~tokens.any(dim=1)].unique().tolist()
    if without:
        raise ValueError(
            f"sample {sample_id!r}: objects of the classes {without} are labeled, but no phrase of its prompt names "
            "them; make the prompt from the classes of the objects (and others)"
        )
    return tokens


def class_scores(
    token_scores: Tensor, phrases: Tensor, owners: Tensor, phrase_score: PhraseScore = "mean"
) -> tuple[Tensor, Tensor]:
    """Return the scores of the classes that a prompt names.

    Args:
        token_scores: (N, T) in 0..1.
        phrases: (P, T) bool, the tokens of each phrase.
        owners: (P,) int64, the class of each phrase; a class has the score of its best phrase.
        phrase_score: "mean" or "max" of the scores of a phrase's tokens.

    Returns:
        The classes (k,) int64, ascending, and their scores (N, k); 0 for a class without tokens.

    Raises:
        ValueError: an unknown `phrase_score`.
    """
    check_choice("phrase_score", phrase_score, get_args(PhraseScore))
    of_phrase = _phrase_scores(token_scores, phrases.to(token_scores.device), phrase_score)  # (N, P)
    classes, column = owners.to(token_scores.device).unique(return_inverse=True)
    scores = token_scores.new_zeros(len(token_scores), len(classes))
    return classes, scores.scatter_reduce(1, column.expand_as(of_phrase), of_phrase, "amax")


def _phrase_scores(token_scores: Tensor, phrases: Tensor, phrase_score: PhraseScore) -> Tensor:
    """Return the mean or maximum (N, P) of the columns of token_scores (N, T) that each of phrases (P, T) has."""
    lengths = phrases.sum(dim=1)  # (P,)
    # the tokens of each phrase, then others
    tokens = phrases.byte().argsort(dim=1, descending=True, stable=True)  # (P, T)
    scores = token_scores.new_zeros(len(token_scores), len(phrases))
    # the first, second, ... token of all phrases at once: neither an array (N, P, T) nor sums in a random order
    for position in range(int(lengths.max())):
        # 0 after the last token changes neither a sum nor a maximum of scores
        column = token_scores[:, tokens[:, position]] * (position < lengths)
        scores = scores + column if phrase_score == "mean" else scores.maximum(column)
    return scores / lengths.clamp(min=1) if phrase_score == "mean" else scores
