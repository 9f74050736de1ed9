"""What the results of all tasks have in common."""

from collections.abc import Collection
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from openvocab.images.image_input import accepted_image
from openvocab.structures import Size
from openvocab.vocabulary.vocabulary import Vocabulary, same_name_key


class NoSuchForm(ValueError):
    """Results of a task do not have a form, whatever the image shows."""


class Result:
    """A prediction together with its image; each task has a subclass, which is also its prediction.

    `draw`, `save` and `show` make pictures, notebooks show one by themselves. `to_json`, `to_coco`, `to_yolo`,
    `to_geojson`, `to_supervision` and `to_fiftyone` hand the result to other programs, as far as a task has them.
    """

    kind: ClassVar[str]
    """What a task predicts, for messages."""
    vocabulary: Vocabulary
    sample_id: str
    source: Any = None
    """The image as it was given: a path is read again when it is needed, everything else is kept."""

    @property
    def names(self) -> tuple[str, ...]:
        """K names that were asked for."""
        return self.vocabulary.class_names

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        raise NotImplementedError

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Raises:
            ValueError: the file is gone, has another size now, or the result has lost its image.
        """
        if self.source is None:
            raise ValueError("this result has no image; pass one: result.draw(image=...)")
        image = accepted_image(self.source)
        if image.shape[:2] != self.size:
            raise ValueError(
                f"{self.sample_id}: the image is {image.shape[0]}x{image.shape[1]} now, but the prediction was made at "
                f"{self.size[0]}x{self.size[1]} (height x width)"
            )
        return image

    def describe(self) -> str:
        """Return what was found, in one line."""
        raise NotImplementedError

    def filter(self, min_score: float | None = None, names: str | Collection[str] | None = None) -> "Result":
        """Return the result without what has a lower score or another name.

        Args:
            min_score: lowest score, 0..1; default: any.
            names: the names to keep; default: all.

        Raises:
            ValueError: a name was not asked for, or the task has nothing to leave out.
        """
        raise NotImplementedError

    def table(self) -> list[dict[str, Any]]:
        """Return a row for each name that was found, as dicts of plain numbers and texts, the most frequent first."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return the result as a value for `json.dumps`."""
        raise NotImplementedError

    def to_coco(self, image_id: int = 1) -> dict[str, Any]:
        """Return a COCO document of this image: {images, annotations, categories}.

        Args:
            image_id: id of the image in it.

        Raises:
            NoSuchForm: the task has neither boxes nor masks (default), here and in the next two.
        """
        raise self._no_form("COCO document")

    def to_yolo(self) -> str:
        """Return YOLO labels, a line for each object or region."""
        raise self._no_form("YOLO labels")

    def to_geojson(self) -> dict[str, Any]:
        """Return a GeoJSON feature collection of objects or regions, in pixels."""
        raise self._no_form("GeoJSON")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return everything as numpy arrays, for `numpy.savez`."""
        raise NotImplementedError

    def draw(self, image: Any = None) -> np.ndarray:
        """Return a picture (H', W', 3) uint8 RGB.

        Args:
            image: the image, if the result has lost its own.
        """
        raise NotImplementedError

    def save(self, path: str | PathLike[str], format: str | None = None) -> Path:
        """Write the result to a file, whole or not at all.

        Args:
            path: the file; its folder is created.
            format: a name among `openvocab.results.formats.FORMATS`; default: what the extension means, a picture for
                those of pictures.

        Returns:
            The path.

        Raises:
            ValueError: an unknown format or extension, or a format that this task does not have.
        """
        from openvocab.results.formats import write_result

        return write_result(self, Path(path), format)

    def show(self) -> None:
        """Open the picture in the viewer of the desktop; in a notebook, the result as last value shows itself."""
        Image.fromarray(self.draw()).show()

    def _repr_png_(self) -> bytes | None:
        """Return the picture as PNG, for notebooks; None if the image is gone."""
        try:
            picture = self.draw()
        except ValueError:
            return None
        content = BytesIO()
        Image.fromarray(picture).save(content, "PNG")
        return content.getvalue()

    def indices_of(self, names: str | Collection[str]) -> list[int]:
        """Return the classes of names, any synonym of a class, in the order of the vocabulary.

        Raises:
            ValueError: a name was not asked for.
        """
        keys: dict[str, set[int]] = {}  # several classes may share a name
        for index, synonyms in enumerate(self.vocabulary.synonyms):
            for name in synonyms:
                keys.setdefault(same_name_key(name), set()).add(index)
        indices: set[int] = set()
        for name in [names] if isinstance(names, str) else names:
            if same_name_key(name) not in keys:
                asked = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
                raise ValueError(f"{name!r} is not among the names of this prediction: {asked}")
            indices |= keys[same_name_key(name)]
        return sorted(indices)

    def _no_form(self, what: str) -> NoSuchForm:
        return NoSuchForm(f"{what}: expected boxes or masks, but this model predicts {self.kind}; use json, csv or npz")
