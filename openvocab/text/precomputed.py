"""Precomputed text embeddings: rows of a file, looked up by name."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from openvocab.registry import TEXT_ENCODERS
from openvocab.structures import TextFeatures
from openvocab.text.base import TextEncoder
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names, same_name_key

logger = logging.getLogger(__name__)

MAX_LISTED = 8
"""Names or rows that an error message lists."""


@TEXT_ENCODERS.register_module()
class PrecomputedTextEncoder(TextEncoder):
    """A table of text embeddings instead of a text tower; only the names of its rows can be encoded.

    Args:
        path: file of rows (R, D), as `.npy` or as `.safetensors` with a single tensor or one called `rows`.
        names: name of each row: a list (an entry may be a list of synonyms of one row), the name of a class list of the
            package, or a names file.
        logit_scale: multiplier of the cosines; CLIP's trained value is 100.
        templates_note: how the rows were made ("a {}", OpenAI ViT-B/32), for the log, since the file does not state it.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: the file is not a table of finite numbers, the numbers of names and rows differ, or a row is zero.
    """

    rows: Tensor
    """(R, D) unit norm."""
    scale: Tensor

    def __init__(
        self,
        path: str | Path,
        names: str | Path | Sequence[str | Sequence[str]],
        logit_scale: float = 100.0,
        templates_note: str = "",
    ) -> None:
        super().__init__()
        self.path = Path(path).expanduser()
        self.templates_note = templates_note
        rows = _read_table(self.path)
        self._index = _index_names(names, len(rows), self.path)
        by_key = ((same_name_key(name), row) for name, row in reversed(self._index.items()))
        self._index_by_key = dict(by_key)  # reversed, so that the first of several equal keys is kept
        self.register_buffer("rows", F.normalize(rows, dim=-1), persistent=False)
        self.register_buffer("scale", torch.tensor(float(logit_scale)), persistent=False)
        self.embed_dim = rows.shape[1]
        note = f" ({templates_note})" if templates_note else ""
        logger.info(f"{len(rows)} text embeddings of width {rows.shape[1]} from {self.path}{note}")

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Look every name up, first exactly, then ignoring case, white space and underscores.

        Names of a class that have no row are ignored, as long as one has.

        Returns:
            rows (K, D), or (R, D) with `row_class` if synonyms compete; float32, unit norm.

        Raises:
            ValueError: classes have no row (the message lists the first few), or the texts are raw captions.
        """
        if not isinstance(texts, Vocabulary):
            raise ValueError("precomputed text embeddings know class names only; for captions use CLIPTextEncoder")
        counts: list[int] = []
        indices: list[int] = []
        missing: list[str] = []
        for synonyms in texts.synonyms:
            rows = [row for row in map(self._find, synonyms) if row is not None]
            if not rows:
                missing.append(synonyms[0])
            counts.append(len(rows))
            indices.extend(rows)
        if missing:
            raise ValueError(self._describe_missing(missing))
        return self._features(texts, indices, counts)

    def knows(self, synonyms: Sequence[str]) -> bool:
        """Return whether one of these names has a row."""
        return any(self._find(name) is not None for name in synonyms)

    def _find(self, name: str) -> int | None:
        row = self._index.get(name)
        return self._index_by_key.get(same_name_key(name)) if row is None else row

    def _features(self, vocabulary: Vocabulary, indices: list[int], counts: list[int]) -> TextFeatures:
        """Build the classifier of a vocabulary from the rows at `indices`, `counts` of them per class."""
        rows = self.rows[torch.tensor(indices, device=self.rows.device)]  # (R, D)
        if len(indices) == len(vocabulary):
            return TextFeatures(rows, self.scale, background=vocabulary.background)
        if vocabulary.synonym_merge == "max":
            row_class = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(rows.device)
            return TextFeatures(rows, self.scale, row_class, vocabulary.background)
        # Rows have unit norm already, so that each name of a class counts equally.
        means = torch.stack([group.mean(0) for group in rows.split(counts)])  # (K, D)
        return TextFeatures(F.normalize(means, dim=-1), self.scale, background=vocabulary.background)

    def _describe_missing(self, names: Sequence[str]) -> str:
        listed = ", ".join(map(repr, names[:MAX_LISTED])) + (", ..." if len(names) > MAX_LISTED else "")
        return f"{len(names)} of the class names have no row in {self.path} ({len(self.rows)} rows): {listed}"


def _read_table(path: Path) -> Tensor:
    """Read a table (R, D) float32 of finite, nonzero rows."""
    if not path.is_file():
        raise FileNotFoundError(f"no text embeddings at {path}")
    try:
        rows = _read_safetensors(path) if path.suffix == ".safetensors" else _read_npy(path)
    except (SafetensorError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a readable table of embeddings: {error}") from error
    if rows.ndim != 2 or not rows.numel() or not rows.is_floating_point():
        raise ValueError(f"{path}: expected a (rows, width) table of floats, got {tuple(rows.shape)} {rows.dtype}")
    # A zero row has no direction: its cosine with every image would be 0.
    lengths = rows.float().norm(dim=1)
    bad = torch.nonzero(~(lengths.isfinite() & (lengths > 0))).flatten().tolist()
    if bad:
        raise ValueError(f"{path}: rows {bad[:MAX_LISTED]} are zero or not finite")
    return rows.float()


def _read_npy(path: Path) -> Tensor:
    try:
        table = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path}: expected a .npy or .safetensors table of numbers ({error})") from error
    if not isinstance(table, np.ndarray) or table.dtype.kind != "f":
        raise ValueError(f"{path}: expected one .npy table of floating-point numbers")
    # A float64 or float16 table too: everything after it is float32.
    return torch.from_numpy(table.astype(np.float32))


def _read_safetensors(path: Path) -> Tensor:
    tensors = safetensors.torch.load_file(path)
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    if "rows" not in tensors:
        raise ValueError(f"{path}: expected a single tensor or one called 'rows', got {', '.join(sorted(tensors))}")
    return tensors["rows"]


def _index_names(names: str | Path | Sequence[str | Sequence[str]], rows: int, path: Path) -> dict[str, int]:
    """Return {name: row}; a name that occurs twice means the first of its rows."""
    entries = read_class_names(class_names_path(names, "names")) if isinstance(names, (str, Path)) else list(names)
    if len(entries) != rows:
        raise ValueError(f"{path} has {rows} rows, but {len(entries)} names were given; both must be in the same order")
    index: dict[str, int] = {}
    for row, entry in enumerate(entries):
        for name in [entry] if isinstance(entry, str) else entry:
            index.setdefault(name, row)
    return index
