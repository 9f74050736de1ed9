"""Grounding DINO, MM-Grounding-DINO and LLMDet of transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from openvocab.argument_checks import check_choice
from openvocab.foreign.family import FamilySettings, ForeignDetector, ForeignParts, corners
from openvocab.foreign.phrase_chunks import PhraseChunk, best_of_class, phrase_chunks
from openvocab.structures import Sample
from openvocab.text.templates import fill_template
from openvocab.vocabulary.vocabulary import Vocabulary

PhraseScore = Literal["max", "mean"]
PHRASE_END = "."
SEPARATORS = ".?"
"""Characters that end a phrase, and are therefore replaced within names."""
_BACKBONE_OUTPUT: ContextVar[list[Any] | None] = ContextVar("backbone_output", default=None)


@dataclass(frozen=True)
class _TokenChunk:
    """A group of names as token ids."""

    chunk: PhraseChunk
    ids: Tensor
    """(1, L) int64, start and end included."""
    spans: list[slice]
    """Where the tokens of each phrase are."""


class GroundingDINOFamily(ForeignDetector):
    """Names and image are fused in the network, so that it runs once for each group of names; the backbone runs once.

    A name is scored by its tokens. Since names of one group attend to the same image features, scores depend a little
    on the other names of their group.

    Args:
        parts, settings: see `ForeignFamily`; there is one template, or none.
        phrase_score: the score of a name is the "max" over the scores of its tokens (transformers' rule for boxes), or
            their "mean" (the official evaluation on COCO and LVIS).

    Raises:
        ValueError: several templates, or an unknown choice.

    Reference: arXiv 2303.05499 (Grounding DINO), arXiv 2401.02361 (MM-Grounding-DINO), arXiv 2501.18954 (LLMDet).
    """

    architecture = {
        "grounding-dino": "GroundingDinoForObjectDetection",
        "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
    }

    def __init__(self, parts: ForeignParts, settings: FamilySettings, phrase_score: PhraseScore = "max") -> None:
        check_choice("phrase_score", phrase_score, get_args(PhraseScore))
        if len(settings.templates) > 1:
            raise ValueError(f"templates: expected one sentence, since scores are fused, got {len(settings.templates)}")
        super().__init__(parts, settings)
        self.phrase_score = phrase_score
        self.network.model.backbone = _BackboneOnce(self.network.model.backbone)

    def encode_texts(self, vocabulary: Vocabulary) -> list[_TokenChunk]:
        """Return the token ids of groups of names, as many as fit into the length that the network reads."""
        longest = self.network.config.max_text_len - 2  # without start and end
        chunks = phrase_chunks(
            vocabulary, self._phrase, self.settings.names_at_once, longest, lambda phrase: len(self._ids(phrase))
        )
        return [self._tokens(chunk) for chunk in chunks]

    def scored_boxes(
        self, image: Tensor, sample: Sample, texts: list[_TokenChunk]
    ) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """Yield the queries of the decoder for each group of names; see `ForeignDetector`."""
        pixels = self.pixels(image)
        with _one_backbone_pass():
            outputs = [self.network(input_ids=tokens.ids.to(self.device), **pixels) for tokens in texts]
        for tokens, output in zip(texts, outputs):
            scores = self._scores(output.logits[0].float().sigmoid(), tokens)
            yield corners(output.pred_boxes[0].float()), scores, list(tokens.chunk.classes)

    def _scores(self, of_tokens: Tensor, tokens: _TokenChunk) -> Tensor:
        """Return the scores (N, k) of the classes from those of the tokens (N, L); the best name of a class counts."""
        of_phrases = torch.stack(
            [
                of_tokens[:, span].amax(1) if self.phrase_score == "max" else of_tokens[:, span].mean(1)
                for span in tokens.spans
            ],
            dim=1,
        )  # (N, P)
        return best_of_class(of_phrases, tokens.chunk)

    def _phrase(self, name: str) -> str:
        phrase = name
        for separator in SEPARATORS:
            phrase = phrase.replace(separator, " ")
        phrase = " ".join(phrase.lower().split())
        if not phrase:
            raise ValueError(f"class name {name!r} has nothing but characters that end a phrase ({SEPARATORS})")
        sentence = fill_template(self.settings.templates[0], phrase)
        return sentence.lower().rstrip(SEPARATORS + " ") + PHRASE_END

    def _ids(self, phrase: str) -> list[int]:
        return self.tokenizer(phrase, add_special_tokens=False)["input_ids"]

    def _tokens(self, chunk: PhraseChunk) -> _TokenChunk:
        ids, spans = [self.tokenizer.cls_token_id], []
        for phrase in chunk.phrases:
            of_phrase = self._ids(phrase)
            if len(of_phrase) < 2:
                raise ValueError(f"class name {phrase[:-1]!r} has no characters that the tokenizer knows")
            spans.append(slice(len(ids), len(ids) + len(of_phrase) - 1))  # without the full stop
            ids += of_phrase
        return _TokenChunk(chunk, torch.tensor([[*ids, self.tokenizer.sep_token_id]]), spans)


class _BackboneOnce(nn.Module):
    """A backbone that runs once within `_one_backbone_pass`, in each thread for itself."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.position_embedding = backbone.position_embedding

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[list[Any], list[Tensor]]:
        """Return the feature maps with their masks, and their positions; see the class of transformers."""
        kept = _BACKBONE_OUTPUT.get()
        output = kept[0] if kept else self.backbone(pixel_values, pixel_mask)
        if kept is not None:
            kept[:] = [output]
        features, positions = output
        return list(features), list(positions)  # copies: the network appends to the second


@contextmanager
def _one_backbone_pass() -> Iterator[None]:
    """Keep the first output of the backbone for the further passes in this block, which are over the same image."""
    token = _BACKBONE_OUTPUT.set([])
    try:
        yield
    finally:
        _BACKBONE_OUTPUT.reset(token)
