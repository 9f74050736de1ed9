"""GroupViT's zero-shot classifier against Hugging Face's, and by the door a user takes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY
from groupvit_reference import load_reference, reference_model

from openvocab import Predictor
from openvocab.config.config import read_config
from openvocab.registry import MODELS
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = ["cat", "red bus", "missile"]
TEMPLATES = ["itap of a {}.", "art of the {}."]


@pytest.fixture(scope="module")
def reference():
    return reference_model()


@pytest.fixture(scope="module")
def ours(reference):
    return load_reference(reference, "GroupViTClassifierHead", templates=TEMPLATES, normalize_templates=False)


@torch.no_grad()
def reference_texts(reference, ours, prompts):
    ids, _ = ours.text_encoder._tokenizer(prompts)
    return reference.text_projection(reference.text_model(input_ids=ids).pooler_output)


@torch.no_grad()
def test_logits_are_those_of_the_reference(reference, ours):
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    ids, _ = ours.text_encoder._tokenizer(NAMES)
    expected = reference(input_ids=ids, pixel_values=images).logits_per_image
    got = ours.head(ours.encode(images), ours.text_encoder(NAMES))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_prompts_are_averaged_before_they_are_normalized(reference, ours):
    prompts = [template.format(name) for name in NAMES for template in TEMPLATES]
    raw = reference_texts(reference, ours, prompts).unflatten(0, (len(NAMES), len(TEMPLATES)))
    expected = F.normalize(raw.mean(dim=1), dim=-1)
    got = ours.text_encoder(Vocabulary.from_names(NAMES)).embed
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_photo_is_classified_and_embedded(reference, ours):
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    predictor = Predictor(ours)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    expected = reference.visual_projection(reference.vision_model(pixel_values=pixels[None]).pooler_output)
    torch.testing.assert_close(predictor.encode_image(image), expected, atol=1e-4, rtol=1e-3)
    texts = reference_texts(reference, ours, ["a cat"])
    torch.testing.assert_close(predictor.encode_text("a cat"), texts, atol=1e-5, rtol=1e-4)
    prediction = predictor(image, NAMES)
    cosines = F.normalize(expected, dim=-1) @ ours.text_encoder(Vocabulary.from_names(NAMES)).embed.T
    scale = reference.logit_scale.exp()
    torch.testing.assert_close(prediction.probabilities, (scale * cosines[0]).softmax(0), atol=1e-4, rtol=1e-3)


def test_the_config_takes_official_weights_and_prompts(ours):
    config = read_config(REPOSITORY / "configs" / "groupvit_zeroshot_imagenet.py")
    model = MODELS.build(config.model)
    model.load_state_dict(ours.state_dict(), strict=True)
    assert "a bad photo of a {}." in model.text_encoder.templates and len(model.text_encoder.templates) == 7
    assert not model.text_encoder.normalize_templates
