"""A trained model as a function of images and of lists of class names."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.images.image_content import ImageContent, repeatable
from openvocab.images.image_input import bgr_image, checked_path, is_file_path, is_path, rgb_image
from openvocab.logit_map import LogitMap
from openvocab.predictor.arguments import Classes, as_list, as_vocabulary, asked, is_several
from openvocab.predictor.batching import Prepared, equal_size_batches
from openvocab.predictor.fixed_vocabulary import FixedVocabulary
from openvocab.predictor.pipeline import Transform, run_pipeline
from openvocab.results.of_prediction import result_of
from openvocab.structures import Prediction, Size, TextFeatures, known
from openvocab.text.caption_prompt import Phrase, caption_prompt
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from openvocab.model import ImageEncoder, OpenVocabModel
    from openvocab.predictor.encoded_image import EncodedImage


class Predictor:
    """Predict images, given the names of the classes to look for.

    One predictor may be used from several threads at a time. Its results do not depend on what it has seen before, nor
    on the other images of a list.

    Args:
        model: on its device; it is put into evaluation mode. An `OpenVocabModel`, or another one with `test_step`,
            which has no scores of pixels, no embeddings, and sees an encoded image anew.
        pipeline: a test pipeline in mmcv's protocol: transforms from `img_path` or `img` to `{"image", "sample"}`. If
            no step reads a file, as in the pipeline of a dataset that holds its images, a step that reads it is put
            first; if no step packs the sample, such a step is put last. Default: these two steps alone.
    """

    def __init__(self, model: Any, pipeline: Sequence[Transform] = ()) -> None:
        self.model, self.pipeline = model.eval(), tuple(pipeline)

    def __repr__(self) -> str:
        name, composed = type(self.model).__name__, self._composed
        if composed is not None:
            name = f"{type(composed.head).__name__} on {type(composed.backbone).__name__}"
        weights = next(self.model.parameters(), None)
        return f"Predictor({name}{'' if weights is None else f', {weights.device}'})"

    @property
    def _composed(self) -> "OpenVocabModel | None":
        """The model, if it is composed of our parts; None for one that only predicts."""
        from openvocab.model import OpenVocabModel  # here: importing this module stays fast

        return self.model if isinstance(self.model, OpenVocabModel) else None

    @property
    def _embeds_images(self) -> bool:
        return self._composed is not None and self._composed.head.embeds_images

    def __call__(
        self,
        image: Any,
        classes: Classes,
        *,
        background: str | None = None,
        min_score: float | None = None,
        scores: bool = False,
        tile: int | Size | None = None,
    ) -> Any:
        """Predict one image, or several.

        Args:
            image: a path, an address (http, https), the bytes of an image file, an open file, a PIL image, a numpy
                array or a tensor; see `rgb_image`. A file is read by the pipeline, as in a test. Or several images: a
                list, an iterator, or the path of a folder, which is searched recursively.
            classes: names, e.g. `"cat, sofa, floor"`; add a name such as "other" for everything else.
            background: the name that means everything else, for models that find it by a threshold.
            min_score: leave out objects, or pixels, whose score is below, by the result's `filter`.
            scores: keep the score of each name at each pixel, for the result's `scores` and `heat_map`, and how likely
                the image shows each name, for its `presence`. Objects always have scores.
            tile: cut a large image into tiles of this size, in pixels (height, width) or one number for both, predict
                each at the resolution that the pipeline gives it, and join the results; see `predict_tiles`.

        Returns:
            A `SemanticResult`, `DetectionResult` or `ClassificationResult` (`openvocab.results`), which is also the
            prediction of the head, in the frame of the image; for several images a list of them.

        Raises:
            TypeError, ValueError: an image or the list of names cannot be used; the message states why.
            NotEnoughMemory: an image is too large for the available memory, even in pieces.
        """
        vocabulary = as_vocabulary(classes, background)
        if is_several(image):
            if tile is None:
                return self.predict_batch(image, vocabulary, min_score=min_score, scores=scores)
            return [self(one, vocabulary, min_score=min_score, scores=scores, tile=tile) for one in as_list(image)]
        image = repeatable(image)
        if tile is None:
            return self.results([self.prepare(image, vocabulary)], [image], min_score, scores)[0]
        from openvocab.predictor.tiling import predict_tiles
        from openvocab.results.semantic import SemanticResult

        predict = partial(self, classes=vocabulary, min_score=min_score, scores=scores)
        result: Any = predict_tiles(rgb_image(image), tile, predict, image)
        result.sample_id = _sample_id(image)
        if scores and self._embeds_images and isinstance(result, SemanticResult):
            result.presence_of = partial(self.presence, image, vocabulary)  # of the whole image
        return result

    def predict_batch(
        self,
        images: Any,
        classes: Classes,
        batch_size: int = 8,
        *,
        background: str | None = None,
        min_score: float | None = None,
        scores: bool = False,
    ) -> list[Any]:
        """Predict several images with one list of names.

        Up to `batch_size` images of equal size go through the network together; none is padded to the size of another,
        so that a prediction does not depend on its neighbors. At most four batches of images are held in memory, unless
        they are given as arrays.

        Args:
            images: a list or iterator of images, or the path of a folder.
            classes, background, min_score, scores: see `__call__`.
            batch_size: images that go through the network together.

        Returns:
            One result per image, as `__call__` returns it.

        Raises:
            TypeError, ValueError: as for one image, with the index of the image. No prediction is returned then: to
                keep those of the other images, predict one image at a time.
        """
        if not is_several(images) and is_path(images):
            raise TypeError(f"expected a list of images, got one path, {images!s}; put it in a list")
        vocabulary = as_vocabulary(classes, background)
        results: dict[int, Any] = {}
        sources: dict[int, Any] = {}
        listed = as_list(images) if is_several(images) else images
        for indices, items in self.batches(_noted(listed, sources), vocabulary, batch_size):
            parts = self.results(items, [sources.pop(index) for index in indices], min_score, scores)
            results.update(zip(indices, parts))
        return [results[index] for index in range(len(results))]

    def ground(
        self,
        image: Any,
        caption: str | Prompt,
        phrases: Sequence[Phrase] | None = None,
        *,
        min_score: float | None = None,
    ) -> Any:
        """Find what each phrase of a caption names, in one image or in several, with a model that reads phrases.

        The other words of the caption matter, too: the model reads it as a whole.

        Args:
            image: one image or several, of any type that `__call__` takes.
            caption: a sentence, or what `prompt` made of it.
            phrases: parts of the caption: texts, of which the first occurrence counts, or (first character, the one
                after the last), or lists of such pairs; default: its noun phrases.
            min_score: leave out objects whose score is below.

        Returns:
            A `GroundingResult` (`openvocab.results`) in the frame of the image; for several images a list of them.

        Raises:
            TypeError, ValueError: an image cannot be used; see `prompt` for the caption.
            NotEnoughMemory: an image is too large for the available memory.
        """
        prompt = self.prompt(caption, phrases)
        if not is_several(image):
            image = repeatable(image)
            return self.results([self.prepare(image, prompt)], [image], min_score)[0]
        sources: dict[int, Any] = {}
        # one by one: each image is compared with a prompt of its own
        batches = self.batches(_noted(as_list(image), sources), prompt, batch_size=1)
        return [self.results(items, [sources.pop(index)], min_score)[0] for (index,), items in batches]

    def prompt(self, caption: str | Prompt, phrases: Sequence[Phrase] | None = None) -> Prompt:
        """Mark the phrases of a caption, and check that the model can read them.

        Args:
            caption, phrases: see `ground`.

        Raises:
            ValueError: the model does not read phrases, the caption is empty or too long for its text encoder, no noun
                was found in it, or a phrase does not occur in it or begins or ends inside a word.
        """
        composed = self._composed
        if composed is None or not composed.head.reads_phrases:
            name = type(self.model if composed is None else composed.head).__name__
            raise ValueError(
                f'{name} does not ground captions: give names instead, predictor(image, "cat, sofa"), or load a '
                "model that reads phrases, such as that of the config glip_shapes"
            )
        if not isinstance(caption, Prompt):
            prompt = caption_prompt(caption, phrases)
        elif phrases is None:
            prompt = Prompt.of_caption(caption.text, caption.phrases)  # each phrase is a class
        else:
            raise ValueError("phrases: the prompt has its own; give its text as the caption to choose others")
        with torch.inference_mode():
            composed.encode_texts([prompt])
        return prompt

    def encode(self, image: Any) -> "EncodedImage":
        """Run the backbone on an image, and keep what it finds, to ask for one list of names after the other.

        Args:
            image: one image of any type that `__call__` takes.

        Raises:
            TypeError, ValueError: the image cannot be used.
        """
        from openvocab.predictor.encoded_image import EncodedImage

        return EncodedImage(self, image)

    def vocabulary(self, classes: Classes, background: str | None = None) -> "FixedVocabulary":
        """Return the predictor for one list of names, which are checked and embedded now: `find(image)`.

        Args:
            classes, background: see `__call__`.

        Raises:
            TypeError, ValueError: the list of names cannot be used.
        """
        vocabulary = as_vocabulary(classes, background)
        if self._composed is not None:
            self.embed_names(vocabulary)
        return FixedVocabulary(self, vocabulary)

    def presence(self, image: Any, classes: Classes) -> dict[str, float]:
        """Return how likely an image shows each name, by the embedding of the whole image.

        For towers that were trained with a sigmoid per pair (SigLIP), each is a probability of its own; for others they
        are a softmax over the names, and sum to one.

        Args:
            image: one image of any type that `__call__` takes.
            classes: names.

        Returns:
            {name: score in 0..1}, in the order of the names.

        Raises:
            TypeError, ValueError: the image or the names cannot be used; or the model has no embedding of whole images.
        """
        vocabulary = as_vocabulary(classes)
        return self.presence_of(self.encode_image(image)[0], vocabulary)

    @torch.inference_mode()
    def presence_of(self, embed: Tensor, vocabulary: Vocabulary) -> dict[str, float]:
        """Return `presence` of an image by its embedding (D,)."""
        text = self.embed_names(vocabulary)
        cosine = text.similarity(F.normalize(embed.float(), dim=0).to(text.embed.device)[None])[0]  # (K,)
        logits = text.logit_scale * cosine
        scores = logits.softmax(0) if text.logit_bias is None else (logits + text.logit_bias).sigmoid()
        return dict(zip(vocabulary.class_names, scores.tolist()))

    @torch.inference_mode()
    def embed_names(self, vocabulary: Vocabulary) -> TextFeatures:
        """Return the rows of a list of names, which the text encoder keeps for the next time.

        Raises:
            ValueError: the text encoder does not know a name, or the model is none of ours.
        """
        if self._composed is None:
            raise ValueError(f"{type(self.model).__name__} has no embeddings of names; use an OpenVocabModel")
        return self._composed.encode_texts(vocabulary)

    def encode_image(self, images: Any, *, normalize: bool = False, batch_size: int = 8) -> Tensor:
        """Embed whole images in the space of the texts, as CLIP's method of this name does.

        Args:
            images: one image or several, of any type that `__call__` takes.
            normalize: scale every row to unit norm.
            batch_size: images that go through the network together.

        Returns:
            (N, D) float32 on the CPU, one row per image, also for a single image; not normalized by default.

        Raises:
            TypeError, ValueError: as in `predict_batch`; or the model has no embedding of whole images.
        """
        rows: dict[int, Tensor] = {}
        for indices, items in self.batches(as_list(images), None, batch_size):
            rows.update(zip(indices, self.embed_prepared(items)))
        if not rows:
            raise ValueError("expected at least one image, got none")
        embed = torch.stack([rows[index] for index in range(len(rows))])
        return F.normalize(embed, dim=-1) if normalize else embed

    @torch.no_grad()
    def encode_text(self, texts: str | Sequence[str], *, normalize: bool = False) -> Tensor:
        """Embed texts as they are, without templates, as CLIP's method of this name embeds their tokens.

        Args:
            texts: one text or several.
            normalize: scale every row to unit norm.

        Returns:
            (N, D) float32 on the CPU, one row per text, also for a single text; not normalized by default.

        Raises:
            ValueError: there is no text, a text is empty, or the model encodes class names only.
        """
        embed = self.model.text_encoder.embed([texts] if isinstance(texts, str) else list(texts)).cpu()
        return F.normalize(embed, dim=-1) if normalize else embed

    def batches(
        self, images: Iterable[Any], vocabulary: Vocabulary | Prompt | None, batch_size: int, skip_bad: bool = False
    ) -> Iterator[tuple[list[int], list[Prepared]]]:
        """Prepare images, and yield batches of equal size; see `equal_size_batches`.

        Args:
            images: images of any types that `__call__` takes.
            vocabulary: vocabulary or caption of their samples; None to embed the images only.
            batch_size, skip_bad: see `equal_size_batches`.

        Raises:
            TypeError, ValueError: see `predict_batch`.
        """
        return equal_size_batches(
            images, lambda image, index: self.prepare(image, vocabulary, index), batch_size, skip_bad
        )

    @torch.no_grad()
    def embed_prepared(self, items: Sequence[Prepared]) -> Tensor:
        """Embed N prepared images of one size: (N, D) float32 on the CPU, not normalized."""
        images, samples = zip(*items)
        batch = self.model.data_preprocessor.pixels({"image": list(images), "sample": list(samples)})
        return self.model.embed_images(batch["images"]).cpu()

    def prepare(self, image: Any, vocabulary: Vocabulary | Prompt | None = None, index: int = 0) -> Prepared:
        """Run the pipeline on an image, and return the network's input (3, H, W) uint8 and its sample, with the sizes.

        Args:
            image: an image of any type that `__call__` takes.
            vocabulary: vocabulary of the sample, or a caption with phrases, which are its vocabulary then.
            index: names the sample if the image has no path.

        Raises:
            TypeError, ValueError: see `__call__`; or a transform needs more than an image.
        """
        if is_file_path(image):
            path = checked_path(image)
            results: dict[str, Any] = {"img_path": path, "sample_id": path}
        else:
            results = {"img": bgr_image(image), "img_path": "", "sample_id": _sample_id(image, index)}
        if vocabulary is not None:
            results["vocabulary"] = vocabulary.vocabulary if isinstance(vocabulary, Prompt) else vocabulary
        results, size = run_pipeline(self.pipeline, results)
        # predictions are in the frame of the given image, even if the config's test scores them in another one
        return results["image"], asked(dataclasses.replace(results["sample"], original_size=size), vocabulary)

    @torch.inference_mode()
    def results(
        self,
        items: Sequence[Prepared],
        sources: Sequence[Any],
        min_score: float | None = None,
        scores: bool = False,
        encoder: "ImageEncoder | None" = None,
    ) -> list[Any]:
        """Predict prepared images of one size.

        Args:
            items: from `prepare`.
            sources: the images as they were given.
            min_score, scores: see `__call__`.
            encoder: encodes the images; default: the model.
        """
        images, samples = zip(*items)
        data = {"image": list(images), "sample": list(samples)}
        predictions = self._predict(data, scores or min_score is not None, encoder)
        results = []
        for (prediction, score_map), item, source in zip(predictions, items, sources, strict=True):
            presence = partial(self._presence_of_prepared, item) if scores and self._embeds_images else None
            sample = item[1]
            result: Any = result_of(prediction, source, sample.original_size, score_map, presence, sample.prompt)
            if min_score is not None:
                result = result.filter(min_score)
                if not scores and score_map is not None:  # it may be larger than the image
                    result = dataclasses.replace(result, score_map=None)
            results.append(result)
        return results

    def _predict(
        self, data: dict[str, Any], scores: bool, encoder: "ImageEncoder | None"
    ) -> Sequence[tuple[Prediction, LogitMap | None]]:
        """Return the prediction of each image, and the scores of its pixels if they are needed and exist."""
        composed = self._composed
        if composed is None:
            return [(prediction, None) for prediction in self.model.test_step(data)]
        batch = composed.data_preprocessor.pixels(data)
        inputs = batch["images"], batch["samples"], encoder
        if scores and composed.head.has_scores:
            return composed.predict_with_scores(*inputs)
        return [(prediction, None) for prediction in composed.predict(*inputs)]

    def _presence_of_prepared(self, item: Prepared) -> dict[str, float]:
        return self.presence_of(self.embed_prepared([item])[0], known(item[1].vocabulary, "vocabulary of the image"))


def _noted(images: Iterable[Any], sources: dict[int, Any]) -> Iterator[Any]:
    """Yield images in a form that can be read again, and note each by its index."""
    for index, image in enumerate(images):
        sources[index] = repeatable(image)
        yield sources[index]


def _sample_id(image: Any, index: int = 0) -> str:
    """Return the path or address of an image; for others, its index."""
    if isinstance(image, ImageContent) and image.address:
        return image.address
    return os.fsdecode(image) if is_path(image) else f"image {index}"
