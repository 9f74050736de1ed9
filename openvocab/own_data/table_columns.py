"""Choose the columns of a saved dataset that hold images and labels; what is not certain is an error, no guess."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from openvocab.files.printable_text import printable
from openvocab.own_data.parts import Task

COLUMN_KEYS = ("image", "labels", "box", "category")
"""What a user can state: the columns of images and labels, and the fields of objects."""
IMAGE_NAMES = ("image", "img", "pixel_values")
LABEL_MAP_NAMES = (
    "label", "labels", "annotation", "annotations", "segmentation_mask", "mask", "label_map", "segmentation",
)  # fmt: skip
BOX_NAMES = ("bbox", "bboxes", "box", "boxes")
CATEGORY_NAMES = ("category", "categories", "category_id", "label", "labels")


@dataclass(frozen=True)
class TableColumns:
    """The columns of one task."""

    image: str
    labels: str
    """Of label maps, or of objects."""
    box: str = ""
    """Field of an object; "" for label maps."""
    category: str = ""
    names: tuple[str, ...] | None = None
    """Of the categories, if their numbers have names in the dataset."""

    @property
    def kind(self) -> Literal["boxes", "label maps"]:
        """The kind of labels, a key of `TASKS_OF`."""
        return "boxes" if self.box else "label maps"


def choose_columns(
    features: Mapping[str, Any], task: Task | None, given: Mapping[str, str], where: str
) -> TableColumns:
    """Return the columns of images and labels.

    Args:
        features: of all columns, from `read_features`.
        task: what the labels are for; None: what they can be for, if that is one task.
        given: columns and fields that the user states, by `COLUMN_KEYS`.
        where: the dataset, for errors.

    Raises:
        ValueError: no column fits, or several do; the message lists the columns and what to state.
    """
    columns = _Columns(features, given, where)
    label_maps, objects = list(columns.label_maps()), list(columns.objects())
    if _task(columns, task, bool(label_maps), bool(objects)) == "segmentation":
        return TableColumns(columns.image(), columns.only("labels", label_maps, "label maps"))
    labels = columns.only("labels", objects, "objects with a box and a category")
    fields = _fields(features[labels])
    box = columns.only("box", _named(fields, BOX_NAMES, given.get("box")), f"the boxes in {labels}")
    category = columns.only(
        "category", _named(fields, CATEGORY_NAMES, given.get("category")), f"the categories in {labels}"
    )
    return TableColumns(columns.image(), labels, box, category, _class_names(fields[category]))


def _task(columns: "_Columns", task: Task | None, has_label_maps: bool, has_objects: bool) -> Task:
    """Return what the labels are for; if there are none, the task whose labels the error is to name.

    Raises:
        ValueError: they are for the other task, or for both.
    """
    if task is None and has_label_maps and has_objects:
        columns.fail("hold label maps and boxes", "pass --task segmentation or --task detection")
    if task == "segmentation" and has_objects and not has_label_maps:
        columns.fail("hold boxes, no label maps", "--head vild trains a detector")
    if task == "detection" and has_label_maps and not has_objects:
        columns.fail("hold label maps, no boxes", "--head lseg trains on them")
    return task or ("detection" if has_objects else "segmentation")


class _Columns:
    """The columns of a dataset, and what a user states about them."""

    def __init__(self, features: Mapping[str, Any], given: Mapping[str, str], where: str) -> None:
        self.features, self.given, self.where = features, given, where
        self.images = [name for name in features if _is_image(features[name])]
        for key in ("image", "labels"):
            if key in given and given[key] not in features:
                self.fail(f"are others: there is no column {given[key]!r}", f"correct columns: {key}")

    def image(self) -> str:
        """Return the column of the images."""
        named = _named(self.images, IMAGE_NAMES, self.given.get("image"))
        candidates = self.images if len(self.images) == 1 else named
        return self.only("image", named or candidates, "images")

    def label_maps(self) -> Iterator[str]:
        """Yield the columns that may be label maps."""
        for name in _named(self.images, LABEL_MAP_NAMES, self.given.get("labels")):
            if name != self.given.get("image"):
                yield name

    def objects(self) -> Iterator[str]:
        """Yield the columns that have a field of boxes and one of categories."""
        chosen = self.given.get("labels")
        for name in self.features if chosen is None else (chosen,):
            fields = _fields(self.features[name])
            if all(
                _named(fields, known, self.given.get(key))
                for key, known in (("box", BOX_NAMES), ("category", CATEGORY_NAMES))
            ):
                yield name

    def only(self, key: str, candidates: Sequence[str], what: str) -> str:
        """Return the only candidate.

        Raises:
            ValueError: there are none, or several.
        """
        if len(candidates) != 1:
            found = f"may be {what} in {len(candidates)} ways, {', '.join(candidates)}" if candidates else ""
            self.fail(
                found or f"are not recognized as {what}",
                f"pass a data file with columns: {{{key}: NAME}} (docs/data.md)",
            )
        return candidates[0]

    def fail(self, what: str, remedy: str) -> NoReturn:
        """Raise an error that lists the columns."""
        columns = ", ".join(f"{name} ({_described(feature)})" for name, feature in self.features.items())
        raise ValueError(printable(f"data: {self.where}: its columns {what}; they are {columns}; {remedy}"))


def _named(columns: Sequence[str] | Mapping[str, Any], known: Sequence[str], chosen: str | None) -> list[str]:
    """Return the chosen column, or those whose names are known, among columns or fields."""
    return [name for name in columns if (name.lower() in known if chosen is None else name == chosen)]


def _is_image(feature: Mapping[str, Any]) -> bool:
    return feature.get("_type") == "Image"


def _element(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the feature of the elements of a list, others as they are."""
    inner: Mapping[str, Any] = feature["feature"] if feature.get("_type") == "List" else feature
    return inner


def _fields(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of objects: a list of structures, or a structure of lists; {} for other columns."""
    inner = _element(feature)
    return {} if isinstance(inner.get("_type"), str) else inner


def _class_names(feature: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of a ClassLabel, or of a list of them."""
    inner = _element(feature)
    return tuple(inner["names"]) if inner.get("_type") == "ClassLabel" else None


def _described(feature: Mapping[str, Any]) -> str:
    fields = _fields(feature)
    return f"objects with {' and '.join(fields)}" if fields else str(feature.get("dtype") or feature["_type"])
