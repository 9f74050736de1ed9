"""Select the images and objects of an annotation file that can be used, and report the others."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from openvocab.datasets.annotations.box_checks import REASONS, check_boxes
from openvocab.datasets.annotations.categories import CategoryChoice
from openvocab.datasets.annotations.instances import InstanceTable
from openvocab.datasets.annotations.packed_masks import PackedMasks
from openvocab.datasets.annotations.records import AnnotationList, ImageEntry, raise_bad
from openvocab.datasets.files.folder_walk import normal_key, stored_names
from openvocab.datasets.files.image_label_pairs import find_listed
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.vocabulary import same_name_key, some_names

CLIP_TOLERANCE = 0.01
"""Pixels by which a box may extend beyond its image without being reported: rounding of a box that ends at the edge."""


@dataclass
class ObjectSelection:
    """The usable part of an annotation file."""

    images: list[ImageEntry]
    table: InstanceTable
    """Table of the objects on `images`."""
    summary: str
    """One line for the log: the counts, what was dropped, and why."""
    is_suspicious: bool
    """Whether something is probably wrong: annotations dropped as invalid, most boxes beyond their image, crowds only,
    or a class without objects."""
    frequencies: dict[int, str]
    """See `AnnotationList`."""


def keep_images(annotations: AnnotationList, keys_file: Path, source: str) -> None:
    """Keep the images that a file lists, in the order of the annotations.

    Raises:
        FileNotFoundError, ValueError: see `find_listed`.
    """
    paths = [entry.path for entry in annotations.images]
    keys = [normal_key(PurePath(path).parent / PurePath(path).stem) for path in paths]
    listed = find_listed(keys_file, keys, paths, source, ids=[entry.image_id for entry in annotations.images])
    _restrict(annotations, np.array(sorted(listed), np.int64))


def spell_paths(annotations: AnnotationList, folder: Path) -> None:
    """Replace the paths of images by their spelling on the disk; see `stored_names`."""
    names = stored_names(folder, [entry.path for entry in annotations.images])
    annotations.images = [
        entry if entry.path == name else replace(entry, path=name) for entry, name in zip(annotations.images, names)
    ]


def drop_root_category(annotations: AnnotationList, names: Sequence[str | Sequence[str]] | None, source: str) -> None:
    """Drop the category that is the parent of all others, with a note, unless it is a class.

    It is a class if it has objects, or if its name is in `names` and no other category has that name.

    Args:
        annotations: changed in place.
        names: names of the classes; None if the categories of the file are the classes.
        source: where the annotations come from, for messages.

    Raises:
        ValueError: it has objects and `names` is None: files in which it has none would get another vocabulary.
    """
    if annotations.root_id is None:
        return
    index = annotations.category_ids.index(annotations.root_id)
    name, key = annotations.category_names[index], same_name_key(annotations.category_names[index])
    which = f"category {name!r} (id {annotations.root_id}), the parent of all others,"
    count = int((annotations.columns.category == annotations.root_id).sum())
    if count and names is None:
        raise ValueError(
            f"{source}: {which} has {count} objects: give `classes` with its name, or without it and with "
            "unlisted_ids='ignore'"
        )
    given = {same_name_key(text) for entry in names or () for text in ([entry] if isinstance(entry, str) else entry)}
    if count or (key in given and [same_name_key(text) for text in annotations.category_names].count(key) == 1):
        return
    del annotations.category_ids[index], annotations.category_names[index]
    annotations.notes.append(f"{which} has no objects: dropped")


def note_repeated(images: Sequence[ImageEntry]) -> list[str]:
    """Return a note for the log on files that are listed as several images."""
    times = Counter(normal_key(entry.path) for entry in images)
    repeated = [path for path, count in times.items() if count > 1]
    return [f"{len(repeated)} files are listed as several images; the first is {repeated[0]}"] if repeated else []


def complete_sizes(annotations: AnnotationList, folder: Path, on_bad: Callable[[BadSample], None] = raise_bad) -> None:
    """Read the size of images whose annotations do not state it.

    Args:
        annotations: changed in place.
        folder: folder of the images.
        on_bad: called with the error of an image that cannot be read, which is then dropped. Default: raise it.
    """
    images, readable = [], []
    for index, entry in enumerate(annotations.images):
        try:
            images.append(entry if entry.size else replace(entry, size=read_image_size(folder / entry.path)))
            readable.append(index)
        except BadSample as error:
            on_bad(error)
            images.append(entry)
    annotations.images = images
    if len(readable) < len(images):
        _restrict(annotations, np.array(readable, np.int64))


def select_objects(
    annotations: AnnotationList, choice: CategoryChoice, keep_empty: bool, source: str
) -> ObjectSelection:
    """Select the usable objects of the chosen classes, and the images with such objects.

    Args:
        annotations: M objects.
        choice: the class of each category.
        keep_empty: select images without objects too.
        source: where the annotations come from, for messages.

    Raises:
        ValueError: a run-length encoding whose size is not that of its image, or masks are required and no object has
            one.
    """
    columns = annotations.columns
    classes = _classes_of(columns.category, choice.class_of_id)
    boxes, unusable = check_boxes(columns.boxes, _sizes(annotations)[columns.image])
    unusable = {reason: flags & (classes >= 0) for reason, flags in unusable.items()}
    if columns.masks is not None:
        checked = _usable(classes, unusable)
        unusable |= _unusable_masks(annotations, columns.masks, boxes, checked, source)
    usable = _usable(classes, unusable)
    rows = np.flatnonzero(usable)
    # stable, so that the objects of an image stay in the order of the file
    rows = rows[np.argsort(columns.image[rows], kind="stable")]
    # an image with crowds alone has nothing to learn from
    counts = np.bincount(columns.image[rows][~columns.is_crowd[rows]], minlength=len(annotations.images))
    kept_images = np.arange(len(annotations.images)) if keep_empty else np.flatnonzero(counts)
    beyond_image = usable & (np.abs(columns.boxes - boxes) > CLIP_TOLERANCE).any(1)
    suspicions = _suspicions(usable, beyond_image, columns.is_crowd)
    absent = _absent_classes(choice, classes[usable & ~columns.is_crowd])
    summary = _summary(annotations, choice, classes, unusable, len(kept_images), usable, beyond_image, absent)
    rows = rows[np.isin(columns.image[rows], kept_images)]
    table = InstanceTable(
        # The rows are sorted by image: the first row of a kept image is where its index would be inserted.
        first=np.searchsorted(columns.image[rows], [*kept_images, len(annotations.images)]),
        boxes=boxes[rows],
        classes=classes[rows],
        is_crowd=columns.is_crowd[rows],
        ids=columns.ids[rows],
        areas=columns.areas[rows],
        mask_index=None if columns.masks is None else rows,
        masks=columns.masks,
    )
    images = [annotations.images[index] for index in kept_images]
    is_suspicious = bool(suspicions or absent) or any(flags.any() for flags in unusable.values())
    return ObjectSelection(images, table, "; ".join([summary, *suspicions]), is_suspicious, annotations.frequencies)


def _usable(classes: np.ndarray, unusable: dict[str, np.ndarray]) -> np.ndarray:
    """Return (M,) bool: the objects of a class that are not excluded for any reason."""
    excluded: np.ndarray = np.any(list(unusable.values()), axis=0)
    return (classes >= 0) & ~excluded


def _sizes(annotations: AnnotationList) -> np.ndarray:
    """Return (I, 2) int64 height and width."""
    return np.array([entry.size for entry in annotations.images], np.int64).reshape(-1, 2)


def _restrict(annotations: AnnotationList, indices: np.ndarray) -> None:
    """Drop all images but those at (N,) `indices`, ascending, and the objects on the dropped ones."""
    new_index = np.full(len(annotations.images), -1)  # -1 for dropped images
    # Old position -> new position, so that the objects' images are renumbered in one indexing operation.
    new_index[indices] = np.arange(len(indices))
    rows = np.flatnonzero(new_index[annotations.columns.image] >= 0)
    columns = annotations.columns.subset(rows)
    annotations.columns = replace(columns, image=new_index[columns.image])
    annotations.images = [annotations.images[index] for index in indices]


def _classes_of(category: np.ndarray, class_of_id: dict[int, int]) -> np.ndarray:
    """Return (M,) int64 class indices, -1 for a category that is not a class."""
    # One look-up per distinct category instead of one per object.
    ids, inverse = np.unique(category, return_inverse=True)
    return np.array([class_of_id.get(int(raw), -1) for raw in ids], np.int64)[inverse]


def _unusable_masks(
    annotations: AnnotationList, masks: PackedMasks, boxes: np.ndarray, checked: np.ndarray, source: str
) -> dict[str, np.ndarray]:
    """Return (M,) bool flags of the objects without a usable mask, by reason (a key of `REASONS`).

    Args:
        annotations: annotations of M objects.
        masks: their masks.
        boxes: (M, 4) clipped.
        checked: (M,) bool, the objects whose masks matter.
        source: where the annotations come from, for messages.

    Raises:
        ValueError: no checked object has a mask, or a run-length encoding does not fit its image.
    """
    columns = annotations.columns
    missing = checked & ~masks.has_mask
    if checked.any() and missing.sum() == checked.sum():
        raise ValueError(
            f"with_masks=True, but no object of {source} has a segmentation: {int(checked.sum())} have a box only; use "
            "with_masks=False, or labels with polygons or run-length encodings"
        )
    sizes = _sizes(annotations)[columns.image]
    # Sizes of 0 belong to polygons, which fit an image of any size.
    wrong = checked & (masks.sizes > 0).any(1) & (masks.sizes != sizes).any(1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        (mask_height, mask_width), (height, width) = masks.sizes[row], sizes[row]
        raise ValueError(
            f"{source}: {int(wrong.sum())} run-length encodings do not have the size of their image; the first is "
            f"annotation {columns.ids[row]}, {mask_height}x{mask_width} (height x width) on "
            f"{annotations.images[columns.image[row]].path} of {height}x{width}; encode masks at the size of the image"
        )
    empty, outside = np.zeros((2, len(checked)), bool)
    for row in np.flatnonzero(checked & masks.has_mask).tolist():
        height, width = sizes[row].tolist()
        bounds = masks.bounds(row, (height, width))
        empty[row] = bounds is None
        outside[row] = bounds is not None and not _overlap(boxes[row], bounds)
    return {"no_mask": missing, "empty_mask": empty, "mask_outside_box": outside}


def _overlap(box: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two boxes (4,) x1 y1 x2 y2 share a point, within the pixel by which masks are rounded."""
    return bool((box[:2] <= other[2:] + 1).all() and (other[:2] <= box[2:] + 1).all())


