"""The terms of the contrastive head: what they read, what they add up to, and the configs that combine them."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY, without_weights
from mmengine.registry import init_default_scope

from openvocab.config.config import read_config
from openvocab.heads import ContrastiveHead
from openvocab.heads.terms import (
    CaptionContrast,
    MaskedLanguage,
    NeighborContrast,
    NounContrast,
    PairBatch,
    PatchContrast,
    SigmoidContrast,
    SimilarityRegularization,
    SimSiam,
    TokenContrast,
    TwoProjectionContrast,
    ViewContrast,
)
from openvocab.losses import (
    corrupt_tokens,
    decoupled_info_nce,
    filip,
    info_nce,
    nt_xent,
    siglip,
    similarity_regularization,
)
from openvocab.losses.multi_label import multi_label_info_nce
from openvocab.registry import MODELS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures, TextTokens
from openvocab.text.text_ids import text_ids

SPEC = BackboneSpec(embed_dim=8, stride=8, hidden_dims=(4, 6), hidden_strides=(8, 8))
PROJECT = torch.nn.Linear(6, 8)
WHOLE, MIRRORED = [0.0, 0, 32, 32], [32.0, 0, 0, 32]
FAMILY = ("clip_shapes", "slip_shapes", "filip_shapes", "declip_shapes", "xclip_shapes", "siglip_shapes")


def make_batch(
    views: int = 2, texts: int = 2, count: int = 5, boxes: tuple = (WHOLE, MIRRORED), seed: int = 0
) -> PairBatch:
    """Random features on a 4 x 4 grid; each sample's views and texts differ."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    rows = views * count
    features = ImageFeatures(
        (32, 32), random(rows, 8), random(rows, 8, 4, 4), {i: random(rows, SPEC.hidden_dims[i], 4, 4) for i in (0, 1)}
    )
    text = TextFeatures(F.normalize(random(texts * count, 8), dim=1), torch.tensor(10.0))
    samples = [
        Sample(str(i), None, (32, 32), (32, 32), captions=("a", "b")[:texts], view_boxes=torch.tensor(boxes))
        for i in range(count)
    ]
    return PairBatch(features, text, samples)


def test_views_and_texts_lie_one_after_the_other():
    batch = make_batch()
    torch.testing.assert_close(batch.image_embed(1), F.normalize(batch.features.image_embed[5:], dim=1))
    assert torch.equal(batch.text_embed(1), batch.text.embed[5:])
    patches = batch.patches(1, 0)  # (B, 16, C)
    assert torch.equal(patches[2, 6], batch.features.hidden[0][7, :, 1, 2])
    torch.testing.assert_close(batch.pooled(1, 0), patches.mean(1))


def test_a_view_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="view 2 of the image is needed, but samples have 2"):
        ViewContrast(SPEC, 8, views=(0, 2))(make_batch())


def test_pairs_are_averaged():
    batch = make_batch()
    term = CaptionContrast(SPEC, 8, pairs=((0, 0), (1, 1)), decoupled=True)
    parts = [decoupled_info_nce(batch.image_embed(i), batch.text_embed(i), batch.text.logit_scale) for i in (0, 1)]
    torch.testing.assert_close(term(batch), (parts[0] + parts[1]) / 2)
    assert term.num_texts == 2


def test_second_projections_start_as_the_first():
    batch = make_batch()
    embeds = batch.image_embed(0), batch.text_embed(0)
    plain = info_nce(*embeds, batch.text.logit_scale)
    torch.testing.assert_close(TwoProjectionContrast(SPEC, 8)(batch), plain)
    regularized = TwoProjectionContrast(SPEC, 8, similarity=0.5)(batch)
    torch.testing.assert_close(regularized, plain + 0.5 * similarity_regularization(*embeds))
    torch.testing.assert_close(SimilarityRegularization(SPEC, 8)(batch), similarity_regularization(*embeds))


def test_second_projections_serve_one_direction_only():
    batch = make_batch()
    term = TwoProjectionContrast(SPEC, 8)
    torch.nn.init.zeros_(term.image_projection.weight)  # all images alike: nothing to find a caption by
    logits = batch.text.logit_scale * batch.text_embed(0) @ batch.image_embed(0).T
    expected = (F.cross_entropy(logits, torch.arange(5)) + torch.tensor(5.0).log()) / 2
    torch.testing.assert_close(term(batch), expected)


