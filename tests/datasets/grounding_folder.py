"""Small grounding sets on disk, in each of the formats, with the same two images and boxes."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (40, 60)
IDS = (1007, 2003)
CAPTIONS = ("A man rides a brown horse .", "Two dogs near a man .")
MAN, HORSE, DOGS, MAN_2 = [5, 5, 20, 30], [4, 15, 40, 38], [[0, 0, 10, 10], [30, 8, 44, 20]], [45, 1, 60, 39]


def write_images(folder: Path) -> Path:
    """Write the two images."""
    (folder / "images").mkdir(exist_ok=True)
    for number in IDS:
        cv2.imwrite(str(folder / f"images/{number}.jpg"), np.full((*SIZE, 3), number % 250, np.uint8))
    return folder / "images"


def odvg_records() -> list[dict[str, Any]]:
    """One record per caption; the second has a phrase without boxes and a box without a phrase."""
    height, width = SIZE
    frame = {"height": height, "width": width}
    first = [
        {"bbox": MAN, "phrase": "A man", "tokens_positive": [[0, 5]], "type": "people"},
        {"bbox": [HORSE], "phrase": "a brown horse", "tokens_positive": [[12, 25]], "type": "animals"},
    ]
    second = [
        {"bbox": DOGS, "phrase": "Two dogs", "tokens_positive": [[0, 8]], "type": "animals"},
        {"bbox": [], "phrase": "a man", "tokens_positive": [[14, 19]], "type": "people"},
        {"bbox": MAN_2, "phrase": "", "tokens_positive": []},
    ]
    return [
        {"filename": f"{number}.jpg", **frame, "grounding": {"caption": caption, "regions": regions}}
        for number, caption, regions in zip(IDS, CAPTIONS, (first, second))
    ]


def write_odvg(folder: Path, records: list[dict[str, Any]] | None = None) -> Path:
    """Write `grounding.jsonl` and the images."""
    write_images(folder)
    path = folder / "grounding.jsonl"
    lines = odvg_records() if records is None else records
    path.write_text("".join(json.dumps(record) + "\n" for record in lines))
    return path


def coco_content() -> dict[str, Any]:
    """The same as MDETR writes it: an entry per caption, boxes as left, top, width, height."""

    def note(number: int, image: int, box: list[int], tokens: list[list[int]]) -> dict[str, Any]:
        x1, y1, x2, y2 = box
        return {"id": number, "image_id": image, "bbox": [x1, y1, x2 - x1, y2 - y1], "tokens_positive": tokens,
                "iscrowd": 0, "area": 1, "category_id": 1}  # fmt: skip

    height, width = SIZE
    images = [
        {"id": index, "file_name": f"{number}.jpg", "caption": caption, "height": height, "width": width,
         "dataset_name": "mixed", "data_source": source, "tokens_negative": [[0, len(caption)]]}
        for index, (number, caption, source) in enumerate(zip(IDS, CAPTIONS, ("coco", "vg")))
    ]  # fmt: skip
    images[1]["tokens_positive_eval"] = [[[0, 8]], [[14, 19]]]
    annotations = [
        note(4, 1, DOGS[0], [[0, 8]]), note(5, 0, MAN, [[0, 5]]), note(6, 0, HORSE, [[12, 25]]),
        note(7, 1, DOGS[1], [[0, 8]]), note(8, 1, MAN_2, []),
    ]  # fmt: skip
    return {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


def write_captioned_coco(folder: Path, content: dict[str, Any] | None = None) -> Path:
    """Write `grounding.json` and the images."""
    write_images(folder)
    path = folder / "grounding.json"
    path.write_text(json.dumps(coco_content() if content is None else content))
    return path


def write_entities(folder: Path) -> Path:
    """Write the folder `entities` as Flickr30k Entities has it, and the images; the last box is of no phrase."""
    write_images(folder)
    root = folder / "entities"
    sentences = {
        IDS[0]: "[/EN#1/people A man] rides [/EN#2/animals a brown horse] .\n"
        "[/EN#0/notvisual It] is [/EN#9/scene day] .\n",
        IDS[1]: "[/EN#3/animals Two dogs] near [/EN#4/people a man] .\n",
    }  # fmt: skip
    boxes = {IDS[0]: [("1", MAN), ("2", HORSE)], IDS[1]: [("3", DOGS[0]), ("3", DOGS[1]), ("7", MAN_2)]}
    for name in ("Sentences", "Annotations"):
        (root / name).mkdir(parents=True)
    for number in IDS:
        (root / f"Sentences/{number}.txt").write_text(sentences[number])
        (root / f"Annotations/{number}.xml").write_text(entities_xml(boxes[number]))
    return root


def entities_xml(boxes: list[tuple[str, list[int]]]) -> str:
    """Return the XML file of an image; entity 4 has no box, entity 9 is the scene."""
    height, width = SIZE
    edges = ("xmin", "ymin", "xmax", "ymax")
    objects = [
        f"<object><name>{name}</name><bndbox>{''.join(f'<{e}>{v}</{e}>' for e, v in zip(edges, box))}</bndbox></object>"
        for name, box in boxes
    ]
    objects += [f"<object><name>{name}</name><scene>{scene}</scene><nobndbox>1</nobndbox></object>"
                for name, scene in (("4", 0), ("9", 1))]  # fmt: skip
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>x.jpg</filename>{size}{''.join(objects)}</annotation>"
