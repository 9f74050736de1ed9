"""Read caption files: JSON lines, CSV and TSV tables, Karpathy's splits."""

import csv
import html
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openvocab.datasets.files.folder_walk import IMAGE_EXTENSIONS, normal_key
from openvocab.files.text_files import decode_text, parse_json, read_text
from openvocab.vocabulary.vocabulary import has_visible_character

MAX_CHARACTERS = 100_000
"""Maximum length of a caption. CLIP reads the first 77 tokens; a text as long as a chapter of a book is not a
caption."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")  # line breaks among them
_LINE_END = re.compile("[\r\n]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # half a UTF-16 pair, which JSON can hold and no encoding can
_ENTITY_DIGITS = 8  # more than the number of any character has
_LONG_ENTITY = re.compile(rf"&#([0-9]{{{_ENTITY_DIGITS},}})")
Record = dict[str, Any]
"""`{"image": path, "captions": [text, ...]}`."""


def clean_caption(text: str) -> str:
    """Return a caption with HTML entities as characters, and spaces for line breaks and other control characters.

    Entities are replaced twice, as in CLIP's own cleaning, since `&amp;quot;` is common. No text raises an error.
    """
    return _HALF_CHARACTER.sub("\ufffd", _CONTROL.sub(" ", _unescaped(_unescaped(text))))


def read_records(
    path: Path, *, columns: tuple[str, str] = ("image", "caption"), split: str | Sequence[str] | None = None
) -> list[Record]:
    """Read a caption file; its extension decides the format.

    Image paths that differ only in `./` or in the encoding of an accent are one image (`normal_key`).

    Args:
        path: `.csv` (comma) or `.tsv` (tab, no quoting): a header and one caption per row; `.json`: Karpathy's format
            if it is an object with the key `images`; anything else: one JSON object per line.
        columns: names of the image's and the caption's column in a table.
        split: parts of Karpathy's format (`"test"`, `["train", "restval"]`); default: all.

    Returns:
        One record per image, in order of appearance; captions are cleaned.

    Raises:
        FileNotFoundError: no such file.
        ValueError: malformed content, captions that are empty or longer than `MAX_CHARACTERS`, a column that is
            missing or occurs twice, a double quote that is not closed, or no such split; the message states the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the dataset or point root to it")
    extension = path.suffix.lower()
    karpathy = _karpathy_images(path) if extension == ".json" else None
    if split is not None and karpathy is None:
        raise ValueError(f"split={split!r} is for Karpathy's JSON, which {path} is not; leave it out")
    if karpathy is not None:
        records = _karpathy_records(karpathy, split, path)
    elif extension in (".csv", ".tsv"):
        records = _table_records(path, columns, tabs=extension == ".tsv")
    else:
        records = _line_records(path)
    if not records:
        raise ValueError(f"{path}: no samples found: it holds no captions")
    return records


def _unescaped(text: str) -> str:
    """Return a text with HTML entities as characters; `html.unescape` alone fails for thousands of digits."""
    return html.unescape(_LONG_ENTITY.sub(_short_entity, text))


def _short_entity(found: re.Match) -> str:
    """Return an entity without leading zeros, truncated to a number that is beyond all characters anyway."""
    return f"&#{(found[1].lstrip('0') or '0')[:_ENTITY_DIGITS]}"


def _line_records(path: Path) -> list[Record]:
    records: list[Record] = []
    listed: dict[str, str] = {}
    # not splitlines: it also splits at separators that a caption may contain (U+2028)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        location = f"{path}:{number}"
        record = _parse_line(line, location)
        _check_listed_once(record["image"], listed, f"in line {number}", location)
        records.append(record)
    return records


def _check_listed_once(image: str, listed: dict[str, str], where: str, location: str) -> None:
    """Record in `listed` where an image is listed; raise if it is there already (`normal_key`)."""
    first = listed.setdefault(normal_key(image), where)
    if first != where:
        raise ValueError(f"{location}: image {image!r} was listed {first} already; give all its captions there")


def _parse_line(line: str, location: str) -> Record:
    record = parse_json(line, location)
    if not isinstance(record, dict) or not isinstance(record.get("image"), str):
        raise ValueError(f'{location}: expected {{"image": path, "captions": [text, ...]}}, got {line[:80]!r}')
    return {"image": record["image"], "captions": _checked(record.get("captions"), location)}


