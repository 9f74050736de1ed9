"""Results as Pascal VOC annotations."""

import re
from xml.etree import ElementTree

from openvocab.results.detection import DetectionResult

_NOT_IN_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file can hold; names of files may have them."""


def voc_annotation(result: DetectionResult) -> bytes:
    """Return the XML of an image, with names, scores and boxes; pixels are counted from 1, as VOC does."""
    height, width = result.size
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = _readable(result.sample_id)
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(value)
    for name, score, box in zip(result.object_names, result.scores.tolist(), result.boxes.tolist()):
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = _readable(name)
        ElementTree.SubElement(element, "difficult").text = "0"
        ElementTree.SubElement(element, "score").text = f"{score:.4f}"
        bounds = ElementTree.SubElement(element, "bndbox")
        (left, right), (top, bottom) = _pixels(box[0], box[2], width), _pixels(box[1], box[3], height)
        for key, value in {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}.items():
            ElementTree.SubElement(bounds, key).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _readable(text: str) -> str:
    """Return a text with escapes such as `\\x01` for the characters that XML cannot hold."""
    return _NOT_IN_XML.sub(lambda found: ascii(found[0])[1:-1], text)


def _pixels(start: float, end: float, length: int) -> tuple[int, int]:
    """Return the first and the last pixel between two edges, counted from 1: at least one, however thin a box is."""
    first = min(round(start), length - 1) + 1
    return first, max(first, round(end))
