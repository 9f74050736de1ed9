"""`--cfg-options KEY=VALUE`: what a value on the command line stands for."""

import argparse
from typing import Any

import pytest
from mmengine.config import DictAction

from openvocab.config.options import add_config_options, parse_value, read_options, write_option


def read(*words: str) -> dict[str, Any]:
    """Return what a tool makes of the words behind `--cfg-options`."""
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    return parser.parse_args(["--cfg-options", *words]).cfg_options


PLAIN = [
    "3", "-3", "0.001", "1e-4", "True", "false", "None", "none", "vild", "", "regions/{seed}", "imagenet80", "a=b=c",
    "1,2", "1,", ",a", "a,,b", "[1,2,3]", "[]", "()", "(8,)", "(1, 2)", "[a, b, c]", "[(1, 2, 3), [a, b], c]",
    "[[1],[2]]", '"5"', "'None'", '["1", b]', "s3://bucket/{00000..00041}.tar", "ViT-B-32.pt", "[0.5, None, True]",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_values_are_read_as_mmengine_reads_them(text):
    value = read(f"key={text}")["key"]
    expected = DictAction._parse_iterable(text)
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/data/my runs/x", "/data/my runs/x"),
        ("/data/it's/5\"", "/data/it's/5\""),
        ("/data/run (1)/last.pth", "/data/run (1)/last.pth"),
        ("/data/run (1, 2)/last.pth", "/data/run (1, 2)/last.pth"),
        ("/data/run (1", "/data/run (1"),
        ("[old]/x/[new]", "[old]/x/[new]"),
        (" 5 ", 5),
        ('"a, b"', "a, b"),
        ("'[1, 2]'", "[1, 2]"),
        ('"say ""hello"", twice"', 'say "hello", twice'),
        ('["a scan of a {}."]', ["a scan of a {}."]),
        ("['a {}, drawn', \"(b\", c d]", ["a {}, drawn", "(b", "c d"]),
        ('"a, b", c', ["a, b", "c"]),
        ("/data/a b,/data/c d", ["/data/a b", "/data/c d"]),
        ("(a b, (1, 2))", ("a b", (1, 2))),
        ("it's, that's", ["it's", "that's"]),
    ],
)
def test_texts_keep_their_blanks_and_quotes_keep_texts_whole(text, value):
    found = read(f"key={text}")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "plain/last.pth",
        "/my runs/x",
        "a, b",
        "[1, 2]",
        "(a",
        "a,(b",
        "k=v",
        "both \" and ', here",
        "'q'",
        '"q"',
        " x ",
        "",
    ],
)
def test_any_text_can_be_written(text):
    assert read(write_option("a.b", text)) == {"a.b": text}
    assert '"' in text or "," in text or text[:1] in "[('" or write_option("a.b", text) == f"a.b={text}"


def test_a_number_cannot_be_written_as_a_text():
    with pytest.raises(ValueError, match="a.b: '5' cannot be given as a text"):
        write_option("a.b", "5")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("key", "expected KEY=VALUE, got 'key'"),
        ("=5", "expected KEY=VALUE, got '=5'"),
        ("key=(1, [2)", "key=(1, [2): its brackets do not match"),
        ("key=a), b", "key=a), b: its brackets do not match"),
    ],
)
def test_a_word_that_cannot_be_read_is_one_line(capsys, word, message):
    with pytest.raises(SystemExit) as end:
        read("first=1", word)
    assert end.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]


def test_a_second_option_adds_to_the_first():
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    words = ["--cfg-options", "a=1", "b=2", "--cfg-options", "b=3", "c=x y"]
    assert parser.parse_args(words).cfg_options == {"a": 1, "b": 3, "c": "x y"}
    assert parser.parse_args([]).cfg_options is None


def test_a_long_value_is_read_in_time():
    text = "[" + ", ".join(f'"class {number}"' for number in range(20_000)) + "]"
    assert parse_value(text)[-1] == "class 19999"


@pytest.mark.parametrize("text", ["{'type': 'AdamW', 'lr': 1e-3}", "{lr: 1}", " {a:1} "])
def test_a_dict_is_an_error_that_says_how_to_give_its_keys(text):
    with pytest.raises(ValueError, match=r"optimizer=.*a dict is given by its keys, KEY\.NAME=VALUE"):
        read_options([f"optimizer={text}"])


def test_braces_of_a_text_stay():
    assert read_options(["a={}", "b=a photo of a {}", "c='{x: y}'"]) == {
        "a": "{}",
        "b": "a photo of a {}",
        "c": "{x: y}",
    }
    assert read_options([write_option("a", "{x: y}")]) == {"a": "{x: y}"}
