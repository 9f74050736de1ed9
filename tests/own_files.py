"""Six photos with labels, as each labeling tool writes them: the same red and blue rectangles everywhere."""

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 60
NAMES = ["red box", "blue box"]
COLORS = [(200, 30, 30), (30, 30, 200)]
BOXES = [[(5 + n, 4, 25 + n, 20), (30, 10 + n, 55, 30 + n)] for n in range(6)]
"""x1 y1 x2 y2 of the red and the blue rectangle of each photo."""


def label_map(index: int, ground: int = 255) -> np.ndarray:
    """Return the label map (H, W) of a photo: 0 in the red rectangle, 1 in the blue one."""
    pixels = np.full((HEIGHT, WIDTH), ground, np.uint8)
    for label, (x1, y1, x2, y2) in enumerate(BOXES[index]):
        pixels[y1:y2, x1:x2] = label
    return pixels


def write_photos(folder: Path, indices=range(6), extension: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for index in range(6):
        photo = generator.integers(90, 170, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for label, color in enumerate(COLORS):
            photo[label_map(index) == label] = color
        if index in indices:
            Image.fromarray(photo).save(folder / f"photo {index}{extension}")


def write_masks(folder: Path, indices=range(6), ground: int = 255) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        Image.fromarray(label_map(index, ground)).save(folder / f"photo {index}.png")


def write_color_masks(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = np.zeros((256, 3), np.uint8)
    table[:2] = COLORS
    for index in range(6):
        Image.fromarray(table[label_map(index)]).save(folder / f"photo {index}.png")


def coco(indices=range(6), polygons: bool = True) -> dict:
    annotations = [
        dict(
            id=2 * index + label + 1,
            image_id=index,
            category_id=label + 5,
            bbox=[x1, y1, x2 - x1, y2 - y1],
            segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]] if polygons else [],
            area=(x2 - x1) * (y2 - y1),
            iscrowd=0,
        )
        for index in indices
        for label, (x1, y1, x2, y2) in enumerate(BOXES[index])
    ]
    images = [dict(id=index, file_name=f"photo {index}.png", width=WIDTH, height=HEIGHT) for index in indices]
    categories = [dict(id=label + 5, name=name) for label, name in enumerate(NAMES)]
    return dict(images=images, annotations=annotations, categories=categories)


def write_coco(path: Path, indices=range(6), polygons: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco(indices, polygons)))


def write_yolo(folder: Path, indices=range(6), polygons: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        lines = []
        for label, (x1, y1, x2, y2) in enumerate(BOXES[index]):
            if polygons:
                corners = [x1, y1, x2, y1, x2, y2, (x1 + x2) / 2, y2, x1, y2]
                values = [value / (HEIGHT if at % 2 else WIDTH) for at, value in enumerate(corners)]
            else:
                values = [(x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT]
            lines.append(" ".join(map(str, [label, *values])))
        (folder / f"photo {index}.txt").write_text("\n".join(lines))


def write_voc(folder: Path, indices=range(6)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        objects = "".join(
            f"<object><name>{NAMES[label]}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in enumerate(BOXES[index])
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        (folder / f"photo {index}.xml").write_text(f"<annotation>{size}{objects}</annotation>")


def labelme(index: int) -> dict:
    (x1, y1, x2, y2), (x3, y3, x4, y4) = BOXES[index]
    buffer = BytesIO()
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(buffer, "PNG")
    shapes = [
        dict(label=NAMES[0], points=[[x2, y2], [x1, y1]], group_id=None, shape_type="rectangle", flags={}),
        dict(label=NAMES[1], points=[[x3, y3], [x4, y3], [x4, y4], [x3, y4]], group_id=None, shape_type="polygon"),
        dict(label="remark", points=[[1, 1]], shape_type="point"),
    ]
    return dict(
        version="5.4.1",
        flags={},
        shapes=shapes,
        imagePath=f"..\\photos\\photo {index}.png",
        imageData=base64.b64encode(buffer.getvalue()).decode(),
        imageHeight=HEIGHT,
        imageWidth=WIDTH,
    )


def write_labelme(folder: Path, indices=range(6)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        (folder / f"photo {index}.json").write_text(json.dumps(labelme(index)))


def cvat_xml(indices=range(6), extra: str = "") -> str:
    labels = "".join(f"<label><name>{name}</name><color>#aa0000</color></label>" for name in NAMES)
    images = []
    for index in indices:
        (x1, y1, x2, y2), (x3, y3, x4, y4) = BOXES[index]
        images.append(
            f'<image id="{index}" name="photo {index}.png" width="{WIDTH}" height="{HEIGHT}">'
            f'<polygon label="{NAMES[1]}" points="{x3},{y3};{x4},{y3};{x4},{y4};{x3},{y4}" z_order="1"/>'
            f'<box label="{NAMES[0]}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"></box>{extra}</image>'
        )
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    body = f"<version>1.1</version>{meta}{''.join(images)}"
    return f'<?xml version="1.0" encoding="utf-8"?><annotations>{body}</annotations>'


def label_studio(indices=range(6)) -> list[dict]:
    tasks = []
    for index in indices:
        (x1, y1, x2, y2), (x3, y3, x4, y4) = BOXES[index]
        corners = [[x3, y3], [x4, y3], [x4, y4], [x3, y4]]
        common = dict(original_width=WIDTH, original_height=HEIGHT, image_rotation=0)
        box = dict(x=100 * x1 / WIDTH, y=100 * y1 / HEIGHT, width=100 * (x2 - x1) / WIDTH)
        box |= dict(height=100 * (y2 - y1) / HEIGHT, rotation=0, rectanglelabels=[NAMES[0]])
        outline = dict(points=[[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners], polygonlabels=[NAMES[1]])
        result = [
            dict(common, id="a", type="rectanglelabels", value=box),
            dict(common, id="b", type="polygonlabels", value=outline),
        ]
        image = f"/data/upload/1/1a2b3c4d-photo%20{index}.png"
        annotations = [dict(id=index, was_cancelled=False, result=result)]
        tasks.append(dict(id=index + 100, data=dict(image=image), annotations=annotations, predictions=[]))
    return tasks
