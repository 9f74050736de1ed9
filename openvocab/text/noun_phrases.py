"""Noun phrases of captions: by rules of thumb for English, or by NLTK's part-of-speech tagger."""

import logging
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from openvocab.vocabulary.prompt import CharacterRange

logger = logging.getLogger(__name__)

# an entity of HTML, a word of letters, or any other single character
_WORD = re.compile(r"&\w+;|[^\W\d_]+(?:['’-][^\W\d_]+)*|\S")
_BE = frozenset("is are was were be been being am isn't aren't wasn't weren't".split())
_PICTURE_WORDS = frozenset(
    "photo photograph picture image scene view shot background foreground left right upper lower top bottom middle "
    "center front back side part corner edge".split()
).union(("centre",))
_FUNCTION_WORDS = frozenset(
    "a an the this that these those some any each every both all no another other its his her their our my your "
    "one two three four five six seven eight nine ten several many few "
    "and or but nor so yet if while as than then that which who whose whom where when what how there here it he she "
    "they we i you him them us me itself himself herself themselves of in on at by for with without from to into onto "
    "over under above below behind between among near next across along around through during before "
    "after against toward towards inside outside upon off out up down about like via per has have had do does did can "
    "could will would shall should may might must not very too also just only more most much see sees shows show seen "
    "sit sits stand stands lie lies hold holds ride rides walk walks run runs play plays wear wears eat eats".split()
).union(_PICTURE_WORDS, ("beside", "besides"))
_NOUNS_IN_ING = frozenset(
    "building painting ceiling clothing wedding railing evening morning string spring wing ring king thing swing "
    "drawing parking setting wing lightning pudding icing frosting stocking earring sibling duckling".split()
)
_NOUNS_IN_ED = frozenset("bed shed sled seed weed reed steed breed feed speed moped bobsled seabed flatbed".split())
_DETERMINERS = frozenset(
    "a an the this that these those some any each every both all no another other its his her their our my your "
    "one two three four five six seven eight nine ten several many few".split()
)


@dataclass(frozen=True)
class Word:
    """A word of a caption."""

    text: str
    """In lower case."""
    begin: int
    end: int
    """The characters of the word."""


def noun_phrases(caption: str) -> list[CharacterRange]:
    """Return the characters of each noun phrase: by NLTK's tagger if its data is installed, else by our rules."""
    if _has_tagger():
        return tagger_noun_phrases(caption)
    return rule_noun_phrases(caption)


def rule_noun_phrases(caption: str) -> list[CharacterRange]:
    """Return the characters of each noun phrase by the rules of `RuleNouns`, with the determiner before it."""
    words = _words(caption)
    before = {after.begin: word for word, after in zip(words, words[1:])}
    phrases = []
    for run in noun_runs(caption):
        opener = before.get(run[0].begin)
        begin = opener.begin if opener is not None and opener.text in _DETERMINERS else run[0].begin
        phrases.append(_whole_words(caption, (begin, run[-1].end)))
    return _apart(phrases)


def tagger_noun_phrases(caption: str) -> list[CharacterRange]:
    """Return the characters of each noun phrase by NLTK's tagger: `chunked_phrases`, as in GLIP's demo.

    Raises:
        ImportError: nltk, or the data of its tagger, is not installed; the message states the command.
    """
    tagged = tagged_words(_lower(caption), "tagger_noun_phrases", "rule_noun_phrases")
    return chunked_phrases(caption, tagged)


def chunked_phrases(caption: str, tagged: Sequence[tuple[str, str]]) -> list[CharacterRange]:
    """Return the characters of each chunk `<DT>?<JJ.*>*<NN.*>+` of tagged words.

    Args:
        caption: the text.
        tagged: its words in lower case, in order, and their part-of-speech tags.
    """
    spans: list[CharacterRange] = []
    kinds, position, lowered = "", 0, _lower(caption)
    for word, tag in tagged:
        begin = lowered.find(word, position)
        if begin < 0:  # NLTK rewrites quotation marks, which are no nouns
            kinds, spans = kinds + "-", [*spans, (position, position)]
            continue
        position = begin + len(word)
        kinds += "D" if tag == "DT" else "J" if tag.startswith("JJ") else "N" if tag.startswith("NN") else "-"
        spans.append((begin, position))
    chunks = [(match.start(), match.end() - 1) for match in re.finditer("D?J*N+", kinds)]
    return _apart([_whole_words(caption, (spans[first][0], spans[last][1])) for first, last in chunks])