def test_sigmoid_term_learns_its_bias():
    batch, term = make_batch(), SigmoidContrast(SPEC, 8, bias=-4.0)
    loss = term(batch)
    expected = siglip(batch.image_embed(0), batch.text_embed(0), batch.text.logit_scale, torch.tensor(-4.0))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert term.logit_bias.grad != 0


def test_neighbors_come_from_the_batches_before():
    batch, term = make_batch(), NeighborContrast(SPEC, 8, queue=8)
    assert term(batch).item() == 0  # nothing remembered yet
    logits = batch.text.logit_scale * batch.image_embed(0) @ batch.text_embed(0).T
    expected = F.cross_entropy(logits, torch.arange(5))  # images find captions, and not the other way round
    torch.testing.assert_close(term(batch), expected)  # each caption's nearest is itself, one batch ago
    assert len(term.queue) == 8
    term.eval()
    before = term.queue.rows.clone()
    term(batch)
    assert torch.equal(term.queue.rows, before)


def test_neighbors_of_captions_and_edited_ones_are_searched_before_both_are_remembered():
    batch, later = make_batch(), make_batch(seed=1)
    pairs = ((0, 0), (0, 1), (1, 0), (1, 1))
    term = NeighborContrast(SPEC, 8, pairs=pairs, queue=100)
    term(batch)
    rows = term.queue.rows[:10]
    assert torch.equal(rows, torch.cat([batch.text_embed(1), batch.text_embed(0)]))  # edited ones first
    losses = []
    for view, text in pairs:
        nearest = rows[(later.text_embed(text) @ rows.T).argmax(dim=1)]
        logits = later.text.logit_scale * later.image_embed(view) @ nearest.T
        losses.append(F.cross_entropy(logits, torch.arange(5)))
    torch.testing.assert_close(term(later), torch.stack(losses).mean())
    assert len(term.queue) == 20


def token_batch() -> PairBatch:
    """Two texts a sample of four tokens, of which the first and the last are no words."""
    batch = make_batch()
    embed = torch.randn(10, 4, 8, generator=torch.Generator().manual_seed(1))
    is_word = torch.tensor([False, True, True, False]).expand(10, 4)
    ids, table = torch.arange(40).view(10, 4), torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    ends = dict(special_ids=(0, 49), is_token=torch.ones(10, 4, dtype=torch.bool))
    batch.text.tokens = TextTokens(ids, is_word, embed, table.__getitem__, PROJECT, table, 49, **ends)
    return batch


def test_token_term_compares_patches_of_the_first_view_with_words_of_the_first_text():
    batch = token_batch()
    patches = F.normalize(batch.features.patch_embed[:5].flatten(2).transpose(1, 2), dim=2)
    words = F.normalize(batch.text.tokens.embed[:5, 1:3], dim=2)
    expected = filip(patches, words, torch.ones(5, 2, dtype=torch.bool), batch.text.logit_scale)
    torch.testing.assert_close(TokenContrast(SPEC, 8)(batch), expected)


def test_token_term_pools_squares_of_patches():
    batch = token_batch()
    maps = batch.features.patch_embed
    small = maps.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))  # (10, 8, 2, 2)
    expected = TokenContrast(SPEC, 8)(PairBatch(replace(batch.features, patch_embed=small), batch.text, batch.samples))
    torch.testing.assert_close(TokenContrast(SPEC, 8, pool=2)(batch), expected)


def test_masked_language_term_names_words_of_the_first_text():
    batch, term = token_batch(), MaskedLanguage(SPEC, 8, probability=1.0)
    tokens = batch.text.tokens
    torch.manual_seed(0)
    loss = term(batch)
    torch.manual_seed(0)
    options = dict(mask_id=49, vocabulary_size=50, special_ids=(0, 49), probability=1.0)
    corrupted, chosen = corrupt_tokens(tokens.ids[:5], tokens.is_word[:5], **options)
    logits = tokens.table[corrupted[chosen]] @ tokens.table.T
    torch.testing.assert_close(loss, F.cross_entropy(logits, tokens.ids[:5][chosen]))
    assert chosen.sum() == 10


