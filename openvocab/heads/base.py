"""The contract of a head, which is the one file that a new method adds."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from openvocab.former_names import accept_former_arguments
from openvocab.logit_map import LogitMap
from openvocab.process.memory_fallback import Halving
from openvocab.structures import ImageFeatures, Prediction, Sample, TextFeatures
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import PromptForm


class Head(nn.Module):
    """Maps features and texts to predictions, and knows its own loss.

    A head is built with `backbone: BackboneSpec` and `text_dim: int` in addition to the arguments of its config, and
    never sees the backbone itself.

    Required: `forward`, `loss` and `postprocess`.

    Optional attributes, set on the class or in `__init__`: which features of the images the head reads (`layers`,
    `embeddings`, `reads_pixels`, `reads_whole_image`), and which of the texts (`text_tokens`, `replaced_texts`,
    `empty_text`, `reads_phrases`, `names_at_once`, `prompt_form`).

    Optional methods: `training_texts`, `embed_images`, `decode`, `logit_maps`, `predictions_with_scores`, `proposals`,
    `pack_linears`.
    """

    # --- optional: what the head reads ---

    layers: tuple[int, ...] = ()
    """Indices of the backbone's `hidden` maps that the head reads."""
    embeddings: bool = True
    """Whether the head reads embeddings in the joint space; if not, a tower stops after the last of `layers`."""
    text_tokens: bool = False
    """Whether the loss reads captions token by token, `TextFeatures.tokens`."""
    replaced_texts: int = 0
    """How many of each sample's first captions the loss reads only with words replaced (needs `text_tokens`); the tower
    does not encode the originals."""
    empty_text: bool = False
    """Whether the head reads the embedding of the text without words, `TextFeatures.empty`."""
    reads_phrases: bool = False
    """Whether the head reads texts token by token, with their phrases, in prediction, too. It is given prompts: in
    training that of each sample, in prediction that of the sample, or those of all names of the vocabulary."""
    names_at_once: int | None = None
    """Largest number of names in a prompt of a vocabulary; None: as many as the text encoder reads."""
    prompt_form: PromptForm = "evaluation"
    """How the names of a vocabulary are joined; see `vocabulary_prompts`."""
    reads_pixels: bool = False
    """Whether `postprocess` takes the images, too: `postprocess(outputs, samples, images)`."""
    reads_whole_image: bool = False
    """Whether the head reads the embedding of the whole image, `ImageFeatures.whole_embed`, if it is run on windows."""

    # --- what every head has ---

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor of each subclass take its arguments under their former names, too, with a warning."""
        super().__init_subclass__(**kwargs)
        accept_former_arguments(cls)

    def __init__(self) -> None:
        super().__init__()
        self.rows_at_once = Halving("rows of logits")
        self.classes_at_once = Halving("classes")

    # --- required ---

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Any:
        """Return raw outputs, without looking at samples or images; dense heads return logits (B, K, h, w)."""
        raise NotImplementedError

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return scalars () whose keys start with `loss_`; their sum is minimized."""
        raise NotImplementedError

    def postprocess(self, outputs: Any, samples: Sequence[Sample]) -> Sequence[Prediction]:
        """Turn raw outputs into one prediction per sample; label maps (H, W), masks and boxes in its original frame."""
        raise NotImplementedError

    # --- optional: what the head can do in addition ---

    def training_texts(self, samples: Sequence[Sample]) -> Vocabulary | list[str] | list[Prompt]:
        """Return the texts that `loss` is given: the vocabulary of the batch, captions, or one prompt per sample.

        Default: the vocabulary; the prompts if the head reads phrases.
        """
        return [own_prompt(sample) for sample in samples] if self.reads_phrases else shared_vocabulary(samples)

    def embed_images(self, features: ImageFeatures) -> Tensor:
        """Return the embedding of each whole image in the space of the texts, (B, D), not normalized.

        Default: the backbone's.

        Raises:
            ValueError: the head does not read the embeddings of whole images, so that nothing has trained them.
        """
        if not self.embeddings or features.image_embed is None:
            raise ValueError(
                f"{type(self).__name__} has no embedding of whole images; use a model that compares them with texts, "
                "such as that of configs/clip_zeroshot_folder.py"
            )
        return features.image_embed

    def decode(self, features: ImageFeatures) -> Any:
        """Return what the head computes from the images before it meets the texts; default: None, nothing.

        A head that defines it reads `self.decoded(features)` in `forward`.
        """
        return None

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return the outputs of `forward` as one map (K, h, w) per image, whose logits are computed part by part.

        They stand in for outputs that do not fit into memory: creating the list costs nothing, and `postprocess` takes
        it instead of a tensor. Default: None, for heads without such maps.
        """
        return None

    def predictions_with_scores(
        self, outputs: Any, samples: Sequence[Sample], *pixels: Any
    ) -> Iterable[tuple[Prediction, LogitMap]]:
        """Return each prediction of `postprocess` with the score of every class at every pixel, (K, H, W) in 0..1.

        What the two have in common is computed once per image; the scores are computed when they are read.

        Args:
            outputs, samples, pixels: those of `postprocess`.

        Returns:
            B pairs, in the original frame of each image; an iterator may compute one image after the other.

        Raises:
            ValueError: the head has no such scores (default).
        """
        raise ValueError(f"{type(self).__name__} has no scores for each pixel")

    def proposals(self, features: ImageFeatures) -> tuple[list[Tensor], list[Tensor]]:
        """Return boxes [(N_i, 4)] x1 y1 x2 y2 in the input frame, and their objectness [(N_i,)], for each image.

        Raises:
            ValueError: the head does not detect (default).
        """
        raise ValueError(f"{type(self).__name__} makes no proposals")

    def pack_linears(self) -> None:
        """Bring linear layers into their fastest form for prediction, as `Backbone.pack_linears`; default: nothing."""

    # --- derived from the above ---

    def decoded(self, features: ImageFeatures) -> Any:
        """Return the result of `decode`, which the features may carry already."""
        return self.decode(features) if features.decoded is None else features.decoded

    @property
    def offers_logit_maps(self) -> bool:
        """Whether `logit_maps` may replace `forward`: no subclass of the class that defines it changes the outputs."""
        for kind in type(self).__mro__:
            if "logit_maps" in vars(kind):
                return kind is not Head
            if not vars(kind).keys() <= _NOT_ABOUT_OUTPUTS:
                return False
        return False

    @property
    def has_scores(self) -> bool:
        """Whether the head defines `predictions_with_scores`."""
        return type(self).predictions_with_scores is not Head.predictions_with_scores

    @property
    def embeds_images(self) -> bool:
        """Whether the head embeds whole images, by itself or as the backbone does."""
        return self.embeddings or type(self).embed_images is not Head.embed_images

    @property
    def makes_proposals(self) -> bool:
        """Whether the head defines `proposals`."""
        return type(self).proposals is not Head.proposals


class _Empty:
    """Has the attributes that Python gives every class; they differ between its versions."""


_NOT_ABOUT_OUTPUTS = {*vars(_Empty), "__annotations__", "__init__", "loss", "training_texts"}


def shared_vocabulary(samples: Sequence[Sample]) -> Vocabulary:
    """Return the vocabulary of a batch.

    Raises:
        ValueError: the samples of one batch have different vocabularies, or none.
    """
    vocabulary = samples[0].vocabulary
    if vocabulary is None:
        raise ValueError(f"sample {samples[0].sample_id!r} has no vocabulary; its dataset must provide one")
    for sample in samples[1:]:
        if sample.vocabulary is not vocabulary and sample.vocabulary != vocabulary:
            raise ValueError(
                f"samples {samples[0].sample_id!r} and {sample.sample_id!r} of one batch carry different "
                "vocabularies; put them into separate batches"
            )
    return vocabulary


def own_prompt(sample: Sample) -> Prompt:
    """Return the prompt of a sample.

    Raises:
        ValueError: it has none, or a phrase of it belongs to a class that the vocabulary does not have.
    """
    if sample.prompt is None:
        raise ValueError(f"sample {sample.sample_id!r} has no prompt; its dataset must provide one")
    num_classes = max(sample.prompt.owners) + 1 if sample.vocabulary is None else len(sample.vocabulary)
    for owner in sample.prompt.owners:
        if not 0 <= owner < num_classes:
            raise ValueError(
                f"a phrase in the prompt of sample {sample.sample_id!r} belongs to class {owner}, and the vocabulary "
                f"has {num_classes} classes"
            )
    return sample.prompt
