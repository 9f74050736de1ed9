"""Data structures that the parts of a model exchange: samples, features and predictions.

Dimension key of the whole library: B batch, K classes of the vocabulary, D joint embedding, C hidden channels,
H W pixels, h w feature grid, N boxes, G group tokens, P prefix tokens, T templates. Sizes are (height, width).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

Size = tuple[int, int]
Known = TypeVar("Known")
IGNORE_INDEX = 255
WIDE_IGNORE_INDEX = 65535
WIDEST_IGNORE_INDEX = 2**31 - 1


def ignore_index(num_classes: int) -> int:
    """Return the label that means "no label": 255, or 65535 for a vocabulary of more than 254 classes.

    Above 65,534 classes, which is more than label files hold, it is the largest int32.
    """
    if num_classes < IGNORE_INDEX:
        return IGNORE_INDEX
    return WIDE_IGNORE_INDEX if num_classes < WIDE_IGNORE_INDEX else WIDEST_IGNORE_INDEX


def known(value: Known | None, what: str) -> Known:
    """Return an optional field of a sample or of features that the caller cannot do without.

    Args:
        value: the field.
        what: its name and its owner, for the message, such as "label_map of sample 'a.png'".

    Raises:
        ValueError: it is None.
    """
    if value is None:
        raise ValueError(f"{what} is needed here, but it is None")
    return value


def size_of(maps: Tensor) -> Size:
    """Return (height, width) of images or maps (..., H, W)."""
    height, width = maps.shape[-2:]
    return height, width


@dataclass
class Instances:
    """The labeled objects of one image."""

    boxes: Tensor
    """(N, 4) float32 x1 y1 x2 y2 in pixels: coordinates of edges, so a box that covers exactly one pixel is 1 wide."""
    classes: Tensor
    """(N,) int64, indices into the vocabulary."""
    masks: Tensor | None = None
    """(N, H, W) bool, in the frame of the boxes."""
    is_crowd: Tensor | None = None
    """(N,) bool; None if no object is a crowd."""
    ids: Tensor | None = None
    """(N,) int64, ids of the annotations in their file."""
    areas: Tensor | None = None
    """(N,) float64 square pixels of the original image, as the annotation file states them; NaN if it states none,
    None if it never does. Transforms do not change them. Metrics use them to tell small, medium and large objects."""


@dataclass
class Regions:
    """Boxes of one image, objects or not, with a teacher's embedding of each."""

    boxes: Tensor
    """(N, 4) float32 x1 y1 x2 y2 in pixels, as in `Instances`."""
    embed: Tensor
    """(N, D) float32, unit norm, joint space of the teacher."""
    objectness: Tensor | None = None
    """(N,) in 0..1, the proposal network's confidence that the box is an object; None if it was not recorded."""


@dataclass(frozen=True)
class FederatedLabels:
    """Which classes were verified in an image of a federated dataset such as LVIS.

    Classes with labeled objects are present, negative classes are absent; the others are unknown.
    """

    negative: tuple[int, ...] = ()
    """Classes verified to be absent, indices into the vocabulary."""
    not_exhaustive: tuple[int, ...] = ()
    """Classes of which some objects may be unlabeled, indices into the vocabulary."""


@dataclass
class Sample:
    """Identity, sizes, vocabulary and targets of one image. Fields that a dataset does not provide keep their default.

    The vocabulary travels with the sample: no model and no config states a class count.
    """

    sample_id: str
    """Unique within its dataset; named in errors."""
    vocabulary: Vocabulary | None
    """The classes that `label_map` and `class_ids` index; None for pure caption data."""
    original_size: Size
    """Of the image file, after EXIF rotation."""
    input_size: Size
    """Of the image tensor before batch padding."""
    padded_size: Size | None = None
    """Of the padded batch that the network sees; set by the preprocessor."""
    label_map: Tensor | None = None
    """(H, W) integers, `ignore_index` where unlabeled. In training in the input frame, padded by the preprocessor; in
    evaluation in the original frame."""
    captions: tuple[str, ...] = ()
    class_ids: tuple[int, ...] = ()
    """Image-level labels, indices into the vocabulary."""
    image_path: str = ""
    instances: Instances | None = None
    """Labeled objects. In training in the input frame, in evaluation in the original frame."""
    regions: Regions | None = None
    """Regions with a teacher's embeddings, for distillation; always in the input frame."""
    federated: FederatedLabels | None = None
    """Which classes without objects are known to be absent; None if every object of every class is labeled."""
    prompt: Prompt | None = None
    """The text of this image alone, whose owners `instances.classes` indexes: a caption with its phrases, or some names
    of the vocabulary. None if all names of the vocabulary apply."""
    phrase_types: tuple[tuple[str, ...], ...] = ()
    """Kinds of each phrase of the prompt, such as Flickr30k's "people", for tables; empty if the data states none."""
    view_boxes: Tensor | None = None
    """(V, 4) float32 if the image tensor holds V views: the left, top, right and bottom edge of each view, in pixels of
    the loaded image. A mirrored view has left > right."""