@pytest.mark.parametrize("last", [False, True])
def test_other_terms_match_the_caption_with_hidden_words_where_asked_to(last):
    """Wherever the term stands among them; edited captions stay whole."""
    batch = token_batch()
    masked = dict(type=MaskedLanguage, probability=1.0, mask_share=1.0, random_share=0.0, match_masked=True)
    contrast = dict(type=CaptionContrast, pairs=((0, 0), (0, 1)))
    head = ContrastiveHead(SPEC, 8, terms=[contrast, masked] if last else [masked, contrast])
    losses = head.loss(batch.features, batch.text, batch.samples)
    table = batch.text.tokens.table
    ends = table[batch.text.tokens.ids[:5, 3]]  # of the tower here, a state is its token's row
    first = F.normalize(PROJECT(ends), dim=1)
    image, scale = batch.image_embed(0), batch.text.logit_scale
    expected = (info_nce(image, first, scale) + info_nce(image, batch.text_embed(1), scale)) / 2
    torch.testing.assert_close(losses["loss_contrastive"], expected)
    hidden = F.cross_entropy(table[[49] * 10] @ table.T, batch.text.tokens.ids[:5, 1:3].flatten())
    torch.testing.assert_close(losses["loss_masked_language"], hidden)


@pytest.mark.parametrize(("pairs", "rows"), [(((0, 0), (0, 1)), [[3, 3], [6, 3]]), (((0, 0),), [[0, 3], [3, 3]])])
def test_the_tower_runs_on_a_replaced_caption_once(pairs, rows):
    """As in official DeCLIP: on the caption with hidden words and the edited one, not on the caption as it is."""
    model = MODELS.build(
        dict(
            type="OpenVocabModel",
            backbone=dict(type="CLIPBackbone", model="ConvNet-8-shapes"),
            text_encoder=dict(type="CLIPTextEncoder", model="ConvNet-8-shapes", trainable="all"),
            head=dict(type="ContrastiveHead"),
        )
    )
    samples = [Sample(str(i), None, (64, 64), (64, 64), captions=(f"a red thing {i}", f"thing {i}")) for i in range(3)]
    images, counts, losses = torch.randn(3, 3, 64, 64), [], []
    model.text_encoder.text.transformer.resblocks[0].ln_1.register_forward_pre_hook(
        lambda _, inputs: counts[-1].append(len(inputs[0]))
    )
    contrast, masked = dict(type=CaptionContrast, pairs=pairs), dict(type=MaskedLanguage, match_masked=True)
    spec, width = model.backbone.spec, model.text_encoder.embed_dim
    for words in ([], [dict(type=TokenContrast)]):  # patches are matched with the words of the caption as it is
        model.head = ContrastiveHead(spec, width, terms=[contrast, masked, *words])
        counts.append([])
        torch.manual_seed(0)
        losses.append(model.loss(images, samples))
    assert counts == rows
    for name in losses[0]:
        torch.testing.assert_close(losses[0][name], losses[1][name])


def test_without_being_asked_other_terms_match_the_whole_caption():
    batch = token_batch()
    terms = [dict(type=MaskedLanguage), dict(type=CaptionContrast)]
    losses = ContrastiveHead(SPEC, 8, terms=terms).loss(batch.features, batch.text, batch.samples)
    torch.testing.assert_close(losses["loss_contrastive"], CaptionContrast(SPEC, 8)(batch))


def test_last_norm_of_simsiam_scales_where_asked_to():
    plain, scaled = SimSiam(SPEC, 8), SimSiam(SPEC, 8, scaled_targets=True)
    assert not plain.projector[-1].affine and scaled.projector[-1].affine
    torch.nn.init.zeros_(scaled.projector[-1].weight)
    assert scaled(make_batch()).isfinite()


def noun_batch() -> PairBatch:
    """Five images with a caption and two noun prompts each; prompts of one text have one row."""
    batch = make_batch(views=1, texts=3)
    nouns = ["red circle", "blue star", "red circle", "green ring", "blue star"]
    for i, sample in enumerate(batch.samples):
        sample.captions = (f"caption {i}", nouns[i], nouns[(i + 1) % 5])
    rows = {name: row for name, row in zip(nouns, batch.text.embed[5:])}
    for i, sample in enumerate(batch.samples):
        batch.text.embed[5 + i], batch.text.embed[10 + i] = rows[sample.captions[1]], rows[sample.captions[2]]
    batch.text_ids = text_ids([sample.captions[place] for place in range(3) for sample in batch.samples])
    return batch


