"""The CLIP text encoder: equal to open_clip, to the published orders of normalization, and to itself without cache."""

import copy
import multiprocessing

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from openvocab.clip.open_clip_model import create_clip
from openvocab.registry import TEXT_ENCODERS
from openvocab.text import clip_text, text_tower
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.precomputed import PrecomputedTextEncoder
from openvocab.text.templates import fill_template, resolve_templates
from openvocab.text.text_tower import MIN_CHUNK, encode_tokens, is_causal
from openvocab.vocabulary.vocabulary import Vocabulary

MODEL = "ViT-Ti-8-shapes"
NAMES = ["cat", "red circle", "traffic light", "yoke (animal equipment)", "猫", "zebra crossing sign on a street"]


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return create_clip(MODEL)


@pytest.fixture
def make(clip, monkeypatch):
    """Build encoders that all hold (copies of) the same random tower."""
    monkeypatch.setattr(clip_text, "create_text_side", lambda model, *_: copy.deepcopy(clip))

    def build(**arguments):
        return CLIPTextEncoder(MODEL, **arguments)

    return build


@pytest.fixture
def prompts_encoded(monkeypatch):
    """The prompts that went through a tower so far."""
    seen = []
    original = CLIPTextEncoder._pooled

    def counting(self, prompts):
        seen.extend(prompts)
        return original(self, prompts)

    monkeypatch.setattr(CLIPTextEncoder, "_pooled", counting)
    return seen


def by_open_clip(clip, prompts):
    """Full context, open_clip's own code."""
    with torch.no_grad():
        return clip.encode_text(open_clip.get_tokenizer("ViT-B-32")(prompts))


def unit(rows):
    return rows / rows.norm(dim=-1, keepdim=True)


# ---- equal to open_clip ----


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_bare_names_equal_open_clip(clip, make, batch_size):
    text = make(templates="none", batch_size=batch_size)(Vocabulary.from_names(NAMES))
    torch.testing.assert_close(text.embed, unit(by_open_clip(clip, NAMES)), rtol=1e-5, atol=1e-5)
    assert text.logit_scale.shape == ()
    torch.testing.assert_close(text.logit_scale, clip.logit_scale.detach().exp())
    assert text.row_class is None


