"""From what annotation files state to what can be used, with an account of the rest."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from openvocab.datasets.annotations.box_checks import REASONS, check_boxes
from openvocab.datasets.annotations.categories import CategoryChoice
from openvocab.datasets.annotations.instances import InstanceTable
from openvocab.datasets.annotations.records import AnnotationList, ImageEntry, raise_bad
from openvocab.datasets.files.folder_walk import normal_key, stored_names
from openvocab.datasets.files.image_label_pairs import find_listed
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.vocabulary import same_name_key, some_names

CLIP_TOLERANCE = 0.01
"""Pixels by which a box may stick out without a word: what rounding makes of one that ends with its image."""


@dataclass
class ObjectSelection:
    """What is used of a file."""

    images: list[ImageEntry]
    table: InstanceTable
    """Its images are `images`."""
    summary: str
    """One line: what there is, and what was left out and why."""
    is_suspicious: bool
    """Whether something is probably wrong: objects that are none, most boxes beyond their image, crowds only, a class
    without objects."""
    frequencies: dict[int, str]
    """See `AnnotationList`."""


def keep_images(found: AnnotationList, keys_file: Path, source: str) -> None:
    """Keep the images that a file lists, in the order of the annotations.

    Raises:
        FileNotFoundError, ValueError: see `find_listed`.
    """
    paths = [entry.path for entry in found.images]
    keys = [normal_key(PurePath(path).parent / PurePath(path).stem) for path in paths]
    listed = find_listed(keys_file, keys, paths, source, ids=[entry.image_id for entry in found.images])
    _restrict(found, np.array(sorted(listed), np.int64))


def spell_paths(found: AnnotationList, folder: Path) -> None:
    """Spell the paths of images as the disk does; see `stored_names`."""
    names = stored_names(folder, [entry.path for entry in found.images])
    found.images = [
        entry if entry.path == name else replace(entry, path=name) for entry, name in zip(found.images, names)
    ]


def settle_root(found: AnnotationList, names: Sequence[str | Sequence[str]] | None, source: str) -> None:
    """Leave out the category that is the parent of all others, with a note, unless it is a class.

    It is one where it has objects, or where `names` has its name and no other category does.

    Raises:
        ValueError: it has objects, and there are no `names` to say whether it is a class: files without such objects
            would have another vocabulary.
    """
    if found.root_id is None:
        return
    place = found.category_ids.index(found.root_id)
    name, key = found.category_names[place], same_name_key(found.category_names[place])
    which = f"category {name!r} (id {found.root_id}), the parent of all others,"
    count = int((found.columns.category == found.root_id).sum())
    if count and names is None:
        raise ValueError(
            f"{source}: {which} has {count} objects: give `classes` with its name, or without it and with "
            "unlisted_ids='ignore'"
        )
    given = {same_name_key(own) for entry in names or () for own in ([entry] if isinstance(entry, str) else entry)}
    if count or (key in given and [same_name_key(own) for own in found.category_names].count(key) == 1):
        return
    del found.category_ids[place], found.category_names[place]
    found.notes.append(f"{which} has no objects: left out")


def note_repeated(images: Sequence[ImageEntry]) -> list[str]:
    """Return what the log should say of files that are several images of the annotations."""
    times = Counter(normal_key(entry.path) for entry in images)
    repeated = [path for path, count in times.items() if count > 1]
    return [f"{len(repeated)} files are more than one image each, the first is {repeated[0]}"] if repeated else []


def complete_sizes(found: AnnotationList, folder: Path, on_bad: Callable[[BadSample], None] = raise_bad) -> None:
    """Read the size of images whose annotations do not say it.

    Args:
        on_bad: takes what is wrong with an image that cannot be read; it is then left out. By default it is raised.
    """
    images, kept = [], []
    for place, entry in enumerate(found.images):
        try:
            images.append(entry if entry.size else replace(entry, size=read_image_size(folder / entry.path)))
            kept.append(place)
        except BadSample as error:
            on_bad(error)
            images.append(entry)
    found.images = images
    if len(kept) < len(images):
        _restrict(found, np.array(kept, np.int64))


def select_objects(found: AnnotationList, choice: CategoryChoice, keep_empty: bool, source: str) -> ObjectSelection:
    """Keep the usable objects of the chosen classes, and the images that have some (all with `keep_empty`).

    Raises:
        ValueError: a run-length encoding of another size than its image, masks wanted where no object has one.
    """
    columns = found.columns
    classes = _classes_of(columns.category, choice.class_of_id)
    boxes, unusable = check_boxes(columns.boxes, _sizes(found)[columns.image])
    unusable = {reason: flags & (classes >= 0) for reason, flags in unusable.items()}
    if columns.masks is not None:
        unusable |= _unusable_masks(found, boxes, (classes >= 0) & ~np.any(list(unusable.values()), axis=0), source)
    usable = (classes >= 0) & ~np.any(list(unusable.values()), axis=0)
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(columns.image[rows], kind="stable")]
    counts = np.bincount(columns.image[rows][~columns.is_crowd[rows]], minlength=len(found.images))
    kept = np.arange(len(found.images)) if keep_empty else np.flatnonzero(counts)
    sticking_out = usable & (np.abs(columns.boxes - boxes) > CLIP_TOLERANCE).any(1)
    suspicions = _suspicions(usable, sticking_out, columns.is_crowd)
    absent = _absent_classes(choice, classes[usable & ~columns.is_crowd])
    summary = _summary(found, choice, classes, unusable, len(kept), usable, sticking_out, absent)
    rows = rows[np.isin(columns.image[rows], kept)]
    table = InstanceTable(
        first=np.searchsorted(columns.image[rows], [*kept, len(found.images)]),
        boxes=boxes[rows],
        classes=classes[rows],
        is_crowd=columns.is_crowd[rows],
        ids=columns.ids[rows],
        areas=columns.areas[rows],
        mask_place=None if columns.masks is None else rows,
        masks=columns.masks,
    )
    images = [found.images[place] for place in kept]
    is_suspicious = bool(suspicions or absent) or any(flags.any() for flags in unusable.values())
    return ObjectSelection(images, table, "; ".join([summary, *suspicions]), is_suspicious, found.frequencies)


def _sizes(found: AnnotationList) -> np.ndarray:
    """Return (I, 2) height and width."""
    return np.array([entry.size for entry in found.images], np.int64).reshape(-1, 2)


def _restrict(found: AnnotationList, kept: np.ndarray) -> None:
    """Leave out all images but those at the places `kept`, ascending, and their objects."""
    columns = found.columns
    new_place = np.full(len(found.images), -1)
    new_place[kept] = np.arange(len(kept))
    rows = np.flatnonzero(new_place[columns.image] >= 0)
    columns.image = new_place[columns.image[rows]]
    columns.category, columns.boxes = columns.category[rows], columns.boxes[rows]
    columns.is_crowd, columns.ids, columns.areas = columns.is_crowd[rows], columns.ids[rows], columns.areas[rows]
    if columns.masks is not None:
        columns.masks = columns.masks.subset(rows)
    found.images = [found.images[place] for place in kept]


def _classes_of(category: np.ndarray, class_of_id: dict[int, int]) -> np.ndarray:
    """Return (M,) int64 classes, -1 where a category is none."""
    ids, inverse = np.unique(category, return_inverse=True)
    return np.array([class_of_id.get(int(raw), -1) for raw in ids], np.int64)[inverse]


def _unusable_masks(found: AnnotationList, boxes: np.ndarray, wanted: np.ndarray, source: str) -> dict[str, np.ndarray]:
    """Return which of the `wanted` objects have no usable mask, by reason (a key of `REASONS`).

    Args:
        boxes: (M, 4) clipped.

    Raises:
        ValueError: all of them, or a run-length encoding that does not fit its image.
    """
    columns = found.columns
    missing = wanted & ~columns.masks.has_mask
    if wanted.any() and missing.sum() == wanted.sum():
        raise ValueError(
            f"with_masks=True, but no object of {source} has a segmentation: {int(wanted.sum())} have a box only; use "
            "with_masks=False, or labels with polygons or run-length encodings"
        )
    sizes = _sizes(found)[columns.image]
    wrong = wanted & (columns.masks.sizes > 0).any(1) & (columns.masks.sizes != sizes).any(1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        (mask_height, mask_width), (height, width) = columns.masks.sizes[row], sizes[row]
        raise ValueError(
            f"{source}: {int(wrong.sum())} run-length encodings are of another size than their image; the first is "
            f"annotation {columns.ids[row]}, {mask_height}x{mask_width} (height x width) on "
            f"{found.images[columns.image[row]].path} of {height}x{width}; encode masks at the size of the image"
        )
    empty, beside = np.zeros((2, len(wanted)), bool)
    for row in np.flatnonzero(wanted & columns.masks.has_mask).tolist():
        bounds = columns.masks.bounds(row, found.images[columns.image[row]].size)
        empty[row] = bounds is None
        beside[row] = bounds is not None and not _meet(boxes[row], bounds)
    return {"no_mask": missing, "empty_mask": empty, "mask_beside": beside}


def _meet(box: np.ndarray, other: np.ndarray) -> bool:
    """Say whether two boxes x1 y1 x2 y2 have a point in common, within the pixel by which masks are rounded."""
    return bool((box[:2] <= other[2:] + 1).all() and (other[:2] <= box[2:] + 1).all())


def _suspicions(usable: np.ndarray, sticking_out: np.ndarray, is_crowd: np.ndarray) -> list[str]:
    """Return what the usable objects have in common that is hardly meant."""
    found = []
    if 2 * sticking_out.sum() > usable.sum():
        found.append(
            "most boxes stick out of their image: are they in the form of this format (COCO: left, top, width, height; "
            "YOLO: center, width, height), and for images of this size?"
        )
    if usable.any() and is_crowd[usable].all():
        found.append("all objects are crowds (iscrowd, difficult): none is learned and none is counted")
    return found


def _absent_classes(choice: CategoryChoice, classes: np.ndarray) -> list[str]:
    """Return the names of the classes that are none of `classes`, but for unseen ones whose labels are left out."""
    vocabulary, met = choice.vocabulary, set(classes.tolist())
    if choice.held_out_ids and vocabulary.seen is not None:
        met |= {index for index, seen in enumerate(vocabulary.seen) if not seen}
    return [name for index, name in enumerate(vocabulary.class_names) if index not in met]


def _summary(
    found: AnnotationList,
    choice: CategoryChoice,
    classes: np.ndarray,
    unusable: dict[str, np.ndarray],
    num_kept: int,
    usable: np.ndarray,
    sticking_out: np.ndarray,
    absent: list[str],
) -> str:
    """Say what there is in one line."""
    columns = found.columns
    held_out = np.isin(columns.category, sorted(choice.held_out_ids))
    parts = [f"{num_kept} images, {int(usable.sum())} objects of {len(choice.vocabulary)} classes"]
    crowds = int((usable & columns.is_crowd).sum())
    parts += [f"{crowds} of them crowds"] if crowds else []
    parts += [f"{int(held_out.sum())} objects of unseen classes left out"] if held_out.any() else []
    ignored = int(((classes < 0) & ~held_out).sum())
    parts += [f"{ignored} objects of categories that are no class left out"] if ignored else []
    empty = len(found.images) - num_kept
    parts += [f"{empty} images without objects left out"] if empty else []
    done = {f"{REASONS[reason]} dropped": flags for reason, flags in unusable.items()}
    done["that stick out of their image are clipped"] = sticking_out
    for deed, flags in done.items():
        if flags.any():
            row = int(np.flatnonzero(flags)[0])
            where = f"annotation {columns.ids[row]} of {Path(found.images[columns.image[row]].path).name}"
            parts.append(f"{int(flags.sum())} boxes {deed} (the first is {where})")
    without_category = len(choice.vocabulary) - len(set(choice.class_of_id.values()))
    parts += [f"{without_category} classes have no category in the file"] if without_category else []
    parts += [f"{len(absent)} classes have no objects: {some_names(absent)}"] if absent else []
    return "; ".join([*parts, *found.notes])
