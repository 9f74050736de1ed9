"""GLIP end to end: equal to the official code, and a detector whose prompts are as long as they need to be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from glip_reference import (
    DETECTION,
    MODELS,
    PROMPTS,
    assert_equal_to_official,
    expected,
    image,
    labeled_sample,
    needs_reference,
    official_model,
    sample,
)
from tiny_bert import CONFIG, make_encoder

from openvocab.backbones.swin import SwinBackbone
from openvocab.heads.glip import GLIPHead
from openvocab.model import OpenVocabModel
from openvocab.structures import DetectionPrediction, Instances, Sample
from openvocab.text.bert import BERTTextEncoder
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import names_prompt


@needs_reference
@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_raw_outputs_are_the_official_ones(model):
    glip = official_model(model)
    tokens = glip.text_encoder.with_tokens([PROMPTS[model]]).tokens
    outputs = glip.head.locations(glip.head.decode(glip.encode(image())), tokens.embed, tokens.is_token)
    assert_equal_to_official(outputs.token_logits[0], f"{model}_dot_logits")
    assert_equal_to_official(outputs.offsets[0], f"{model}_bbox_reg")
    assert_equal_to_official(outputs.centerness[0], f"{model}_centerness")


@needs_reference
@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_detections_are_the_official_ones(model):
    glip = official_model(model)
    text = glip.text_encoder.with_tokens([PROMPTS[model]])
    outputs = glip.head(glip.encode(image()), text)
    found = glip.head.postprocess(outputs, [sample()])[0]
    boxes = expected(f"{model}_det_boxes") + torch.tensor([0.0, 0, 1, 1])  # edges
    labels, scores = expected(f"{model}_det_labels") - 1, expected(f"{model}_det_scores")
    near = (found.boxes[:, None] - boxes).abs().amax(-1) < 0.05
    same = near & (found.classes[:, None] == labels) & ((found.scores[:, None] - scores).abs() < 1e-4)
    assert same.any(1).float().mean() >= 0.99 and same.any(0).float().mean() >= 0.99


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_losses_are_the_official_ones(model):
    glip = official_model(model)
    losses = glip.loss(image(), [labeled_sample(model)])
    for ours, theirs in (("box", "reg"), ("centerness", "centerness"), ("token", "dot_product_token")):
        torch.testing.assert_close(
            losses[f"loss_{ours}"].double(), expected(f"{model}_loss_{theirs}").double(), rtol=1e-4, atol=0
        )


@needs_reference
@torch.no_grad()
def test_a_padded_batch_of_two_prompts_is_the_official_one():
    glip = official_model("c")
    height, width = expected("c2_padded_size").tolist()
    batch = torch.zeros(2, 3, height, width)
    batch[0, :, :224, :288] = image()[0]
    batch[1, :, :180, :250] = image(180, 250, 6)[0]
    horses = Prompt("two horses", (((0, 10),),), (0,))
    tokens = glip.text_encoder.with_tokens([DETECTION, horses]).tokens
    levels = glip.head.decode(glip.encode(batch))
    outputs = glip.head.locations(levels, tokens.embed, tokens.is_token)
    text = glip.head.tower(levels, tokens.embed, tokens.is_token)[1]
    for index, length in enumerate(tokens.is_token.sum(1).tolist()):
        assert tokens.ids[index, :length].tolist() == expected(f"c2_input_ids{index}").tolist()
        assert_equal_to_official(outputs.token_logits[index, :, :length], f"c2_dot_logits{index}")
        assert_equal_to_official(outputs.offsets[index], f"c2_bbox_reg{index}")
        assert_equal_to_official(outputs.centerness[index], f"c2_centerness{index}")
        assert_equal_to_official(text[index, :length], f"c2_text{index}")


@needs_reference
@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_columns_of_padding_are_the_official_ones(model):
    """Nothing reads them, but they show that padding takes no part: the official prompt is padded to 256 tokens."""
    glip = official_model(model)
    ids = torch.zeros(1, 256, dtype=torch.long)
    valid = expected(f"{model}_input_ids")
    ids[0, : len(valid)] = valid
    is_token = torch.arange(256)[None] < len(valid)
    embed = glip.text_encoder._states(ids, is_token)
    if model == "a":  # officially, BERT's rows of padding become zeros where nothing is fused
        embed = embed * is_token[..., None]
    outputs = glip.head.locations(glip.head.decode(glip.encode(image())), embed, is_token)
    assert_equal_to_official(outputs.token_logits[0, :, : len(valid)], f"{model}_dot_logits")
    assert_equal_to_official(outputs.token_logits[0, :4, len(valid) : len(valid) + 4], f"{model}_pad_logits")


# --- without the official outputs: a small model ---


@pytest.fixture
def small(tmp_path) -> OpenVocabModel:
    return small_model(tmp_path)


def small_model(folder: Path, fused: bool = True, **head: Any) -> OpenVocabModel:
    torch.manual_seed(0)
    backbone = SwinBackbone(dim=16, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=4)
    parts = dict(
        pyramid=dict(layers=(2, 3, 4), dim=32, extra_levels=1, extra="retinanet"),
        tower=dict(num_blocks=2, fused=fused, text_heads=2, fusion_heads=2, fusion_head_dim=8),
        detections=dict(min_score=0.0),
    )
    model = OpenVocabModel(backbone, make_encoder(folder), dict(type=GLIPHead, **(parts | head))).eval()
    with torch.no_grad():  # logits far from each other, as those of a trained model
        model.head.alignment.project.weight.mul_(30)
        model.head.alignment.bias.zero_()
    return model


def photo(vocabulary: Vocabulary, **fields: Any) -> Sample:
    return Sample("photo", vocabulary, (80, 120), (64, 96), **fields)


PIXELS = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
NAMES = ("dog", "red coat", "cat", "hair drier", "small dog")


def found(model: OpenVocabModel, names: Sequence[str], owners: Sequence[int] | None = None) -> DetectionPrediction:
    """What one prompt of these names finds in the first image."""
    text = model.encode_texts([names_prompt(names, owners or range(len(names)))])
    return model.head.postprocess(model.head(model.encode(PIXELS[:1]), text), [photo(Vocabulary.from_names(NAMES))])[0]


@pytest.mark.parametrize("fused", [True, False])
@torch.no_grad()
def test_prompts_of_a_long_vocabulary_are_independent_of_each_other(tmp_path, fused):
    model = small_model(tmp_path, fused, names_at_once=2)
    vocabulary = Vocabulary.from_names(NAMES)
    together = model.predict(PIXELS[:1], [photo(vocabulary)])[0]
    alone = [found(model, NAMES[start : start + 2], range(start, min(start + 2, 5))) for start in (0, 2, 4)]
    for name in ("scores", "classes"):
        expected_rows = torch.cat([getattr(part, name) for part in alone])
        order = torch.cat([part.scores for part in alone]).argsort(descending=True, stable=True)
        torch.testing.assert_close(getattr(together, name), expected_rows[order], rtol=1e-5, atol=1e-6)
    assert set(together.classes.tolist()) == set(range(5))


@torch.no_grad()
def test_without_fusion_the_tower_runs_once_for_all_prompts(tmp_path):
    model = small_model(tmp_path, fused=False, names_at_once=1)
    calls = []
    model.head.tower.register_forward_hook(lambda *_: calls.append(1))
    model.predict(PIXELS, [photo(Vocabulary.from_names(NAMES))] * 2)
    assert len(calls) == 1


@torch.no_grad()
def test_more_than_eighty_names_are_classes_of_one_prompt(tmp_path):
    model = small_model(tmp_path, detections=dict(min_score=0.0, max_per_level=20_000, max_detections=20_000))
    model.text_encoder = BERTTextEncoder(
        config=CONFIG | dict(max_position_embeddings=512), tokenizer=tmp_path, max_tokens=512
    )
    words = "traffic light stop sign dog cat hair red coat woman".split()
    vocabulary = Vocabulary.from_names([f"{one} {other}" for one in words for other in words if one != other])
    prediction = model.predict(PIXELS[:1], [photo(vocabulary)])[0]
    assert set(prediction.classes.tolist()) == set(range(90))


@torch.no_grad()
def test_bfloat16_finds_what_float32_finds(small, tmp_path):
    vocabulary = Vocabulary.from_names(NAMES)
    exact = small.predict(PIXELS[:1], [photo(vocabulary)])[0]
    rounded = small_model(tmp_path).compute_in(torch.bfloat16).predict(PIXELS[:1], [photo(vocabulary)])[0]
    assert (rounded.scores[:10] - exact.scores[:10]).abs().max() < 0.05


@pytest.mark.parametrize(
    ("trained_parts", "kept"),
    [("prompt", {"token_offset"}), ("linear", {"alignment", "box_offsets", "centerness"})],
)
def test_only_the_named_parts_are_trained(tmp_path, trained_parts, kept):
    model = small_model(tmp_path, trained_parts=trained_parts)
    trained = {name.split(".")[0] for name, parameter in model.head.named_parameters() if parameter.requires_grad}
    assert trained == kept
    sum(model.loss(PIXELS, [labeled()] * 2).values()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.head.parameters())


def labeled(boxes: Sequence[Sequence[float]] = ((4.0, 6, 50, 40),)) -> Sample:
    objects = Instances(torch.tensor(boxes).reshape(-1, 4), torch.ones(len(boxes), dtype=torch.int64))
    return photo(Vocabulary.from_names(NAMES), instances=objects, prompt=names_prompt(["dog", "red coat"], [0, 1]))


def test_images_without_objects_have_finite_losses_and_gradients(small):
    losses = small.loss(PIXELS, [labeled(()), labeled(())])
    assert losses["loss_box"] == 0 and losses["loss_centerness"] == 0 and losses["loss_token"] > 0
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in small.head.box_offsets.parameters())


def test_an_object_that_the_prompt_does_not_name_is_an_error(small):
    sample = labeled()
    sample.instances.classes[:] = 3
    with pytest.raises(ValueError, match=r"sample 'photo': objects of the classes \[3\] are labeled, but no phrase"):
        small.loss(PIXELS[:1], [sample])


@pytest.mark.parametrize(("trained_parts", "has_dropout"), [("all", True), ("linear", True), ("prompt", False)])
def test_a_head_that_trains_the_prompt_alone_is_without_dropout(tmp_path, trained_parts, has_dropout):
    head = small_model(tmp_path, trained_parts=trained_parts).train().head
    assert {part.training for part in head.modules()} == {has_dropout}
    assert (head.token_offset is not None) == (trained_parts == "prompt")
