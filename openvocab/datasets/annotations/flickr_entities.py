"""Read Flickr30k Entities: sentences with marked phrases, and the boxes of the entities that these refer to."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from openvocab.datasets.annotations.grounded_captions import GroundingBuilder, Region
from openvocab.datasets.annotations.records import raise_bad
from openvocab.files.file_values import number, whole_number
from openvocab.files.text_files import read_label_text, read_xml
from openvocab.images.image_io import BadSample
from openvocab.structures import Size

SENTENCES, ANNOTATIONS = "Sentences", "Annotations"
EDGES = ("xmin", "ymin", "xmax", "ymax")
_PHRASE = re.compile(r"\[/EN#(\d+)((?:/[^\s/\]]+)*) +([^\[\]]+)\]")
Boxes = dict[str, list[Sequence[float]]]
"""Boxes x1 y1 x2 y2 by the id of their entity."""


def read_flickr_entities(
    folder: Path,
    images: Path,
    builder: GroundingBuilder,
    keys: Sequence[str] | None = None,
    on_bad: Callable[[BadSample], None] = raise_bad,
) -> None:
    """Read the sentences of a folder into a builder, each as a caption of its own.

    The markup `[/EN#12/people/clothing A man]` is removed from the text; the words in it are a phrase of the types
    "people" and "clothing". Its boxes are all boxes of entity 12 in the XML file, with its coordinates as edges; an
    entity of the whole scene, or one that is not visible, has none. A box of an entity that no sentence mentions
    belongs to no phrase.

    Args:
        folder: folder with `Sentences/*.txt` and `Annotations/*.xml`.
        images: folder of the images, `ID.jpg`.
        builder: takes the captions; their ids are `ID#0`, `ID#1`, ...
        keys: ids of the images to read, in this order; default: all, in alphabetical order.
        on_bad: called with the error of an image's files, which are then skipped. Default: raise it.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: an id that `keys` list twice.
    """
    for name in (SENTENCES, ANNOTATIONS):
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"annotations: {folder} has no folder {name}; unpack Flickr30k Entities there")
    found = sorted(path.stem for path in (folder / SENTENCES).glob("*.txt")) if keys is None else keys
    if twice := [image_id for image_id, count in Counter(found).items() if count > 1]:
        raise ValueError(f"keys: {twice[0]!r} is listed {found.count(twice[0])} times; list each image once")
    for image_id in found:
        try:
            sentences = _sentences(folder / SENTENCES / f"{image_id}.txt")
            size, boxes = _boxes(folder / ANNOTATIONS / f"{image_id}.xml")
        except BadSample as error:
            on_bad(error)
            continue
        mentioned = {entity for _, phrases in sentences for entity, _ in phrases}
        builder.without_a_phrase += sum(len(those) for entity, those in boxes.items() if entity not in mentioned)
        for index, (text, phrases) in enumerate(sentences):
            regions = [Region(one.ranges, boxes.get(entity, ()), one.types) for entity, one in phrases]
            where = f"{folder / SENTENCES / image_id}.txt:{index + 1}"
            builder.add_caption(f"{image_id}#{index}", images / f"{image_id}.jpg", size, text, regions, where)


def _sentences(path: Path) -> list[tuple[str, list[tuple[str, Region]]]]:
    """Return the text of each sentence without markup, and its phrases with the id of their entity."""
    try:
        lines = [line for line in read_label_text(path).split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise BadSample(path, str(error).removeprefix(f"{path} ")) from error
    return [_sentence(line, path, number) for number, line in enumerate(lines, start=1)]


def _sentence(line: str, path: Path, line_number: int) -> tuple[str, list[tuple[str, Region]]]:
    pieces, phrases, length, done = [], [], 0, 0
    for found in _PHRASE.finditer(line):
        before, words = line[done : found.start()], found[3].strip()
        pieces += [before, words]
        begin = length + len(before)
        length, done = begin + len(words), found.end()
        types = tuple(part for part in found[2].split("/") if part)
        phrases.append((found[1], Region(((begin, length),), (), types)))
    text = "".join([*pieces, line[done:]])
    if "/EN#" in text:
        raise BadSample(path, f"line {line_number}: a phrase that is not marked as [/EN#id/type words]: {line[:80]!r}")
    return text, phrases


def _boxes(path: Path) -> tuple[Size | None, Boxes]:
    """Return the size of the image, None if it is not stated, and the boxes of each entity."""
    try:
        root = read_xml(path)
    except (OSError, ValueError) as error:
        raise BadSample(path, str(error).removeprefix(f"{path} ")) from error
    boxes: Boxes = {}
    try:
        for element in root.iter("object"):
            box = element.find("bndbox")
            if box is None:  # of the whole scene, or not visible
                continue
            edges = [number(box.findtext(edge), edge) for edge in EDGES]
            for name in element.iter("name"):
                boxes.setdefault((name.text or "").strip(), []).append(edges)
        height, width = (whole_number(root.findtext(f"size/{side}") or 0, side) for side in ("height", "width"))
    except ValueError as error:
        raise BadSample(path, str(error)) from None
    return (height, width) if height > 0 and width > 0 else None, boxes
