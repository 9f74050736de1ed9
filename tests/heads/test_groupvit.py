"""GroupViT against Hugging Face's, and the facts of each block."""

import pytest
import torch
import torch.nn.functional as F
from groupvit_reference import load_reference, reference_model
from torch import Tensor

from openvocab.converters.groupvit import convert
from openvocab.heads.group_stages import GroupingTransformer, TransformerArguments
from openvocab.heads.grouping_block import Assignment, GroupingBlock, SoftAssignment
from openvocab.heads.groupvit import GroupViTHead
from openvocab.losses.multi_label import multi_label_info_nce
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures

SPEC = BackboneSpec(None, 8, (16, 24), (4, 8))
TEXTS = ["a photo of a cat.", "two dogs run over the grass", "a red bus"]


@pytest.fixture(scope="module")
def reference():
    return reference_model()


@pytest.fixture(scope="module")
def ours(reference):
    return load_reference(reference)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_near(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_hugging_faces_layout_gives_the_same_weights(reference, ours):
    converted = convert(reference.state_dict())
    expected = {key: value for key, value in ours.state_dict().items() if key != "head.multi_label_logit_scale"}
    assert converted.keys() == expected.keys()
    for name, value in converted.items():
        assert torch.equal(value, expected[name]), name


@torch.no_grad()
def test_images_are_those_of_the_reference_at_224(reference, ours):
    images = noise(2, 3, 224, 224)
    expected = reference.vision_model(pixel_values=images, output_attentions=True)
    grouped = ours.head.group(ours.backbone(images, ours.head.layers))
    assert_near(grouped.tokens, expected.last_hidden_state)
    for got, want in zip(grouped.assignments, expected.attentions, strict=True):
        assert_near(got, want)
    projected = reference.visual_projection(expected.pooler_output)
    assert_near(ours.head.image_embed(grouped), F.normalize(projected, dim=-1))
    assert_near(ours.head.projector(grouped.tokens.mean(1)), projected)


@torch.no_grad()
def test_other_sizes_resample_the_positions(reference, ours):
    images = noise(1, 3, 448, 336)
    vision = reference.vision_model
    embeddings = vision.embeddings(images, interpolate_pos_encoding=True)
    features = ours.backbone(images, ours.head.layers)
    assert_near(features.hidden[0].flatten(2).transpose(1, 2), embeddings)
    encoded = vision.encoder(embeddings, output_attentions=True)
    grouped = ours.head.group(features)
    assert_near(grouped.tokens, vision.layernorm(encoded.last_hidden_state))
    assert_near(grouped.soft_maps()[-1], encoded.attentions[1] @ encoded.attentions[0])


@torch.no_grad()
def test_texts_are_those_of_the_reference(reference, ours):
    ids, _ = ours.text_encoder._tokenizer(TEXTS)
    pooled = reference.text_model(input_ids=ids).pooler_output
    assert_near(ours.text_encoder(TEXTS).embed, F.normalize(reference.text_projection(pooled), dim=-1))


@torch.no_grad()
def test_scores_at_448_come_at_the_size_of_the_image(ours):
    text = ours.text_encoder(TEXTS)
    scores = ours.head(ours.backbone(noise(1, 3, 448, 448), ours.head.layers), text)
    assert scores.shape == (1, 3, 448, 448) and 0 <= scores.min() and scores.max() <= 1


def test_the_softmax_runs_over_the_groups():
    _, soft = Assignment(8)(noise(2, 3, 8), noise(2, 5, 8, seed=1))
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(2, 5))


def test_groups_average_their_tokens_with_one_in_the_normalizer():
    assign = Assignment(4).eval()
    groups, tokens = noise(1, 3, 4), noise(1, 6, 4, seed=1)
    new, soft = assign(groups, tokens)
    owner = soft.argmax(1)[0]
    values = assign.value(tokens)[0]
    for group in range(3):
        members = values[owner == group]
        torch.testing.assert_close(new[0, group], assign.out(members.sum(0) / (len(members) + 1)))


def test_training_draws_a_hard_choice_and_lets_gradients_through():
    assign, tokens = Assignment(4).train(), noise(2, 50, 4, seed=1)
    groups = noise(2, 3, 4).requires_grad_()
    torch.manual_seed(0)
    first, _ = assign(groups, tokens)
    second, _ = assign(groups, tokens)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert groups.grad.abs().sum() > 0
    assign.eval()
    assert torch.equal(assign(groups, tokens)[0], assign(groups, tokens)[0])


def test_soft_groups_share_every_token_by_scaled_cosines():
    assign = SoftAssignment(4, scale=5.0).train()
    groups, tokens = noise(1, 3, 4), noise(1, 6, 4, seed=1)
    new, soft = assign(groups, tokens)
    for token in range(6):
        cosines = F.cosine_similarity(assign.query(groups)[0], assign.key(tokens)[0, token], dim=-1)
        torch.testing.assert_close(soft[0, :, token], (5 * cosines).exp() / (5 * cosines).exp().sum())
    for group in range(3):
        shares = soft[0, group]
        mean = (shares @ assign.value(tokens)[0]) / (shares.sum() + 1)
        torch.testing.assert_close(new[0, group], assign.out(mean))
    assert torch.equal(assign.eval()(groups, tokens)[0], new)  # nothing is drawn in training


