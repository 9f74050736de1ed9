"""One folder of images a class: classification of whole images."""

import logging
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform, place_name
from openvocab.datasets.class_lists import class_names_path, load_split
from openvocab.datasets.folder_walk import check_folder, is_image, list_images, visible_entries, warn_of_unread
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.registry import DATASETS
from openvocab.text.vocabulary import Vocabulary, read_class_names, same_name_key, some_names, spaced

logger = logging.getLogger(__name__)


@DATASETS.register_module()
class ClassificationFolder(PipelineDataset):
    """Images of one class each, in a folder that has the name of the class; case and underscores do not count.

    ImageNet: `ClassificationFolder("val", "imagenet_1k", folders="sorted", root="data/imagenet")`; its folders are
    WordNet ids (`n01440764/`), whose alphabetical order is the order of the class names. A warning names the classes
    whose folder holds no images.

    Args:
        images: folder of folders; each is searched recursively.
        classes: a names file, or the name of a list that comes with the package. Every class needs a folder.
        pipeline: transforms; by default the image as it is.
        root: put before every relative path that is given here.
        folders: folder of each class, in class order, where it is not the class's first name; "sorted" takes the
            folders there are, one a class, in alphabetical order, but numbers within the names by their value (2
            before 10).
        leave_out: names in the list that are no class of this task, such as the background.
        unseen: JSON file with the key "unseen" (or "novel"): classes without training labels. Names that are not in the
            list are ignored.
        bad_samples, max_bad_share, cache_images, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: a folder that belongs to no class, folders that do not fit the classes, two folders of one class, an
            unknown `leave_out`.
    """

    def __init__(
        self,
        images: str | Path,
        classes: str | Path,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        folders: Sequence[str] | Literal["sorted"] | None = None,
        leave_out: Sequence[str] = (),
        unseen: str | Path | None = None,
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
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
        self.folders, self.leave_out = folders, leave_out

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The classes, with seen flags where `unseen` was given."""
        own = self.root / self.classes
        names = read_class_names(own if own.is_file() else class_names_path(self.classes))
        left_out = set(map(spaced, self.leave_out))
        unknown = left_out - {entry[0] for entry in names}
        if unknown:
            raise ValueError(f"leave_out: {sorted(unknown)} are not among the {len(names)} class names")
        kept = [entry for entry in names if entry[0] not in left_out]
        vocabulary = Vocabulary.from_names(kept, unseen=self._unseen_of([entry[0] for entry in kept]))
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

    def _class_folders(self, parent: Path) -> Sequence[str]:
        there = [folder.name for folder in visible_entries(parent)[1]]
        folders = _own_folders(self.vocabulary, there, parent) if self.folders is None else self.folders
        if folders == "sorted":
            folders = sorted(there, key=_by_numbers)
            if folders != there:
                logger.warning(f"{self.name}: the folders are classes by number, not by letter: {some_names(folders)}")
        elif isinstance(folders, str):
            raise ValueError(f"folders: expected a list of names or 'sorted', got {folders!r}")
        if len(folders) != len(self.vocabulary):
            raise ValueError(f"folders: expected {len(self.vocabulary)}, one a class, got {len(folders)}")
        if len(set(folders)) < len(folders):
            twice = next(folder for place, folder in enumerate(folders) if folder in folders[:place])
            raise ValueError(f"folders: {twice!r} is given for two classes; one folder is one class")
        without_class = sorted(set(there) - set(folders))
        if without_class:
            raise ValueError(
                f"{parent}: {len(without_class)} folders belong to no class, such as {without_class[0]!r}; add it to "
                "classes, or say by folders which folder is which class"
            )
        return folders

    def _unseen_of(self, names: Sequence[str]) -> list[str] | None:
        if self.unseen is None:
            return None
        own = self.root / self.unseen
        split = load_split(own if own.is_file() else self.unseen, "unseen")
        for key in ("unseen", "novel"):
            if key in split:
                return [name for name in split[key] if name in names]
        raise ValueError(f"unseen: split {self.unseen} has neither 'unseen' nor 'novel'; its keys are {sorted(split)}")


def _own_folders(vocabulary: Vocabulary, there: Sequence[str], parent: Path) -> list[str]:
    """Return the folder of each class by its first name; the name itself where there is none.

    Raises:
        ValueError: two folders whose names are the same but for case and underscores.
    """
    folder_of: dict[str, str] = {}
    for folder in there:
        key = same_name_key(folder)
        if key in folder_of:
            raise ValueError(f"{parent}: {folder_of[key]!r} and {folder!r} are folders of one class; merge them")
        folder_of[key] = folder
    return [folder_of.get(same_name_key(name), name) for name in vocabulary.class_names]


def _by_numbers(name: str) -> list[tuple[str, int, str]]:
    """Return what sorts names by letter, and numbers within them by value."""
    parts = re.findall(r"\d+|\D", name)
    return [("0", int(part), part) if part.isdecimal() else (part, 0, "") for part in parts]
