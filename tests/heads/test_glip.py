"""GLIP end to end: equal to the official code, and a detector whose prompts are as long as they need to be."""

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

from openvocab.vocabulary.prompt import Prompt


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
