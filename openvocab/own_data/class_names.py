"""The names of the classes, for labels that contain them: the parts of a dataset may contain different ones."""

from dataclasses import replace
from typing import NoReturn

from openvocab.datasets.annotations.filtering import drop_root_category
from openvocab.datasets.annotations.formats import read_annotations
from openvocab.images.image_io import BadSample
from openvocab.own_data.parts import OwnData
from openvocab.vocabulary.vocabulary import same_name_key

ALPHABETICAL = ("Pascal VOC", "labelme", "Label Studio")
"""Kinds whose files list no classes: theirs are the names of all objects."""


def with_names(data: OwnData) -> OwnData:
    """Return data that states its names: those of the labels of all parts, if the user has not given any.

    The name of the background, which outlines do not contain, is added at the end.
    """
    if data.names is not None:
        return data
    names: dict[str, str] = {}
    for part in data.parts.values():
        found = read_annotations(part.labels, part.images, with_masks=False, yolo=_no_names, on_bad=_skip)
        drop_root_category(found, None, str(part.labels))
        for _, name in sorted(zip(found.category_ids, found.category_names)):
            names.setdefault(same_name_key(name), name)
    ordered = sorted(names.values()) if data.kind in ALPHABETICAL else list(names.values())
    if not ordered:
        raise ValueError(f"{data.source}: no objects are labeled, so that there are no classes")
    if data.background is not None and same_name_key(data.background) not in names:
        ordered.append(data.background)
    return replace(data, names=[[name] for name in ordered])


def _no_names() -> NoReturn:
    raise AssertionError("the labels of YOLO have names")  # recognition requires them


def _skip(error: BadSample) -> None:
    """Skip an image whose files cannot be read: the dataset reports it."""