def noun_runs(caption: str) -> list[list[Word]]:
    """Return runs of content words whose last one is a noun, without predicates; the rules are those of `RuleNouns`."""
    runs: list[list[Word]] = [[]]
    opener = ""  # the word before the current run
    for word in _words(caption):
        if word.text in _FUNCTION_WORDS or word.text in _BE or not word.text[0].isalpha():
            runs.append([])
            opener = word.text
        elif runs[-1] and word.text.endswith("ing") and word.text not in _NOUNS_IN_ING:
            runs.append([])
            opener = word.text
        elif opener not in _BE:
            runs[-1].append(word)
    for run in runs:
        while run and _is_participle(run[-1].text):
            run.pop()
    return [run for run in runs if run]


def tagged_words(text: str, needed_by: str, otherwise: str) -> list[tuple[str, str]]:
    """Return the words of a text with the part-of-speech tags of NLTK's tagger.

    Args:
        text: a caption.
        needed_by, otherwise: what needs the tagger, and what to use without it, for the message.

    Raises:
        ImportError: nltk, or the data of its tagger, is not installed; the message states the command.
    """
    try:
        from nltk import pos_tag  # type: ignore[import-not-found]  # an optional package
        from nltk.tokenize import TreebankWordTokenizer  # type: ignore[import-not-found]  # an optional package

        return pos_tag(TreebankWordTokenizer().tokenize(text))
    except ImportError as error:
        raise ImportError(f"{needed_by} needs nltk: pip install nltk; {otherwise} needs nothing") from error
    except LookupError as error:
        command = "python -m nltk.downloader averaged_perceptron_tagger_eng"
        raise ImportError(f"{needed_by} needs the data of NLTK's tagger: {command}; {otherwise} needs none") from error


@cache
def _has_tagger() -> bool:
    try:
        tagged_words("a test", "a better search for noun phrases", "the search by rules")
    except ImportError as error:
        logger.info(f"noun phrases are found by rules; {error}")
        return False
    return True


def _lower(text: str) -> str:
    """Return a text in lower case, character by character, so that it has the same length."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)


def _words(text: str) -> list[Word]:
    words: list[Word] = []
    for match in _WORD.finditer(text):
        begin = match.start()
        touches = words and begin == words[-1].end and _joins(text[begin])
        if touches and (_is_mark(text[begin - 1]) or _is_mark(text[begin])):
            begin = words.pop().begin  # accents and vowel signs do not divide a word
        words.append(Word(text[begin : match.end()].lower(), begin, match.end()))
    return words


def _apart(spans: Sequence[CharacterRange]) -> list[CharacterRange]:
    """Return ranges in their order; those that overlap become one."""
    apart: list[CharacterRange] = []
    for begin, end in spans:
        if apart and begin < apart[-1][1]:
            begin, end = apart[-1][0], max(end, apart.pop()[1])
        apart.append((begin, end))
    return apart


def _whole_words(text: str, span: CharacterRange) -> CharacterRange:
    """Return a range that is widened to white space and punctuation, where every tokenizer ends a word."""
    begin, end = span
    while begin > 0 and _joins(text[begin - 1]) and _joins(text[begin]):
        begin -= 1
    while end < len(text) and _joins(text[end]) and _joins(text[end - 1]):
        end += 1
    return begin, end


def _joins(character: str) -> bool:
    is_punctuation = unicodedata.category(character).startswith("P") or character in string.punctuation
    return not (is_punctuation or character.isspace())


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_participle(word: str) -> bool:
    if word.endswith("ing"):
        return word not in _NOUNS_IN_ING
    return word.endswith("ed") and word not in _NOUNS_IN_ED
