"""Results as Pascal VOC annotations."""

import re
from xml.etree import ElementTree

from openvocab.results.detection import DetectionResult

_NOT_IN_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file can hold; names of files may have them."""


def voc_annotation(result: DetectionResult) -> bytes:
    """Return the XML of an image, with names, scores and boxes.

    Edges are whole pixels counted from 0, as today's labeling tools write them and `read_voc` reads them; VOC itself
    counted pixels from 1 and included both ends.
    """
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
        (left, right), (top, bottom) = _edges(box[0], box[2], width), _edges(box[1], box[3], height)
        for key, value in {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}.items():
            ElementTree.SubElement(bounds, key).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _readable(text: str) -> str:
    """Return a text with escapes such as `\\x01` for the characters that XML cannot hold."""
    return _NOT_IN_XML.sub(lambda found: ascii(found[0])[1:-1], text)


def _edges(start: float, end: float, length: int) -> tuple[int, int]:
    """Return two edges along an axis in whole pixels, at least one apart, however thin a box is."""
    first, last = round(start), round(end)
    if first == last:
        first = min(int(start), length - 1)
        last = first + 1
    return first, last
