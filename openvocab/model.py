"""The composition: backbone + text encoder + head."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

import torch
from mmengine.model import BaseModel
from torch import Tensor

from openvocab.backbones.base import Backbone
from openvocab.finite_guard import check_losses
from openvocab.heads.base import Head, own_prompt, shared_vocabulary
from openvocab.inference.base import Inference
from openvocab.inference.sliding_window import SlidingWindow
from openvocab.inference.whole_image import WholeImage
from openvocab.layers.quick_gelu_folding import fold_quick_gelu
from openvocab.logit_map import LOGITS_IN_MEMORY, LogitMap
from openvocab.missing_file import argument_of
from openvocab.pixel_batch import PixelBatch
from openvocab.preprocessor import BatchPreprocessor, Padding
from openvocab.process.memory_fallback import Halving, advising, if_memory_suffices
from openvocab.registry import BACKBONES, HEADS, INFERENCERS, MODELS, TEXT_ENCODERS, build_part
from openvocab.structures import ImageFeatures, Prediction, Sample, Size, TextFeatures, known
from openvocab.text.base import TextEncoder
from openvocab.text.recent_texts import RecentTexts
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import vocabulary_prompts

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class ImageEncoder(Protocol):
    """The part of a model that sees images, and no texts."""

    def encode(self, images: Tensor) -> ImageFeatures:
        """Return those features of normalized images (B, 3, H, W) that the head reads."""

    def encode_pooled(self, images: Tensor) -> Tensor:
        """Return the pooled embedding (B, D) of normalized images (B, 3, H, W), not normalized."""


@MODELS.register_module()
class OpenVocabModel(BaseModel):
    """Any backbone, any text encoder, any head.

    Args:
        backbone, text_encoder, head: config dicts, or parts that are already built. The head also gets the `spec` of
            the backbone and the width of the text embeddings, so that a mismatch fails here.
        inference: how the network sees an image at test time: whole (default), by a sliding window, at several scales.
        padding: the pixels that fill a batch to the right of its images and below: `black`, or `mean`, which is zero
            after normalization, as in official GLIP.

    Raises:
        TypeError: `inference` is not an `Inference`.
        ValueError: an unknown `padding`.
    """

    backbone: Backbone
    text_encoder: TextEncoder
    head: Head
    inference: Inference
    data_preprocessor: BatchPreprocessor

    def __init__(
        self, backbone: Any, text_encoder: Any, head: Any, inference: Any = None, padding: Padding = "black"
    ) -> None:
        with argument_of("backbone", *(["text_encoder"] if _need_same_file(backbone, text_encoder) else [])):
            backbone = build_part(BACKBONES, backbone)
        preprocessor = BatchPreprocessor(backbone.mean, backbone.std, backbone.spec.stride, padding)
        super().__init__(preprocessor)
        self.backbone = backbone
        with argument_of("text_encoder"):
            self.text_encoder = build_part(TEXT_ENCODERS, text_encoder)
        self.head = build_part(HEADS, head, backbone=self.backbone.spec, text_dim=self.text_encoder.embed_dim)
        self.inference = build_part(INFERENCERS, inference) if inference else WholeImage()
        if not isinstance(self.inference, Inference):
            given = type(self.inference).__name__
            raise TypeError(f"inference: expected a subclass of openvocab.inference.base.Inference, got {given}")
        self.data_preprocessor = preprocessor
        self.images_at_once = Halving("images")
        self._recent_prompts: RecentTexts[list[Prompt]] = RecentTexts(limit=4)
        logger.info(self.summary())

    def forward(self, images: Tensor, samples: Sequence[Sample], mode: str = "tensor") -> Any:
        """Return the losses, the predictions or the head's outputs for a preprocessed batch (mmengine's protocol).

        Args:
            images: (B, 3, H, W) normalized; (V * B, 3, H, W) of samples with V views.
            samples: B, with one vocabulary.
            mode: `loss`, `predict` or `tensor`.

        Returns:
            {name: ()} losses, one prediction per image, or the head's outputs, such as logits (B, K, h, w).
        """
        if mode == "loss":
            return self.loss(images, samples)
        if mode == "predict":
            return self.predict(images, samples)
        return self.head(self.encode(images), self.encode_texts(shared_vocabulary(samples)))

    def encode(self, images: Tensor) -> ImageFeatures:
        """Return those features of normalized images (B, 3, H, W) that the head reads."""
        return self.backbone(images, self.head.layers, self.head.embeddings)

    def encode_pooled(self, images: Tensor) -> Tensor:
        """Return the pooled embedding (B, D) of normalized images (B, 3, H, W), not normalized."""
        return known(self.backbone(images, (), True).image_embed, "image_embed of the backbone")

    def encode_texts(self, texts: Vocabulary | Sequence[str] | Sequence[Prompt]) -> TextFeatures:
        """Return the texts as the head reads them.

        Args:
            texts: a vocabulary, whose names become prompts if the head reads phrases; captions; or prompts.

        Returns:
            rows (R, D) of a vocabulary or of captions, with all fields that the head reads; of prompts the tokens.
        """
        with argument_of("model.text_encoder"):  # its tokenizer is read at the first use
            if self.head.reads_phrases:
                if not isinstance(texts, Vocabulary):
                    return self.text_encoder.with_tokens(texts)
                return replace(self.text_encoder.with_tokens(self._prompts(texts)), background=texts.background)
            text = self.text_encoder(texts)
        # Only a head that reads it gets the empty text, since an encoder without a text tower has none.
        return replace(text, empty=self.text_encoder.empty_text()) if self.head.empty_text else text

    def loss(self, images: Tensor, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the head's losses on a batch of images (B, 3, H, W), by keys that start with `loss_`."""
        features = self.encode(images)
        texts = self.head.training_texts(samples)
        if self.head.text_tokens:
            if isinstance(texts, Vocabulary):
                name = type(self.head).__name__
                raise TypeError(f"{name}.training_texts: expected captions, since text_tokens is set, got a vocabulary")
            text = self.text_encoder.with_tokens(texts, self.head.replaced_texts * len(samples))
        else:
            text = self.encode_texts(texts)
        return self.head.loss(features, text, samples)

    def prompt_facts(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Return how names reach a head that reads phrases, on which its scores depend, for result files.

        Args:
            vocabulary: that of the data; None if each sample has a prompt of its own.

        Returns:
            {} of another head.
        """
        if not self.head.reads_phrases:
            return {}
        if vocabulary is None:
            return {"prompt_form": "the sample's own"}
        sizes = [len(prompt.phrases) for prompt in self._prompts(vocabulary)]
        limit, form = self.head.names_at_once, self.head.prompt_form
        return {"prompt_form": form, "names_at_once": limit, "prompts": len(sizes), "names_of_each_prompt": sizes}

    def _prompts(self, vocabulary: Vocabulary) -> list[Prompt]:
        """Return the names of a vocabulary as prompts of the head's form, which the text encoder can read."""
        encoder, limit, form = self.text_encoder, self.head.names_at_once, self.head.prompt_form
        lengths = encoder.token_count, encoder.token_budget
        make = partial(vocabulary_prompts, vocabulary, *lengths, limit, form, encoder.separator_tokens)
        return self._recent_prompts.find((vocabulary.digest, limit, form), make)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the losses, of any shape, to () (mmengine's protocol).

        Raises:
            NonFiniteError: a loss is NaN or infinite; the message names it.
        """
        check_losses(losses)
        return super().parse_losses(losses)

    def predict(
        self, images: Tensor | PixelBatch, samples: Sequence[Sample], encoder: "ImageEncoder | None" = None
    ) -> list[Prediction]:
        """Return one prediction per image, in its original frame.

        If memory does not suffice, the same results are computed in smaller pieces, from then on.

        Args:
            images: (B, 3, H, W), normalized or as a `PixelBatch`.
            samples: B, with one vocabulary, unless they have prompts of their own for a head that reads phrases.
            encoder: encodes the images; default: the model itself.

        Raises:
            NotEnoughMemory: memory does not suffice even for the smallest pieces.
        """
        return self._run(images, samples, encoder or self, self.head.postprocess)

    def predict_with_scores(
        self, images: Tensor | PixelBatch, samples: Sequence[Sample], encoder: "ImageEncoder | None" = None
    ) -> list[tuple[Prediction, LogitMap]]:
        """Return one prediction per image, and the score of every class at every pixel; see `predict`.

        Returns:
            Predictions, and maps (K, H, W) in 0..1 of their original frame, which are computed when they are read.

        Raises:
            ValueError: the head has no scores for each pixel.
            NotEnoughMemory: see `predict`.
        """
        return self._run(images, samples, encoder or self, self.head.predictions_with_scores)

    def _run(
        self,
        images: Tensor | PixelBatch,
        samples: Sequence[Sample],
        encoder: "ImageEncoder",
        finish: Callable[..., Iterable[Result]],
    ) -> list[Result]:
        """Run the network on images, as many at once as memory allows, and finish its outputs."""
        has_prompts = self.head.reads_phrases and any(sample.prompt is not None for sample in samples)
        if has_prompts and len(samples) > 1:  # each is compared with its own prompt alone
            each = range(len(samples))
            return [self._run(images[i : i + 1], samples[i : i + 1], encoder, finish)[0] for i in each]
        vocabulary = shared_vocabulary(samples)
        earlier_limits = self._memory_limits()
        height, width = images.shape[-2:]
        with advising(_advice((height, width), len(vocabulary), self.inference)):
            # Once per batch: `run_part` may run several times with smaller parts of it.
            text = self.encode_texts([own_prompt(samples[0])] if has_prompts else vocabulary)

            def run_part(start: int, stop: int) -> Sequence[Result]:
                return self._run_part(images[start:stop], samples[start:stop], text, encoder, finish)

            groups = self.images_at_once.run(run_part, len(samples))
        if self._memory_limits() != earlier_limits:
            logger.warning(
                "memory did not suffice; from now on, with the same results, at once at most: "
                + ", ".join(self._memory_limits())
            )
        return [result for group in groups for result in group]

    def _run_part(
        self,
        images: Tensor | PixelBatch,
        samples: Sequence[Sample],
        text: TextFeatures,
        encoder: "ImageEncoder",
        finish: Callable[..., Iterable[Result]],
    ) -> Sequence[Result]:
        if self.head.reads_whole_image and len(samples) > 1:  # one at a time, so that all windows are of one image
            each = range(len(samples))
            return [self._run_part(images[i : i + 1], samples[i : i + 1], text, encoder, finish)[0] for i in each]
        if isinstance(images, PixelBatch) and not self.inference.reads_pixel_batches:
            images = images.whole()
        whole_embed = self._whole_embed(images, samples[0].input_size, encoder) if self.head.reads_whole_image else None
        network = partial(self._network, text, whole_embed, encoder)
        outputs = self.inference(network, images, samples, self.data_preprocessor.padding)
        pixels = (images,) if self.head.reads_pixels else ()
        return list(finish(outputs, samples, *pixels))

    def _whole_embed(self, images: Tensor | PixelBatch, size: Size, encoder: "ImageEncoder") -> Tensor:
        """Return the pooled embedding (1, D) of an image of `size`, cropped to a multiple of the stride."""
        stride = self.backbone.spec.stride
        # Cropped rather than padded: black pixels would change the pooled embedding.
        height, width = (max(length // stride, 1) * stride for length in size)
        whole = images if isinstance(images, Tensor) else images.whole()
        return encoder.encode_pooled(whole[..., :height, :width])

    def _network(self, text: TextFeatures, whole_embed: Tensor | None, encoder: "ImageEncoder", images: Tensor) -> Any:
        """Return the head's outputs; logits that memory does not hold as `LogitMap`s, which are computed part by part.

        Args:
            text: the classifier.
            whole_embed: (1, D) of the image that all `images` are windows of; None if the head does not read it.
            encoder: encodes the images.
            images: (B, 3, H, W) normalized.
        """
        features = encoder.encode(images)
        if whole_embed is not None:
            features = replace(features, whole_embed=whole_embed.expand(len(images), -1))  # (B, D)
        may_be_maps = self.head.offers_logit_maps and self.inference.takes_logit_maps
        maps = self.head.logit_maps(features, text) if may_be_maps else None
        if maps is None:
            return self.head(features, text)
        if self.head.rows_at_once.has_learned or sum(part.num_elements for part in maps) > LOGITS_IN_MEMORY:
            return maps
        outputs = if_memory_suffices(partial(self.head, features, text), last_try=len(images) > 1)
        if outputs is None:
            self.head.rows_at_once.shrink_to(maps[0].shape[1])
        return maps if outputs is None else outputs[0]

    def _memory_limits(self) -> list[str]:
        """Return the limits that the parts have lowered because memory did not suffice."""
        parts = [self, self.inference, self.text_encoder, self.head, *self.head.children()]
        halvings = [value for part in parts for value in vars(part).values() if isinstance(value, Halving)]
        return [f"{halving.limit} {halving.things}" for halving in halvings if halving.has_learned]

    def embed_images(self, images: PixelBatch) -> Tensor:
        """Return the embeddings of B whole images in the space of the texts, (B, D) float32, not normalized.

        Raises:
            ValueError: the head has no such embeddings (see `Head.embed_images`).
        """

        def embed_part(start: int, stop: int) -> Tensor:
            return self.head.embed_images(self.encode(images[start:stop].whole())).float()

        return torch.cat(self.images_at_once.run(embed_part, len(images)))

    def val_step(self, data: Any) -> list[Prediction]:
        """Predict a batch of the loader (mmengine's protocol)."""
        return self.test_step(data)

    def test_step(self, data: Any) -> list[Prediction]:
        """Predict a batch of the loader (mmengine's protocol)."""
        return self._run_forward(self.data_preprocessor.pixels(data), mode="predict")

    def compute_in(self, dtype: torch.dtype) -> "OpenVocabModel":
        """Prepare the model for prediction only: cast backbone and head, and bring their layers into the fastest form.

        Batch norms are folded into the convolutions before them and QuickGELU into the linear layers around it, and
        linear layers are packed for the processor. Text embeddings and pixel statistics stay float32: rounding them
        would change labels and save nothing. The weights are no longer those of a checkpoint, so that `state_dict` and
        `load_state_dict` of the model, its backbone and its head raise an error from then on.
        """
        self.eval()
        # In this order: batch norms are folded in float32, before the cast; packing comes after it.
        self.backbone.fold_batch_norms()
        for part in (self.backbone, self.head):
            fold_quick_gelu(part)
            part.to(dtype)
            part.pack_linears()
            part.register_state_dict_pre_hook(_refuse_weights)
            part.register_load_state_dict_pre_hook(_refuse_weights)
        return self

    def summary(self) -> str:
        """Return the parts with their parameter counts, for the log."""
        rows = []
        for name in ("backbone", "text_encoder", "head"):
            part = getattr(self, name)
            total = sum(p.numel() for p in part.parameters())
            trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
            rows.append(f"{name}: {type(part).__name__}, {total / 1e6:.2f} M parameters, {trained / 1e6:.2f} M trained")
        return "\n".join(rows)


def _need_same_file(backbone: Any, text_encoder: Any) -> bool:
    """Return whether the configs of two parts name the same weights, as those of one CLIP do."""
    named = [part.get("pretrained") if isinstance(part, Mapping) else None for part in (backbone, text_encoder)]
    return named[0] is not None and named[0] == named[1]


def _refuse_weights(*_: Any) -> NoReturn:
    raise RuntimeError(
        "this model is ready to predict: its weights are folded and packed, and can be neither saved nor loaded; use "
        "load(config, checkpoint) for other weights, the checkpoint or MODELS.build(config.model) for these"
    )


def _advice(size: Size, num_classes: int, inference: Any) -> str:
    """Return the error message for an image that does not fit into memory, with what to change."""
    remedy = "cut it into windows (model.inference.type=SlidingWindow, with window and stride)"
    if isinstance(inference, SlidingWindow):
        remedy = "make the windows smaller (model.inference.window)"
    return (
        f"memory does not suffice for an image of {size[0]}x{size[1]} pixels (height x width) and {num_classes} "
        f"classes; {remedy}, or shrink the image (a smaller Resize in the test pipeline)"
    )
