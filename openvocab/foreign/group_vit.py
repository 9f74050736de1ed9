"""GroupViT of transformers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.foreign.family import FamilySettings, ForeignParts, ForeignSegmenter
from openvocab.foreign.text_rows import text_rows, tokenize
from openvocab.structures import TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary


class GroupViTFamily(ForeignSegmenter):
    """The image passes the network once; its groups are compared with all names, and a pixel gets that of its groups.

    These are the logits of transformers, for the image squashed to the size that the network was trained on.
    `GroupViTHead` has the official evaluation, with windows and a background threshold.

    Reference: arXiv 2202.11094.
    """

    architecture = {"groupvit": "GroupViTModel"}

    def __init__(self, parts: ForeignParts, settings: FamilySettings) -> None:
        super().__init__(parts, settings)
        self.context = self.network.config.text_config.max_position_embeddings

    def encode_texts(self, vocabulary: Vocabulary) -> TextFeatures:
        """Return one row per class, or per name, unit norm."""
        return text_rows(vocabulary, self.settings.templates, self._encode)

    def logits(self, image: Tensor, texts: TextFeatures) -> Tensor:
        """Return logits (K, side, side) of the image, squashed to a square; see `ForeignSegmenter`."""
        side = self.network.config.vision_config.image_size
        # whole: by default, the processor crops the middle
        pixels = self.pixels(image, size=dict(height=side, width=side), do_center_crop=False)["pixel_values"]
        outputs = self.network.vision_model(pixels, output_attentions=True, return_dict=True)
        groups = F.normalize(self.network.visual_projection(outputs.last_hidden_state[0]).float(), dim=-1)  # (G, D)
        assignment = assignment_maps([weights.float() for weights in outputs.attentions], side)  # (G, side, side)
        # transformers multiplies by this scale twice
        scale = self.network.logit_scale.exp().float() ** 2
        return torch.einsum("gk,ghw->khw", texts.similarity(groups) * scale, assignment)

    def _encode(self, prompts: list[str]) -> Tensor:
        pooled = self.network.text_model(**tokenize(self.tokenizer, prompts, self.context, self.device)).pooler_output
        return self.network.text_projection(pooled)  # (P, D)


def assignment_maps(attentions: list[Tensor], side: int) -> Tensor:
    """Return to which degree each pixel belongs to each group of the last stage.

    Args:
        attentions: of each grouping block (1, groups, tokens of the stage).
        side: height and width of the network's input.

    Returns:
        (G, side, side) float32, bilinear between the patches.
    """
    of_tokens = attentions[0][0].T  # (patches, groups of the first stage)
    for weights in attentions[1:]:
        of_tokens = of_tokens @ weights[0].T  # (patches, groups)
    grid = round(len(of_tokens) ** 0.5)
    maps = of_tokens.T.unflatten(1, (grid, grid))  # (G, grid, grid)
    return F.interpolate(maps[None], size=(side, side), mode="bilinear", align_corners=False)[0]
