import random

import pytest
import torch
from tiny_bert import make_encoder

from openvocab.text.bert import BERTTextEncoder
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.noun_phrases import rule_noun_phrases
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary_prompts import names_prompt


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> BERTTextEncoder:
    return make_encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def clip() -> CLIPTextEncoder:
    return CLIPTextEncoder("ViT-Ti-8-shapes")


def official_tokens(encoding, begin: int, end: int) -> list[int]:
    """Return the tokens of characters by GLIP's rule: those from the first to the last character that has one."""
    first = next(token for char in (begin, begin + 1, begin + 2) if (token := encoding.char_to_token(char)) is not None)
    last = next(token for char in (end - 1, end - 2, end - 3) if (token := encoding.char_to_token(char)) is not None)
    return list(range(first, last + 1))


TEXTS = [
    ("traffic light. stop sign. dog", ["traffic light", "stop sign", "dog"]),
    ("A Woman in a RED coat", ["A Woman", "a RED coat", "RED"]),
    ("two  small   dogs,  a cat!", ["two  small   dogs", "dogs", " cat", "a cat "[:-1], "cat!"]),
    ("a cafe\u0301 and a naïve dog", ["a cafe\u0301", "naïve", "dog"]),
    ("שלום כלב dog", ["שלום", "כלב", "שלום כלב", "dog"]),
    ("猫犬 and 猫", ["猫犬"]),
    ("dog 👍🏽 cat 🐱", ["dog", "cat", "🐱", "👍🏽", "cat 🐱"]),
    ("person . bicycle . hair drier . ", ["person", "bicycle", "hair drier", "drier"]),
    ("a dog's cat (red)", ["dog", "'s", "cat", "(red)", "red"]),
]


def spans(text: str, phrases: list[str]) -> list[list[tuple[int, int]]]:
    return [[(text.index(phrase), text.index(phrase) + len(phrase))] for phrase in phrases]


@pytest.mark.parametrize(("text", "phrases"), TEXTS)
def test_bert_tokens_are_those_of_the_official_rule(bert, text, phrases):
    prompt = Prompt.of_caption(text, spans(text, phrases))
    tokens = bert.with_tokens([prompt]).tokens
    encoding = bert.tokenizer(text)
    for mask, [(begin, end)] in zip(tokens.phrases[0], prompt.phrases, strict=True):
        assert mask.nonzero().flatten().tolist() == official_tokens(encoding, begin, end)


@pytest.mark.parametrize(("text", "phrases"), TEXTS)
def test_clip_tokens_of_phrases_are_the_tokens_of_their_texts(clip, text, phrases):
    prompt = Prompt.of_caption(text, spans(text, phrases))
    tokens = clip.with_tokens([prompt]).tokens
    for mask, phrase in zip(tokens.phrases[0], phrases, strict=True):
        alone = clip.with_tokens([phrase]).tokens
        assert tokens.ids[0, mask].tolist() == alone.ids[0, alone.is_word[0]].tolist()
        assert mask.nonzero().diff(dim=0).eq(1).all()


def test_the_example_of_the_official_demo(bert):
    prompt = names_prompt(["person", "bicycle", "hair drier"], [0, 1, 2], "demo")
    assert prompt.text == "person . bicycle . hair drier . "
    masks = bert.with_tokens([prompt]).tokens.phrases[0]
    assert [mask.nonzero().flatten().tolist() for mask in masks] == [[1], [3], [5, 6, 7]]


def test_a_phrase_may_have_several_ranges(bert, clip):
    prompt = Prompt("a red and a small dog", (((2, 5), (18, 21)),), (0,))
    for encoder in (bert, clip):
        mask = encoder.with_tokens([prompt]).tokens.phrases[0][0]
        assert mask.nonzero().flatten().tolist() == [2, 6]


@pytest.mark.parametrize(
    ("text", "span", "word"),
    [
        ("hair drier", (5, 7), "drier"),
        ("hair drier", (6, 10), "drier"),
        ("a dog", (2, 4), "dog"),
        ("dogs", (0, 3), "dogs"),
    ],
)
def test_a_phrase_inside_a_word_is_named(bert, clip, text, span, word):
    prompt = Prompt.of_caption(text, [[(0, len(text))], [span]])
    for encoder in (bert, clip):
        with pytest.raises(ValueError, match=f"'{text[slice(*span)]}', .* inside the word '{word}'"):
            encoder.with_tokens([prompt])


