"""OmDet-Turbo of transformers."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from openvocab.detection.scored_boxes import DetectionChoice
from openvocab.foreign.family import FamilySettings, ForeignDetector, ForeignParts, corners
from openvocab.foreign.phrase_chunks import PhraseChunk, best_of_class, phrase_chunks
from openvocab.foreign.text_rows import tokenize
from openvocab.structures import Sample
from openvocab.text.templates import fill_template
from openvocab.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True)
class _EncodedChunk:
    """A group of names as the decoder reads them."""

    chunk: PhraseChunk
    classes: Tensor
    """(P, 1, D) one row per name."""
    task: Tensor
    """(L, 1, C) tokens of the sentence that asks for all names of the group."""
    task_mask: Tensor
    """(1, L) 1 for tokens that count."""


class OmDetTurboFamily(ForeignDetector):
    """The image passes backbone and encoder once; the decoder runs once for each group of names.

    The decoder also reads a sentence with all names of the group, "Detect cat, dog.", so that a group has as many names
    as this sentence has room for, and scores depend a little on the other names of their group.

    Args:
        parts, settings: see `ForeignFamily`; there is one template, or none.

    Raises:
        ValueError: several templates.

    Reference: Real-time Transformer-based Open-Vocabulary Detection with Efficient Fusion Head (arXiv 2403.06892).
    """

    architecture = {"omdet-turbo": "OmDetTurboForObjectDetection"}
    detections = DetectionChoice(one_class_per_box=False, nms_iou=0.5)

    def __init__(self, parts: ForeignParts, settings: FamilySettings) -> None:
        if len(settings.templates) > 1:
            raise ValueError(f"templates: expected one sentence, since scores are fused, got {len(settings.templates)}")
        super().__init__(parts, settings)
        self.context = self.network.config.text_config.max_position_embeddings

    def encode_texts(self, vocabulary: Vocabulary) -> list[_EncodedChunk]:
        """Return groups of names, encoded."""
        longest = self.context - self._length(_task(()))
        chunks = phrase_chunks(
            vocabulary,
            lambda name: fill_template(self.settings.templates[0], name),
            self.settings.names_at_once,
            longest,
            lambda phrase: self._length(f"{phrase},") - self._length(""),
        )
        return [self._encode(chunk) for chunk in chunks]

    def scored_boxes(
        self, image: Tensor, sample: Sample, texts: list[_EncodedChunk]
    ) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """Yield the queries of the decoder for each group of names; see `ForeignDetector`."""
        features = self.network.vision_backbone(self.pixels(image)["pixel_values"])
        states = self.network.encoder(features, return_dict=True).extracted_states
        for text in texts:
            decoded = self.network.decoder(states, text.classes, text.task, text.task_mask, return_dict=True)
            of_phrases = decoded.decoder_classes[-1][0].float().sigmoid()  # (N, P)
            boxes = corners(decoded.decoder_coords[-1][0].float())  # (N, 4)
            yield boxes, best_of_class(of_phrases, text.chunk), list(text.chunk.classes)

    def _encode(self, chunk: PhraseChunk) -> _EncodedChunk:
        encode = self.network.language_backbone
        names = tokenize(self.tokenizer, list(chunk.phrases), self.context, self.device)
        task = tokenize(self.tokenizer, [_task(chunk.phrases)], self.context, self.device)
        classes = encode(names["input_ids"], encode_type="class")  # (P, D)
        states, mask = encode(task["input_ids"], mask=task["attention_mask"], encode_type="task")
        return _EncodedChunk(chunk, classes[:, None], states, mask)

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text)["input_ids"])


def _task(phrases: tuple[str, ...]) -> str:
    return f"Detect {', '.join(phrases)}."
