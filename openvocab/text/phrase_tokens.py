"""Which tokens of a prompt belong to each of its phrases.

A phrase has whole words only. A token belongs to it if it contains all letters and digits of the token; what else the
token has, such as an emoji that follows a word without a space, may be outside the characters of the phrase.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.structures import TextTokens
from openvocab.vocabulary.prompt import CharacterRange, Prompt

Encode = Callable[[str], Sequence[int]]
"""Returns the token ids of a text, without start and end."""
TokenRange = tuple[int, int]
"""First token, and the one after the last."""


def phrases_by_offsets(prompt: Prompt, offsets: Sequence[CharacterRange], words: Sequence[int]) -> Tensor:
    """Find the tokens of phrases by the characters of each token.

    Args:
        prompt: P phrases.
        offsets: of each of T tokens, its characters in the text of the prompt.
        words: the index of the word of each token.

    Returns:
        (P, T) bool.

    Raises:
        ValueError: a phrase begins or ends inside a word, or has no token; the message names it.
    """
    extents: dict[int, CharacterRange] = {}  # characters of each word
    for (begin, end), word in zip(offsets, words, strict=True):
        first, last = extents.get(word, (begin, end))
        extents[word] = min(first, begin), max(last, end)

    def words_of(span: CharacterRange) -> set[int]:
        inside = {word for word, extent in extents.items() if extent[0] < span[1] and span[0] < extent[1]}
        for begin, end in (extents[word] for word in inside):
            if _has_letters(prompt.text[begin : span[0]]) or _has_letters(prompt.text[span[1] : end]):
                raise _inside_a_word(prompt.text, span, prompt.text[begin:end])
        return inside

    of_phrases = [[words_of(span) for span in ranges] for ranges in prompt.phrases]
    _check_found(prompt, [[len(inside) for inside in phrase] for phrase in of_phrases])
    belongs = [set().union(*phrase) for phrase in of_phrases]
    return torch.tensor([[word in inside for word in words] for inside in belongs])  # (P, T)


def phrases_by_pieces(prompt: Prompt, encode: Encode) -> Tensor:
    """Find the tokens of phrases by encoding the text in pieces, for tokenizers that clean it first.

    Args:
        prompt: P phrases.
        encode: the tokenizer, T tokens without start and end.

    Returns:
        (P, T) bool.

    Raises:
        ValueError: see `phrases_by_offsets`.
    """
    whole = list(encode(prompt.text))
    phrases: Sequence[Sequence[CharacterRange]] = prompt.phrases
    counts = _counts_at_borders(prompt.text, phrases, encode, whole)
    if counts is None:
        phrases = [[_whole_tokens(prompt.text, span, encode, whole) for span in ranges] for ranges in phrases]
        counts = _counts_at_borders(prompt.text, phrases, encode, whole)
    if counts is None:
        raise ValueError(f"the tokens of {prompt.text[:80]!r} depend on where the text is divided into phrases")
    of_phrases = [[(counts[begin], counts[end]) for begin, end in ranges] for ranges in phrases]
    _check_found(prompt, [[end - begin for begin, end in ranges] for ranges in of_phrases])
    return _as_masks(of_phrases, len(whole))


def mark_phrases(tokens: TextTokens, prompts: Sequence[Prompt], phrases: Sequence[Tensor]) -> TextTokens:
    """Return the tokens of prompts with their phrases and owners.

    Args:
        tokens: of N prompts, T tokens, start and end included.
        prompts: N.
        phrases: of each prompt (P, T') bool, of all its tokens without start and end.
    """
    width, device = tokens.ids.shape[1], tokens.ids.device
    return replace(
        tokens,
        # (P, T): the start before, the end and the padding after them
        phrases=[F.pad(masks, (1, width - 1 - masks.shape[1])).to(device) for masks in phrases],
        owners=[torch.tensor(prompt.owners, device=device) for prompt in prompts],
    )


def check_budget(prompt: Prompt, phrases: Tensor, budget: int) -> None:
    """Check that an encoder reads all phrases of a prompt.

    Args:
        prompt: P phrases.
        phrases: (P, T) bool, of all its tokens without start and end.
        budget: number of tokens that the encoder reads.

    Raises:
        ValueError: it does not; the message names the first phrase that would be cut.
    """
    cut = phrases[:, budget:].any(1)
    if cut.any():
        index = int(cut.nonzero()[0])
        phrase = prompt.phrase_texts[index][:80]
        raise ValueError(
            f"phrase {index}, {phrase!r}, is not within the {budget} tokens that the text encoder reads of a prompt "
            f"(this one has {phrases.shape[1]}): shorten the text, or divide it into several prompts"
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


def _counts_at_borders(
    text: str, phrases: Sequence[Sequence[CharacterRange]], encode: Encode, whole: Sequence[int]
) -> dict[int, int] | None:
    """Return the number of tokens before each border of a phrase, or None if one of them is inside a token."""
    borders = sorted({border for ranges in phrases for span in ranges for border in span})
    tokens: list[int] = []
    counts = {}
    for begin, end in zip([0, *borders], borders):
        tokens += encode(text[begin:end])
        counts[end] = len(tokens)
    tokens += encode(text[borders[-1] :])
    return counts if tokens == whole else None


def _whole_tokens(text: str, span: CharacterRange, encode: Encode, whole: Sequence[int]) -> CharacterRange:
    """Return a range that is widened to the borders of tokens, by characters other than letters and digits.

    Raises:
        ValueError: letters or digits would have to be added.
    """

    def moved(border: int, step: int) -> int:
        while [*encode(text[:border]), *encode(text[border:])] != whole:
            passed = text[border - 1 : border] if step < 0 else text[border : border + 1]
            if _has_letters(passed) or passed.isspace():
                raise _inside_a_word(text, span, text[: span[1]].split(" ")[-1] + text[span[1] :].split(" ")[0])
            border += step
        return border

    return moved(span[0], -1), moved(span[1], 1)


def _has_letters(text: str) -> bool:
    return any(map(str.isalnum, text))


def _inside_a_word(text: str, span: CharacterRange, word: str) -> ValueError:
    return ValueError(
        f"the phrase {text[slice(*span)]!r}, characters {span[0]} to {span[1]} of {text[:80]!r}, begins or ends inside "
        f"the word {word!r}"
    )
