"""Images with captions, streamed from tar shards (WebDataset), for large sets of image-text pairs."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_dist_info
from torch.utils.data import IterableDataset, get_worker_info

from openvocab.argument_checks import check_paths
from openvocab.datasets.base import Transform, build_transforms, place_name
from openvocab.datasets.captions import CaptionChoice, PickCaptions
from openvocab.datasets.files.caption_files import MAX_CHARACTERS, clean_caption
from openvocab.datasets.shards.shard_stream import ShardStream, StreamPosition, saved_position
from openvocab.datasets.shards.tar_shards import (
    IMAGE_FIELDS,
    MAX_MEMBER_BYTES,
    TEXT_FIELDS,
    RefusedMember,
    expand_shards,
)
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.datasets.transforms.results import Results
from openvocab.files.file_values import count_from_1, whole_number
from openvocab.files.text_files import decode_text, parse_json
from openvocab.images.image_io import BadSample
from openvocab.registry import DATASETS
from openvocab.seeding import DrawIndex, mix_seed, seeded_draw
from openvocab.vocabulary.class_lists import list_of_names
from openvocab.vocabulary.vocabulary import has_visible_character


@DATASETS.register_module()
class WebCaptionDataset(IterableDataset):
    """Training pairs streamed from tar shards: an image, and its captions in `.json` or `.txt`.

    The shards are distributed over all ranks and loader workers, so that each sample goes to one of them. The stream is
    endless, in a new order in each pass, and continues after `--resume` where it stopped (with the same numbers of
    ranks and workers; otherwise it begins a new pass). It needs `sampler=None` in the `train_dataloader`. A broken
    shard, image or caption is skipped, counted, and listed at the end of training; for evaluation use `CaptionDataset`,
    which skips nothing.

    Args:
        shards: patterns, URLs, or commands if they are allowed; see `expand_shards`.
        pipeline: transforms; default: the image as it is. `LoadImage` decodes the bytes of the shard.
        root: prefix of relative local paths.
        caption: which of several captions is used: a `random` one each time, or the `first`.
        num_captions: number of captions per sample; see `PickCaptions`.
        caption_keys: keys of the JSON object that may hold the captions, as a string or a list of strings; the first
            one present is used. If there is none, the `.txt` is the caption.
        shuffle_buffer: number of samples that each worker holds, undecoded, to shuffle them; 1 keeps the order.
        passes: number of passes through the data; default: endless, as training needs it.
        seed: seed of order and augmentation; default: the run's (0 outside of a run).
        max_member_bytes: a sample with a larger image or text is skipped like a broken one, without reading it.
        allow_commands: run shell commands (`pipe:...`) among `shards`; without it they are an error.
        name: name of the dataset, for logs and result files.

    Raises:
        ImportError: the package webdataset is not installed.
        FileNotFoundError, ValueError: see `expand_shards`; a number below 1.
    """

    vocabulary = None

    def __init__(
        self,
        shards: str | Sequence[str],
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        caption: CaptionChoice = "random",
        num_captions: int = 1,
        caption_keys: Sequence[str] = ("captions", "caption"),
        shuffle_buffer: int = 1000,
        passes: int | None = None,
        seed: int | None = None,
        max_member_bytes: int = MAX_MEMBER_BYTES,
        allow_commands: bool = False,
        name: str = "",
    ) -> None:
        check_paths(root=root)
        self.shuffle_buffer = count_from_1(shuffle_buffer, "shuffle_buffer")
        self.passes = None if passes is None else count_from_1(passes, "passes")
        self.seed = None if seed is None else whole_number(seed, "seed")
        self.max_member_bytes = count_from_1(max_member_bytes, "max_member_bytes")
        pipeline = [LoadImage(), PackSample()] if pipeline is None else pipeline
        self.transforms: list[Transform] = [PickCaptions(caption, num_captions), *build_transforms(pipeline)]
        patterns = [shards] if isinstance(shards, str) else list_of_names("shards", shards)
        self.shards = expand_shards(patterns, root, allow_commands=allow_commands)
        self.caption_keys = tuple(list_of_names("caption_keys", caption_keys))
        self.name = name or place_name(root, ", ".join(patterns)) or type(self).__name__
        self.rank, self.world_size = get_dist_info()
        self._positions: dict[int, dict[str, Any]] = {}

    @property
    def metainfo(self) -> dict[str, Any]:
        """Plain facts that mmengine hands to metrics and stores in checkpoints."""
        return {"dataset": self.name}

    def __len__(self) -> int:
        """Return a number that no run reaches; mmengine's hooks compare the number of a batch with it.

        Raises:
            TypeError: with `passes` the stream ends, after an unknown number of samples.
        """
        if self.passes is not None:
            raise TypeError(f"{self.name}: the number of samples in {len(self.shards)} shards is not known")
        return sys.maxsize

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield `{"image", "sample", "position"}`, the last of them for `note_consumed`."""
        stream = self._stream()
        for raw in stream:
            try:
                item = self._make(raw, stream.pass_number)
            except BadSample as error:
                stream.note_bad(error)
                continue
            stream.note_useful()
            yield {**item, "position": stream.position}

    def note_consumed(self, positions: Sequence[StreamPosition]) -> None:
        """Record, in the training process, that a batch with these positions (of one worker) has been trained on."""
        last = positions[-1]
        current = {c: old for c, old in self._positions.items() if old["consumers"] == last.consumers}
        turn = 1 + max((old["turn"] for old in self.progress().values()), default=0)
        self._positions = current | {last.consumer: {**saved_position(last), "turn": turn}}

    def progress(self) -> dict[int, dict[str, Any]]:
        """Return the last position of each of this rank's consumers, as plain values."""
        per_rank = {consumer: old["consumers"] // self.world_size for consumer, old in self._positions.items()}
        return {c: self._positions[c] for c, workers in per_rank.items() if workers and c // workers == self.rank}

    def start_at(self, progress: Mapping[int, Mapping[str, Any]], seed: int) -> None:
        """Let the next iteration continue from the `progress` of all ranks; `seed` is used if none was given."""
        self._positions = {int(consumer): dict(position) for consumer, position in progress.items()}
        self.seed = seed if self.seed is None else self.seed

    @property
    def bad_sample_count(self) -> int:
        """How often a shard or sample was skipped, by the loader workers of this process."""
        return sum(position["bad_count"] for position in self.progress().values())

    @property
    def bad_sample_paths(self) -> list[str]:
        """The first of them, with the reason."""
        return [example for position in self.progress().values() for example in position["bad_examples"]]

    def _stream(self) -> ShardStream:
        """Return the stream of this loader worker."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        worker = (worker + self._next_turn(workers)) % workers
        stream = ShardStream(
            self.shards,
            buffer_size=self.shuffle_buffer,
            seed=self.seed or 0,
            passes=self.passes,
            consumer=self.rank * workers + worker,
            consumers=self.world_size * workers,
            fields=(*IMAGE_FIELDS, *TEXT_FIELDS),
            max_member_bytes=self.max_member_bytes,
        )
        stream.resume(self._positions)
        return stream

    def _next_turn(self, workers: int) -> int:
        """Return which worker's batch is next: loaders take batches from their workers in turn, from the first on."""
        positions = self.progress().values()
        if not positions or any(position["consumers"] != self.world_size * workers for position in positions):
            return 0
        return (max(positions, key=lambda position: position["turn"])["consumer"] + 1) % workers

    def _make(self, raw: Mapping[str, Any], pass_number: int) -> dict[str, Any]:
        """Run the pipeline on one sample; its randomness depends on the pass and the sample alone."""
        results: Any = self._start_results(raw)
        seed = mix_seed(self.seed or 0, "draw", pass_number, raw["__shard__"], raw["__key__"])
        with seeded_draw(DrawIndex(0, seed)):
            for transform in self.transforms:
                results = transform(results)
        return results

    def _start_results(self, raw: Mapping[str, Any]) -> Results:
        """Return the results dict of the members of one sample."""
        path = f"{raw['__url__']}/{raw['__key__']}"
        field = next((name for name in IMAGE_FIELDS if name in raw), None)
        if field is None:
            names = [name for name in raw if not name.startswith("__")]
            raise BadSample(path, f"no image; its files are {str(names)[:200]}")
        for name in (field, *TEXT_FIELDS):
            if isinstance(raw.get(name), RefusedMember):
                raise BadSample(f"{path}.{name}", raw[name].reason)
        return {
            "sample_id": f"{Path(raw['__url__']).stem}/{raw['__key__']}",
            "img_path": f"{path}.{field}",
            "img_bytes": raw[field],
            "captions": self._captions(raw, path),
        }

    def _captions(self, raw: Mapping[str, Any], path: str) -> list[str]:
        """Return the captions of a sample, without empty ones.

        Raises:
            BadSample: captions that cannot be read, that are too long, or none.
        """
        try:
            texts = self._texts(raw)
        except ValueError as error:  # not UTF-8 or not JSON
            raise BadSample(path, f"its captions cannot be read: {error}") from error
        if any(len(text) > MAX_CHARACTERS for text in texts):
            raise BadSample(path, f"a caption of more than {MAX_CHARACTERS} characters")
        cleaned = (" ".join(clean_caption(text).split()) for text in texts)
        captions = [caption for caption in cleaned if has_visible_character(caption)]
        if not captions:
            raise BadSample(path, f"no caption: neither a .txt nor one of {self.caption_keys} in a .json holds text")
        return captions

    def _texts(self, raw: Mapping[str, Any]) -> list[str]:
        """Return the texts of a sample as they are: those of the first key in the JSON object, else the `.txt`."""
        parsed = parse_json(decode_text(raw["json"], "its .json"), "its .json") if "json" in raw else None
        record = parsed if isinstance(parsed, dict) else {}
        for key in self.caption_keys:
            if record.get(key):
                texts = record[key] if isinstance(record[key], list) else [record[key]]
                return [text for text in texts if isinstance(text, str)]
        return [decode_text(raw["txt"], "its .txt")] if "txt" in raw else []
