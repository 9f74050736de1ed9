"""Results on disk, in the formats that other programs read."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from openvocab.argument_checks import check_choice
from openvocab.files.atomic_files import replacing
from openvocab.results.base import Result
from openvocab.results.detection import DetectionResult
from openvocab.results.semantic import SemanticResult
from openvocab.results.voc import voc_annotation


@dataclass(frozen=True)
class Format:
    """A format of files.

    Args:
        extension: of its files.
        what: one line for `--help`.
        content: returns the bytes of the file; raises ValueError if a result has no such form.
    """

    extension: str
    what: str
    content: Callable[[Result], bytes]


def write_result(result: Result, path: Path, format: str | None = None) -> Path:
    """Write a result to a file; see `Result.save`."""
    name = format or _by_extension(path)
    check_choice("format", name, FORMATS)
    content = _content(result, name, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        file.write(content)
    return path


def _by_extension(path: Path) -> str:
    """Return the format that an extension means.

    Raises:
        ValueError: none, or several.
    """
    extension = path.suffix.lower()
    if extension in Image.registered_extensions():
        return "overlay"
    names = [name for name, format in FORMATS.items() if format.extension == extension]
    if not names:
        raise ValueError(f"{path.name}: the extension names no format; give one: format={' | '.join(FORMATS)}")
    if len(names) > 1:
        raise ValueError(f"{path.name}: several formats have this extension; give one: format={' | '.join(names)}")
    return names[0]


def _content(result: Result, name: str, path: Path) -> bytes:
    if name == "overlay":
        return _picture(result, Image.registered_extensions()[path.suffix.lower() or ".png"])
    return FORMATS[name].content(result)


def _picture(result: Result, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(result.draw()).save(content, kind)
    return content.getvalue()


def _label_png(result: Result) -> bytes:
    """Return the label map as a PNG: its colors are those of pictures, its numbers the indices of the names."""
    if not isinstance(result, SemanticResult):
        raise ValueError(f"label-png: expected a label map, got a {type(result).__name__}; use npz, coco or yolo")
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


def _csv(result: Result) -> bytes:
    rows = result.objects() if isinstance(result, DetectionResult) else result.table()
    content = io.StringIO()
    columns = list(rows[0]) if rows else ["name"]
    writer = csv.DictWriter(content, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue().encode()


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def _npz(result: Result) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **result.to_arrays())
    return content.getvalue()


def _voc(result: Result) -> bytes:
    if not isinstance(result, DetectionResult):
        raise ValueError(f"voc: expected objects with boxes, got a {type(result).__name__}; use label-png or coco")
    return voc_annotation(result)


FORMATS = {
    "overlay": Format(".png", "a picture of the names over the image", _picture),
    "label-png": Format(".png", "label map: pixel value = index of the name", _label_png),
    "coco": Format(".json", "COCO document, one for all images", lambda result: _json(result.to_coco())),
    "yolo": Format(".txt", "YOLO labels: boxes, or polygons of masks", lambda result: result.to_yolo().encode()),
    "voc": Format(".xml", "Pascal VOC annotation: boxes", _voc),
    "json": Format(".json", "names, areas or objects, one value per image", lambda result: _json(result.to_json())),
    "csv": Format(".csv", "table of areas or objects", _csv),
    "npz": Format(".npz", "numpy arrays", _npz),
    "geojson": Format(".geojson", "polygons in pixels", lambda result: _json(result.to_geojson())),
}
"""Formats by the name that `--format` and `Result.save` take."""