def test_the_order_of_the_tokens_does_not_matter_to_the_groups():
    block, order = GroupingBlock(8, 3, 2).eval(), torch.randperm(6, generator=torch.Generator().manual_seed(0))
    tokens, groups = noise(1, 6, 8), noise(1, 3, 8, seed=1)
    new, soft = block(tokens, groups)
    permuted, permuted_soft = block(tokens[:, order], groups)
    torch.testing.assert_close(new, permuted)
    torch.testing.assert_close(soft[:, :, order], permuted_soft)


def test_second_stage_tokens_start_at_zero_and_drop_path_rises():
    transformer = GroupingTransformer(16, TransformerArguments((2, 1, 1), (6, 3, 0), num_heads=2, drop_path=0.3))
    assert transformer.stages[0].group_tokens.std() > 0 and not transformer.stages[1].group_tokens.any()
    assert transformer.stages[2].group_tokens is None and transformer.stages[2].grouping is None
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for stage in transformer.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"transformer": {"num_groups": (4, 2)}}, "one number of groups per stage"),
        ({"transformer": {"num_groups": (0, 4, 2)}}, "with groups first"),
        ({"transformer": {"num_groups": (0, 0, 0), "soft_scale": 8.0}}, "with groups first"),
        ({"transformer": {"num_heads": 5}}, "does not divide"),
        ({"transformer": {"drop_path": 1.0}}, "below 1"),
        ({"layers": (7,)}, "0 to 1"),
        ({"layers": (0, 1)}, "need a width"),
        ({"scoring": {"background_threshold": 1.5}}, r"0\.\.1"),
        ({"scoring": {"top_k": 0}}, "at least 1"),
        ({"multi_label": {"num_prompts": -1}}, "at least 0"),
        ({"scoring": {"output_stride": 0}}, "at least 1"),
        ({"multi_label": {"match": "patch"}}, "expected one of image, segment"),
        ({"scoring": {"logit_scale": -1.0}}, "logit_scale: expected a positive"),
        ({"transformer": {"soft_scale": 0.0}}, "soft_scale: expected a positive"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        small_head(**change)


def small_head(**change) -> GroupViTHead:
    torch.manual_seed(0)
    transformer = dict(depths=(1, 1, 1), num_groups=(6, 4, 0), num_heads=2) | change.pop("transformer", {})
    multi_label = dict(num_prompts=2) | change.pop("multi_label", {})
    settings = dict(layers=(0,), projector_dim=32, transformer=transformer, multi_label=multi_label)
    return GroupViTHead(SPEC, 12, **settings | change)


def small_features(count: int = 2) -> ImageFeatures:
    hidden = {0: noise(count, 16, 8, 12), 1: noise(count, 24, 4, 6, seed=1)}
    return ImageFeatures((32, 48), hidden=hidden)


def small_text(count: int = 5, background: int | None = None) -> TextFeatures:
    embed = F.normalize(noise(count, 12, seed=2), dim=1)
    return TextFeatures(embed, torch.tensor(14.0), background=background)


def sample(*captions: str) -> Sample:
    return Sample("one", None, (32, 48), (32, 48), captions=captions)


def test_captions_come_first_then_each_samples_prompts():
    texts = small_head().training_texts([sample("a", "a1", "a2", "a3"), sample("b", "b1")])
    assert texts == ["a", "b", "a1", "a2", "b1", "b"]
    with pytest.raises(ValueError, match="'one' has no caption"):
        small_head().training_texts([sample()])


def test_the_loss_has_both_terms_and_the_redcaps_recipe_one():
    samples = [sample("a", "a1", "a2"), sample("b", "b1", "b2"), sample("c", "c1", "c2")]
    losses = small_head().train().loss(small_features(3), small_text(9), samples)
    assert set(losses) == {"loss_contrastive", "loss_multi_label"}
    plain = small_head(multi_label=dict(num_prompts=0)).train()
    assert set(plain.loss(small_features(3), small_text(3), samples)) == {"loss_contrastive"}
    assert plain.multi_label_logit_scale is None


def test_equal_prompts_are_right_for_all_their_images():
    samples = [sample("a", "x", "y"), sample("b", "z", "x"), sample("c", "w", "w")]
    features, text = small_features(3), small_text(9)
    text.embed[6] = text.embed[3]  # the prompt "x" of the second image
    for shared in (False, True):
        head = small_head(multi_label=dict(match="segment", positives_by_text=shared)).eval()
        ids = torch.tensor([[1, 2], [3, 1], [4, 4]]) if shared else None
        segments, prompts = head.segment_embed(head.group(features)), text.embed[3:].view(3, 2, 12)
        expected = multi_label_info_nce(segments, prompts, head.multi_label_logit_scale.exp(), text_ids=ids)
        torch.testing.assert_close(head.loss(features, text, samples)["loss_multi_label"], expected)


def test_a_batch_of_one_is_refused_with_the_fix():
    with pytest.raises(ValueError, match="raise batch_size"):
        small_head(multi_label=dict(num_prompts=0)).train().loss(small_features(1), small_text(1), [sample("a")])


def test_several_layers_are_read_on_the_grid_of_the_first():
    head = small_head(layers=(0, 1), width=20).eval()
    maps = head.group_maps(small_features())
    assert [tuple(part.shape) for part in maps] == [(2, 6, 8, 12), (2, 4, 8, 12)]
    for part in maps:
        torch.testing.assert_close(part.sum(1), torch.ones(2, 8, 12))


@torch.no_grad()
def test_an_image_does_not_depend_on_its_neighbors():
    head, text = small_head(scoring=dict(background_threshold=0.3)).eval(), small_text(background=0)
    both = head(small_features(), text)
    for index in range(2):
        alone = ImageFeatures((32, 48), hidden={k: v[index : index + 1] for k, v in small_features().hidden.items()})
        torch.testing.assert_close(both[index : index + 1], head(alone, text))


@torch.no_grad()
def test_a_smaller_scale_makes_more_background():
    features, text = small_features(), small_text(background=0)
    learned, same, small = (
        small_head(scoring=dict(background_threshold=0.1, logit_scale=scale)).eval()(features, text)
        for scale in (None, 14.0, 3.0)
    )
    assert torch.equal(learned, same)
    assert small[:, 0].mean() > learned[:, 0].mean()


@torch.no_grad()
def test_scores_follow_the_published_steps():
    """Each step as the paper's evaluation does it, for one image, with loops."""
    head, text = small_head(scoring=dict(background_threshold=0.95, top_k=2)).eval(), small_text(6, background=2)
    features = small_features(1)
    grouped = head.group(features)
    names = [0, 1, 3, 4, 5]
    segments, image = head.segment_embed(grouped)[0], head.image_embed(grouped)[0]
    logits = 14 * segments @ text.embed[names].T
    allowed = (image @ text.embed[names].T).topk(2).indices
    limited = torch.full_like(logits, -torch.inf)
    limited[:, allowed] = logits[:, allowed]
    affinity = logits.softmax(1) * limited.softmax(1)
    soft = grouped.assignments[1] @ grouped.assignments[0]
    soft = F.interpolate(soft.unflatten(2, (8, 12)), (32, 48), mode="bilinear", align_corners=False)[0]
    one_hot = F.one_hot(soft.argmax(0), 4).float()  # (H, W, G)
    foreground = (one_hot @ affinity).permute(2, 0, 1)
    threshold = min(0.95, affinity.max().item())
    background = (foreground.amax(0) < threshold).float()
    expected = torch.cat([foreground[:2], background[None], foreground[2:]])
    torch.testing.assert_close(head(features, text)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.05, 0.95])
