"""RF-CLIP's text side against its equations, in loops."""

import pytest
import torch
import torch.nn.functional as F

from openvocab.heads.rfclip import RFCLIPHead, best_of_clusters
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.model import OpenVocabModel
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

SPEC = BackboneSpec(embed_dim=8, stride=4, hidden_dims=(6,), hidden_strides=(4,))
SHARES = dict(image_share=0.3, patch_share=0.2, cluster_distance=0.2)


def make_text() -> TextFeatures:
    """Five words, of which 0 and 1, and 3 and 4 are close."""
    rows = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    rows[1], rows[4] = rows[0] + 0.1 * rows[1], rows[3] + 0.1 * rows[4]
    return TextFeatures(F.normalize(rows, dim=1), torch.tensor(100.0), torch.tensor([0, 0, 1, 2, 2]))


def make_features() -> ImageFeatures:
    generator = torch.Generator().manual_seed(0)
    patches, pooled = torch.randn(2, 8, 2, 3, generator=generator), torch.randn(2, 8, generator=generator)
    return ImageFeatures((8, 12), image_embed=pooled, patch_embed=patches)


def literal(features: ImageFeatures, pooled: torch.Tensor, image: int) -> torch.Tensor:
    words, patches = make_text().embed, F.normalize(features.patch_embed[image].flatten(1).T, dim=1)
    of_image = words @ F.normalize(pooled[image], dim=0)
    moved = words.clone()
    for cluster in ([0, 1], [2], [3, 4]):
        word = max(cluster, key=lambda index: of_image[index])
        best = (patches @ words[word]).topk(2).indices
        seen = F.normalize(patches[best].mean(0), dim=0)
        moved[word] = F.normalize(0.8 * words[word] + 0.2 * seen, dim=0)
    return 40 * (0.7 * moved @ patches.T + 0.3 * of_image[:, None])


def test_logits_are_literal():
    head, features = RFCLIPHead(SPEC, 8, 40.0, **SHARES), make_features()
    logits = head(features, make_text())
    for image in range(2):
        expected = literal(features, features.image_embed, image)
        torch.testing.assert_close(logits[image].flatten(1), expected, atol=1e-4, rtol=1e-4)
    features.whole_embed = features.image_embed.flip(0)
    logits = head(features, make_text())
    torch.testing.assert_close(logits[0].flatten(1), literal(features, features.whole_embed, 0), atol=1e-4, rtol=1e-4)


def test_the_first_best_word_speaks_for_its_cluster():
    scores = torch.tensor([[1.0, 3.0, 2.0, 3.0, 5.0], [4.0, 3.0, 2.0, 1.0, 1.0]])
    best = best_of_clusters(scores, torch.tensor([0, 1, 0, 1, 4]))
    assert best.tolist() == [[False, True, True, False, True], [True, True, False, False, True]]


def test_without_shares_it_is_the_plain_cosine():
    head = RFCLIPHead(SPEC, 8, 40.0, image_share=0.0)
    features, text = make_features(), make_text()
    expected = 40 * F.normalize(features.patch_embed, dim=1)[0].flatten(1).T @ text.embed.T
    torch.testing.assert_close(head(features, text)[0].flatten(1).T, expected)


@torch.inference_mode()
def test_windows_hear_of_the_whole_image():
    torch.manual_seed(0)
    backbone = dict(type="CLIPBackbone", model="ViT-Ti-8-shapes", readout="value")
    text_encoder = CLIPTextEncoder("ViT-Ti-8-shapes", templates="none")
    model = OpenVocabModel(
        backbone, text_encoder, dict(type=RFCLIPHead, **SHARES), UnpaddedSlidingWindow(16, 8, patch_size=8)
    ).eval()
    heard = []
    forward = model.head.forward
    model.head.forward = lambda features, text: heard.append(features.whole_embed) or forward(features, text)
    vocabulary = Vocabulary.from_names(["red circle", "blue star"])
    images = [torch.randint(0, 256, (3, 28, 36), dtype=torch.uint8) for _ in range(2)]
    samples = [Sample(str(i), vocabulary, (28, 36), (28, 36)) for i in range(2)]
    together = model.test_step({"image": images, "sample": samples})
    batch = model.data_preprocessor({"image": images, "sample": samples})["images"]
    whole = model.backbone(batch[..., :24, :32]).image_embed
    seen = torch.cat(heard)
    assert all(any(torch.allclose(row, image, atol=1e-5) for image in whole) for row in seen)
    assert torch.allclose(seen[0], whole[0], atol=1e-5) and torch.allclose(seen[-1], whole[1], atol=1e-5)
    for image, sample, prediction in zip(images, samples, together):
        (alone,) = model.test_step({"image": [image], "sample": [sample]})
        assert (alone.label_map == prediction.label_map).all()


@pytest.mark.parametrize("arguments", [dict(image_share=1.5), dict(patch_share=-1), dict(image="all")])
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="expected"):
        RFCLIPHead(SPEC, 8, **arguments)
