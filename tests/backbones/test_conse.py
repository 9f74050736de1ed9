"""ConSE: cells as means of text embeddings of ImageNet classes, against a plain sum over a classifier's output."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from openvocab.backbones.conse import ConSEBackbone, embed_known
from openvocab.checkpoint.start_weights import start_weights
from openvocab.text.precomputed import PrecomputedTextEncoder
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

NAMES = ["tiger", "sofa", "nobody knows", "cat"]
TEXTS = {"cat": [3.0, 4.0], "Tiger": [0.0, 2.0], "sofa": [-1.0, 0.0]}


@pytest.fixture
def parts(tmp_path):
    """Return the arguments of a backbone with four outputs, three of them with a text embedding, and its classifier."""
    torch.manual_seed(0)
    classifier = timm.create_model("mobilenetv2_035", num_classes=len(NAMES)).eval()
    classifier.classifier.weight.data.mul_(5)
    save_file({key: value for key, value in classifier.state_dict().items()}, tmp_path / "weights.safetensors")
    np.save(tmp_path / "rows.npy", np.array(list(TEXTS.values()), dtype=np.float32))
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    arguments = dict(
        model="mobilenetv2_035",
        pretrained=tmp_path / "weights.safetensors",
        model_args=dict(num_classes=len(NAMES)),
        class_names=tmp_path / "names.txt",
        text_encoder=dict(type=PrecomputedTextEncoder, path=tmp_path / "rows.npy", names=list(TEXTS)),
    )
    return arguments, classifier


def expected_embedding(probabilities, top):
    """Sum the texts of the likeliest known classes of one image, in numpy."""
    unit = {name.lower(): np.array(row) / np.linalg.norm(row) for name, row in TEXTS.items()}
    known = sorted(((p, name) for p, name in zip(probabilities.tolist(), NAMES) if name in unit), reverse=True)[:top]
    return sum(p * unit[name] for p, name in known) / sum(p for p, _ in known)


@pytest.mark.parametrize("top", [1, 2, 10])
def test_a_place_is_the_mean_of_its_likeliest_known_classes(parts, top):
    arguments, classifier = parts
    backbone = ConSEBackbone(**arguments, top=top).train()
    images = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        features = backbone(images)
        whole = classifier(images).softmax(1)
        cells = classifier.classifier(classifier.forward_features(images).permute(0, 2, 3, 1)).softmax(-1)
    assert features.patch_embed.shape == (2, 2, 1, 2) and backbone.spec.stride == 32
    for image in range(2):
        expected = torch.tensor(expected_embedding(whole[image], top), dtype=torch.float32)
        torch.testing.assert_close(features.image_embed[image], expected)
        for column in range(2):
            expected = torch.tensor(expected_embedding(cells[image, 0, column], top), dtype=torch.float32)
            torch.testing.assert_close(features.patch_embed[image, :, 0, column], expected)


def test_nothing_is_trained(parts):
    backbone = ConSEBackbone(**parts[0]).train()
    assert not backbone.visual.training and not any(p.requires_grad for p in backbone.parameters())


def test_a_names_file_of_another_length(parts, tmp_path):
    arguments = parts[0]
    arguments["class_names"].write_text("tiger\ncat\n")
    with pytest.raises(ValueError, match="4 outputs, but .* has 2 names"):
        ConSEBackbone(**arguments)


def test_no_class_with_a_text(parts):
    arguments = parts[0]
    arguments["class_names"].write_text("one\ntwo\nthree\nfour\n")
    with pytest.raises(ValueError, match="knows none of 4 classes, such as 'one'"):
        ConSEBackbone(**arguments)


def test_a_network_without_a_map(parts):
    backbone = ConSEBackbone(**(parts[0] | dict(model="vit_tiny_patch16_224", pretrained=None)))
    with pytest.raises(ValueError, match="convolutional"):
        backbone(torch.randn(1, 3, 224, 224))


def test_imagenet_names_meet_real_text_rows(shared_data):
    rows = shared_data / "meta/text_embeddings/lvis1203_vitb32_a.npy"
    text_encoder = PrecomputedTextEncoder(rows, "lvis_1203_synonyms")
    names = read_class_names(class_names_path("imagenet_1k"))
    known, embed = embed_known(text_encoder, names)
    known_names = [names[index][0] for index in known]
    assert {"zebra", "umbrella", "laptop computer"} <= set(known_names) and "tench" not in known_names
    zebra = text_encoder(Vocabulary.from_names(["zebra"])).embed[0]
    torch.testing.assert_close(embed[known_names.index("zebra")], zebra)


def test_its_texts_are_read_even_where_a_checkpoint_follows(parts):
    """They are computed when it is built and in no checkpoint."""
    arguments, _ = parts
    expected = ConSEBackbone(**arguments)
    with start_weights(load=False):
        built = ConSEBackbone(**arguments)
    assert torch.equal(built.known_embed, expected.known_embed)
