"""Read text, JSON, YAML and XML files of other programs; every error is one line that names the file."""

import codecs
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

import yaml

from openvocab.files.regular_files import read_regular

MAX_LABEL_BYTES = 2**26
"""Maximum size of the label file of a single sample: 64 MiB."""
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# PyYAML's own errors, and what its constructors raise for a malformed `!!timestamp`, `!!int`, ...
_YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


def read_text(path: str | Path) -> str:
    """Read a text file, UTF-8 with or without a byte order mark.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not UTF-8; the message states the line.
    """
    return _one_line_ends(decode_text(Path(path).read_bytes(), path))


def read_label_text(path: str | Path) -> str:
    """Read the text file of one sample, which must be a regular file: others could block or never end.

    Raises:
        OSError: it cannot be opened, is not a regular file, or has more than `MAX_LABEL_BYTES`.
        ValueError: it is not UTF-8; the message states the line.
    """
    return _one_line_ends(decode_text(read_regular(path, MAX_LABEL_BYTES), path))


def decode_text(content: bytes, source: str | Path) -> str:
    """Decode UTF-8, with or without a byte order mark; `source` names the content in errors.

    Raises:
        ValueError: it is not UTF-8; the message states the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = "it seems to be UTF-16" if content.startswith(_UTF16) else f"byte {content[error.start]:#04x}"
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{source}:{line}: not UTF-8 ({reason}); save it as UTF-8") from error
    if "\0" in text:  # not in any text; ASCII letters in UTF-16 are valid UTF-8
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{source}:{line}: not UTF-8 (a zero byte, as in UTF-16 without its mark); save it as UTF-8")
    return text


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: it cannot be opened.
        ValueError: see `parse_json`.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, source: str | Path) -> Any:
    """Parse JSON; `source` names it in errors.

    Raises:
        ValueError: not JSON, nested too deeply, a number of thousands of digits, or a key that an object has twice.
    """
    try:
        return JSON_DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise not_json(error, source) from error


def not_json(error: Exception, source: str | Path) -> ValueError:
    """Return the error to raise for one of `JSON_DECODER`."""
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
    return ValueError(f"{source} is not JSON, or cut off: {reason}")


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of lists, mappings and texts.

    Scalars and keys stay texts as they are written: `on` is not true, and `010` and `1:30` are not converted to other
    numbers. Only an empty value and null are None. An alias may refer to a scalar, but not to a list or mapping, since
    a few nested ones could expand to billions of elements.

    Raises:
        OSError: it cannot be opened.
        ValueError: not YAML, nested too deeply, with such an alias, or with a key twice.
    """
    try:
        return yaml.load(read_text(path), _TextLoader)
    except RecursionError as error:
        raise ValueError(f"{path} is not YAML that can be read: it is nested too deeply") from error
    except _YAML_ERRORS as error:
        text = " ".join(str(error).split())
        raise ValueError(text if str(path) in text else f"{path} is not YAML: {text}") from error


def read_xml(path: str | Path) -> ElementTree.Element:
    """Return the root of an XML file of labels. Nothing in it is expanded or fetched: entities are an error.

    Raises:
        OSError: it cannot be opened, is not a regular file, or has more than `MAX_LABEL_BYTES`.
        ValueError: not XML, with a declaration of entities, or in an encoding that Python's parser does not know.
    """
    content = read_regular(path, MAX_LABEL_BYTES)
    try:
        _check_no_entities(content)
        return ElementTree.fromstring(content)
    except _Entities as error:
        raise ValueError(f"{path}: {error}") from None
    except (ElementTree.ParseError, ExpatError) as error:
        hint = "" if _is_utf8(content) else "; it is not in UTF-8 and declares no other encoding: save it as UTF-8"
        raise ValueError(f"{path} is not XML: {error}{hint}") from error
    except (ValueError, LookupError, RecursionError) as error:
        raise ValueError(f"{path} is not XML that can be read: {error}; save it as UTF-8") from error


def _check_no_entities(content: bytes) -> None:
    """Check that XML declares no entities: a few nested ones expand to gigabytes, and others name files.

    Raises:
        _Entities: it does.
    """

    def refuse(name: str, *_: Any) -> None:
        raise _Entities(f"it declares the entity {name[:60]!r}; replace entities by their text")

    if b"<!" in content or not _is_utf8(content):  # else there is no declaration of any kind
        parser = ParserCreate()
        parser.EntityDeclHandler = refuse
        parser.Parse(content, True)


class _Entities(Exception):
    """A declaration of an entity was found."""


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _one_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _TextLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases of lists and mappings, and with scalars as they are written."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            if not isinstance(self.anchors.get(event.anchor), (yaml.ScalarNode, type(None))):
                problem = f"the alias *{event.anchor} of a list or mapping; write it out"
                raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        value = super().construct_object(node, deep)
        return node.value if isinstance(node, yaml.ScalarNode) and value is not None else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is given twice", node.start_mark)
        return mapping


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the dict of a JSON object; Python's own silently keeps the last of two equal keys."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys: set[str] = set()
        for key, _ in pairs:
            if key in keys:
                raise ValueError(f"an object has the key {key[:60]!r} twice")
            keys.add(key)
    return content


JSON_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
