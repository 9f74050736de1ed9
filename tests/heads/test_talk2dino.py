"""Talk2DINO's head against its equations, and against the published code on the same drawn weights."""

import pytest
import torch
import torch.nn.functional as F
from readout_reference import KEYS, expected, needs_reference, normal, scene, seeded

from openvocab.backbones.dino import DINOBackbone
from openvocab.heads.talk2dino import Talk2DINOHead
from openvocab.ops.pamr import pamr
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures

SPEC = BackboneSpec(embed_dim=6, stride=4, hidden_dims=(6,), hidden_strides=(4,))
DINOV2 = "vit_base_patch14_reg4_dinov2"
SIX = (1, 2, 4, 8, 12, 24)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Head and features of the published code's case, and its image."""
    folder = tmp_path_factory.mktemp("talk2dino")
    for name, keys in (("dino", "dinov2_vitb14_reg"), ("mlp", "talk2dino_vitb")):
        torch.save(seeded().state(KEYS / f"{keys}.txt", 3), folder / f"{name}.pth")
    tower = DINOBackbone(DINOV2, folder / "dino.pth", position_resize="bicubic", class_attention=True)
    image = (60 * scene(168, 224) + 120).clamp(0, 255)
    resized = F.interpolate(image, size=(448, 448), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (tower.mean, tower.std))
    with torch.inference_mode():
        features = tower((resized - mean) / std)
    return folder / "mlp.pth", tower.spec, features, image[0]


def on_image(scores: torch.Tensor) -> torch.Tensor:
    return F.interpolate(scores, size=(168, 224), mode="bilinear", align_corners=True)[0]


@needs_reference
@torch.inference_mode()
def test_equals_the_published_code(published):
    file, spec, features, image = published
    text = TextFeatures(10 * F.normalize(normal((5, 512), 11), dim=1), torch.tensor(100.0))
    head = Talk2DINOHead(spec, 512, pretrained=file)
    rows = head.projector(text.embed)
    torch.testing.assert_close(rows, expected("t2d_text"), rtol=0, atol=1e-6)
    torch.testing.assert_close(head.cosines(features, rows)[0], expected("t2d_sim"), rtol=0, atol=1e-6)
    masks = on_image(head(features, text))
    torch.testing.assert_close(masks[:, ::4, ::4], expected("t2d_mask"), rtol=0, atol=1e-5)
    cleaned = Talk2DINOHead(spec, 512, pretrained=file, background_cleaning=True)
    masks = on_image(cleaned(features, text))
    torch.testing.assert_close(masks[:, ::4, ::4], expected("t2d_clean_mask"), rtol=0, atol=1e-5)
    refined = pamr(masks, image, SIX)
    torch.testing.assert_close(refined[:, ::4, ::4], expected("t2d_clean_pamr"), rtol=0, atol=1e-5)


def make_features(batch: int = 2) -> ImageFeatures:
    generator = torch.Generator().manual_seed(0)
    patches, attention = (
        torch.randn(batch, 6, 3, 4, generator=generator),
        torch.randn(batch, 2, 3, 4, generator=generator),
    )
    return ImageFeatures((12, 16), patch_embed=patches, class_attention=attention)


def make_text(rows: int = 4, **facts) -> TextFeatures:
    return TextFeatures(torch.randn(rows, 5, generator=torch.Generator().manual_seed(1)), torch.tensor(1.0), **facts)


def make_head(**arguments) -> Talk2DINOHead:
    torch.manual_seed(2)
    return Talk2DINOHead(SPEC, 5, **arguments)


def mapped(head: Talk2DINOHead, text: TextFeatures) -> torch.Tensor:
    hidden = torch.tanh(text.embed @ head.projector.hidden.weight.T + head.projector.hidden.bias)
    rows = hidden @ head.projector.out.weight.T + head.projector.out.bias
    return rows / rows.norm(dim=1, keepdim=True)


@torch.no_grad()
def test_scores_are_sigmoids_of_cosines_with_mapped_texts():
    head, features, text = make_head(), make_features(), make_text()
    expected_ = torch.sigmoid(F.cosine_similarity(features.patch_embed[1, :, 2, 1], mapped(head, text)[3], dim=0))
    torch.testing.assert_close(head(features, text)[1, 3, 2, 1], expected_)


