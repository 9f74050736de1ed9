"""The photos of `own_files` as datasets that Hugging Face's `datasets` saves, with its own writers."""

from io import BytesIO

import datasets
from own_files import BOXES, NAMES, WIDTH, label_map, write_photos
from PIL import Image


def photos(folder):
    write_photos(folder)
    return [dict(bytes=(folder / f"photo {index}.png").read_bytes(), path=None) for index in range(6)]


def png(pixels):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return dict(bytes=buffer.getvalue(), path=None)


def of_label_maps(folder, indices=range(6), image="image", label="label"):
    """Return a dataset of photos and label maps, with 255 where no object is."""
    images = photos(folder)
    columns = {image: [images[index] for index in indices], label: [png(label_map(index)) for index in indices]}
    features = datasets.Features({image: datasets.Image(), label: datasets.Image()})
    return datasets.Dataset.from_dict(columns, features=features)


def xywh(box):
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def of_boxes(folder, indices=range(6), form="structure", names=NAMES, boxes=xywh, category=int):
    """Return a dataset of photos and objects: a structure of lists, or a list of structures."""
    images = photos(folder)
    kind = datasets.ClassLabel(names=names) if names else datasets.Value("string" if category is not int else "int64")
    box = datasets.List(datasets.Value("float32"))
    rows = [[(boxes(box), category(label)) for label, box in enumerate(BOXES[index])] for index in indices]
    if form == "structure":
        objects = [dict(bbox=[one for one, _ in row], category=[one for _, one in row]) for row in rows]
        feature = dict(bbox=datasets.List(box), category=datasets.List(kind))
    else:
        objects = [[dict(bbox=one, category=two) for one, two in row] for row in rows]
        feature = datasets.List(dict(bbox=box, category=kind))
    return datasets.Dataset.from_dict(
        dict(image=[images[index] for index in indices], objects=objects, width=[WIDTH] * len(indices)),
        features=datasets.Features(image=datasets.Image(), objects=feature, width=datasets.Value("int32")),
    )


def save_to_disk(folder, parts):
    datasets.DatasetDict(parts).save_to_disk(folder)


def save_as_on_hub(folder, parts):
    """Write `data/train-00000-of-00002.parquet`, ..., one file for a single row."""
    (folder / "data").mkdir(parents=True)
    for name, part in parts.items():
        count = min(2, len(part))
        for number in range(count):
            path = folder / "data" / f"{name}-{number:05d}-of-{count:05d}.parquet"
            part.shard(count, number, contiguous=True).to_parquet(path)


def save_in_folders(folder, parts):
    for name, part in parts.items():
        (folder / "default" / name).mkdir(parents=True)
        part.to_parquet(folder / "default" / name / "0000.parquet")


def save_one_each(folder, parts):
    folder.mkdir()
    for name, part in parts.items():
        part.to_parquet(folder / f"{name}.parquet")
