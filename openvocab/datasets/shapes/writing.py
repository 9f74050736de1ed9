"""Write the Shapes world: labeled scenes in the formats of real datasets, for work without any download.

Its 12 unseen pairs of color and form occur in captions and in the val labels, but neither in the dense training labels
nor in the images that have such labels.
"""

import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from openvocab.datasets.shapes.captions import write_captions
from openvocab.datasets.shapes.classes import CLASS_NAMES, SEEN, UNSEEN
from openvocab.datasets.shapes.drawing import draw
from openvocab.datasets.shapes.plan import SPLITS, Picture, ShapesParameters, make_scene, plan
from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.scene import IMAGE_SIZE, Scene
from openvocab.files.atomic_files import put_in_place, temporary_sibling
from openvocab.process.group_signals import ignore_group_signals
from openvocab.process.processor_cores import available_cores

MANIFEST = "shapes.json"
CHUNK = 100
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Record:
    """What the annotation files contain about one image."""

    picture: Picture
    captions: list[str]
    instances: list[dict[str, Any]]
    digest: bytes
    """SHA-256 of the image's files."""


def write_shapes(
    root: str | Path,
    seed: int = 0,
    num_train: int = 12_000,
    num_val: int = 500,
    objects_per_class: int = 10,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Draw a Shapes dataset into a new folder; the same arguments give the same bytes on every machine.

    Args:
        root: folder to create; it appears when it is complete. One that already holds this dataset is left as it is.
        seed: seed of all choices.
        num_train: training scenes; the first half of them have dense labels.
        num_val: validation scenes, over all 48 classes in turn.
        objects_per_class: single-object images per class, for zero-shot classification.
        processes: worker processes; default: one per core. They do not change the result.
        progress: called with (images done, total) at the start and after every hundred images.

    Returns:
        True if the folder was created, False if it was there already.

    Raises:
        ValueError: a negative number, or no process.
        FileExistsError: the folder holds other files.
        OSError: it cannot be written, or one of the processes was killed.
    """
    parameters = ShapesParameters(seed, num_train, num_val, objects_per_class)
    root = Path(root)
    if processes is not None and processes < 1:
        raise ValueError(f"processes: expected 1 or more, got {processes}")
    if _is_complete(root, parameters):
        return False
    root.parent.mkdir(parents=True, exist_ok=True)
    with temporary_sibling(root, Path.mkdir) as partial_root:
        _write_all(partial_root, parameters, processes or available_cores(), progress)
        put_in_place(partial_root, root)  # replaces an empty folder
    return True


def _is_complete(root: Path, parameters: ShapesParameters) -> bool:
    """Return whether the folder already holds this dataset; raise if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        manifest = json.loads((root / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        raise FileExistsError(
            f"{root} exists and is not a Shapes dataset (no valid {MANIFEST} in it); delete it or name another folder"
        ) from None
    different = [
        f"{key} {manifest.get(key)} instead of {value}"
        for key, value in asdict(parameters).items()
        if manifest.get(key) != value
    ]
    if different:
        raise FileExistsError(
            f"{root} holds another Shapes dataset ({', '.join(different)}); delete it or name another folder"
        )
    return True


def _write_all(
    root: Path, parameters: ShapesParameters, processes: int, progress: Callable[[int, int], None] | None
) -> None:
    pictures = plan(parameters)
    for folder in {(root / path).parent for picture in pictures for path in (picture.path, *picture.label_paths)}:
        folder.mkdir(parents=True)
    records: list[Record] = []
    report = progress or (lambda done, total: None)
    report(0, len(pictures))
    for chunk in _draw_all(root, parameters.seed, pictures, processes):
        records += chunk
        report(len(records), len(pictures))
    texts = _texts(records)
    for name, text in texts.items():
        (root / name).write_bytes(text.encode())
    digest = hashlib.sha256(b"".join(record.digest for record in records) + "".join(texts.values()).encode())
    (root / MANIFEST).write_text(json.dumps({**asdict(parameters), "digest": digest.hexdigest()}, indent=1) + "\n")


def _draw_all(root: Path, seed: int, pictures: list[Picture], processes: int) -> Iterator[list[Record]]:
    """Yield the records of the images in order, chunk by chunk, as the processes finish them."""
    chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
    work = partial(_draw_chunk, root, seed)
    if processes == 1 or len(chunks) < 2:
        yield from map(work, chunks)
        return
    method = "fork" if sys.platform == "linux" else "spawn"  # fork, where it is safe, saves seconds of imports
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(min(processes, len(chunks)), context, initializer=_start_drawing) as pool:
        try:
            yield from pool.map(work, chunks)
        except BrokenProcessPool:
            raise ChildProcessError(
                "a process that drew images was killed, most often for lack of memory; use fewer `processes`"
            ) from None


def _start_drawing() -> None:
    ignore_group_signals()
    cv2.setNumThreads(0)


def _draw_chunk(root: Path, seed: int, pictures: list[Picture]) -> list[Record]:
    return [_draw_picture(root, seed, picture) for picture in pictures]


def _draw_picture(root: Path, seed: int, picture: Picture) -> Record:
    """Draw one image with its label maps; the result depends on seed, split and index alone."""
    stream = RandomStream(seed, SPLITS[picture.split], picture.index)
    scene = make_scene(picture, stream)
    jpeg = _encode(".jpg", draw(scene, stream)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    png = _encode(".png", scene.label_map(), []) if picture.label_paths else b""
    for path, data in [(picture.path, jpeg), *((path, png) for path in picture.label_paths)]:
        (root / path).write_bytes(data)
    captions = [] if picture.split == "objects" else write_captions(scene, stream)
    instances = _instances(scene) if picture.instance_files else []
    return Record(picture, captions, instances, hashlib.sha256(jpeg + png).digest())


def _encode(extension: str, image: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(extension, image, options)
    if not done:
        raise OSError(f"OpenCV could not encode a {extension} image of shape {image.shape}")
    return data.tobytes()


def _instances(scene: Scene) -> list[dict[str, Any]]:
    """Return the COCO annotations of a scene, without their ids, of the visible part of each object."""
    annotations = []
    for index, obj in enumerate(scene.objects):
        mask = scene.visible_mask(index)
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        ys, xs = np.nonzero(mask)
        left, top = int(xs.min()), int(ys.min())
        annotations.append(
            {
                "category_id": obj.class_id + 1,
                "bbox": [left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top],
                "area": len(xs),
                "iscrowd": 0,
                "segmentation": {"size": [IMAGE_SIZE, IMAGE_SIZE], "counts": rle["counts"].decode("ascii")},
            }
        )
    return annotations


def _texts(records: list[Record]) -> dict[str, str]:
    """Return the text files of the dataset by name."""
    split_names = {"seen": [CLASS_NAMES[k] for k in SEEN], "unseen": [CLASS_NAMES[k] for k in UNSEEN]}
    texts = {
        "classes.txt": "\n".join(("background", *CLASS_NAMES)) + "\n",
        "split.json": json.dumps(split_names, indent=1) + "\n",
    }
    for split in ("train", "val"):
        of_split = [record for record in records if record.picture.split == split]
        lines = [json.dumps({"image": record.picture.path, "captions": record.captions}) for record in of_split]
        texts[f"captions_{split}.jsonl"] = "".join(line + "\n" for line in lines)
    for name in ("instances_train.json", "instances_train_oracle.json", "instances_val.json"):
        listed = [record for record in records if name in record.picture.instance_files]
        texts[name] = json.dumps(_coco(listed)) + "\n"
    return texts


def _coco(records: list[Record]) -> dict[str, list[dict[str, Any]]]:
    """Return the COCO file of one split; `file_name` is relative to its image folder."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        image_id, name = record.picture.index + 1, Path(record.picture.path).name
        images.append({"id": image_id, "file_name": name, "height": IMAGE_SIZE, "width": IMAGE_SIZE})
        for instance in record.instances:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **instance})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASS_NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}
