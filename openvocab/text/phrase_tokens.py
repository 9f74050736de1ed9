"""Which tokens of a prompt belong to each of its phrases."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from openvocab.vocabulary.prompt import CharacterRange, Prompt

Encode = Callable[[str], Sequence[int]]
"""Returns the token ids of a text, without start and end."""
TokenRange = tuple[int, int]
"""First token, and the one after the last."""


def phrases_by_offsets(prompt: Prompt, offsets: Sequence[CharacterRange], words: Sequence[int | None]) -> Tensor:
    """Find the tokens of phrases by the characters of each token.

    Args:
        prompt: P phrases.
        offsets: of each of T tokens, its characters in the text of the prompt; start and end included.
        words: the index of the word of each token; None for start and end.

    Returns:
        (P, T) bool.

    Raises:
        ValueError: a phrase begins or ends inside a word, or has no token; the message names it.
    """
    extents: dict[int, CharacterRange] = {}  # characters of each word
    for (begin, end), word in zip(offsets, words, strict=True):
        if word is not None:
            first, last = extents.get(word, (begin, end))
            extents[word] = min(first, begin), max(last, end)

    def words_of(span: CharacterRange) -> set[int]:
        inside = {word for word, extent in extents.items() if extent[0] < span[1] and span[0] < extent[1]}
        for begin, end in (extents[word] for word in inside):
            if begin < span[0] or end > span[1]:
                raise _inside_a_word(prompt.text, span, prompt.text[begin:end])
        return inside

    of_phrases = [[words_of(span) for span in ranges] for ranges in prompt.phrases]
    _check_found(prompt, [[len(inside) for inside in phrase] for phrase in of_phrases])
    belongs = [set().union(*phrase) for phrase in of_phrases]
    return torch.tensor([[word in inside for word in words] for inside in belongs])  # (P, T)


def phrases_by_pieces(prompt: Prompt, encode: Encode) -> tuple[list[int], Tensor]:
    """Find the tokens of phrases by encoding the text in pieces, for tokenizers that clean it first.

    Args:
        prompt: P phrases.
        encode: the tokenizer, T tokens without start and end.

    Returns:
        the token ids (T,) of the text, and the phrases (P, T) bool.

    Raises:
        ValueError: see `phrases_by_offsets`.
    """
    whole = list(encode(prompt.text))
    borders = sorted({border for ranges in prompt.phrases for span in ranges for border in span})
    pieces = [list(encode(prompt.text[begin:end])) for begin, end in zip([0, *borders], [*borders, None])]
    if [token for piece in pieces for token in piece] != whole:
        raise _first_cut(prompt, encode, whole)
    ends, count = {}, 0
    for border, piece in zip(borders, pieces):
        count += len(piece)
        ends[border] = count
    ranges = [[(ends[begin], ends[end]) for begin, end in phrase] for phrase in prompt.phrases]
    _check_found(prompt, [[end - begin for begin, end in phrase] for phrase in ranges])
    return whole, _as_masks(ranges, len(whole))


def check_budget(prompt: Prompt, phrases: Tensor, budget: int) -> None:
    """Check that an encoder reads all phrases of a prompt.

    Args:
        prompt: P phrases.
        phrases: (P, T) bool, of all tokens without start and end.
        budget: number of tokens that the encoder reads.

    Raises:
        ValueError: it does not; the message names the first phrase that would be cut.
    """
    cut = phrases[:, budget:].any(1)
    if cut.any():
        index = int(cut.nonzero()[0])
        raise ValueError(
            f"phrase {index}, {prompt.phrase_texts[index]!r}, is not within the {budget} tokens that the text encoder "
            f"reads of a prompt (this one has {phrases.shape[1]}): shorten the text, or divide it into several prompts"
        )


def _as_masks(phrases: Sequence[Sequence[TokenRange]], count: int) -> Tensor:
    masks = torch.zeros(len(phrases), count, dtype=torch.bool)
    for mask, ranges in zip(masks, phrases):
        for begin, end in ranges:
            mask[begin:end] = True
    return masks


def _check_found(prompt: Prompt, counts: Sequence[Sequence[int]]) -> None:
    """Check that each range of each phrase has tokens."""
    for index, (ranges, of_ranges) in enumerate(zip(prompt.phrases, counts)):
        for (begin, end), count in zip(ranges, of_ranges):
            if count == 0:
                raise ValueError(
                    f"phrase {index}: the tokenizer knows none of the characters {begin} to {end}, "
                    f"{prompt.text[begin:end]!r}, of {prompt.text[:80]!r}"
                )


def _first_cut(prompt: Prompt, encode: Encode, whole: Sequence[int]) -> ValueError:
    """Return the error of the first phrase with a border where the tokenizer does not divide the text."""
    for ranges in prompt.phrases:
        for span in ranges:
            for border in span:
                if [*encode(prompt.text[:border]), *encode(prompt.text[border:])] != whole:
                    return _inside_a_word(prompt.text, span, _around(prompt.text, border))
    return ValueError(f"the tokens of {prompt.text[:80]!r} depend on where the text is divided into phrases")


def _around(text: str, border: int) -> str:
    """Return the characters up to the next white space on both sides of a border."""
    return text[:border].split(" ")[-1] + text[border:].split(" ")[0]


def _inside_a_word(text: str, span: CharacterRange, word: str) -> ValueError:
    return ValueError(
        f"the phrase {text[slice(*span)]!r}, characters {span[0]} to {span[1]} of {text[:80]!r}, begins or ends inside "
        f"the word {word!r}"
    )