@torch.no_grad()
def test_background_has_a_constant_score_and_words_speak_for_their_class():
    head = make_head(background_score=0.55)
    plain = make_head()(make_features(), make_text())
    scores = head(make_features(), make_text(row_class=torch.tensor([0, 1, 1, 2]), background=0))
    assert (scores[:, 0] == 0.55).all()
    torch.testing.assert_close(scores[:, 1:], torch.stack([plain[:, 1:3].amax(1), plain[:, 3]], 1))


@torch.no_grad()
def test_cleaning_is_literal_and_leaves_the_background_out():
    features, text = make_features(), make_text(background=1)
    head = make_head(background_cleaning=True)
    scores = make_head()(features, text)
    cleaned, rows, kept = head(features, text), mapped(head, text), [0, 2, 3]
    assert cleaned[:, 1].equal(scores[:, 1])
    for image in range(2):
        patches, attention = features.patch_embed[image].flatten(1).T, features.class_attention[image].flatten(1)
        heads = torch.stack([F.normalize((a[:, None] * patches).mean(0), dim=0) for a in attention])
        looks = torch.stack([((heads @ rows[k]).softmax(0)[:, None] * attention).sum(0).softmax(0) for k in kept])
        plain = scores[image, kept].flatten(1)
        looks = (looks - looks.min()) / looks.max() * (plain.max() - plain.min()) + plain.min()
        torch.testing.assert_close(cleaned[image, kept].flatten(1), (plain + 0.2 * looks) / 1.2)


def test_the_caption_picks_the_head_that_speaks_for_the_image():
    head, features, text = make_head(temperature=0.1), make_features(3), make_text(3)
    samples = [Sample(str(i), None, (1, 1), (1, 1), captions=(f"caption {i}", "another")) for i in range(3)]
    assert head.training_texts(samples) == ["caption 0", "caption 1", "caption 2"]
    rows, picked = mapped(head, text), []
    for image in range(3):
        patches, attention = features.patch_embed[image].flatten(1).T, features.class_attention[image].flatten(1)
        embeds = torch.stack([(a.softmax(0)[:, None] * patches).mean(0) for a in attention])
        picked.append(F.normalize(max(embeds, key=lambda embed: embed.detach() @ rows[image].detach()), dim=0))
    logits = 10 * torch.stack(picked) @ rows.T
    target = torch.arange(3)
    expected_ = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    loss = head.loss(features, text, samples)["loss_contrastive"]
    torch.testing.assert_close(loss, expected_)
    loss.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    "names",
    [
        ("linear_layer", "hidden_layers.0"),
        ("linear_layer", "linear_layer2"),
        ("head.projector.hidden", "head.projector.out"),
    ],
)
def test_files_in_official_and_own_names_load(tmp_path, names):
    source = make_head().projector
    layers = dict(zip(names, (source.hidden, source.out)))
    state = {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}
    torch.save(state, tmp_path / "mlp.pth")
    torch.manual_seed(5)
    loaded = Talk2DINOHead(SPEC, 5, pretrained=tmp_path / "mlp.pth").projector
    assert loaded.out.weight.equal(source.out.weight) and loaded.hidden.bias.equal(source.hidden.bias)
    with pytest.raises(ValueError, match="does not fit Talk2DINO"):
        Talk2DINOHead(SPEC, 7, pretrained=tmp_path / "mlp.pth")
    with pytest.raises(FileNotFoundError):
        Talk2DINOHead(SPEC, 5, pretrained=tmp_path / "none.pth")


def test_what_is_missing_is_named():
    features = make_features()
    features.class_attention = None
    with pytest.raises(ValueError, match="class_attention=True"):
        make_head(background_cleaning=True)(features, make_text())
    with pytest.raises(ValueError, match="DINOBackbone"):
        Talk2DINOHead(BackboneSpec(None, 4, (6,), (4,)), 5)
    with pytest.raises(ValueError, match="'b' has no caption"):
        make_head().training_texts([Sample("b", None, (1, 1), (1, 1))])