@dataclass(frozen=True)
class BackboneSpec:
    """What a head knows of its backbone."""

    embed_dim: int | None
    """D of `image_embed` and `patch_embed`; None if the backbone has no joint space with text."""
    stride: int
    """Input sizes must be divisible by it; also the stride of `patch_embed`."""
    hidden_dims: tuple[int, ...]
    """C of `hidden[i]`, for every i that may be requested."""
    hidden_strides: tuple[int, ...]
    """Stride of `hidden[i]` in pixels."""


@dataclass
class ImageFeatures:
    """Backbone outputs for a batch of images."""

    input_size: Size
    """(H, W) of the network's input, padding included."""
    image_embed: Tensor | None = None
    """(B, D) pooled, joint space, not normalized."""
    patch_embed: Tensor | None = None
    """(B, D, h, w) projected patches, joint space, not normalized."""
    hidden: dict[int, Tensor] = field(default_factory=dict)
    """{i: (B, C, h, w)} after block i (or level i of a pyramid), for the requested i; `hidden[0]` enters block 1."""
    prefix: dict[int, Tensor] = field(default_factory=dict)
    """{i: (B, P, C)} class and register tokens after the same blocks; absent for backbones without them."""
    pool: Callable[[Tensor], Tensor] | None = None
    """Maps regions (N, C, s, s) of the last `hidden` map to embeddings (N, D), in the joint space, not normalized, as
    the tower pools a whole image. None for backbones whose pooling needs more than that map (vision transformers)."""
    whole_embed: Tensor | None = None
    """(B, D) pooled embedding of the whole image if the network sees windows of it; for heads that request it."""
    patch_keys: Tensor | None = None
    """(B, C, h, w) keys of the last attention, from readouts that return them (`maskclip`)."""
    decoded: Any = None
    """What `Head.decode` made of these features, for another vocabulary on the same images; None if it has not."""
    class_attention: Tensor | None = None
    """(B, heads, h, w) attention logits between the class token's query and the patches' keys in the last block; from
    backbones that are configured to return them."""


@dataclass
class TextTokens:
    """Token-level embeddings of B captions or prompts, cut to the longest one (T tokens)."""

    ids: Tensor
    """(B, T) int64."""
    is_word: Tensor
    """(B, T) bool; False for start, end and padding."""
    embed: Tensor
    """(B, T, D) projected tokens, joint space, not normalized; of the captions that went through the tower."""
    states_of: Callable[[Tensor], Tensor]
    """Runs the tower on other ids (B, T) and returns its last states (B, T, C)."""
    project: Callable[[Tensor], Tensor]
    """Maps states (..., C) to the joint space, (..., D), not normalized."""
    table: Tensor
    """(V, C) token embeddings of the tower."""
    mask_id: int
    """Id of a token that no text contains, for masked words."""
    special_ids: tuple[int, ...]
    """Ids of start, end, padding and mask."""
    is_token: Tensor
    """(B, T) bool; False for padding only."""
    phrases: list[Tensor] | None = None
    """Of each of B prompts (P, T) bool: which tokens belong to each of its P phrases. None for captions."""
    owners: list[Tensor] | None = None
    """Of each of B prompts (P,) int64: the class of each phrase, an index into the vocabulary. None for captions."""


