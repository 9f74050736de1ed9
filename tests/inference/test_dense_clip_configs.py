"""The configs of the training-free protocols, run on a tiny tower."""

import copy

import pytest
import torch
from config_parts import REPOSITORY

from openvocab.config.config import read_config
from openvocab.registry import MODELS
from openvocab.structures import Sample
from openvocab.vocabulary.class_lists import load_class_names
from openvocab.vocabulary.vocabulary import Vocabulary

FACTS = {  # classes, words, background, scale, threshold, area, short side
    "voc21": (21, 56, True, 50.0, 0.15, 0.1, 336),
    "voc20": (20, 30, False, 40.0, None, None, 336),
    "context60": (60, 60, True, 40.0, 0.15, None, 336),
    "context59": (59, 59, False, 40.0, None, None, 336),
    "coco_object": (81, 112, True, 55.0, 0.35, None, 336),  # 113 words as published, one of them twice
    "coco_stuff": (171, 171, False, 40.0, None, None, 336),
    "cityscapes": (19, 19, False, 40.0, None, None, 560),
    "ade": (150, 150, False, 40.0, None, None, 336),
}


@torch.inference_mode()
@pytest.mark.parametrize("name", sorted(FACTS))
def test_protocol(name):
    classes, words, background, scale, threshold, area, short_side = FACTS[name]
    config = read_config(REPOSITORY / "configs" / f"dense_clip_{name}.py")
    data, model = config.test_dataloader.dataset, copy.deepcopy(config.model)
    vocabulary = Vocabulary.from_names(
        load_class_names(data["classes"], REPOSITORY),
        background=data.class_options.get("background"),
        synonym_merge=data.class_options.synonym_merge,
    )
    assert len(vocabulary) == classes and sum(map(len, vocabulary.synonyms)) == words
    assert vocabulary.background == (0 if background else None)
    assert data.pipeline[1].short_side == short_side and data.pipeline[1].max_long_side == 2048
    for part in (model.backbone, model.text_encoder):
        part.update(model="ViT-Ti-8-shapes", pretrained=None)
    model.text_encoder.templates = "none"
    torch.manual_seed(0)
    built = MODELS.build(model).eval()
    head = built.head
    assert (head.logit_scale, head.background_threshold, head.area_threshold) == (scale, threshold, area)
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    (prediction,) = built.test_step({"image": [image], "sample": [Sample("a", vocabulary, (61, 85), (50, 70))]})
    assert prediction.label_map.shape == (61, 85) and prediction.label_map.max() < classes
