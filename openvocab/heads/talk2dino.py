"""Talk2DINO: a small network maps texts into the space of DINO's patches, where they are compared."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.checkpoint.checkpoint import load_state_dict
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.heads.base import Head
from openvocab.logit_map import LogitMap
from openvocab.losses.contrastive import info_nce
from openvocab.postprocess import original_frame, semantic_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures, known

OFFICIAL_NAMES = {"linear_layer.": "hidden.", "hidden_layers.0.": "out.", "linear_layer2.": "out."}
ATTENTION_SHARE = 0.2
"""Weight of the class token's attention next to the score."""


@HEADS.register_module()
class Talk2DINOHead(Head):
    """Segments by the sigmoid of the cosine of patches and mapped texts.

    The network is trained on captions with frozen towers: each head of the class token's last attention yields one
    embedding of the image, the caption selects the one with the largest product, and InfoNCE compares these over the
    batch.

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model. The texts
            should not be normalized (`CLIPTextEncoder(templates="imagenet7", normalize_templates=False,
            final_norm=False)`).
        pretrained: file with the network's weights, under our names or the official ones; default: random weights.
        background_score: score of the background class at every patch (the paper: 0.55), for vocabularies that name
            one. Default: the background is scored by its text.
        background_cleaning: mix the class token's attention into the scores, from the heads similar to each text.
        temperature: initial temperature of the loss.

    Raises:
        ValueError: a backbone without patch embeddings, a file of another network, a temperature that is not positive;
            in use, cleaning or training without `ImageFeatures.class_attention`.

    Reference: arXiv 2411.19331.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        pretrained: str | Path | None = None,
        background_score: float | None = None,
        background_cleaning: bool = False,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        if backbone.embed_dim is None:
            raise ValueError(
                "Talk2DINO compares texts with patch embeddings, which the backbone does not return; use DINOBackbone"
            )
        if temperature <= 0:
            raise ValueError(f"temperature: expected a positive number, got {temperature}")
        self.projector = TextProjector(text_dim, backbone.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.background_score, self.background_cleaning = background_score, background_cleaning
        if pretrained is not None and reads_start_weights():
            load_projector(self.projector, Path(pretrained))

    def embed_images(self, features: ImageFeatures) -> Tensor:
        """Raise `ValueError`: texts are mapped into the space of patches, and whole images have no embedding there."""
        raise ValueError(
            "Talk2DINO compares patches with texts and has no embedding of whole images; use a model that does, such "
            "as that of configs/clip_zeroshot_folder.py"
        )

    @property
    def embeds_images(self) -> bool:
        """False."""
        return False

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return scores (B, K, h, w) in 0..1."""
        rows = self.projector(text.embed)  # (R, D)
        scores = torch.sigmoid(self.cosines(features, rows))  # (B, R, h, w)
        if self.background_cleaning:
            foreground = _foreground(text)
            # without the background's texts, which keep their scores
            cleaned = clean_background(scores[:, foreground], features, rows[foreground])
            scores = scores.index_copy(1, foreground, cleaned.to(scores.dtype))
        scores = text.merge(scores, dim=1)  # (B, K, h, w)
        if self.background_score is not None and text.background is not None:
            scores = scores.index_fill(1, torch.tensor(text.background, device=scores.device), self.background_score)
        return scores

    def cosines(self, features: ImageFeatures, rows: Tensor) -> Tensor:
        """Return the cosine of every patch with mapped texts (R, D) of unit norm, (B, R, h, w)."""
        patch_embed = _patch_embed(features)
        return F.conv2d(F.normalize(patch_embed, dim=1), rows.to(patch_embed.dtype)[:, :, None, None])

    def training_texts(self, samples: Sequence[Sample]) -> list[str]:
        """Return the first caption of each sample.

        Raises:
            ValueError: a sample without a caption.
        """
        for sample in samples:
            if not sample.captions:
                raise ValueError(f"sample {sample.sample_id!r} has no caption; Talk2DINO learns from image-text pairs")
        return [sample.captions[0] for sample in samples]

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return InfoNCE over the pairs of all ranks, {"loss_contrastive": ()}."""
        rows = self.projector(text.embed)  # (B, D)
        attention = _class_attention(features).flatten(2).softmax(-1)  # (B, heads, N)
        images = head_embeddings(features, attention)  # (B, heads, D)
        # the choice itself has no gradient; the loss trains the projector through `rows`
        selected = torch.einsum("bd,bhd->bh", rows, images).argmax(1)  # (B,)
        image_embed = images[torch.arange(len(images), device=images.device), selected]  # (B, D)
        return {"loss_contrastive": info_nce(F.normalize(image_embed, dim=1), rows, self.logit_scale.exp())}

    def postprocess(self, outputs: Tensor, samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Return a label map (H, W) for each image, of its `original_size`."""
        return semantic_predictions(outputs, samples, rows_at_once=self.rows_at_once)

    def predictions_with_scores(
        self, outputs: Any, samples: Sequence[Sample], *pixels: Any
    ) -> Iterator[tuple[SemanticPrediction, LogitMap]]:
        """Return each prediction with the scores (K, H, W) of `forward`, see `Head.predictions_with_scores`."""
        return zip(self.postprocess(outputs, samples), original_frame(outputs, samples), strict=True)


