"""Results as Pascal VOC annotations."""

from xml.etree import ElementTree

from openvocab.results.detection import DetectionResult


def voc_annotation(result: DetectionResult) -> bytes:
    """Return the XML of an image, with names, scores and boxes; pixels are counted from 1, as VOC does."""
    height, width = result.size
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = result.sample_id
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(value)
    for name, score, box in zip(result.object_names, result.scores.tolist(), result.boxes.tolist()):
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = name
        ElementTree.SubElement(element, "difficult").text = "0"
        ElementTree.SubElement(element, "score").text = f"{score:.4f}"
        bounds = ElementTree.SubElement(element, "bndbox")
        # edges to pixels: the first pixel is 1, and the last pixel belongs to the box, which has one at least
        first = [min(round(edge), side - 1) for edge, side in zip(box[:2], (width, height))]
        last = [max(round(edge), start + 1) for edge, start in zip(box[2:], first)]
        pixels = (first[0] + 1, first[1] + 1, *last)
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), pixels):
            ElementTree.SubElement(bounds, key).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