def test_shared_tokens_give_each_pixel_the_scores_of_all_its_groups(threshold):
    scoring = dict(background_threshold=threshold, top_k=None)
    head = small_head(transformer=dict(soft_scale=8.0), scoring=scoring).eval()
    text, features = small_text(6, background=2), small_features(1)
    grouped = head.group(features)
    affinity = (14 * head.segment_embed(grouped)[0] @ text.embed[[0, 1, 3, 4, 5]].T).softmax(1) ** 2
    shares = grouped.assignments[1] @ grouped.assignments[0]
    shares = F.interpolate(shares.unflatten(2, (8, 12)), (32, 48), mode="bilinear", align_corners=False)[0]
    foreground = sum(share * scores[:, None, None] for share, scores in zip(shares, affinity))  # (5, H, W)
    background = torch.full((1, 32, 48), min(threshold, affinity.max().item()))
    expected = torch.cat([foreground[:2], background, foreground[2:]])
    torch.testing.assert_close(head(features, text)[0], expected)
    head.classes_at_once.limit = 2  # as where memory did not suffice
    (parts,) = head.logit_maps(features, text)
    assert torch.equal(parts.read(slice(3, 30), slice(7, 40)), head(features, text)[0, :, 3:30, 7:40])


@torch.no_grad()
def test_without_a_threshold_the_background_competes_as_a_name():
    features = small_features()
    plain = small_head().eval()(features, small_text(background=2))
    torch.testing.assert_close(plain, small_head().eval()(features, small_text()))


@torch.no_grad()
def test_a_vocabulary_without_the_background_is_said_once(capfd, caplog):
    head = small_head(scoring=dict(background_threshold=0.5)).eval()
    head(small_features(), small_text()), head(small_features(), small_text())
    assert len(head._warned) == 1 and "no background" in next(iter(head._warned))


@torch.no_grad()
def test_a_larger_output_stride_gives_a_smaller_map():
    assert small_head(scoring=dict(output_stride=4)).eval()(small_features(), small_text()).shape == (2, 5, 8, 12)