class TextProjector(nn.Module):
    """Linear, tanh, linear, normalize.

    Args:
        in_dim, out_dim: widths of texts and patches.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_dim, out_dim)
        self.out = nn.Linear(out_dim, out_dim)

    def forward(self, embed: Tensor) -> Tensor:
        """Map (R, in_dim) to (R, out_dim) of unit norm."""
        embed = embed.to(self.hidden.weight.dtype)
        return F.normalize(self.out(self.hidden(embed).tanh()), dim=-1)


def load_projector(projector: TextProjector, path: Path) -> None:
    """Load the weights of the network, under our names or the official ones (`linear_layer`, `hidden_layers.0`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: names or shapes do not fit.
    """
    if not path.is_file():
        raise FileNotFoundError(f"pretrained: no such file: {path}")
    state = {_our_name(key): value for key, value in load_state_dict(path).items()}
    load_strictly(projector, state, f"{path} does not fit Talk2DINO's network")


def head_embeddings(features: ImageFeatures, attention: Tensor) -> Tensor:
    """Return the mean over patches of each patch times its attention (B, heads, N), (B, heads, D) float32."""
    patches = _patch_embed(features).float().flatten(2)  # (B, D, N)
    return torch.einsum("bhn,bdn->bhd", attention.float(), patches) / patches.shape[-1]


def clean_background(scores: Tensor, features: ImageFeatures, rows: Tensor) -> Tensor:
    """Mix the class token's attention into scores, from the heads whose image embedding is similar to each text.

    Args:
        scores: (B, R, h, w).
        features: features of the backbone, with `class_attention`.
        rows: (R, D) texts of unit norm.

    Returns:
        (B, R, h, w) float32.
    """
    scores, attention = scores.float(), _class_attention(features).flatten(2)  # (B, heads, N)
    heads = F.normalize(head_embeddings(features, attention), dim=-1)  # (B, heads, D)
    weights = torch.einsum("rd,bhd->brh", rows.float(), heads).softmax(-1)  # (B, R, heads)
    attended = (weights @ attention.float()).softmax(-1)  # (B, R, N)
    # rescale the attention to the range of the scores
    low, high = _extremes(attended)
    lowest, highest = _extremes(scores.flatten(2))
    attended = (attended - low) / torch.maximum(high, high - low) * (highest - lowest) + lowest
    return (scores + ATTENTION_SHARE * attended.view(scores.shape)) / (1 + ATTENTION_SHARE)


def _extremes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value (B, 1, 1) of each image in maps (B, R, N)."""
    return maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)


def _foreground(text: TextFeatures) -> Tensor:
    """Return the indices (R',) of the rows that are not the background's."""
    classes = torch.arange(len(text.embed), device=text.embed.device) if text.row_class is None else text.row_class
    return (classes != (-1 if text.background is None else text.background)).nonzero().flatten()


def _patch_embed(features: ImageFeatures) -> Tensor:
    """Return the patch embeddings (B, D, h, w)."""
    return known(features.patch_embed, "patch_embed of the backbone")


def _class_attention(features: ImageFeatures) -> Tensor:
    """Return the class token's attention (B, heads, h, w), before the softmax."""
    if features.class_attention is None:
        raise ValueError(
            "Talk2DINO's training and background cleaning read the class token's attention; give the backbone "
            "class_attention=True"
        )
    return features.class_attention


def _our_name(key: str) -> str:
    key = key.removeprefix("head.").removeprefix("projector.")
    for theirs, ours in OFFICIAL_NAMES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key
