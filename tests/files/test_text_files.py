"""Files of others that are read as text: values, or one line with the name of the file."""

import time

import pytest

from openvocab.files.text_files import parse_json, read_json, read_text, read_xml, read_yaml


def refused(tmp_path, reader, content: bytes) -> str:
    path = tmp_path / "file.x"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        reader(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert type(error.value) is ValueError
    return str(error.value)


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    for content in ("é\r\nb", "\ufeffé\nb"):
        (tmp_path / "a.txt").write_bytes(content.encode())
        assert read_text(tmp_path / "a.txt") == "é\nb"
    assert "file.x:1: not UTF-8 (it seems to be UTF-16); save it as UTF-8" in refused(
        tmp_path, read_text, "name".encode("utf-16")
    )
    assert "file.x:2: not UTF-8 (byte 0xe9)" in refused(tmp_path, read_text, "a\né".encode("latin-1"))
    unmarked = refused(tmp_path, read_text, "a name".encode("utf-16-le"))
    assert "file.x:1: not UTF-8 (a zero byte, as in UTF-16 without its mark); save it as UTF-8" in unmarked


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"9" * 5000, "limit"),
        (b'{"a": 1, "b": {"a": 2, "a": 3}}', "an object has the key 'a' twice"),
        (b"[1, 2", "cut off"),
        (b"", "cut off"),
    ],
    ids=["lists", "objects", "digits", "twice", "cut", "empty"],
)
def test_json_that_cannot_be_read_is_one_line(tmp_path, content, reason):
    assert reason in refused(tmp_path, read_json, content)


def test_a_key_given_twice_is_found_in_one_walk():
    """A look back from each of 200,000 keys takes minutes."""
    keys = ", ".join(f'"k{number}": 0' for number in range(200_000))
    start = time.perf_counter()
    with pytest.raises(ValueError, match="an object has the key 'k199999' twice"):
        parse_json(f'{{{keys}, "k199999": 1}}', "x")
    assert time.perf_counter() - start < 10


def test_json_is_read_as_python_reads_it():
    assert parse_json('{"a": [1, 2.5, null, true, "\\u00e9"]}', "x") == {"a": [1, 2.5, None, True, "é"]}
    assert parse_json("1e400", "x") == float("inf")


YAML = {
    "bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "merge bomb": b"a: &a {x: 1}\nb: {<<: [*a, *a]}\n",
    "itself": b"a: &a [*a]\n",
    "deep": b"[" * 5000,
    "code": b'!!python/object/apply:os.system ["touch RUN"]',
    "timestamp": b"!!timestamp x",
    "bool": b"!!bool x",
    "int": b'!!int ""',
    "digits": b"a: " + b"9" * 5000,
    "date": b"2001-99-99",
    "key": b"{[1]: 2}",
    "open": b"[",
    "control": b"a\0b",
}


@pytest.mark.parametrize("content", YAML.values(), ids=YAML)
def test_yaml_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, read_yaml, content)
    assert not (tmp_path / "RUN").exists()


def test_single_values_are_the_text_that_is_written_there(tmp_path):
    (tmp_path / "a.yaml").write_text("yes: [on, 'off', 010, 1_0, 1:30, 2024-01-01, 1.0, .inf, ~, null, 'null']\nx:\n")
    words = ["on", "off", "010", "1_0", "1:30", "2024-01-01", "1.0", ".inf", None, None, "null"]
    assert read_yaml(tmp_path / "a.yaml") == {"yes": words, "x": None}
    assert "a key is given twice" in refused(tmp_path, read_yaml, b"a: 1\nb: 2\na: 3\n")


def test_an_alias_of_a_single_value_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text("train: &x images\nval: *x\nnames: {0: cat}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"train": "images", "val": "images", "names": {"0": "cat"}}


LAUGHS = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "content",
    [
        b"<a>",
        b'<?xml version="1.0" encoding="gbk"?><a/>',
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b"\xff\xfe\xff",
    ],
    ids=["open", "gbk", "unknown encoding", "bytes"],
)
def test_xml_that_cannot_be_read_is_one_line(tmp_path, content):
    assert "file.x is not XML" in refused(tmp_path, read_xml, content)


@pytest.mark.parametrize(
    "content",
    [
        f'<!DOCTYPE a [<!ENTITY e0 "lol">{LAUGHS}]><a>&e11;</a>'.encode(),
        b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><a>&e;</a>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "lol">]><a>x</a>'.encode("utf-16"),
        b'<!DOCTYPE a [<!ENTITY % e SYSTEM "http://127.0.0.1/x.dtd">%e;]><a/>',
    ],
    ids=["laughs", "external", "unused, in UTF-16", "parameter"],
)
def test_xml_that_declares_entities_is_refused(tmp_path, content):
    assert "file.x: it declares the entity 'e" in refused(tmp_path, read_xml, content)


def test_xml_with_a_document_type_alone_is_read(tmp_path):
    (tmp_path / "a.xml").write_bytes(b"<!DOCTYPE a><!-- a remark --><a>x</a>")
    assert read_xml(tmp_path / "a.xml").text == "x"


def test_xml_in_an_encoding_that_it_does_not_declare_asks_for_utf8(tmp_path):
    content = "<a>café</a>".encode("cp1252")
    assert "it is not in UTF-8 and declares no other encoding: save it as UTF-8" in refused(tmp_path, read_xml, content)
    (tmp_path / "a.xml").write_bytes(b'<?xml version="1.0" encoding="cp1252"?>' + content)
    assert read_xml(tmp_path / "a.xml").text == "café"