def _suspicions(usable: np.ndarray, beyond_image: np.ndarray, is_crowd: np.ndarray) -> list[str]:
    """Return remarks on properties of the usable objects that point to a mistake."""
    suspicions = []
    if 2 * beyond_image.sum() > usable.sum():
        suspicions.append(
            "most boxes extend beyond their image: are they written as this format requires (COCO: left, top, "
            "width, height; YOLO: center, width, height), and are they of images of this size?"
        )
    if usable.any() and is_crowd[usable].all():
        suspicions.append("all objects are crowds (iscrowd, difficult): they are neither learned nor counted")
    return suspicions


def _absent_classes(choice: CategoryChoice, classes: np.ndarray) -> list[str]:
    """Return the names of the classes without objects, except for unseen ones whose labels are dropped."""
    vocabulary, present = choice.vocabulary, set(classes.tolist())
    if choice.held_out_ids and vocabulary.seen is not None:
        present |= {index for index, seen in enumerate(vocabulary.seen) if not seen}
    return [name for index, name in enumerate(vocabulary.class_names) if index not in present]


def _summary(
    annotations: AnnotationList,
    choice: CategoryChoice,
    classes: np.ndarray,
    unusable: dict[str, np.ndarray],
    num_kept: int,
    usable: np.ndarray,
    beyond_image: np.ndarray,
    absent: list[str],
) -> str:
    """Return one line: the counts, what was dropped, and why."""
    columns = annotations.columns
    held_out = np.isin(columns.category, sorted(choice.held_out_ids))
    parts = [f"{num_kept} images, {int(usable.sum())} objects of {len(choice.vocabulary)} classes"]
    crowds = int((usable & columns.is_crowd).sum())
    parts += [f"{crowds} of them crowds"] if crowds else []
    parts += [f"{int(held_out.sum())} objects of unseen classes dropped"] if held_out.any() else []
    ignored = int(((classes < 0) & ~held_out).sum())
    parts += [f"{ignored} objects of categories that are not classes dropped"] if ignored else []
    empty = len(annotations.images) - num_kept
    parts += [f"{empty} images without objects dropped"] if empty else []
    actions = {f"{REASONS[reason]} dropped": flags for reason, flags in unusable.items()}
    actions["that extend beyond their image are clipped"] = beyond_image
    for action, flags in actions.items():
        if flags.any():
            row = int(np.flatnonzero(flags)[0])
            where = f"annotation {columns.ids[row]} of {Path(annotations.images[columns.image[row]].path).name}"
            parts.append(f"{int(flags.sum())} boxes {action} (the first is {where})")
    without_category = len(choice.vocabulary) - len(set(choice.class_of_id.values()))
    parts += [f"{without_category} classes have no category in the file"] if without_category else []
    parts += [f"{len(absent)} classes have no objects: {some_names(absent)}"] if absent else []
    return "; ".join([*parts, *annotations.notes])