@dataclass
class TextFeatures:
    """Classifier that a text encoder builds from a vocabulary, or from raw captions (then K is the number of texts)."""

    embed: Tensor
    """(R, D) unit norm, one row per class, or one per synonym if `row_class` is given. Of prompts one row per prompt,
    or none, (0, D), if the encoder has no embedding of a whole text."""
    logit_scale: Tensor
    """() multiplier of the cosines, after the exponential."""
    row_class: Tensor | None = None
    """(R,) class of each row, ascending, if the score of a class is the maximum over its synonyms."""
    background: int | None = None
    """Index of the vocabulary's class that means "everything else"."""
    tokens: TextTokens | None = None
    """Token-level embeddings of captions or prompts, for heads with `text_tokens` or `reads_phrases`."""
    empty: Tensor | None = None
    """(D,) unit-norm embedding of the empty text, for heads with `empty_text`."""
    logit_bias: Tensor | None = None
    """() added to the scaled cosines before a sigmoid, if the towers were trained with one per pair (SigLIP)."""

    @property
    def num_classes(self) -> int:
        """Number of classes K; of prompts, up to the last class that one of them names."""
        if self.tokens is not None and self.tokens.owners is not None:
            last = max(int(owners.max()) for owners in self.tokens.owners)
            return 1 + (last if self.background is None else max(last, self.background))
        return len(self.embed) if self.row_class is None else int(self.row_class[-1]) + 1

    def part(self, classes: slice) -> "TextFeatures":
        """Return the classifier of a contiguous range of K' classes, with rows (R', D); their ids start at 0."""
        if self.row_class is None:
            return TextFeatures(self.embed[classes], self.logit_scale)
        # A class may have several rows, so that a slice of classes is not a slice of rows.
        rows = (self.row_class >= classes.start) & (self.row_class < classes.stop)
        return TextFeatures(self.embed[rows], self.logit_scale, self.row_class[rows] - classes.start)

    def similarity(self, embed: Tensor) -> Tensor:
        """Return the cosine of unit-norm `embed` (..., D) with every class, (..., K)."""
        return self.merge(embed @ self.embed.to(embed.dtype).T, dim=-1)

    def pixel_similarity(self, embed: Tensor) -> Tensor:
        """Return the cosine of unit-norm `embed` (B, D, h, w) with every class, (B, K, h, w)."""
        # A 1 x 1 convolution needs no permutation of (B, D, h, w).
        rows = torch.nn.functional.conv2d(embed, self.embed.to(embed.dtype)[:, :, None, None])  # (B, R, h, w)
        return self.merge(rows, dim=1)

    def merge(self, rows: Tensor, dim: int) -> Tensor:
        """Reduce synonym rows to classes by their maximum.

        Args:
            rows: any shape with R scores along `dim`.
            dim: the dimension of the rows.

        Returns:
            The same shape with K scores along `dim`.
        """
        if self.row_class is None:
            return rows
        # scatter_reduce needs an index of the shape of the rows; a view repeats it without a copy.
        index_shape = [1] * rows.ndim
        index_shape[dim] = -1
        index = self.row_class.view(index_shape).expand_as(rows)
        shape = list(rows.shape)
        shape[dim] = self.num_classes
        # Without the zeros themselves, which would be the maximum of a class whose scores are all negative.
        return rows.new_zeros(shape).scatter_reduce(dim, index, rows, "amax", include_self=False)


@dataclass(eq=False)
class SemanticPrediction:
    """A class for every pixel of the original image."""

    label_map: np.ndarray
    """(H, W) unsigned integers (uint8 up to 255 classes, uint16 up to 65,536, else uint32), original frame."""
    vocabulary: Vocabulary
    sample_id: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names that `label_map` indexes."""
        return self.vocabulary.class_names


@dataclass(eq=False)
class DetectionPrediction:
    """Detected objects of one image in the frame of the original image, best score first."""

    boxes: Tensor
    """(N, 4) float32 x1 y1 x2 y2 in pixels, on the CPU."""
    scores: Tensor
    """(N,) float32 in 0..1."""
    classes: Tensor
    """(N,) int64, indices into the vocabulary."""
    vocabulary: Vocabulary
    masks: list[dict] | None = None
    """N masks in COCO's compressed run-length encoding ({"size": [H, W], "counts": bytes})."""
    sample_id: str = ""


@dataclass(eq=False)
class ClassificationPrediction:
    """A score for every class of the vocabulary, one image."""

    logits: Tensor
    """(K,) float32 on the CPU, before softmax."""
    vocabulary: Vocabulary
    sample_id: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, in the order of the logits."""
        return self.vocabulary.class_names

    @property
    def probabilities(self) -> Tensor:
        """(K,) float32, softmax of the logits, which for CLIP are 100 times the cosines."""
        return self.logits.softmax(dim=-1)


Prediction = SemanticPrediction | DetectionPrediction | ClassificationPrediction
