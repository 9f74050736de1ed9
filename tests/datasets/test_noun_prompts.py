"""Nouns of captions, and the prompts made of them."""

import json
import random
import sys
import types
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from openvocab.datasets import CaptionDataset
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.datasets.transforms.noun_prompts import AddNounPrompts, NltkNouns, RuleNouns, WordListNouns
from openvocab.text.templates import fill_template, resolve_templates


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("A man riding a horse on the beach.", ["man", "horse", "beach"]),
        ("two dogs are playing with a red ball", ["dogs", "ball"]),
        ("a car parked on the street next to a brick building", ["car", "street", "building"]),
        ("a star that is yellow", ["star"]),
        ("there is a large wooden bed in the room", ["bed", "room"]),
        ("a photo of a red cross in the lower left corner", ["cross"]),
        ("snow-covered mountains, 2 dogs; dogs!", ["mountains", "dogs"]),
        ("", []),
        ("12345 !?", []),
    ],
)
def test_rule(caption, nouns):
    assert RuleNouns()(caption) == nouns


def test_rule_with_phrases_keeps_what_describes_the_noun():
    caption = "here we see a dotted red square left of a white circle"
    assert RuleNouns(words=None)(caption) == ["dotted red square", "white circle"]
    assert RuleNouns(words=2)(caption) == ["red square", "white circle"]
    assert RuleNouns()(caption) == ["square", "circle"]


def test_other_scripts_do_no_harm():
    assert RuleNouns()("кошка") == ["кошка"]
    assert RuleNouns()("一只猫，一张沙发") == ["一只猫", "一张沙发"]


def test_word_list_finds_whole_words_and_long_names_first(tmp_path: Path):
    find = WordListNouns(["dog", "hot dog", "bus", "Red  Circle"])
    assert find("Two hot dogs, a dog and three buses; a red\ncircle") == ["hot dog", "dog", "bus", "red circle"]
    assert find("dogma and underdog") == []
    (tmp_path / "names.txt").write_text("# a list\ncar; automobile\nc++\n")
    assert WordListNouns(tmp_path / "names.txt")("an automobile, c++ and cars") == ["automobile", "c++", "car"]
    with pytest.raises(ValueError, match="expected at least one name"):
        WordListNouns([])


def fake_nltk(monkeypatch, pos_tag) -> None:
    """Stand in for NLTK, whose tagger needs data: words are split at spaces."""
    nltk, tokenize = types.ModuleType("nltk"), types.ModuleType("nltk.tokenize")
    nltk.pos_tag = pos_tag
    tokenize.TreebankWordTokenizer = lambda: types.SimpleNamespace(tokenize=str.split)
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    monkeypatch.setitem(sys.modules, "nltk.tokenize", tokenize)


def test_tags_decide_with_nltk(monkeypatch):
    tags = {"a": "DT", "man": "NN", "horses": "NNS", "Rome": "NNP", "rides": "VBZ", "Alps": "NNPS", "test": "NN"}
    fake_nltk(monkeypatch, lambda words: [(word, tags[word]) for word in words])
    assert NltkNouns()("a man rides horses Rome Alps man") == ["man", "horses", "Rome", "man"]
    assert NltkNouns(verbs=True)("a man rides horses") == ["man", "rides", "horses"]


def test_missing_nltk_and_missing_data_say_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ImportError, match="pip install nltk"):
        NltkNouns()

    def no_data(words):
        raise LookupError("Resource not found")

    fake_nltk(monkeypatch, no_data)
    with pytest.raises(ImportError, match="nltk.downloader averaged_perceptron_tagger_eng"):
        NltkNouns()


def prompts_of(caption: str, **options) -> tuple[str, ...]:
    return AddNounPrompts(**options)({"captions": [caption], "sample_id": "x"})["captions"]


def test_a_word_that_occurs_twice_may_be_drawn_twice_where_that_is_asked_for():
    options = dict(count=3, extractor=lambda caption: caption.split(), templates="none")
    assert sorted(prompts_of("cat dog cat", **options)) == ["cat", "cat dog cat", "cat dog cat", "dog"]
    assert sorted(prompts_of("cat dog cat", distinct=False, **options)[1:]) == ["cat", "cat", "dog"]


def test_prompts_are_drawn_without_replacement_into_random_templates():
    templates = resolve_templates("imagenet80")
    caption = "a cat, a dog, a bird and a fish"
    possible = {fill_template(t, noun): noun for t in templates for noun in ("cat", "dog", "bird", "fish")}
    random.seed(0)
    drawn = [prompts_of(caption) for _ in range(200)]
    for first, *prompts in drawn:
        assert first == caption and len(prompts) == 3
        assert len({possible[prompt] for prompt in prompts}) == 3
    counts = Counter(possible[prompt] for _, *prompts in drawn for prompt in prompts)
    assert min(counts.values()) > 110  # 150 each on average
    assert len({prompt for _, *prompts in drawn for prompt in prompts}) > 200


def test_missing_nouns_are_filled_up_with_the_caption():
    assert prompts_of("a cat", templates="none") == ("a cat", "cat", "a cat", "a cat")
    assert prompts_of("", count=2) == ("", "", "")
    assert prompts_of("x", count=1, extractor=lambda text: ["y", "y"], templates=["see {}"]) == ("x", "see y")


def test_nouns_may_repeat_before_the_caption_fills_a_place():
    filled = prompts_of("a cat and a dog", count=5, templates="none", repeat=True)
    assert filled[0] == "a cat and a dog" and set(filled[1:]) == {"cat", "dog"} and len(filled) == 6
    assert abs(filled[1:].count("cat") - filled[1:].count("dog")) == 1
    assert prompts_of("", count=2, repeat=True) == ("", "", "")


def test_the_extractor_may_be_a_config():
    add = AddNounPrompts(extractor=dict(type="WordListNouns", names=["cat"]), templates="none", count=1)
    assert add({"captions": ["the cats"]})["captions"] == ("the cats", "cat")


def test_wrong_use_is_clear():
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        AddNounPrompts(count=0)
    with pytest.raises(ValueError, match="words: expected at least 1"):
        RuleNouns(words=0)
    with pytest.raises(ValueError, match="expected one caption, got 2 for 'x'.*num_captions=1"):
        AddNounPrompts()({"captions": ["a", "b"], "sample_id": "x"})
    with pytest.raises(ValueError, match="unknown template set"):
        AddNounPrompts(templates="imagenet81")


def test_in_a_pipeline(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((4, 4, 3), np.uint8))
    captions = ["a red circle", "a blue star", "a green ring"]
    (tmp_path / "c.jsonl").write_text(json.dumps({"image": "1.png", "captions": captions}))
    pipeline = [LoadImage(), dict(type="AddNounPrompts", count=2, templates="none"), PackSample()]
    dataset = CaptionDataset("c.jsonl", pipeline, root=tmp_path, loading=dict(cache_images=True))
    drawn = {dataset[0]["sample"].captions for _ in range(40)}
    assert drawn == {(caption, caption.split()[-1], caption) for caption in captions}