@pytest.mark.parametrize("trainable", ["none", "all"])
def test_raw_captions_equal_open_clip(clip, make, trainable):
    captions = ["a cat", "two dogs run over the green grass", "A CAT", "!!!", "b" * 3000]
    embed = make(trainable=trainable)(captions).embed
    torch.testing.assert_close(embed, unit(by_open_clip(clip, captions)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trainable", ["none", "all"])
def test_the_empty_text_equals_open_clips(clip, make, trainable):
    encoder = make(trainable=trainable)
    first, again = encoder.empty_text(), encoder.empty_text()
    torch.testing.assert_close(first, unit(by_open_clip(clip, [""]))[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(first, again) and first.requires_grad == (trainable == "all")
    assert encoder(Vocabulary.from_names(["cat"])).embed.shape == (1, len(first))  # remembered apart from it


def test_a_table_of_texts_has_no_empty_one(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(2, dtype=np.float32))
    with pytest.raises(
        ValueError, match="PrecomputedTextEncoder has no embedding of the empty text.*background=learned"
    ):
        PrecomputedTextEncoder(tmp_path / "rows.npy", ["a", "b"]).empty_text()


def test_equal_captions_are_encoded_once_and_share_their_gradient(make, prompts_encoded):
    encoder = make(trainable="all")
    captions = ["red circle", "a blue star", "red circle", "red circle"]
    embed = encoder(captions).embed
    assert prompts_encoded == ["red circle", "a blue star"]
    weights = torch.randn(4, embed.shape[1], generator=torch.Generator().manual_seed(0))
    (embed * weights).sum().backward()
    together = encoder.text.text_projection.grad.clone()
    encoder.zero_grad()
    for caption, weight in zip(captions, weights):
        (encoder([caption]).embed[0] * weight).sum().backward()
    torch.testing.assert_close(together, encoder.text.text_projection.grad, rtol=1e-4, atol=1e-5)


def test_a_projector_in_training_counts_a_caption_as_often_as_it_occurs(clip, make):
    """GroupViT's batch norm behind the text tower, whose noun prompts repeat."""
    encoder = make(trainable="all", projector=(16, 8))
    captions = ["red circle", "a blue star", "red circle", "red circle"]
    with torch.no_grad():
        pooled = by_open_clip(clip, captions)
        hidden = pooled @ encoder.text.projector.hidden.weight.T + encoder.text.projector.hidden.bias
        scaled = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
        expected = scaled.relu() @ encoder.text.projector.out.weight.T + encoder.text.projector.out.bias
        torch.testing.assert_close(encoder.embed(captions), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exact_lengths", [True, False])
@pytest.mark.parametrize(
    "text_config",
    [
        {},
        {"proj_bias": True},
        {"proj_type": "none", "width": 128},
        {"pool_type": "eos", "eos_id": 49407},
        {"no_causal_mask": True, "pool_type": "last"},
        {"embed_cls": True, "output_tokens": True},
    ],
    ids=str,
)
def test_every_kind_of_tower_equals_its_own_full_context(text_config, exact_lengths):
    torch.manual_seed(0)
    kind = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, **text_config}
    vision = {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1}
    tower = open_clip.CustomTextCLIP(embed_dim=kind["width"], vision_cfg=vision, text_cfg=kind).text.eval()
    tokens = open_clip.SimpleTokenizer(context_length=20)(NAMES + ["a photo of a " + name for name in NAMES])
    lengths = (tokens != 0).sum(1)
    with torch.no_grad():
        expected = tower(tokens)
        expected = expected[0] if isinstance(expected, tuple) else expected
        actual = encode_tokens(tower, tokens, lengths, batch_size=4, exact_lengths=exact_lengths)
    assert is_causal(tower) == (not {"no_causal_mask", "embed_cls"} & text_config.keys())
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_context_is_cut_to_the_longest_prompt_of_a_chunk(make, monkeypatch):
    encoder = make(templates="none")
    shapes = []
    tree = text_tower.PromptTree
    monkeypatch.setattr(text_tower, "PromptTree", lambda tokens: shapes.append(tuple(tokens.shape)) or tree(tokens))
    encoder(Vocabulary.from_names(["cat", "dog", "a red circle"]))
    assert sorted(shapes) == [(MIN_CHUNK, 3), (MIN_CHUNK, 5)]


# ---- the four knobs ----


@pytest.mark.parametrize("normalize_templates", [True, False])
@pytest.mark.parametrize("final_norm", [True, False])
def test_templates_are_normalized_averaged_and_normalized_in_the_order_asked_for(
    clip, make, normalize_templates, final_norm
):
    encoder = make(templates="imagenet7", normalize_templates=normalize_templates, final_norm=final_norm)
    actual = encoder(Vocabulary.from_names(NAMES)).embed
    for name, row in zip(NAMES, actual):
        prompts = by_open_clip(clip, [fill_template(template, name) for template in resolve_templates("imagenet7")])
        mean = (unit(prompts) if normalize_templates else prompts).mean(0)
        torch.testing.assert_close(row, unit(mean) if final_norm else mean, rtol=1e-5, atol=1e-5)


def test_norm_mean_norm_and_mean_norm_differ(make):
    vocabulary = Vocabulary.from_names(NAMES)
    clip_way = make(templates="imagenet7")(vocabulary).embed
    groupvit_way = make(templates="imagenet7", normalize_templates=False)(vocabulary).embed
    assert (clip_way - groupvit_way).abs().max() > 1e-4


@pytest.mark.parametrize("average", ["names", "prompts"])
def test_synonyms_are_averaged_by_names_or_by_prompts(clip, make, average):
    encoder = make(templates="imagenet7", average=average)
    actual = encoder(Vocabulary.from_names([["cat", "small kitten", "pussy cat on a mat"], "dog"])).embed
    rows = []
    for name in ("cat", "small kitten", "pussy cat on a mat"):
        prompts = by_open_clip(clip, [fill_template(template, name) for template in resolve_templates("imagenet7")])
        mean = unit(prompts).mean(0)
        rows.append(unit(mean) if average == "names" else mean)
    torch.testing.assert_close(actual[0], unit(torch.stack(rows).mean(0)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual[1], encoder(Vocabulary.from_names(["dog"])).embed[0])


def test_synonyms_that_compete_keep_their_rows(make):
    encoder = make()
    names = [["cat", "kitten"], "dog", ["sofa", "couch", "settee"]]
    text = encoder(Vocabulary.from_names(names, synonym_merge="max"))
    flat = encoder(Vocabulary.from_names(["cat", "kitten", "dog", "sofa", "couch", "settee"])).embed
    assert text.row_class.tolist() == [0, 0, 1, 2, 2, 2]
    assert torch.equal(text.embed, flat)
    assert text.num_classes == 3
    image = F.normalize(torch.randn(5, text.embed.shape[1]), dim=-1)
    every = image @ flat.T
    expected = torch.stack([every[:, :2].amax(1), every[:, 2], every[:, 3:].amax(1)], dim=1)
    torch.testing.assert_close(text.similarity(image), expected)


def test_rows_follow_the_order_of_classes(make):
    encoder = make()
    forward = encoder(Vocabulary.from_names(NAMES)).embed
    backward = encoder(Vocabulary.from_names(NAMES[::-1])).embed
    assert torch.equal(forward, backward.flip(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"average": "median"}, "average: expected one of names, prompts"),
        ({"dtype": "int8"}, "dtype: expected one of float32"),
        ({"templates": "imagenet90"}, "unknown template set"),
        ({"templates": ["no slot"]}, "exactly one"),
        ({"trainable": "some"}, "trainable"),
        ({"trainable": 3}, "trainable"),
    ],
)
def test_bad_arguments_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


# ---- prompts as users type them ----


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(clip, make, logged):
    long_name = "very " * 500 + "long cat"
    exactly_fits = " ".join(["cat"] * 75)  # and start and end
    actual = make(templates="none")(Vocabulary.from_names(["dog", long_name, exactly_fits])).embed
    torch.testing.assert_close(actual, unit(by_open_clip(clip, ["dog", long_name, exactly_fits])), rtol=1e-5, atol=1e-5)
    warnings = [record.getMessage() for record in logged if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "tokens was cut to 77" in warnings[0]
    assert "very very" in warnings[0]


@pytest.mark.parametrize("name", ["🐈", "👩‍👩‍👧 family", "قطة", "\u200fחתול", "猫", "{}", "a;b", "!", "<end_of_text>"])
def test_unusual_names_have_a_finite_row(make, name):
    embed = make()(Vocabulary.from_names(["dog", name])).embed
    assert embed.isfinite().all()
    torch.testing.assert_close(embed.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("captions", "message"),
    [([], "empty list"), (["a cat", " "], "caption 1"), (["a cat", None], "caption 1"), ("a cat", "one string")],
)
def test_bad_captions_are_refused_with_their_index(make, captions, message):
    with pytest.raises(ValueError, match=message):
        make()(captions)


# ---- frozen and trained ----


def test_frozen_takes_no_gradient_and_stays_in_eval_mode(make):
    encoder = make().train()
    assert not encoder.training
    assert not encoder.text.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    for texts in (Vocabulary.from_names(["cat"]), ["a cat"]):
        text = encoder(texts)
        assert not text.embed.requires_grad
        assert not text.logit_scale.requires_grad


def test_trained_caches_nothing_and_passes_gradients(make, prompts_encoded, tmp_path):
    encoder = make(trainable="all", cache_dir=tmp_path).train()
    vocabulary = Vocabulary.from_names([["cat", "kitten"], "dog"])
    assert encoder.training
    for _ in range(2):
        text = encoder(vocabulary)
        (text.embed.sum() * text.logit_scale).backward()
    assert len(prompts_encoded) == 6
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert not list(tmp_path.iterdir())


def test_gradients_equal_those_of_the_full_context(clip, make):
    encoder = make(trainable="all")
    reference = copy.deepcopy(clip).train()
    weights = torch.randn(len(NAMES), encoder.embed_dim)
    (encoder(NAMES).embed * weights).sum().backward()
    (reference.encode_text(open_clip.get_tokenizer("ViT-B-32")(NAMES), normalize=True) * weights).sum().backward()
    for (name, parameter), expected in zip(encoder.text.named_parameters(), reference.text.parameters()):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_last_block_only(make):
    encoder = make(trainable=1)
    encoder(["a cat", "a dog"]).embed[0, 0].backward()
    trained = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert all(name.startswith(("text.transformer.resblocks.1", "text.ln_final", "text.text_proj")) for name in trained)
    assert "text.text_projection" in trained
    assert encoder.logit_scale.requires_grad


def test_logit_scale_is_clamped_on_the_parameter(make):
    encoder = make(trainable="all")
    encoder.logit_scale.data.fill_(50.0)
    encoder.clamp_logit_scale()
    torch.testing.assert_close(encoder(["cat"]).logit_scale.detach(), torch.tensor(100.0))
    encoder.logit_scale.data.fill_(1.0)
    encoder.clamp_logit_scale(max_scale := 2.0)
    torch.testing.assert_close(encoder.logit_scale.detach().exp(), torch.tensor(max_scale))


def test_a_row_made_while_predicting_serves_training(make):
    encoder = make()
    vocabulary = Vocabulary.from_names(["cat", "dog"])
    with torch.inference_mode():
        encoder(vocabulary)
    pixels = torch.randn(3, encoder.embed_dim, requires_grad=True)
    encoder(vocabulary).similarity(pixels).sum().backward()
    assert pixels.grad.isfinite().all()


def test_a_row_does_not_depend_on_the_callers_autocast(make):
    vocabulary = Vocabulary.from_names(NAMES)
    with torch.autocast("cpu", torch.bfloat16):
        inside = make()(vocabulary).embed
    assert inside.dtype == torch.float32
    assert torch.equal(inside, make()(vocabulary).embed)


def test_bfloat16_is_near_and_returns_float32(make):
    vocabulary = Vocabulary.from_names(NAMES)
    exact, fast = make()(vocabulary).embed, make(dtype="bfloat16")(vocabulary).embed
    assert fast.dtype == torch.float32
    assert 0 < (exact - fast).abs().max() < 0.02


# ---- the cache ----


def test_memory_and_disk_give_the_same_bits_as_no_cache(make, prompts_encoded, tmp_path):
    vocabulary = Vocabulary.from_names(NAMES)
    plain = make(templates="imagenet7")(vocabulary).embed
    encoder = make(templates="imagenet7", cache_dir=tmp_path)
    assert torch.equal(encoder(vocabulary).embed, plain)
    prompts_encoded.clear()
    assert torch.equal(encoder(vocabulary).embed, plain)
    assert torch.equal(make(templates="imagenet7", cache_dir=tmp_path)(vocabulary).embed, plain)
    assert not prompts_encoded


@pytest.mark.parametrize("on_disk", [True, False])
def test_one_new_name_encodes_the_prompts_of_one_name(make, prompts_encoded, tmp_path, on_disk):
    cache_dir = tmp_path if on_disk else None
    encoder = make(templates="imagenet7", cache_dir=cache_dir)
    encoder(Vocabulary.from_names(NAMES))
    prompts_encoded.clear()
    if on_disk:
        encoder = make(templates="imagenet7", cache_dir=cache_dir)
    larger = Vocabulary.from_names(["new name", *NAMES])
    actual = encoder(larger).embed
    assert prompts_encoded == [fill_template(template, "new name") for template in resolve_templates("imagenet7")]
    torch.testing.assert_close(actual, make(templates="imagenet7")(larger).embed, rtol=1e-6, atol=1e-6)


def test_names_are_shared_between_vocabularies_and_ways_to_merge(make, prompts_encoded):
    encoder = make()
    encoder(Vocabulary.from_names(["cat", "kitten", "dog"]))
    prompts_encoded.clear()
    encoder(Vocabulary.from_names([["cat", "kitten"], "dog"]))
    encoder(Vocabulary.from_names([["cat", "kitten"], "dog"], synonym_merge="max"))
    assert not prompts_encoded


def test_a_caller_that_writes_into_a_result_spoils_nothing(make):
    encoder = make()
    vocabulary = Vocabulary.from_names(["cat", "dog"])
    expected = encoder(vocabulary).embed.clone()
    encoder(vocabulary).embed.zero_()
    assert torch.equal(encoder(vocabulary).embed, expected)


def change_by_loading(encoder):
    encoder.load_state_dict({key: value + 0.01 for key, value in encoder.state_dict().items()})


def change_in_place(encoder):
    with torch.no_grad():
        encoder.text.ln_final.weight.add_(torch.rand_like(encoder.text.ln_final.weight))


def change_by_replacing(encoder):
    encoder.text.text_projection = torch.nn.Parameter(torch.randn_like(encoder.text.text_projection))


def change_behind_autograd_at_a_change_of_mode(encoder):
    encoder.text.text_projection.data.mul_(torch.rand_like(encoder.text.text_projection))
    encoder.eval()


@pytest.mark.parametrize(
    "change",
    [change_by_loading, change_in_place, change_by_replacing, change_behind_autograd_at_a_change_of_mode],
)
def test_changed_weights_leave_no_stale_row(make, tmp_path, change):
    vocabulary = Vocabulary.from_names(NAMES)
    encoder = make(cache_dir=tmp_path)
    before = encoder(vocabulary).embed
    change(encoder)
    after = encoder(vocabulary).embed
    fresh = make()
    fresh.text.load_state_dict(encoder.text.state_dict())
    assert not torch.allclose(before, after, atol=1e-4)
    assert torch.equal(after, fresh(vocabulary).embed)


@pytest.mark.parametrize(
    "other",
    [
        {"templates": "imagenet7"},
        {"templates": ["a photo of the {}."]},
        {"dtype": "bfloat16"},
        {"templates": "imagenet7", "normalize_templates": False},
    ],
    ids=str,
)
def test_other_templates_and_numerics_leave_no_stale_row(make, tmp_path, other):
    vocabulary = Vocabulary.from_names(NAMES)
    for arguments in ({}, {"templates": "imagenet7"}):
        make(cache_dir=tmp_path, **arguments)(vocabulary)
    assert torch.equal(make(cache_dir=tmp_path, **other)(vocabulary).embed, make(**other)(vocabulary).embed)


def test_another_activation_of_the_same_weights_is_another_key(make):
    encoder, quick = make(), make()
    for block in quick.text.transformer.resblocks:
        block.mlp.gelu = open_clip.transformer.QuickGELU()
    assert encoder._content_key() != quick._content_key()


def test_another_context_length_is_another_key(make):
    encoder, short = make(), make()
    short._tokenizer = type(short._tokenizer)(MODEL, context_length=32)
    assert encoder._content_key() != short._content_key()


def poison(folder, how):
    for file in folder.rglob("*.safetensors"):
        content = bytearray(file.read_bytes())
        if how == "truncated":
            file.write_bytes(content[: len(content) // 2])
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "flipped":
            content[-1] ^= 0xFF
            file.write_bytes(content)
        else:
            file.write_text("this is not an embedding file")


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped", "foreign"])
def test_a_poisoned_cache_is_encoded_again_bit_for_bit(make, prompts_encoded, tmp_path, how):
    vocabulary = Vocabulary.from_names(NAMES)
    expected = make(cache_dir=tmp_path)(vocabulary).embed
    poison(tmp_path, how)
    assert torch.equal(make(cache_dir=tmp_path)(vocabulary).embed, expected)
    prompts_encoded.clear()
    assert torch.equal(make(cache_dir=tmp_path)(vocabulary).embed, expected)
    assert not prompts_encoded  # the bad file was replaced


def encode_beside_others(encoder, results):
    torch.set_num_threads(1)
    results.put(encoder(Vocabulary.from_names(NAMES)).embed.numpy())


def test_eight_processes_that_fill_one_cache_all_get_the_same_bits(make, tmp_path):
    torch.set_num_threads(threads := torch.get_num_threads())
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    encoder = make(cache_dir=tmp_path)
    encoder._tokenizer.identity  # noqa: B018  built before the fork
    workers = [context.Process(target=encode_beside_others, args=(encoder, results)) for _ in range(8)]
    for worker in workers:
        worker.start()
    actual = [torch.from_numpy(results.get(timeout=60)) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    torch.set_num_threads(1)
    expected = make()(Vocabulary.from_names(NAMES)).embed
    torch.set_num_threads(threads)
    assert all(torch.equal(embed, expected) for embed in actual)
    assert torch.equal(make(cache_dir=tmp_path)(Vocabulary.from_names(NAMES)).embed, expected)


def test_only_the_recent_classifiers_are_kept(make):
    encoder = make()
    for index in range(20):
        encoder(Vocabulary.from_names([f"class {index}"]))
    assert len(encoder._recent) == clip_text.RECENT_CLASSIFIERS


def test_it_can_be_copied_and_moved_to_another_type_of_number(make):
    encoder = make()
    vocabulary = Vocabulary.from_names(["cat", "dog"])
    expected = encoder(vocabulary).embed
    assert torch.equal(copy.deepcopy(encoder)(vocabulary).embed, expected)
    torch.testing.assert_close(encoder.double()(vocabulary).embed, expected, rtol=1e-5, atol=1e-5)


# ---- as a part of a model ----


def test_it_is_built_by_name_and_its_keys_are_text_and_logit_scale(make):
    encoder = TEXT_ENCODERS.build({"type": "CLIPTextEncoder", "model": MODEL})
    assert encoder.embed_dim == 128
    assert {key.split(".")[0] for key in encoder.state_dict()} == {"text", "logit_scale"}


def test_it_is_built_on_the_meta_device():
    with torch.device("meta"):
        assert CLIPTextEncoder("ViT-B-32").embed_dim == 512
