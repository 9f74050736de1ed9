"""One folder of images per class: classification of whole images."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from openvocab.argument_checks import argument_group, check_paths
from openvocab.datasets.base import Loading, PipelineDataset, Transform, place_name
from openvocab.datasets.files.folder_walk import check_folder, is_image, list_images, visible_entries, warn_of_unread
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.registry import DATASETS
from openvocab.vocabulary.class_lists import check_one_class_each, list_of_names, load_class_names, load_unseen
from openvocab.vocabulary.vocabulary import Vocabulary, same_name_key, some_names

logger = logging.getLogger(__name__)

PART_NAMES = frozenset(
    ("train", "training", "val", "valid", "validation", "test", "testing", "trainval", "minitrain", "minival")
)
"""Names of folders that are parts of a dataset, not classes."""


@dataclass(frozen=True)
class ImageClassOptions:
    """What is known about the classes: the group of arguments `class_options`.

    Raises:
        ValueError: names that are not a list.
    """

    unseen: Sequence[str] | str | Path | None = None
    """Classes that have no training labels: a list of names, a JSON file with the key "unseen" (or "novel"), or the
    name of a split that comes with the package; all are in `classes`."""
    leave_out: Sequence[str] = ()
    """Names in the list that are not classes of this task, such as the background."""
    repeated_names: Sequence[str] = ()
    """See `Vocabulary`; the classes of such a name need `folders`."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        object.__setattr__(self, "leave_out", list_of_names("class_options.leave_out", self.leave_out))
        object.__setattr__(self, "repeated_names", list_of_names("class_options.repeated_names", self.repeated_names))


@DATASETS.register_module()
class ClassificationFolder(PipelineDataset):
    """Images of one class each, in folders named after the classes.

    Names are compared without case, underscores, white space and the coding of accents (`same_name_key`).

    ImageNet: `ClassificationFolder("val", "imagenet_1k", folders="sorted", root="data/imagenet")`; its folders are
    WordNet ids (`n01440764/`), whose alphabetical order is the order of the class names. A warning names the classes
    whose folder holds no images.

    Args:
        images: folder of folders; each is searched recursively.
        classes: the names in label order: a list (an entry may be a list of synonyms), a names file, or the name of a
            list that comes with the package. Every class needs a folder.
        pipeline: transforms; default: the image as it is.
        root: prefix of every relative path given here.
        folders: the folder of each class, in class order; default: the class's first name. "sorted" takes all folders,
            one per class, in alphabetical order, except that numbers within the names are sorted by value (2 before
            10).
        class_options: a dict with some of the fields of `ImageClassOptions`: unseen classes, names to exclude.
        loading, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file.
        TypeError: an unknown argument in a group.
        ValueError: a folder that belongs to no class, folders that do not fit the classes or are the parts of a
            dataset, two folders of one class, an unknown name in `leave_out` or `unseen`.
    """

    def __init__(
        self,
        images: str | Path,
        classes: Sequence[str | Sequence[str]] | str | Path,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        folders: Sequence[str] | Literal["sorted"] | None = None,
        class_options: Mapping[str, Any] | ImageClassOptions | None = None,
        loading: Mapping[str, Any] | Loading | None = None,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(root=root, images=images)
        super().__init__(
            [LoadImage(), PackSample()] if pipeline is None else pipeline,
            loading=loading,
            test_mode=test_mode,
            name=name or place_name(root, images),
        )
        self.root = Path(root)
        self.images, self.classes = images, classes
        self.class_options = argument_group("class_options", class_options, ImageClassOptions)
        if isinstance(folders, str) and folders != "sorted":
            raise ValueError(f"folders: expected a list of names or 'sorted', got {folders!r}")
        self.folders = folders if folders in (None, "sorted") else list_of_names("folders", folders)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The classes, with seen flags if `unseen` was given."""
        options = self.class_options
        every_class = Vocabulary.from_names(
            load_class_names(self.classes, self.root),
            unseen=None if options.unseen is None else load_unseen(options.unseen, self.root, "class_options.unseen"),
            repeated_names=options.repeated_names,
            group="class_options",
        )
        keys = [same_name_key(name) for name in every_class.class_names]
        unknown = [name for name in options.leave_out if same_name_key(name) not in keys]
        if unknown:
            raise ValueError(f"class_options.leave_out: {unknown} are not among the {len(keys)} class names")
        excluded = set(map(same_name_key, options.leave_out))
        vocabulary = every_class.subset([index for index, key in enumerate(keys) if key not in excluded])
        vocabulary.digest  # noqa: B018  computed once here, it travels with every sample
        return vocabulary

    def load_index(self) -> list[dict[str, Any]]:
        """List the files of every class, in class order."""
        parent = check_folder(self.root / self.images, "images")
        items: list[dict[str, Any]] = []
        empty: list[str] = []
        unread: list[Path] = []
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
        line += f"; {len(stray)} images lie in no class folder; the first is {stray[0]}" if stray else ""
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
        present = [folder.name for folder in visible_entries(parent)[1]]
        if self.folders == "sorted":
            folders = self._sorted_folders(present, parent)
        else:
            folders = _folders_of(
                self.vocabulary.class_names if self.folders is None else self.folders, present, parent
            )
        if len(folders) != len(self.vocabulary):
            raise ValueError(f"folders: expected {len(self.vocabulary)}, one per class, got {len(folders)}")
        check_one_class_each("folders", "folder", folders)
        without_class = sorted(set(present) - set(folders))
        if without_class:
            raise ValueError(
                f"{parent}: {len(without_class)} folders belong to no class, such as {without_class[0]!r}; add it to "
                "classes, or give the folder of each class with folders"
            )
        return folders

    def _sorted_folders(self, present: list[str], parent: Path) -> list[str]:
        """Return the folders, sorted, numbers in their names by value."""
        if present and all(folder.lower() in PART_NAMES for folder in present):
            raise ValueError(
                f"images: {parent} holds the parts of a dataset ({some_names(present)}), not folders of classes; give "
                f"one of them: images={str(Path(self.images, present[0]))!r}"
            )
        folders = sorted(present, key=_by_numbers)
        if folders != present:
            logger.warning(f"{self.name}: the folders are classes by number, not by letter: {some_names(folders)}")
        return folders


def _folders_of(names: Sequence[str], present: Sequence[str], parent: Path) -> list[str]:
    """Return the folder of each name: the one of that spelling, else of another (`same_name_key`), else the name.

    Raises:
        ValueError: several folders of equal names, not all of which are given in their own spelling.
    """
    spellings: dict[str, list[str]] = {}
    for folder in present:
        spellings.setdefault(same_name_key(folder), []).append(folder)
    for equal in spellings.values():
        if len(equal) > 1 and not set(equal) <= set(names):
            raise ValueError(f"{parent}: {equal[0]!r} and {equal[1]!r} are folders of one class; merge them")
    exact = set(present)
    return [name if name in exact else spellings.get(same_name_key(name), [name])[0] for name in names]


def _by_numbers(name: str) -> list[tuple[str, int, str]]:
    """Return a sort key: names by letter, numbers within them by value."""
    parts = re.findall(r"\d+|\D", name)
    return [("0", int(part), part) if part.isdecimal() else (part, 0, "") for part in parts]
