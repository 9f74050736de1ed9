"""One folder of images a class: classification of whole images."""

import logging
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from openvocab.argument_checks import check_paths
from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform, place_name
from openvocab.datasets.files.folder_walk import check_folder, is_image, list_images, visible_entries, warn_of_unread
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.registry import DATASETS
from openvocab.vocabulary.class_lists import check_one_class_each, list_of_names, load_class_names, load_unseen
from openvocab.vocabulary.vocabulary import Vocabulary, same_name_key, some_names

logger = logging.getLogger(__name__)

PART_NAMES = frozenset(
    ("train", "training", "val", "valid", "validation", "test", "testing", "trainval", "minitrain", "minival")
)
"""Folders that hold the parts of a dataset, not its classes."""


@DATASETS.register_module()
class ClassificationFolder(PipelineDataset):
    """Images of one class each, in a folder that has the name of the class.

    Names are compared without case, underscores, white space and the coding of accents (`same_name_key`).

    ImageNet: `ClassificationFolder("val", "imagenet_1k", folders="sorted", root="data/imagenet")`; its folders are
    WordNet ids (`n01440764/`), whose alphabetical order is the order of the class names. A warning names the classes
    whose folder holds no images.

    Args:
        images: folder of folders; each is searched recursively.
        classes: the names in label order: a list (an entry may be a list of synonyms), a names file, or the name of a
            list that comes with the package. Every class needs a folder.
        pipeline: transforms; by default the image as it is.
        root: put before every relative path that is given here.
        folders: folder of each class, in class order, where it is not the class's first name; "sorted" takes the
            folders there are, one a class, in alphabetical order, but numbers within the names by their value (2
            before 10).
        leave_out: names in the list that are no class of this task, such as the background.
        unseen: classes that have no training labels: a list of names, a JSON file with the key "unseen" (or "novel"),
            or the name of a split that comes with the package; all are in `classes`.
        repeated_names: see `Vocabulary`; the classes of such a name need `folders`.
        bad_samples, max_bad_share, cache_images, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: a folder that belongs to no class, folders that do not fit the classes or are the parts of a data
            set, two folders of one class, an unknown `leave_out` or `unseen`.
    """

    def __init__(
        self,
        images: str | Path,
        classes: Sequence[str | Sequence[str]] | str | Path,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        folders: Sequence[str] | Literal["sorted"] | None = None,
        leave_out: Sequence[str] = (),
        unseen: Sequence[str] | str | Path | None = None,
        repeated_names: Sequence[str] = (),
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(root=root, images=images)
        super().__init__(
            [LoadImage(), PackSample()] if pipeline is None else pipeline,
            bad_samples=bad_samples,
            max_bad_share=max_bad_share,
            cache_images=cache_images,
            test_mode=test_mode,
            name=name or place_name(root, images),
        )
        self.root = Path(root)
        self.images, self.classes, self.unseen = images, classes, unseen
        if isinstance(folders, str) and folders != "sorted":
            raise ValueError(f"folders: expected a list of names or 'sorted', got {folders!r}")
        self.folders = folders if folders in (None, "sorted") else list_of_names("folders", folders)
        self.leave_out = list_of_names("leave_out", leave_out)
        self.repeated_names = list_of_names("repeated_names", repeated_names)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The classes, with seen flags where `unseen` was given."""
        every_class = Vocabulary.from_names(
            load_class_names(self.classes, self.root),
            unseen=None if self.unseen is None else load_unseen(self.unseen, self.root),
            repeated_names=self.repeated_names,
        )
        keys = [same_name_key(name) for name in every_class.class_names]
        unknown = [name for name in self.leave_out if same_name_key(name) not in keys]
        if unknown:
            raise ValueError(f"leave_out: {unknown} are not among the {len(keys)} class names")
        left_out = set(map(same_name_key, self.leave_out))
        vocabulary = every_class.subset([index for index, key in enumerate(keys) if key not in left_out])
        vocabulary.digest  # noqa: B018  computed once here, it travels with every sample
        return vocabulary

    def load_index(self) -> list[dict[str, Any]]:
        """List the files of every class, in class order."""
        parent = check_folder(self.root / self.images, "images")
        items, empty, unread = [], [], []
        for class_id, folder in enumerate(self._class_folders(parent)):
            files = list_images(check_folder(parent / folder, "images"), unread)
            empty += [] if files else [folder]
            for path in files:
                sample_id = path.relative_to(parent).as_posix()
                items.append({"sample_id": sample_id, "img_path": str(path), "class_ids": (class_id,)})
        warn_of_unread(unread)
        line = f"{self.name}: {len(items)} images, {len(self.vocabulary)} classes"
        line += f"; the folders of {len(empty)} classes hold no images: {some_names(empty)}" if empty else ""
        stray = [file for file in visible_entries(parent)[0] if is_image(file)]
        line += f"; {len(stray)} images lie in no class folder, the first is {stray[0]}" if stray else ""
        logger.log(logging.WARNING if empty or stray else logging.INFO, line)
        return items

    def common_results(self) -> dict[str, Any]:
        """Give every item its vocabulary."""
        return {"vocabulary": self.vocabulary}

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name, class names and the digest of the vocabulary."""
        names = list(self.vocabulary.class_names)
        return {"dataset": self.name, "classes": names, "vocabulary_digest": self.vocabulary.digest}

    def _class_folders(self, parent: Path) -> list[str]:
        """Return the folder of each class, as the disk spells it."""
        there = [folder.name for folder in visible_entries(parent)[1]]
        if self.folders == "sorted":
            folders = self._sorted_folders(there, parent)
        else:
            folders = _folders_of(self.vocabulary.class_names if self.folders is None else self.folders, there, parent)
        if len(folders) != len(self.vocabulary):
            raise ValueError(f"folders: expected {len(self.vocabulary)}, one a class, got {len(folders)}")
        check_one_class_each("folders", "folder", folders)
        without_class = sorted(set(there) - set(folders))
        if without_class:
            raise ValueError(
                f"{parent}: {len(without_class)} folders belong to no class, such as {without_class[0]!r}; add it to "
                "classes, or say by folders which folder is which class"
            )
        return folders

    def _sorted_folders(self, there: list[str], parent: Path) -> list[str]:
        """Return the folders there are, numbers in their names by value."""
        if there and all(folder.lower() in PART_NAMES for folder in there):
            raise ValueError(
                f"images: {parent} holds the parts of a dataset ({some_names(there)}), not folders of classes; give "
                f"one of them: images={str(Path(self.images, there[0]))!r}"
            )
        folders = sorted(there, key=_by_numbers)
        if folders != there:
            logger.warning(f"{self.name}: the folders are classes by number, not by letter: {some_names(folders)}")
        return folders


def _folders_of(names: Sequence[str], there: Sequence[str], parent: Path) -> list[str]:
    """Return the folder of each name: of that very spelling, else of another (`same_name_key`), else the name itself.

    Raises:
        ValueError: several folders of the same name that are not all asked for by their own spelling.
    """
    spellings: dict[str, list[str]] = {}
    for folder in there:
        spellings.setdefault(same_name_key(folder), []).append(folder)
    for alike in spellings.values():
        if len(alike) > 1 and not set(alike) <= set(names):
            raise ValueError(f"{parent}: {alike[0]!r} and {alike[1]!r} are folders of one class; merge them")
    exact = set(there)
    return [name if name in exact else spellings.get(same_name_key(name), [name])[0] for name in names]


def _by_numbers(name: str) -> list[tuple[str, int, str]]:
    """Return what sorts names by letter, and numbers within them by value."""
    parts = re.findall(r"\d+|\D", name)
    return [("0", int(part), part) if part.isdecimal() else (part, 0, "") for part in parts]
