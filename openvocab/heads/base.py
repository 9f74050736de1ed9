"""The contract of a head: the one file that a new method adds."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from openvocab.former_names import accept_former_arguments
from openvocab.logit_map import LogitMap
from openvocab.process.memory_fallback import Halving
from openvocab.structures import ImageFeatures, Prediction, Sample, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary


class Head(nn.Module):
    """Features and text in, predictions out; it knows its own loss.

    A head is built with `backbone: BackboneSpec` and `text_dim: int` beside the arguments of its config, and never
    sees the backbone itself.
    """

    layers: tuple[int, ...] = ()
    """The backbone's `hidden` maps that this head reads."""
    embeddings: bool = True
    """Whether it reads the backbone's embeddings in the joint space; without, a tower stops at the last of `layers`."""
    text_tokens: bool = False
    """Whether the loss reads captions token by token (`TextFeatures.tokens`)."""
    replaced_texts: int = 0
    """With `text_tokens`: how many of each sample's first captions the loss only reads with words of them changed, so
    that the tower need not run on them as they are."""
    empty_text: bool = False
    """Whether it reads the embedding of the text without words (`TextFeatures.empty`)."""
    reads_pixels: bool = False
    """Whether `postprocess` takes the images too: postprocess(outputs, samples, images)."""
    reads_whole_image: bool = False
    """Whether it reads `ImageFeatures.whole_embed`, where images come in windows."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor of each subclass take its arguments under their former names, too, with a warning."""
        super().__init_subclass__(**kwargs)
        accept_former_arguments(cls)

    def __init__(self) -> None:
        super().__init__()
        self.rows_at_once = Halving("rows of logits")
        self.classes_at_once = Halving("classes")

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Any:
        """Map features to raw outputs. Pure: no samples, no image. Dense heads return logits (B, K, h, w)."""
        raise NotImplementedError

    def embed_images(self, features: ImageFeatures) -> Tensor:
        """Return what stands for each whole image in the space of the texts, (B, D), not normalized.

        Raises:
            ValueError: this head does not read the embeddings of whole images, which then nothing has trained.
        """
        if not self.embeddings or features.image_embed is None:
            raise ValueError(
                f"{type(self).__name__} has no embedding of whole images; take a model that compares them with texts, "
                "such as that of configs/clip_zeroshot_folder.py"
            )
        return features.image_embed

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return what `forward` would say of each image as logits that are computed part by part.

        For outputs that memory does not hold. Making the list costs nothing; `postprocess` takes it instead of a
        tensor. None for heads that cannot.
        """
        return None

    @property
    def speaks_in_parts(self) -> bool:
        """Whether `logit_maps` may stand for `forward`: no class below the one that defines it changes what is said."""
        for kind in type(self).__mro__:
            if "logit_maps" in vars(kind):
                return kind is not Head
            if not vars(kind).keys() <= _NOT_ABOUT_OUTPUTS:
                return False
        return False

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return scalars whose keys start with `loss_`; their sum is minimized."""
        raise NotImplementedError

    def postprocess(self, outputs: Any, samples: Sequence[Sample]) -> list[Prediction]:
        """Turn raw outputs into predictions in the original frame of each image."""
        raise NotImplementedError

    def proposals(self, features: ImageFeatures) -> tuple[list[Tensor], list[Tensor]]:
        """Return, for heads that detect, boxes (N, 4) in the input frame per image, and how sure each is of an object.

        Raises:
            ValueError: this head makes none.
        """
        raise ValueError(f"{type(self).__name__} makes no proposals")

    @property
    def makes_proposals(self) -> bool:
        """Whether `proposals` gives any."""
        return type(self).proposals is not Head.proposals

    def pack_linears(self) -> None:
        """As `Backbone.pack_linears`, for heads with transformers."""

    def training_texts(self, samples: Sequence[Sample]) -> Vocabulary | list[str]:
        """Say which texts the loss needs: the vocabulary of the batch, or (image-text heads) its captions."""
        return shared_vocabulary(samples)


class _Empty:
    """Has what Python gives every class, which differs between its versions."""


_NOT_ABOUT_OUTPUTS = {*vars(_Empty), "__annotations__", "__init__", "loss", "training_texts"}


def shared_vocabulary(samples: Sequence[Sample]) -> Vocabulary:
    """Return the vocabulary of a batch.

    Raises:
        ValueError: the samples of one batch carry different vocabularies, or none.
    """
    vocabulary = samples[0].vocabulary
    if vocabulary is None:
        raise ValueError(f"sample {samples[0].sample_id!r} carries no vocabulary; its dataset must provide one")
    for sample in samples[1:]:
        if sample.vocabulary is not vocabulary and sample.vocabulary != vocabulary:
            raise ValueError(
                f"samples {samples[0].sample_id!r} and {sample.sample_id!r} of one batch carry different "
                "vocabularies; batch them apart"
            )
    return vocabulary
