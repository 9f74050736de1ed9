"""Read ODVG JSON lines, the format of mmdetection and of many grounding sets: one image and caption per line."""

import re
from pathlib import Path
from typing import Any

from openvocab.datasets.annotations.grounded_captions import (
    GroundingBuilder,
    Region,
    read_boxes,
    read_ranges,
    read_size,
)
from openvocab.files.file_values import numbers, whole_number
from openvocab.files.text_files import decode_text, parse_json, read_json
from openvocab.vocabulary.prompt import CharacterRange


def read_odvg(path: Path, images: Path, builder: GroundingBuilder, class_of_label: dict[int, int] | None) -> None:
    """Read the records of a file into a builder.

    A record has `filename`, `height` and `width`, and either `grounding` (`caption` and `regions`, each with `bbox`,
    one box or several, and `tokens_positive`, or a `phrase` that the caption holds exactly once) or `detection`
    (`instances` with `bbox` and `label`). A region may have a `type`.

    Args:
        path: the file; empty lines are skipped.
        images: folder that file names are relative to.
        builder: takes the captions; their ids are the file name and the number of the line.
        class_of_label: the class of each label of `detection` records; None refuses such records.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line of another form, or spans outside of a caption; the message states the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the dataset or point annotations to it")
    with path.open("rb") as file:  # line by line: these files have gigabytes
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{path}:{number}"
                record = parse_json(decode_text(line, where), where)
                _read_record(record, number, where, images, builder, class_of_label)


def read_label_map(path: Path) -> dict[int, str]:
    """Read the names of ODVG's labels, {"0": "person", ...}, in the order of their numbers.

    Raises:
        OSError: it cannot be read.
        ValueError: another form.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content.values()):
        raise ValueError(f'{path}: expected the names of the labels, {{"0": "person", ...}}, got {str(content)[:60]}')
    return dict(sorted((whole_number(label, f"{path}: a label"), name) for label, name in content.items()))


def _read_record(
    record: Any,
    number: int,
    where: str,
    images: Path,
    builder: GroundingBuilder,
    class_of_label: dict[int, int] | None,
) -> None:
    if not isinstance(record, dict) or not isinstance(record.get("filename"), str) or not record["filename"]:
        raise ValueError(f"{where}: expected an object with 'filename' and 'grounding', got {str(record)[:80]}")
    kinds = [kind for kind in ("grounding", "detection") if record.get(kind) is not None]
    if len(kinds) != 1 or not isinstance(record[kinds[0]], dict):
        raise ValueError(f"{where}: expected an object under either 'grounding' or 'detection', got {kinds}")
    name, size = record["filename"], read_size(record, where)
    if kinds == ["grounding"]:
        content = record["grounding"]
        caption, regions = content.get("caption"), content.get("regions")
        if not isinstance(caption, str) or not isinstance(regions, list):
            raise ValueError(f"{where}: grounding: expected 'caption', a text, and 'regions', a list")
        marked = [_region(region, caption, f"{where}: region {index}") for index, region in enumerate(regions)]
        builder.add_caption(f"{name}#{number}", images / name, size, caption, marked, where)
        return
    if class_of_label is None:
        raise ValueError(
            f"{where}: a 'detection' record, whose labels are numbers; give label_map, the file with their names"
        )
    objects = _objects(record["detection"], class_of_label, where)
    builder.add_classes(f"{name}#{number}", images / name, size, objects)


def _region(region: Any, caption: str, where: str) -> Region:
    if not isinstance(region, dict):
        raise ValueError(f"{where}: expected an object with 'bbox' and 'tokens_positive', got {str(region)[:60]}")
    boxes = [] if region.get("bbox") is None else read_boxes(region["bbox"], where)
    if "tokens_positive" in region:
        ranges = read_ranges(region["tokens_positive"], where)
    else:
        ranges = (_find_phrase(region.get("phrase"), caption, where),)
    kind = region.get("type")
    if kind is not None and not (isinstance(kind, str) and kind.strip()):
        raise ValueError(f"{where}: type: expected a text, got {repr(kind)[:60]}")
    return Region(ranges, boxes, () if kind is None else (kind,))


def _find_phrase(phrase: Any, caption: str, where: str) -> CharacterRange:
    """Return where a caption holds a phrase.

    Raises:
        ValueError: it does not hold it exactly once.
    """
    if not isinstance(phrase, str) or not phrase.strip():
        raise ValueError(f"{where}: expected 'tokens_positive', [[begin, end], ...], or a 'phrase' of the caption")
    pattern = rf"(?<!\w){re.escape(phrase.strip())}(?!\w)"
    found = [match.span() for match in re.finditer(pattern, caption, re.IGNORECASE)]
    if len(found) != 1:
        raise ValueError(
            f"{where}: the caption holds the phrase {phrase[:60]!r} {len(found)} times; state which characters are "
            "meant as tokens_positive, [[begin, end], ...]"
        )
    return found[0]


def _objects(content: dict[str, Any], class_of_label: dict[int, int], where: str) -> list[tuple[int, list[float]]]:
    instances = content.get("instances")
    if not isinstance(instances, list):
        raise ValueError(f"{where}: detection: expected 'instances', a list")
    objects = []
    for index, instance in enumerate(instances):
        try:
            label, box = whole_number(instance["label"], "label"), list(numbers(instance["bbox"], "bbox", 4))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{where}: instance {index} needs a label and a bbox [x1, y1, x2, y2]: {reason}") from None
        if label not in class_of_label:
            raise ValueError(f"{where}: instance {index} has the label {label}, which label_map does not list")
        objects.append((class_of_label[label], box))
    return objects