def _checked(captions: Any, location: str) -> list[str]:
    """Return a list of captions, checked and cleaned."""
    if not isinstance(captions, list) or not captions:
        raise ValueError(f"{location}: expected a list of at least one caption, got {str(captions)[:80]}")
    for caption in captions:
        if not isinstance(caption, str) or not has_visible_character(clean_caption(caption)):
            raise ValueError(f"{location}: expected captions that are non-empty strings, got {repr(caption)[:80]}")
        if len(caption) > MAX_CHARACTERS:
            raise ValueError(f"{location}: a caption of {len(caption)} characters; expected at most {MAX_CHARACTERS}")
    return [clean_caption(caption) for caption in captions]


def _table_records(path: Path, columns: tuple[str, str], tabs: bool) -> list[Record]:
    """Read a table; rows with the same image become the captions of one record."""
    records: dict[str, Record] = {}
    for location, image, caption in _table_rows(path, columns, tabs):
        if not image:
            raise ValueError(f"{location}: the column {columns[0]!r} is empty")
        record = records.setdefault(normal_key(image), {"image": image, "captions": []})
        record["captions"] += _checked([caption], location)
    return list(records.values())


def _table_rows(path: Path, columns: tuple[str, str], tabs: bool) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield location, image and caption of each row; None if a row is too short to have one."""
    with io.StringIO(decode_text(path.read_bytes(), path), newline="") as file:
        if tabs:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.reader(file, delimiter=",", strict=True)
        start = 1
        try:
            header = next(rows, [])
            indices = [_column_index(column, header, path) for column in columns]
            start = rows.line_num + 1
            for row in rows:
                if row:
                    image, caption = (row[index] if index < len(row) else None for index in indices)
                    _check_row(row, header, image or "", f"{path}:{start}")
                    yield f"{path}:{start}", image, caption
                start = rows.line_num + 1
        except csv.Error as error:
            hint = "" if tabs else "; is a double quote not closed, or one within a caption not doubled?"
            raise ValueError(f"{path}:{start}: {error}{hint}") from error


def _column_index(column: str, header: Sequence[str], path: Path) -> int:
    if column not in header:
        raise ValueError(f"{path}:1: no column {column!r}, the header has {header}; set columns")
    if header.count(column) > 1:
        raise ValueError(f"{path}:1: the header has the column {column!r} {header.count(column)} times; rename one")
    return header.index(column)


def _check_row(row: Sequence[str], header: Sequence[str], image: str, location: str) -> None:
    """Check that a row has no further columns and contains no other row.

    Raises:
        ValueError: columns that the header does not have, or another row within double quotes: text of several lines
            with a name between commas that has the extension of an image, or of this row's `image`.
    """
    if any(row[len(header) :]):
        hint = "a caption that contains commas needs double quotes, one of a .tsv holds no tabs"
        raise ValueError(f"{location}: {len(row)} columns, the header has {len(header)}; {hint}")
    several_lines = [text for text in row if "," in text and _LINE_END.search(text)]
    extensions = IMAGE_EXTENSIONS | ({Path(image).suffix.lower()} - {""}) if several_lines else frozenset()
    for cell in (cell.strip() for text in several_lines for cell in re.split("[,\r\n]", text)):
        if Path(cell).suffix.lower() in extensions:
            raise ValueError(f"{location}: the row of {cell[:60]!r} is within double quotes; close those before it")


def _karpathy_images(path: Path) -> list[Any] | None:
    """Return the list of images of a file in Karpathy's format; None if it has another format."""
    try:
        content = parse_json(read_text(path), path)
    except ValueError:
        return None  # then read line by line, which reports the line of an error
    images = content.get("images") if isinstance(content, dict) else None
    return images if isinstance(images, list) else None


def _karpathy_records(images: list[Any], split: str | Sequence[str] | None, path: Path) -> list[Record]:
    chosen = None if split is None else {split} if isinstance(split, str) else set(split)
    present = {str(image.get("split")) for image in images if isinstance(image, dict)}
    if chosen is not None and chosen - present:
        raise ValueError(f"{path}: no split {sorted(chosen - present)}; it has {sorted(present)}")
    records: list[Record] = []
    listed: dict[str, str] = {}
    for number, image in enumerate(images):
        location = f"{path}: image {number}"
        folder = image.get("filepath", "") if isinstance(image, dict) else None
        if not isinstance(folder, str) or not isinstance(image.get("filename"), str):
            raise ValueError(f"{location}: expected an object with filename, sentences and split")
        if chosen is None or str(image.get("split")) in chosen:
            sentences = image.get("sentences")
            are_objects = isinstance(sentences, list) and all(isinstance(text, dict) for text in sentences)
            texts = [text.get("raw") for text in sentences] if are_objects else sentences
            name = (Path(folder) / image["filename"]).as_posix()
            _check_listed_once(name, listed, f"as image {number}", location)
            records.append({"image": name, "captions": _checked(texts, location)})
    return records
