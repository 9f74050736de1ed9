"""Images with captions whose phrases have boxes: Flickr30k Entities, GoldG, RefCOCO, and ODVG JSON lines."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from openvocab.argument_checks import check_flags, check_paths
from openvocab.datasets.annotations.captioned_coco import read_captioned_coco
from openvocab.datasets.annotations.flickr_entities import read_flickr_entities
from openvocab.datasets.annotations.grounded_captions import GroundedItem, GroundingBuilder
from openvocab.datasets.annotations.instances import InstanceTable
from openvocab.datasets.annotations.odvg import read_label_map, read_odvg
from openvocab.datasets.base import Loading, PipelineDataset, Transform, place_name
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample
from openvocab.datasets.transforms.results import Results
from openvocab.files.text_files import read_text
from openvocab.registry import DATASETS
from openvocab.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@DATASETS.register_module()
class GroundingDataset(PipelineDataset):
    """Captions with the boxes of their phrases; one caption is one sample.

    A sample's `prompt` is its caption with marked phrases; `instances.classes` are indices of these phrases, and
    `vocabulary` lists them. A phrase without boxes is kept: the model learns that it names nothing in the image. Boxes
    without a phrase, and boxes that `DetectionDataset` would drop, are dropped; one line of the log counts them.

    `annotations` decides the format: a folder is Flickr30k Entities, `.json` is COCO JSON with captions (MDETR's form
    of GoldG, Flickr30k and RefCOCO), anything else is ODVG JSON lines. These may also have `detection` records, images
    with labeled classes; such a sample has the classes of `label_map` as its vocabulary, and gets its prompt from
    `DetectionPrompt`.

    Args:
        images: folder that file names are relative to; for COCO JSON with several sources a dict, {`data_source`:
            folder}.
        annotations: file or folder; see above.
        pipeline: transforms; default: the image and its boxes as they are.
        root: prefix of every relative path given here.
        keys: file that lists the images of this part of Flickr30k Entities, one id per line (its `test.txt`).
        label_map: file with the names of ODVG's labels, {"0": "person", ...}.
        whole_captions: let each caption be a single phrase, as in referring expressions (RefCOCO), of which the file
            marks only the noun.
        phrase_type: keep only captions with a phrase of this type ("unseen" in Shapes, "people" in Flickr30k Entities).
        keep_empty: keep captions without boxes; default: at evaluation, not in training.
        loading, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file, named with its argument.
        ValueError: a file that is not of its format, characters outside of a caption, boxes in fractions of the image,
            an argument that does not fit the format, or no samples; the message states the line or the id.
    """

    def __init__(
        self,
        images: str | Path | Mapping[str, str | Path],
        annotations: str | Path,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        keys: str | Path | None = None,
        label_map: str | Path | None = None,
        whole_captions: bool = False,
        phrase_type: str | None = None,
        keep_empty: bool | None = None,
        loading: Mapping[str, Any] | Loading | None = None,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(dict(keys=keys, label_map=label_map), root=root, annotations=annotations)
        for folder in images.values() if isinstance(images, Mapping) else [images]:
            check_paths(images=folder)
        check_flags({"whole_captions": whole_captions})
        super().__init__(
            [LoadImage(), LoadInstances(), PackSample()] if pipeline is None else pipeline,
            loading=loading,
            test_mode=test_mode,
            name=name or place_name(root, keys or annotations),
        )
        self.root = Path(root)
        self.images, self.annotations, self.keys, self.label_map = images, annotations, keys, label_map
        self.whole_captions, self.phrase_type = whole_captions, phrase_type
        self.keep_empty = test_mode if keep_empty is None else keep_empty

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Classes of `detection` records, those of `label_map`; None without it: each caption has its own."""
        return self._labels[1]

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name, and the types of phrases in alphabetical order."""
        types = {kind for item in self._read[0] for kinds in item.phrase_types for kind in kinds}
        return {"dataset": self.name, "phrase_types": sorted(types)}

    def load_index(self) -> list[dict[str, Any]]:
        """List the captions; their boxes stay in a table."""
        items, _ = self._read
        if items and not Path(items[0].path).is_file():
            raise FileNotFoundError(
                f"images: no file {items[0].path}, the first of {len(items)} captions' images; point images to the "
                "folder that its file names are relative to"
            )
        return [
            {
                "sample_id": item.sample_id,
                "img_path": item.path,
                "image_position": position,
                "annotated_size": item.size,
                **({} if item.prompt is None else {"prompt": item.prompt, "phrase_types": item.phrase_types}),
            }
            for position, item in enumerate(items)
        ]

    def start_results(self, item: dict[str, Any]) -> Results:
        """Return the results dict of a caption, whose phrases are its vocabulary."""
        results = super().start_results(item)
        prompt = results.get("prompt")
        return {**results, "vocabulary": self.vocabulary if prompt is None else prompt.vocabulary}

    def common_results(self) -> dict[str, Any]:
        """Give every item the table of boxes."""
        return {"instance_table": self._read[1]}

    @cached_property
    def _labels(self) -> tuple[dict[int, int] | None, Vocabulary | None]:
        """The class of each label of `detection` records, and the classes."""
        if self.label_map is None:
            return None, None
        names = read_label_map(self.root / self.label_map)
        return {label: index for index, label in enumerate(names)}, Vocabulary.from_names(names.values())

    @cached_property
    def _read(self) -> tuple[list[GroundedItem], InstanceTable]:
        """Read the annotations once, and keep what can be used of them."""
        builder = GroundingBuilder(self.whole_captions, self.note_unusable)
        self._read_into(builder)
        source = str(self.root / self.annotations)
        items, table, summary, is_suspicious = builder.build(self.keep_empty, source, self.phrase_type)
        logger.log(logging.WARNING if is_suspicious else logging.INFO, f"{self.name}: {summary}")
        return items, table

    def _read_into(self, builder: GroundingBuilder) -> None:
        """Read the file or folder in its format."""
        path = self.root / self.annotations
        is_coco = not path.is_dir() and path.suffix.lower() == ".json"
        self._check_fits("keys", self.keys, path.is_dir(), "Flickr30k Entities, a folder")
        self._check_fits("label_map", self.label_map, not path.is_dir() and not is_coco, "ODVG JSON lines")
        if is_coco:
            folders = self.images
            if isinstance(folders, Mapping):
                read_captioned_coco(path, {key: self.root / folder for key, folder in folders.items()}, builder)
            else:
                read_captioned_coco(path, self.root / folders, builder)
            return
        if isinstance(self.images, Mapping):
            raise ValueError(f"images: a dict of folders is for COCO JSON with captions, which {path} is not; give one")
        if path.is_dir():
            keys = None if self.keys is None else read_text(self.root / self.keys).split()
            read_flickr_entities(path, self.root / self.images, builder, keys, self.note_unusable)
        else:
            read_odvg(path, self.root / self.images, builder, self._labels[0])

    def _check_fits(self, argument: str, value: object, fits: bool, form: str) -> None:
        if value is not None and not fits:
            raise ValueError(f"{argument} is for {form}, which {self.root / self.annotations} is not; leave it out")
