"""From class names in 80 templates to a classifier: cold, from the disk, and with one name added."""

import copy
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.comparison import Row, Sides, matmul_precision
from benchmarks.errors import relative_error
from openvocab.structures import known
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.templates import fill_template
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

ALL_NAMES = 1203
SAMPLE = 48
MODEL = "ViT-B-32"
NUM_VOCABULARIES = 16
"""Number of vocabularies in turn: more than the encoder caches."""


def prepare_cold(
    dtype: str, model: str = MODEL, templates: str = "imagenet80", sample: int = SAMPLE, device: str = "cpu"
) -> Sides:
    """Compare with one class per call at the full context of 77 tokens; both encode a sample of the names."""
    encoder = random_encoder(model, templates, dtype).to(device)
    names = lvis_names()[:: ALL_NAMES // sample][:sample]
    vocabularies = in_turn(names)
    prompts = [fill_template(template, names[0]) for template in known(encoder.templates, "templates of the encoder")]

    @torch.inference_mode()
    def peer() -> Tensor:
        embed = encoder.text(open_clip.tokenize(prompts).to(device))
        return F.normalize(F.normalize(embed, dim=-1).mean(0), dim=-1)

    def ours() -> Tensor:
        encoder.cache.clear_memory()
        return encoder(next(vocabularies)).embed[0]

    return Sides(peer, ours, relative_error, peer_scale=ALL_NAMES, ours_scale=ALL_NAMES / len(names))


def prepare_warm(model: str = MODEL, count: int = ALL_NAMES) -> Sides:
    """Read the embeddings of a vocabulary from the disk cache of an earlier process."""
    folder = tempfile.TemporaryDirectory()  # removed with its last reference, which `ours` holds
    # one template: what is read does not depend on the number of templates
    encoder = random_encoder(model, "simple", "float32", folder.name)
    vocabularies = in_turn(lvis_names()[:count])
    with matmul_precision("ours"):
        encoder(next(vocabularies))

    def ours(folder: tempfile.TemporaryDirectory = folder) -> Tensor:
        encoder.cache.clear_memory()
        return encoder(next(vocabularies)).embed

    return Sides(None, ours)


def prepare_new_name(model: str = MODEL, templates: str = "imagenet80", num_known: int = 16) -> Sides:
    """Compare a known vocabulary plus one new name with a vocabulary of that name alone, both by our encoder."""
    encoder = random_encoder(model, templates, "float32")
    alone = copy.deepcopy(encoder)
    names = lvis_names()
    with matmul_precision("ours"):
        encoder(Vocabulary.from_names(names[:num_known]))
        alone(Vocabulary.from_names(names[:1]))
    new_to_peer, new_to_ours = iter(names[num_known:]), iter(names[num_known:])

    def peer() -> Tensor:
        with matmul_precision("ours"):
            return alone(Vocabulary.from_names([next(new_to_peer)])).embed[0]

    def ours() -> Tensor:
        return encoder(Vocabulary.from_names([*names[:num_known], next(new_to_ours)])).embed[-1]

    return Sides(peer, ours, relative_error)


def in_turn(names: Sequence[str]) -> Iterator[Vocabulary]:
    """Repeat vocabularies of the same names, at least four, that differ in their seen flags, so that none is cached."""
    flags = ([name for index, name in enumerate(names) if number >> index & 1] for number in range(1, NUM_VOCABULARIES))
    return itertools.cycle([Vocabulary.from_names(names, unseen=unseen) for unseen in flags])


def random_encoder(model: str, templates: str, dtype: str, cache_dir: str | None = None) -> CLIPTextEncoder:
    """Build a frozen text encoder with random weights."""
    torch.manual_seed(0)
    return CLIPTextEncoder(model, templates=templates, dtype=dtype, cache_dir=cache_dir)


def lvis_names() -> list[str]:
    """Return LVIS's 1203 names."""
    return [names[0] for names in read_class_names(class_names_path("lvis_1203"))]


_SCALED = f"milliseconds of all 96,240 prompts, scaled from 1 name (peer) and {SAMPLE} names (ours); 80 templates"
ROWS = (
    Row(
        "text_1203_cold_fp32", 0.08, partial(prepare_cold, "float32"),
        products="float32", min_peak_fraction=0.8, repeats=3, note=_SCALED, on_cuda=True,
    ),
    Row(
        "text_1203_cold_bf16", 0.04, partial(prepare_cold, "bfloat16"),
        products="bfloat16", min_peak_fraction=0.8, repeats=3, note=_SCALED, on_cuda=True,
    ),
    Row(
        "text_1203_warm", None, partial(prepare_warm), max_ms=10, repeats=9,
        note="rows from the disk; the digest of the weights is taken once a process and not in it",
    ),
    Row(
        "text_one_new_name", 1.1, partial(prepare_new_name), repeats=9,
        note="both ours: a known vocabulary and one new name, against that name alone",
    ),
)  # fmt: skip
