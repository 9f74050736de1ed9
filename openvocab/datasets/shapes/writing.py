"""Write the Shapes world: labeled scenes in the formats of real datasets, for work without any download.

Its 12 unseen pairs of color and form occur in captions and in the val labels, but neither in the dense training labels
and the grounded captions of train nor in the images that have such labels.
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

from openvocab.datasets.shapes.captions import Caption, write_captions
from openvocab.datasets.shapes.classes import CLASS_NAMES, SEEN, UNSEEN
from openvocab.datasets.shapes.drawing import draw
from openvocab.datasets.shapes.grounding import SPLITS as GROUNDING_SPLITS
from openvocab.datasets.shapes.grounding import grounding_lines, grounding_name, has_grounding
from openvocab.datasets.shapes.plan import SPLITS, Picture, ShapesParameters, make_scene, plan
from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.scene import IMAGE_SIZE, Scene
from openvocab.files.atomic_files import put_in_place, replacing, temporary_sibling
from openvocab.files.text_files import read_text
from openvocab.process.group_signals import ignore_group_signals
from openvocab.process.processor_cores import available_cores

MANIFEST = "shapes.json"
CHUNK = 100
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Record:
    """What the annotation files contain about one image."""

    picture: Picture
    captions: list[Caption]
    instances: list[dict[str, Any]]
    digest: bytes
    """SHA-256 of the image's files."""

    @property
    def caption_line(self) -> str:
        """The image's line of the caption file."""
        return json.dumps({"image": self.picture.path, "captions": [c.text for c in self.captions]}) + "\n"


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

    A folder that an earlier version wrote gets the grounding files that it lacks. Their captions follow from the random
    stream that drew the pictures, so these are drawn again, in memory; no other file is touched.

    Args:
        root: folder to create; it appears when it is complete. One that already holds this dataset is left as it is.
        seed: seed of all choices.
        num_train: training scenes; the first half of them have dense labels.
        num_val: validation scenes, over all 48 classes in turn.
        objects_per_class: single-object images per class, for zero-shot classification.
        processes: worker processes; default: one per core. They do not change the result.
        progress: called with (images done, total) at the start and after every hundred images.

    Returns:
        True if files were written, False if the folder was complete already.

    Raises:
        ValueError: a negative number, no process, or a folder to be completed whose captions are not those of its
            parameters.
        FileExistsError: the folder holds other files.
        OSError: it cannot be written, or one of the processes was killed.
    """
    parameters = ShapesParameters(seed, num_train, num_val, objects_per_class)
    root = Path(root)
    if processes is not None and processes < 1:
        raise ValueError(f"processes: expected 1 or more, got {processes}")
    processes = processes or available_cores()
    if _is_drawn(root, parameters):
        return _complete(root, parameters, processes, progress)
    root.parent.mkdir(parents=True, exist_ok=True)
    with temporary_sibling(root, Path.mkdir) as partial_root:
        _write_all(partial_root, parameters, processes, progress)
        put_in_place(partial_root, root)  # replaces an empty folder
    return True


def _is_drawn(root: Path, parameters: ShapesParameters) -> bool:
    """Return whether the folder already holds this dataset; raise if it holds anything else.

    Its grounding files, which came later, may be missing.
    """
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
    records = _draw_all(parameters.seed, pictures, processes, progress, root)
    texts = _texts(records)
    grounding = {grounding_name(split): _grounding(records, split) for split in GROUNDING_SPLITS}
    for name, text in (texts | grounding).items():
        (root / name).write_bytes(text.encode())
    # without the grounding files: they came later, and the digest identifies the pictures and labels of every figure
    digest = hashlib.sha256(b"".join(record.digest for record in records) + "".join(texts.values()).encode())
    (root / MANIFEST).write_text(json.dumps({**asdict(parameters), "digest": digest.hexdigest()}, indent=1) + "\n")


def _complete(
    root: Path, parameters: ShapesParameters, processes: int, progress: Callable[[int, int], None] | None
) -> bool:
    """Write the grounding files that a folder lacks; return whether there were any."""
    missing = [split for split in GROUNDING_SPLITS if not (root / grounding_name(split)).is_file()]
    pictures = [one for one in plan(parameters) if one.split in missing and has_grounding(one)]
    records = _draw_all(parameters.seed, pictures, processes, progress) if missing else []
    for split in missing:
        of_split = [record for record in records if record.picture.split == split]
        _check_captions(root / f"captions_{split}.jsonl", of_split)
        with replacing(root / grounding_name(split)) as file:
            file.write(_grounding(of_split, split))
    return bool(missing)


def _check_captions(path: Path, records: list[Record]) -> None:
    """Check that a caption file has the captions of these records, whose phrases are to be added.

    Raises:
        ValueError: it has others.
    """
    lines = set(read_text(path).splitlines(keepends=True))
    different = [record.picture.path for record in records if record.caption_line not in lines]
    if different:
        raise ValueError(
            f"{path} has other captions of {different[0]} than its dataset ({len(different)} images differ); delete "
            "the folder and draw it again"
        )


def _draw_all(
    seed: int,
    pictures: list[Picture],
    processes: int,
    progress: Callable[[int, int], None] | None,
    root: Path | None = None,
) -> list[Record]:
    """Return the records of the images in order, and write the images if there is a root; report how many are done."""
    records: list[Record] = []
    report = progress or (lambda done, total: None)
    report(0, len(pictures))
    for chunk in _draw_chunks(root, seed, pictures, processes):
        records += chunk
        report(len(records), len(pictures))
    return records


def _draw_chunks(root: Path | None, seed: int, pictures: list[Picture], processes: int) -> Iterator[list[Record]]:
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


def _draw_chunk(root: Path | None, seed: int, pictures: list[Picture]) -> list[Record]:
    return [_draw_picture(root, seed, picture) for picture in pictures]


def _draw_picture(root: Path | None, seed: int, picture: Picture) -> Record:
    """Draw one image with its label maps; the result depends on seed, split and index alone.

    Without a root nothing is written: the image is drawn for the captions alone, which follow it in the stream.
    """
    stream = RandomStream(seed, SPLITS[picture.split], picture.index)
    scene = make_scene(picture, stream)
    image = draw(scene, stream)
    captions = [] if picture.split == "objects" else write_captions(scene, stream)
    instances = _instances(scene) if picture.instance_files else []
    digest = b"" if root is None else _write_picture(root, picture, image, scene)
    return Record(picture, captions, instances, digest)


def _write_picture(root: Path, picture: Picture, image: np.ndarray, scene: Scene) -> bytes:
    """Write an image (H, W, 3) RGB and its label maps, and return the SHA-256 of their bytes."""
    jpeg = _encode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    png = _encode(".png", scene.label_map(), []) if picture.label_paths else b""
    for path, data in [(picture.path, jpeg), *((path, png) for path in picture.label_paths)]:
        (root / path).write_bytes(data)
    return hashlib.sha256(jpeg + png).digest()


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
        texts[f"captions_{split}.jsonl"] = "".join(record.caption_line for record in of_split)
    for name in ("instances_train.json", "instances_train_oracle.json", "instances_val.json"):
        listed = [record for record in records if name in record.picture.instance_files]
        texts[name] = json.dumps(_coco(listed)) + "\n"
    return texts


def _grounding(records: list[Record], split: str) -> str:
    """Return the grounding file of a split."""
    grounded = [record for record in records if record.picture.split == split and has_grounding(record.picture)]
    return "".join(grounding_lines(record.picture, record.captions, record.instances) for record in grounded)


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