def test_noun_term_compares_images_with_the_captions_after_the_first():
    batch = noun_batch()
    term = NounContrast(SPEC, 8, count=2, positives_by_text=False)
    prompts = torch.stack([batch.text.embed[5:10], batch.text.embed[10:15]], dim=1)
    expected = multi_label_info_nce(batch.image_embed(0), prompts, torch.tensor(10.0))
    torch.testing.assert_close(term(batch), expected)
    assert term.num_texts == 3


def test_noun_term_asks_that_some_patch_shows_a_prompt_and_shares_equal_prompts():
    batch = noun_batch()
    prompts = torch.stack([batch.text.embed[5:10], batch.text.embed[10:15]], dim=1)  # (B, K, D)
    patches = F.normalize(batch.features.patch_embed.flatten(2).transpose(1, 2), dim=-1)
    logits = (10.0 * torch.einsum("bpd,nkd->bpnk", patches, prompts)).logsumexp(1).flatten(1)  # (B, B * K)
    names = [set(sample.captions[1:]) for sample in batch.samples]
    columns = [caption for sample in batch.samples for caption in sample.captions[1:]]
    right = torch.tensor([[float(caption in own) for caption in columns] for own in names])
    expected = F.cross_entropy(logits, right / right.sum(1, keepdim=True)) / 2
    expected = expected + F.cross_entropy(logits.T, right.T / right.T.sum(1, keepdim=True)) / 2
    torch.testing.assert_close(NounContrast(SPEC, 8, count=2, match="patch")(batch), expected)


def test_view_term_compares_the_projections_of_both_views():
    batch, term = make_batch(), ViewContrast(SPEC, 8, layer=1, hidden_dim=16, out_dim=4)
    first, second = (term.projector(batch.pooled(view, 1)) for view in (0, 1))
    torch.testing.assert_close(term(batch), nt_xent(first, second, 0.1))
    assert term.layers == (1,)


def test_patch_term_pairs_places_not_indices():
    batch, term = make_batch(), PatchContrast(SPEC, 8, layer=0, hidden_dim=16, out_dim=4)
    maps = batch.features.hidden[0]
    first = term.projector(maps[:5].flatten(2).transpose(1, 2).flatten(0, 1))
    second = term.projector(maps[5:].flatten(2).transpose(1, 2).flatten(0, 1)).unflatten(0, (5, 4, 4))
    mirrored_back = second.flip(2).flatten(0, 2)
    torch.testing.assert_close(term(batch), nt_xent(first, mirrored_back, 0.1), rtol=1e-4, atol=1e-5)


def test_patch_term_of_xclip_pairs_indices_and_the_pooled_row():
    batch = make_batch()
    term = PatchContrast(SPEC, 8, hidden_dim=16, out_dim=4, parity="xclip")
    rows = []
    for view in (0, 1):
        tokens = torch.cat([batch.pooled(view, None)[:, None], batch.patches(view, None)], dim=1)
        rows.append(term.projector(tokens.flatten(0, 1)))
    torch.testing.assert_close(term(batch), nt_xent(*rows, 0.1, parity="xclip"), rtol=1e-4, atol=1e-5)


def test_patch_term_adds_nothing_where_views_share_no_place():
    batch = make_batch(boxes=([0.0, 0, 8, 8], [16.0, 16, 24, 24]))
    loss = PatchContrast(SPEC, 8, hidden_dim=16, out_dim=4)(batch)
    loss.backward()
    assert loss.item() == 0


def test_patch_term_draws_no_more_than_max_pairs(monkeypatch):
    seen = []
    monkeypatch.setattr("openvocab.heads.terms.views.nt_xent", lambda a, b, *_, **__: seen.append(len(a)) or a.sum())
    PatchContrast(SPEC, 8, hidden_dim=16, out_dim=4, max_pairs=7)(make_batch())
    assert seen == [7]


def test_patch_term_needs_boxes_and_views_that_fill_the_grid():
    batch = make_batch()
    batch.samples[1].padded_size = (32, 40)
    with pytest.raises(ValueError, match=r"'1': views of \(32, 32\) were padded to \(32, 40\)"):
        PatchContrast(SPEC, 8)(batch)
    batch.samples[1].view_boxes = None
    with pytest.raises(ValueError, match="'1' has no view_boxes"):
        PatchContrast(SPEC, 8)(batch)


