"""The files that captions come in: JSON lines, CSV and TSV tables, Karpathy's splits."""

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
"""Of a caption. CLIP reads the first 77 tokens; what is longer than a book's chapter is no caption."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")  # line breaks among them
_LINE_END = re.compile("[\r\n]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON can hold what no encoding can
_ENTITY_DIGITS = 8  # more than a character's number has
_LONG_ENTITY = re.compile(rf"&#([0-9]{{{_ENTITY_DIGITS},}})")
Record = dict[str, Any]
"""`{"image": path, "captions": [text, ...]}`."""


def clean_caption(text: str) -> str:
    """Return a caption with HTML entities as characters, and spaces for line breaks and other control characters.

    Entities are replaced twice, as in CLIP's own cleaning: `&amp;quot;` is common. Any text can be cleaned.
    """
    return _HALF_CHARACTER.sub("\ufffd", _CONTROL.sub(" ", _unescaped(_unescaped(text))))


def read_records(
    path: Path, *, columns: tuple[str, str] = ("image", "caption"), split: str | Sequence[str] | None = None
) -> list[Record]:
    """Read a caption file, by its extension.

    Paths of images that differ in `./` or in the coding of an accent alone are one image (`normal_key`).

    Args:
        path: `.csv` (comma) or `.tsv` (tab, no quoting): a header and one caption a row; `.json`: Karpathy's format if
            it is an object with the key `images`; anything else: one JSON object a line.
        columns: of a table: the names of the image's and the caption's.
        split: of Karpathy's format: which parts (`"test"`, `["train", "restval"]`); None takes all.

    Returns:
        one record an image, in order of appearance; captions are cleaned.

    Raises:
        FileNotFoundError: no such file.
        ValueError: content of another form, captions that are empty or longer than `MAX_CHARACTERS`, no such column or
            two, a double quote that is not closed, no such split; with the line.
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
        raise ValueError(f"{path}: no samples found, it holds no captions")
    return records


def _unescaped(text: str) -> str:
    """Return a text with HTML entities as characters; Python's own reader raises for numbers of thousands of digits."""
    return html.unescape(_LONG_ENTITY.sub(_short_entity, text))


def _short_entity(found: re.Match) -> str:
    """Return an entity without leading zeros, and cut where its number is beyond all characters anyway."""
    return f"&#{(found[1].lstrip('0') or '0')[:_ENTITY_DIGITS]}"


def _line_records(path: Path) -> list[Record]:
    records, first = [], {}
    # not splitlines: it also splits at separators that may stand inside a caption (U+2028)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        record = _parse_line(line, place)
        _check_first(record["image"], first, f"in line {number}", place)
        records.append(record)
    return records


def _check_first(image: str, first: dict[str, str], where: str, place: str) -> None:
    """Note where a path is listed; refuse one that `first` holds already (`normal_key`)."""
    listed = first.setdefault(normal_key(image), where)
    if listed != where:
        raise ValueError(f"{place}: image {image!r} was listed {listed} already; give all its captions there")


def _parse_line(line: str, place: str) -> Record:
    record = parse_json(line, place)
    if not isinstance(record, dict) or not isinstance(record.get("image"), str):
        raise ValueError(f'{place}: expected {{"image": path, "captions": [text, ...]}}, got {line[:80]!r}')
    return {"image": record["image"], "captions": _checked(record.get("captions"), place)}


def _checked(captions: Any, place: str) -> list[str]:
    """Return a list of captions, cleaned."""
    if not isinstance(captions, list) or not captions:
        raise ValueError(f"{place}: expected a list of at least one caption, got {str(captions)[:80]}")
    for caption in captions:
        if not isinstance(caption, str) or not has_visible_character(clean_caption(caption)):
            raise ValueError(f"{place}: expected captions that are non-empty strings, got {repr(caption)[:80]}")
        if len(caption) > MAX_CHARACTERS:
            raise ValueError(f"{place}: a caption of {len(caption)} characters; expected at most {MAX_CHARACTERS}")
    return [clean_caption(caption) for caption in captions]


