"""CLIPSeg of transformers."""

import torch
from torch import Tensor

from openvocab.argument_checks import check_fraction
from openvocab.foreign.family import FamilySettings, ForeignParts, ForeignSegmenter
from openvocab.foreign.text_rows import text_rows, tokenize
from openvocab.structures import TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary


class CLIPSegFamily(ForeignSegmenter):
    """The image passes CLIP once; a small decoder runs for each name, and a pixel gets the name with the largest logit.

    Args:
        parts, settings: see `ForeignFamily`.
        background_threshold: probability that the best name of a pixel needs; below it, the pixel gets the background
            of the vocabulary. None: the background competes as a name.

    Raises:
        ValueError: a threshold outside 0..1.

    Reference: Image Segmentation Using Text and Image Prompts (arXiv 2112.10003).
    """

    architecture = {"clipseg": "CLIPSegForImageSegmentation"}
    names_at_once = 16

    def __init__(
        self, parts: ForeignParts, settings: FamilySettings, background_threshold: float | None = None
    ) -> None:
        if background_threshold is not None:
            check_fraction("background_threshold", background_threshold)
        super().__init__(parts, settings)
        self.background_threshold = background_threshold
        self.context = self.network.config.text_config.max_position_embeddings

    def encode_texts(self, vocabulary: Vocabulary) -> TextFeatures:
        """Return one row per class, or per name, not normalized: the decoder also reads their norm."""
        return text_rows(vocabulary, self.settings.templates, self._encode, normalize=False)

    def logits(self, image: Tensor, texts: TextFeatures) -> Tensor:
        """Return logits (K, h, w) of the image, squashed to a square; see `ForeignSegmenter`."""
        states = self._image_states(image)
        rows = [self._decode(states, part) for part in texts.embed.split(self.settings.names_at_once)]
        logits = texts.merge(torch.cat(rows).float(), dim=0)  # (K, h, w)
        if self.background_threshold is not None and texts.background is not None:
            logits[texts.background] = torch.logit(torch.tensor(self.background_threshold), eps=1e-6)
        return logits

    def _encode(self, prompts: list[str]) -> Tensor:
        clip = self.network.clip
        pooled = clip.text_model(**tokenize(self.tokenizer, prompts, self.context, self.device)).pooler_output
        return clip.text_projection(pooled)  # (P, D)

    def _image_states(self, image: Tensor) -> list[Tensor]:
        """Return the states (1, N, C) that the decoder reads."""
        outputs = self.network.clip.vision_model(
            self.pixels(image)["pixel_values"], output_hidden_states=True, interpolate_pos_encoding=True
        )
        return [outputs.hidden_states[layer + 1] for layer in self.network.extract_layers]

    def _decode(self, states: list[Tensor], rows: Tensor) -> Tensor:
        """Return logits (R, h, w) for rows (R, D)."""
        count = len(rows)
        repeated = [state.expand(count, -1, -1) for state in states]
        logits = self.network.decoder(repeated, rows.to(states[0].dtype)).logits
        return logits.reshape(count, *logits.shape[-2:])  # without the axis that transformers drops for one name