@pytest.mark.parametrize("term", [ViewContrast, SimSiam])
def test_batch_norm_says_that_it_needs_two_images(term):
    with pytest.raises(ValueError, match="batch of one; raise batch_size"):
        term(SPEC, 8)(make_batch(count=1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CaptionContrast(SPEC, 8, weight=0.0), "weight above 0"),
        (lambda: CaptionContrast(SPEC, 8, pairs=()), "at least one"),
        (lambda: CaptionContrast(SPEC, 8, decoupled=True, positives_by_text=True), "exclude"),
        (lambda: ViewContrast(SPEC, 8, layer=5), "layer 5 does not exist"),
        (lambda: PatchContrast(SPEC, 8, parity="simclr"), "'simclr'"),
        (lambda: PatchContrast(SPEC, 8, max_pairs=1), "at least 2"),
        (lambda: MaskedLanguage(SPEC, 8, mask_share=0.8, random_share=0.3), "a sum of at most 1"),
        (lambda: NounContrast(SPEC, 8, count=0), "at least 1 noun prompt, got 0"),
        (lambda: NounContrast(SPEC, 8, match="segment"), "expected one of image, patch, got 'segment'"),
    ],
)
def test_bad_settings_are_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_head_adds_weighted_terms_by_name():
    batch = make_batch()
    terms = [dict(type="CaptionContrast", weight=0.5), dict(type="CaptionContrast", name="second", pairs=((1, 1),))]
    head = ContrastiveHead(SPEC, 8, terms=terms)
    losses = head.loss(batch.features, batch.text, batch.samples)
    expected = CaptionContrast(SPEC, 8)(batch) * 0.5
    assert list(losses) == ["loss_contrastive", "loss_second"]
    torch.testing.assert_close(losses["loss_contrastive"], expected)
    assert head.training_texts(batch.samples) == ["a"] * 5 + ["b"] * 5


def test_head_refuses_terms_of_one_name_and_samples_with_too_few_captions():
    with pytest.raises(ValueError, match="each with a unique name"):
        ContrastiveHead(SPEC, 8, terms=[dict(type=CaptionContrast)] * 2)
    with pytest.raises(ValueError, match="belongs to the default term"):
        ContrastiveHead(SPEC, 8, terms=[dict(type=CaptionContrast)], positives_by_text=True)
    head = ContrastiveHead(SPEC, 8, terms=[dict(type=CaptionContrast, pairs=((0, 1),))])
    with pytest.raises(ValueError, match="'0' carries 1 captions, the terms compare 2"):
        head.training_texts(make_batch(texts=1).samples)


def test_head_reads_the_layers_of_all_terms():
    terms = [dict(type=ViewContrast, layer=1), dict(type=PatchContrast, layer=0), dict(type=SimSiam, layer=1)]
    assert ContrastiveHead(SPEC, 8, terms=terms).layers == (0, 1)


@pytest.fixture(scope="module", params=FAMILY)
def config(request: pytest.FixtureRequest):
    init_default_scope("openvocab")
    return read_config(Path(REPOSITORY) / "configs" / f"{request.param}.py")


def family_batch(config, count: int) -> dict:
    """Random images through the views that the config makes, with captions."""
    generator = torch.Generator().manual_seed(0)
    kinds = [getattr(part["type"], "__name__", part["type"]) for part in config.train_dataloader.dataset.pipeline]
    views = (
        len(config.train_dataloader.dataset.pipeline[kinds.index("CropViews")]["views"]) if "CropViews" in kinds else 1
    )
    images, samples = [], []
    for index in range(count):
        image = torch.randint(0, 256, (views, 3, 64, 64), generator=generator, dtype=torch.uint8)
        images.append(image if views > 1 else image[0])
        captions = (f"a red circle {index}", f"a blue star and a green ring {index}", "blue star", "green ring")
        boxes = torch.tensor([[0.0, 0, 64, 64]] * views)
        samples.append(Sample(str(index), None, (64, 64), (64, 64), captions=captions, view_boxes=boxes))
    return {"image": images, "sample": samples}


def test_each_config_of_the_family_trains_all_that_is_trainable(config):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(without_weights(config.model.to_dict())))
    model.train()
    batch = model.data_preprocessor(family_batch(config, 4), training=True)
    for _ in range(2):  # a queue is empty in the first step
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(**batch, mode="loss")
        total, _ = model.parse_losses(losses)
        total.backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
