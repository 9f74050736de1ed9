"""Retrieval as a user's function: against a plain product of all embeddings, and what it refuses."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from openvocab import load, retrieval, retrieve
from openvocab.retrieval import BestColumns

TEXTS = ["red circle", "blue star", "a small green square", "two yellow rings"]


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    part = dict(model="ViT-Ti-8-shapes")
    backbone, text_encoder = dict(type="CLIPBackbone", **part), dict(type="CLIPTextEncoder", **part)
    model = dict(type="OpenVocabModel", backbone=backbone, text_encoder=text_encoder, head=dict(type="ContrastiveHead"))
    return load(Config(dict(model=model)), device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven photos of two sizes in two folders, and a file that is none."""
    root = tmp_path_factory.mktemp("photos")
    (root / "more").mkdir()
    random = np.random.default_rng(1)
    for index in range(7):
        folder = root / "more" if index % 3 == 0 else root
        pixels = random.integers(0, 256, (32, 32 + 16 * (index % 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (root / "notes.txt").write_text("no photo")
    return root


def cosines(predictor, paths, texts):
    return predictor.encode_text(texts, normalize=True) @ predictor.encode_image(paths, normalize=True).T


def paths_of(folder):
    return sorted(folder.rglob("*.png"))


def test_images_for_texts_are_the_best_of_the_folder(predictor, folder, capfd):
    rankings = retrieve(predictor, TEXTS, folder, top=3, batch_size=2)
    paths = paths_of(folder)
    values, indices = cosines(predictor, paths, TEXTS).topk(3, dim=1)
    assert [ranking.query for ranking in rankings] == TEXTS
    for ranking, scores, best in zip(rankings, values, indices):
        assert [match.item for match in ranking.matches] == [str(paths[index]) for index in best]
        assert [match.score for match in ranking.matches] == pytest.approx(scores.tolist(), abs=1e-5)
    out, errors = capfd.readouterr()
    assert out == "" and "7/7" in errors


@pytest.mark.parametrize("texts_at_once", [8192, 3])
def test_texts_for_images_come_in_the_order_of_the_images(predictor, folder, monkeypatch, texts_at_once):
    monkeypatch.setattr(retrieval, "TEXTS_AT_ONCE", texts_at_once)
    paths = paths_of(folder)[::-1]
    rankings = retrieve(predictor, TEXTS, paths, "image_to_text", top=9, batch_size=2)
    values, indices = cosines(predictor, paths, TEXTS).T.sort(dim=1, descending=True)
    assert [ranking.query for ranking in rankings] == [str(path) for path in paths]
    for ranking, scores, best in zip(rankings, values, indices):
        assert [match.item for match in ranking.matches] == [TEXTS[index] for index in best]
        assert [match.score for match in ranking.matches] == pytest.approx(scores.tolist(), abs=1e-5)


def test_a_template_stands_before_every_text(predictor, folder):
    with_prefix = retrieve(predictor, "a star", folder, template="a photo of {}", progress=False)
    assert with_prefix[0].query == "a star"
    spelt_out = retrieve(predictor, "a photo of a star", folder, progress=False)
    assert with_prefix[0].matches == spelt_out[0].matches
    assert with_prefix[0].matches != retrieve(predictor, "a star", folder, progress=False)[0].matches


def test_images_of_any_kind_have_numbers_where_they_have_no_path(predictor, folder, capfd):
    photos = [np.asarray(Image.open(path)) for path in paths_of(folder)]
    (ranking,) = retrieve(predictor, "red circle", iter(photos), top=2)
    best = cosines(predictor, photos, ["red circle"])[0].argmax()
    assert ranking.matches[0].item == f"image {best}" and capfd.readouterr().err == ""  # how many is not known
    assert len(retrieve(predictor, TEXTS, Image.fromarray(photos[0]), "image_to_text", progress=False)) == 1


def test_a_broken_photo_stops_or_is_left_out(predictor, folder, tmp_path, logged):
    photos = [*paths_of(folder)[:2], tmp_path / "broken.png", paths_of(folder)[2]]
    photos[2].write_bytes(b"no photo")
    with pytest.raises(ValueError, match='broken.png: .*; bad_images="skip" skips such images$'):
        retrieve(predictor, TEXTS, photos, progress=False)
    rankings = retrieve(predictor, TEXTS, photos, "image_to_text", bad_images="skip", progress=False)
    assert [ranking.query for ranking in rankings] == [str(path) for path in photos if path.name != "broken.png"]
    assert sum("broken.png" in record.getMessage() for record in logged) == 1
    (ranking,) = retrieve(predictor, "red circle", photos, bad_images="skip", progress=False)
    assert len(ranking.matches) == 3


def test_only_a_few_batches_of_photos_are_held(predictor):
    """A stream of photos of which none may be read long before the one that is scored."""
    scored = []

    def photos():
        for index in range(40):
            assert index - len(scored) <= 3 * 4
            yield np.full((32, 32 + 8 * (index % 5), 3), index, np.uint8)

    embed = predictor.embed_prepared
    predictor.embed_prepared = lambda items: scored.extend(items) or embed(items)
    try:
        (ranking,) = retrieve(predictor, "red circle", photos(), top=3, batch_size=4)
    finally:
        del predictor.embed_prepared
    assert len(scored) == 40 and len(ranking.matches) == 3


@pytest.mark.parametrize("seed", range(5))
def test_the_best_columns_equal_a_stable_sort_of_all(seed):
    random = np.random.default_rng(seed)
    scores = torch.from_numpy(random.integers(0, 6, (4, 30)).astype(np.float32))  # many ties
    best = BestColumns(4, top=7)
    for block in np.split(random.permutation(30), [3, 4, 16]):
        best.add(scores[:, block], torch.from_numpy(block))
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :7]
    assert [[column for column, _ in row] for row in best.ranked()] == expected.tolist()
    assert best.ranked()[0][0] == (expected[0, 0], scores[0].max())


def test_refuses_what_cannot_be_searched(predictor, folder, tmp_path):
    for arguments, options, message in (
        ((TEXTS, folder), {"way": "both"}, "way: expected one of text_to_image, image_to_text, got 'both'"),
        ((TEXTS, folder), {"top": 0}, "top: expected at least 1"),
        ((TEXTS, folder), {"template": "a photo"}, "expected exactly one '{}'"),
        ((TEXTS, folder), {"bad_images": "ignore"}, "bad_images: expected one of"),
        (([], folder), {}, "at least one"),
        ((["a", ""], folder), {"template": "a photo of {}"}, "text 1"),
    ):
        with pytest.raises(ValueError, match=message.replace("{}", r"\{\}")):
            retrieve(predictor, *arguments, **options)
    with pytest.raises(FileNotFoundError, match="no image in this folder"):
        retrieve(predictor, TEXTS, tmp_path)
    with pytest.raises((FileNotFoundError, ValueError), match="missing"):
        retrieve(predictor, TEXTS, tmp_path / "missing")