def test_a_character_of_chinese_is_a_word_of_bert_and_part_of_one_of_clip(bert, clip):
    prompt = Prompt.of_caption("猫犬", [[(0, 1)], [(1, 2)]])
    assert bert.with_tokens([prompt]).tokens.phrases[0].int().tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    with pytest.raises(ValueError, match="'猫', .* inside the word '猫犬'"):
        clip.with_tokens([prompt])


@pytest.mark.parametrize(
    ("text", "phrase", "of_bert", "of_clip"),
    [
        ("dog..! cat", "dog.", 2, 2),  # each mark is a token of BERT, and all of them are one of CLIP
        ("a cute dog👍!", "dog", 1, 1),  # a word of BERT is "dog👍"
        ("a sign says 'stop'", "stop", 1, 2),  # CLIP reads 's and top
        ("dog\u200b\u200d cat", "dog", 1, 1),
    ],
)
def test_a_token_may_have_more_than_the_letters_of_a_phrase(bert, clip, text, phrase, of_bert, of_clip):
    prompt = Prompt.of_caption(text, spans(text, [phrase]))
    for encoder, count in ((bert, of_bert), (clip, of_clip)):
        assert encoder.with_tokens([prompt]).tokens.phrases[0].sum() == count


def test_a_phrase_without_tokens_is_named(bert, clip):
    with pytest.raises(ValueError, match="phrase 0: the tokenizer knows none of the characters 4 to 5, '\\\\x07'"):
        bert.with_tokens([Prompt.of_caption("dog \x07 cat", [[(4, 5)]])])
    with pytest.raises(ValueError, match="phrase 0: the tokenizer knows none"):
        clip.with_tokens([Prompt.of_caption("dog \x07 cat", [[(4, 5)]])])


def test_clip_names_the_phrase_that_its_context_would_cut(clip):
    words = "dog " * (clip.token_budget + 3)
    prompt = Prompt.of_caption(words.strip(), [[(0, 3)], [(len(words) - 4, len(words) - 1)]])
    with pytest.raises(ValueError, match=f"phrase 1, 'dog', is not within the {clip.token_budget} tokens"):
        clip.with_tokens([prompt])
    cut = Prompt(prompt.text, prompt.phrases[:1], (0,))
    assert clip.with_tokens([cut]).tokens.phrases[0].shape[1] == clip.token_budget + 2


def test_prompts_are_read_as_captions_are(clip):
    prompts = [names_prompt(["red dog", "cat"], [3, 1]), names_prompt(["woman"], [0])]
    plain, marked = clip.with_tokens([prompt.text for prompt in prompts]), clip.with_tokens(prompts)
    assert torch.equal(plain.tokens.embed, marked.tokens.embed) and torch.equal(plain.embed, marked.embed)
    assert plain.tokens.phrases is None
    assert marked.tokens.is_token.sum(1).tolist() == [6, 3]
    assert [masks.shape for masks in marked.tokens.phrases] == [(2, 6), (1, 6)]
    assert clip.with_tokens(prompts) is marked  # kept while frozen
    with pytest.raises(ValueError, match="caption 1: expected a non-empty string"):
        clip.with_tokens(["a dog", prompts[0]])


def test_token_counts_add_up_to_the_tokens_of_a_prompt(bert, clip):
    for encoder in (bert, clip):
        names = ["hair drier", "dog", "Stop  Sign"]
        tokens = encoder.with_tokens([names_prompt(names, [0, 1, 2])]).tokens
        assert sum(map(encoder.token_count, names)) + 2 == tokens.is_word.sum()


def test_phrases_that_are_found_are_never_inside_a_word(bert, clip):
    parts = "a dog,Red, ,  ,',-,.,3,é,e\u0301,猫,ש,ֶ,👍,🏽,\u200d,(,),_,ß,ﬁ,ing,is,the ,’,“,\u00a0,½,क,्,ी".split(",")
    draw = random.Random(0)
    found = 0
    for _ in range(200):
        caption = "".join(draw.choice(parts) for _ in range(draw.randint(1, 12)))
        ranges = rule_noun_phrases(caption)
        if ranges:
            prompt = Prompt.of_caption(caption, [[span] for span in ranges])
            for encoder in (bert, clip):
                assert all(mask.any() for mask in encoder.with_tokens([prompt]).tokens.phrases[0])
            found += 1
    assert found > 100