def _table_records(path: Path, columns: tuple[str, str], tabs: bool) -> list[Record]:
    """Read a table; rows of the same image are captions of one record."""
    records: dict[str, Record] = {}
    for place, image, caption in _table_rows(path, columns, tabs):
        if not image:
            raise ValueError(f"{place}: the column {columns[0]!r} is empty")
        record = records.setdefault(normal_key(image), {"image": image, "captions": []})
        record["captions"] += _checked([caption], place)
    return list(records.values())


def _table_rows(path: Path, columns: tuple[str, str], tabs: bool) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield place, image and caption of each row; None where a row is too short to have one."""
    layout = dict(delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else dict(delimiter=",", strict=True)
    with io.StringIO(decode_text(path.read_bytes(), path), newline="") as file:
        rows = csv.reader(file, **layout)
        start = 1
        try:
            header = next(rows, [])
            places = [_place_in_header(column, header, path) for column in columns]
            start = rows.line_num + 1
            for row in rows:
                if row:
                    image, caption = (row[place] if place < len(row) else None for place in places)
                    _check_row(row, header, image or "", f"{path}:{start}")
                    yield f"{path}:{start}", image, caption
                start = rows.line_num + 1
        except csv.Error as error:
            hint = "" if tabs else "; is a double quote not closed, or one within a caption not doubled?"
            raise ValueError(f"{path}:{start}: {error}{hint}") from error


def _place_in_header(column: str, header: Sequence[str], path: Path) -> int:
    if column not in header:
        raise ValueError(f"{path}:1: no column {column!r}, the header has {header}; set columns")
    if header.count(column) > 1:
        raise ValueError(f"{path}:1: the header has the column {column!r} {header.count(column)} times; rename one")
    return header.index(column)


def _check_row(row: Sequence[str], header: Sequence[str], image: str, place: str) -> None:
    """Check that a row ends with its columns.

    Raises:
        ValueError: columns that the header has not, or another row within double quotes: text of several lines in which
            a name with the extension of an image, or of this row's `image`, stands between commas.
    """
    if any(row[len(header) :]):
        hint = "a caption that contains commas needs double quotes, one of a .tsv holds no tabs"
        raise ValueError(f"{place}: {len(row)} columns, the header has {len(header)}; {hint}")
    several_lines = [text for text in row if "," in text and _LINE_END.search(text)]
    extensions = IMAGE_EXTENSIONS | ({Path(image).suffix.lower()} - {""}) if several_lines else ()
    for cell in (cell.strip() for text in several_lines for cell in re.split("[,\r\n]", text)):
        if Path(cell).suffix.lower() in extensions:
            raise ValueError(f"{place}: the row of {cell[:60]!r} is within double quotes; close those before it")


def _karpathy_images(path: Path) -> list[Any] | None:
    """Return the list of images of a file in Karpathy's format; None if it is something else."""
    try:
        content = parse_json(read_text(path), path)
    except ValueError:
        return None  # then lines, which say what is wrong with which
    images = content.get("images") if isinstance(content, dict) else None
    return images if isinstance(images, list) else None


def _karpathy_records(images: list[Any], split: str | Sequence[str] | None, path: Path) -> list[Record]:
    wanted = None if split is None else {split} if isinstance(split, str) else set(split)
    found = {str(image.get("split")) for image in images if isinstance(image, dict)}
    if wanted is not None and wanted - found:
        raise ValueError(f"{path}: no split {sorted(wanted - found)}; it has {sorted(found)}")
    records, first = [], {}
    for number, image in enumerate(images):
        place = f"{path}: image {number}"
        folder = image.get("filepath", "") if isinstance(image, dict) else None
        if not isinstance(folder, str) or not isinstance(image.get("filename"), str):
            raise ValueError(f"{place}: expected an object with filename, sentences and split")
        if wanted is None or str(image.get("split")) in wanted:
            sentences = image.get("sentences")
            listed = isinstance(sentences, list) and all(isinstance(text, dict) for text in sentences)
            texts = [text.get("raw") for text in sentences] if listed else sentences
            name = (Path(folder) / image["filename"]).as_posix()
            _check_first(name, first, f"as image {number}", place)
            records.append({"image": name, "captions": _checked(texts, place)})
    return records
