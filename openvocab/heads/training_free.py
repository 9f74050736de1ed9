"""Dense CLIP with the decision rule of SCLIP and its training-free successors: word by word, at full resolution."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.base import shared_vocabulary
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.heads.maskclip_refinement import SCALE
from openvocab.heads.word_labels import areas_won, class_probabilities, improbable_classes, label, small_classes
from openvocab.logit_map import ELEMENTS_AT_ONCE, ChangedLogits, LogitMap, TensorLogits
from openvocab.ops.pamr import pamr
from openvocab.pixel_batch import PixelBatch
from openvocab.postprocess import original_frame, semantic_prediction
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary


@HEADS.register_module()
class TrainingFreeHead(DenseCLIPHead):
    """Segments by the words (names and synonyms) of the classes, each with a map of its own at the original size.

    The softmax is over all words, a class takes the probability of its best word, and pixels at which no class reaches
    the threshold become background. `DenseCLIPHead` merges words and applies its threshold on the grid of patches,
    which needs no map at full size; the results differ at edges.

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model.
        logit_scale: multiplier of the cosine; None for the text encoder's.
        background_threshold: pixels at which no class reaches this probability become background, for vocabularies
            that name one.
        area_threshold: drop classes that win at most this fraction of the pixels that are not background. Default: none
            are dropped.
        pamr_dilations: refine the logits by `pamr` with these dilations, (8, 16) in NACLIP. Default: no refinement.
        pamr_steps: iterations of the refinement.
        presence_threshold: drop classes whose probability is below this threshold at every pixel, in the softmax of 100
            times the cosines, CLIP's own scale; the most probable class always stays. For free names, which may be
            nowhere in the image. Default: none are dropped.

    Raises:
        ValueError: the backbone's embeddings and the texts differ in width, or a threshold is not a probability.

    Reference: arXiv 2312.01597 (words, threshold, areas), arXiv 2404.08181 (refinement), arXiv 2112.01071 (prompt
    denoising) and the code of RADSeg, commit 05ec86fc, which drops classes after the windows are joined.
    """

    reads_pixels = True

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        logit_scale: float | None = 40.0,
        background_threshold: float | None = None,
        area_threshold: float | None = None,
        pamr_dilations: Sequence[int] = (),
        pamr_steps: int = 10,
        presence_threshold: float | None = None,
    ) -> None:
        super().__init__(backbone, text_dim, logit_scale, background_threshold)
        for name, value in (("area_threshold", area_threshold), ("presence_threshold", presence_threshold)):
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name}: expected between 0 and 1, got {value}")
        self.area_threshold, self.presence_threshold = area_threshold, presence_threshold
        self.pamr_dilations, self.pamr_steps = tuple(pamr_dilations), pamr_steps

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return logits of the words, (B, R, h, w)."""
        words = TextFeatures(text.embed, text.logit_scale)  # without classes: each word is one
        return super().forward(features, words)

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return the logits (R, h, w) of the words of each image part by part."""
        return super().logit_maps(features, TextFeatures(text.embed, text.logit_scale))

    def postprocess(
        self,
        outputs: Tensor | list[LogitMap],
        samples: Sequence[Sample],
        images: Tensor | PixelBatch | None = None,
    ) -> list[SemanticPrediction]:
        """Return a label map (H, W) for each image, of its `original_size`.

        Args:
            outputs: (B, R, h, w) over the padded images, or a map per image.
            samples: B.
            images: (B, 3, H, W), the network's input, for the refinement.

        Raises:
            ValueError: R is not the number of words, or there are no images to refine with.
        """
        return [prediction for prediction, _ in self.predictions_with_scores(outputs, samples, images)]

    def predictions_with_scores(
        self,
        outputs: Tensor | list[LogitMap],
        samples: Sequence[Sample],
        images: Tensor | PixelBatch | None = None,
    ) -> Iterator[tuple[SemanticPrediction, LogitMap]]:
        """Yield each prediction with its probabilities (K, H, W), which thresholds do not change.

        See `Head.predictions_with_scores`; one image after the other is refined.
        """
        vocabulary, word_class = shared_vocabulary(samples), self._word_class(outputs, samples)
        probabilities = partial(class_probabilities, word_class=word_class)
        for words, sample in zip(self._words(outputs, samples, images), samples):
            labels = self._label(words, word_class, vocabulary.background)
            yield semantic_prediction(labels, sample), ChangedLogits(words, probabilities, len(vocabulary))

    def _word_class(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> Tensor | None:
        """Return the class (R,) of each row of the outputs, on their device; None if each class has one row."""
        word_class = word_classes(shared_vocabulary(samples), outputs[0].shape[0])
        return None if word_class is None else word_class.to(outputs[0].device)

    def _words(
        self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample], images: Tensor | PixelBatch | None
    ) -> Iterator[LogitMap]:
        """Yield the logits (R, H, W) of the words of each image in its original frame, refined if that is on."""
        for index, (words, sample) in enumerate(zip(original_frame(outputs, samples), samples)):
            yield self._refine(words, images, index, sample) if self.pamr_dilations else words

    def _refine(self, words: LogitMap, images: Tensor | PixelBatch | None, index: int, sample: Sample) -> LogitMap:
        """Return the logits (R, H, W) of image `index`, refined by its pixels."""
        if images is None:
            raise ValueError("pamr_dilations: the refinement needs the images, postprocess(outputs, samples, images)")
        image = images[index : index + 1]
        image = image if isinstance(image, Tensor) else image.whole()
        height, width = sample.input_size
        # without the padding, which the words do not cover either: (3, H, W)
        image = F.interpolate(image[..., :height, :width].float(), size=sample.original_size, mode="bilinear")[0]
        return TensorLogits(pamr(words.whole(), image, self.pamr_dilations, self.pamr_steps))

    def _label(self, words: LogitMap, word_class: Tensor | None, background: int | None) -> Tensor:
        """Return the label map (H, W) of words (R, H, W); absent classes are determined in a first pass."""
        absent = self._absent(words, word_class, background)
        threshold = self.background_threshold
        return torch.cat([label(part, background, threshold, absent) for part in _probabilities(words, word_class)])

    def _absent(self, words: LogitMap, word_class: Tensor | None, background: int | None) -> Tensor | None:
        """Return which classes are dropped, (K,) bool, over the whole image; None if none can be."""
        # the parts are computed again instead of being stored
        absent = None
        if self.presence_threshold is not None:
            to_clip = 1.0 if self.logit_scale is None else SCALE / self.logit_scale
            scaled = _probabilities(words, word_class, to_clip)
            best = torch.stack([part.amax(dim=(1, 2)) for part in scaled]).amax(dim=0)  # (K,)
            absent = improbable_classes(best, self.presence_threshold, background)
        if self.area_threshold is not None:
            present = (
                part if absent is None else part * ~absent[:, None, None] for part in _probabilities(words, word_class)
            )
            areas = torch.stack([areas_won(part) for part in present]).sum(dim=0)
            small = small_classes(areas, self.area_threshold, background)
            absent = small if absent is None else absent | small
        return absent


def _probabilities(words: LogitMap, word_class: Tensor | None, factor: float = 1.0) -> Iterator[Tensor]:
    """Yield the probabilities of the classes (K, n, W), n rows at a time, from the logits times a factor."""
    num_words, height, width = words.shape
    rows_at_once = max(1, ELEMENTS_AT_ONCE // (num_words * width))
    for start in range(0, height, rows_at_once):
        part = words.read(slice(start, min(start + rows_at_once, height)), slice(0, width))  # (R, n, W)
        # a NaN or an infinity makes the sum NaN or infinite
        if not part.sum().isfinite():
            raise ValueError("the logits are not finite (NaN or infinity): check the image and the weights")
        yield class_probabilities(part if factor == 1 else factor * part, word_class)


def word_classes(vocabulary: Vocabulary, num_rows: int) -> Tensor | None:
    """Return the class of each row of a text encoder.

    Args:
        vocabulary: K classes.
        num_rows: R.

    Returns:
        (R,) int64; None if each class has one row.

    Raises:
        ValueError: the rows are neither the classes nor the words of the vocabulary.
    """
    if num_rows == len(vocabulary):
        return None
    counts = torch.tensor([len(names) for names in vocabulary.synonyms])
    if vocabulary.synonym_merge != "max" or num_rows != int(counts.sum()):
        raise ValueError(
            f"{num_rows} logits per pixel, but the vocabulary has {len(vocabulary)} classes of {int(counts.sum())} "
            f"words (synonym_merge={vocabulary.synonym_merge!r})"
        )
    return torch.arange(len(vocabulary)).repeat_interleave(counts)  # (R,)
