import logging
import sys
from types import ModuleType

import pytest

from openvocab.text import noun_phrases as module
from openvocab.text.noun_phrases import chunked_phrases, noun_phrases, rule_noun_phrases, tagger_noun_phrases


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a woman in a red coat walks two small dogs", ["a woman", "a red coat", "two small dogs"]),
        ("The Dog's bowl,  near  HER  house!", ["The Dog's bowl", "HER  house"]),
        ("cars parked in a parking lot", ["cars", "a parking lot"]),
        ("the star is yellow", ["the star"]),
        ("a man riding the horse", ["a man", "the horse"]),
        ("a cafe\u0301 and a naïve dog", ["a cafe\u0301", "a naïve dog"]),
        ("an MP3 player", ["an MP3", "player"]),
        ("b2b deal", ["b2b deal"]),
        ("İstanbul tower", ["İstanbul tower"]),
        ("כֶּלֶב, חתול", ["כֶּלֶב", "חתול"]),
        ("बिल्ली, कुत्ता", ["बिल्ली", "कुत्ता"]),
        ("一只猫，一张沙发", ["一只猫", "一张沙发"]),
        ("a black dog &amp; its cat", ["a black dog", "its cat"]),
        ("a cute dog👍!", ["a cute dog👍"]),
        ("👍🏽 of it", []),
        ("", []),
    ],
)
def test_rules_find_nouns_with_their_determiners(caption, phrases):
    assert [caption[begin:end] for begin, end in rule_noun_phrases(caption)] == phrases


@pytest.mark.parametrize(
    ("caption", "tags", "phrases"),
    [
        ("A woman in a red coat walks", "DT NN IN DT JJ NN VBZ", ["A woman", "a red coat"]),
        ("Big red dogs run", "JJ JJ NNS VBP", ["Big red dogs"]),
        ("the park bench", "DT NN NN", ["the park bench"]),
        ("the old", "DT JJ", []),
        ("the the dog", "DT DT NN", ["the dog"]),
        ("two dogs", "CD NNS", ["dogs"]),  # numbers are not in the official pattern
    ],
)
def test_tagged_words_are_chunked_by_the_official_pattern(caption, tags, phrases):
    tagged = list(zip(caption.lower().split(), tags.split(), strict=True))
    assert [caption[begin:end] for begin, end in chunked_phrases(caption, tagged)] == phrases


def test_words_that_the_tagger_rewrites_are_no_nouns():
    tagged = [("a", "DT"), ("``", "``"), ("dog", "NN"), ("''", "''")]
    assert chunked_phrases('a "dog"', tagged) == [(3, 6)]


@pytest.fixture
def tagger(monkeypatch):
    """Stand in for nltk, which is not installed: every word but "a" is a noun."""
    nltk, tokenize = ModuleType("nltk"), ModuleType("nltk.tokenize")
    nltk.pos_tag = lambda words: [(word, "DT" if word == "a" else "NN") for word in words]
    tokenize.TreebankWordTokenizer = type("TreebankWordTokenizer", (), {"tokenize": lambda self, text: text.split()})
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    monkeypatch.setitem(sys.modules, "nltk.tokenize", tokenize)
    module._has_tagger.cache_clear()
    yield
    module._has_tagger.cache_clear()


def test_the_tagger_is_used_if_it_is_installed(tagger):
    assert noun_phrases("A İzmir walk") == [(0, 12)]
    assert noun_phrases("A walk is a run") == tagger_noun_phrases("A walk is a run") == [(0, 9), (10, 15)]


def test_without_the_tagger_the_rules_are_used_and_the_log_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "nltk", None)
    module._has_tagger.cache_clear()
    with caplog.at_level(logging.INFO):
        assert noun_phrases("a walk is a run") == rule_noun_phrases("a walk is a run")
    assert "noun phrases are found by rules" in caplog.text and "pip install nltk" in caplog.text
    with pytest.raises(ImportError, match="tagger_noun_phrases needs nltk"):
        tagger_noun_phrases("a dog")
    module._has_tagger.cache_clear()
