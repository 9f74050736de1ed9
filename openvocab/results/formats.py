"""Results on disk, in the formats that other programs read."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from openvocab.argument_checks import check_choice
from openvocab.files.atomic_files import replacing
from openvocab.results.base import NoSuchForm, Result
from openvocab.results.classification import ClassificationResult
from openvocab.results.detection import DetectionResult
from openvocab.results.semantic import SemanticResult
from openvocab.results.voc import voc_annotation


@dataclass(frozen=True)
class Format:
    """A format of files.

    Args:
        extension: of its files.
        what: one line for `--help`.
        content: returns the bytes of the file; raises NoSuchForm if results of the task have no such form.
    """

    extension: str
    what: str
    content: Callable[[Result], bytes]


def write_result(result: Result, path: Path, format: str | None = None, heat: str = "") -> Path:
    """Write a result to a file; see `Result.save`.

    Args:
        result, path, format: see there.
        heat: draw the scores of this name, for a picture of a label map.
    """
    write_bytes(content_of(result, path, format, heat), path)
    return path


def content_of(result: Result, path: Path, format: str | None = None, heat: str = "") -> bytes:
    """Return the content of the file that `write_result` writes.

    Raises:
        NoSuchForm: results of this task have no such format.
        ValueError: see `Result.save`.
    """
    name = format or _by_extension(path)
    check_choice("format", name, FORMATS)
    if name == "overlay":
        return _picture(result, Image.registered_extensions()[path.suffix.lower() or ".png"], heat)
    return FORMATS[name].content(result)


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file, whole or not at all; create its folder.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        file.write(content)


def is_picture(extension: str) -> bool:
    """Return whether an extension, in lower case, is that of a picture format that Pillow writes."""
    return Image.registered_extensions().get(extension) in Image.SAVE


def _by_extension(path: Path) -> str:
    """Return the format that an extension means.

    Raises:
        ValueError: none, or several.
    """
    extension = path.suffix.lower()
    if is_picture(extension):
        return "overlay"
    names = [name for name, format in FORMATS.items() if format.extension == extension]
    if not names:
        raise ValueError(f"{path.name}: the extension names no format; give one: format={' | '.join(FORMATS)}")
    if len(names) > 1:
        raise ValueError(f"{path.name}: several formats have this extension; give one: format={' | '.join(names)}")
    return names[0]


def _picture(result: Result, kind: str = "PNG", heat: str = "") -> bytes:
    if heat and not isinstance(result, SemanticResult):
        raise NoSuchForm(
            f"heat: expected a label map, which has a score for each pixel, but this model predicts {result.kind}"
        )
    picture = result.draw(heat=heat) if isinstance(result, SemanticResult) else result.draw()
    content = io.BytesIO()
    Image.fromarray(picture).save(content, kind)
    return content.getvalue()


def _label_png(result: Result) -> bytes:
    """Return the label map as a PNG: its colors are those of pictures, its numbers the indices of the names."""
    if not isinstance(result, SemanticResult):
        raise _lacking("label-png: expected a label map", result)
    labels = result.label_map
    if labels.dtype.itemsize > 2:
        raise ValueError(f"label-png: a PNG holds up to 65,536 classes, got {len(result.names)}; use npz")
    about = PngInfo()
    about.add_itxt("names", json.dumps(result.names, ensure_ascii=False))
    content = io.BytesIO()
    picture = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        from openvocab.drawing.class_colors import class_colors

        picture = picture.convert("P")  # the numbers stay; only what colors they have is added
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(result.names)] = class_colors(result.names)
        picture.putpalette(palette.tobytes())
    picture.save(content, "PNG", pnginfo=about)
    return content.getvalue()


def rows_of(result: Result) -> list[dict[str, Any]]:
    """Return the rows of a table of a result: its objects, or its names."""
    return result.objects() if isinstance(result, DetectionResult) else result.table()


def csv_bytes(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ("name",)) -> bytes:
    """Return a table as a CSV file; its columns are those of the first row, or without rows `columns`."""
    content = io.StringIO()
    columns = list(rows[0]) if rows else columns
    # carriage returns in names of files would end a line: Python before 3.13 puts only the terminator in quotes
    writer = csv.DictWriter(content, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue().encode(errors="backslashreplace")


def json_bytes(value: object) -> bytes:
    """Return a value as a JSON file; bytes of file names that are not UTF-8 become escapes, which JSON has."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    return f"{text}\n".encode(errors="backslashreplace")


def _npz(result: Result) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **result.to_arrays())
    return content.getvalue()


def _voc(result: Result) -> bytes:
    if not isinstance(result, DetectionResult):
        raise _lacking("voc: expected objects with boxes", result)
    return voc_annotation(result)


def _lacking(expected: str, result: Result) -> NoSuchForm:
    others = "json, csv or npz" if isinstance(result, ClassificationResult) else "coco, yolo or npz"
    return NoSuchForm(f"{expected}, but this model predicts {result.kind}; use {others}")


FORMATS = {
    "overlay": Format(".png", "a picture of the names over the image", _picture),
    "label-png": Format(".png", "label map: pixel value = index of the name", _label_png),
    "coco": Format(".json", "COCO document, one for all images", lambda result: json_bytes(result.to_coco())),
    "yolo": Format(".txt", "YOLO labels: boxes, or polygons of masks", lambda result: result.to_yolo().encode()),
    "voc": Format(".xml", "Pascal VOC annotation: boxes", _voc),
    "json": Format(
        ".json", "names, areas or objects, one value per image", lambda result: json_bytes(result.to_json())
    ),
    "csv": Format(".csv", "table of areas or objects", lambda result: csv_bytes(rows_of(result))),
    "npz": Format(".npz", "numpy arrays", _npz),
    "geojson": Format(".geojson", "polygons in pixels", lambda result: json_bytes(result.to_geojson())),
}
"""Formats by the name that `--format` and `Result.save` take."""
