"""One predictor, asked in all ways: folders, lists, encoded images, fixed names, scores, threads."""

import io
import pickle
import threading

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config
from PIL import Image

from openvocab import load
from openvocab.config.config import read_config
from openvocab.results import DetectionResult, SemanticResult

NAMES = ["cat", "dog", "other"]


def predictor_of(name, **changes):
    torch.manual_seed(0)
    model = without_weights(read_config(REPOSITORY / "configs" / f"{name}.py").model.to_dict())
    for key, value in changes.items():
        model[key] |= value
    return load(Config(dict(model=model)), device="cpu")


@pytest.fixture(scope="module")
def predictor():
    return predictor_of("dense_clip_shapes")


@pytest.fixture(scope="module")
def detector():
    return predictor_of("vild_text_shapes")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def test_a_folder_and_a_list_give_a_list_of_results(predictor, image, tmp_path):
    for name in ("b.png", "a.png", "inner/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    results = predictor(tmp_path, NAMES)
    assert [result.sample_id for result in results] == [
        str(tmp_path / name) for name in ("a.png", "b.png", "inner/c.png")
    ]
    one = predictor(image, NAMES)
    for result in (*results, *predictor([image, Image.fromarray(image)], NAMES), *predictor(iter([image]), NAMES)):
        assert isinstance(result, SemanticResult) and np.array_equal(result.label_map, one.label_map)
        assert np.array_equal(result.image, image)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no image in this folder"):
        predictor(tmp_path / "empty", NAMES)


def test_open_files_and_addresses_are_read_once_and_kept(predictor, image, tmp_path, monkeypatch):
    Image.fromarray(image).save(tmp_path / "a.png")
    content, fetched = (tmp_path / "a.png").read_bytes(), []
    monkeypatch.setattr("openvocab.images.image_content.fetch", lambda address: fetched.append(address) or content)
    address = "https://example.org/a.png"
    with open(tmp_path / "a.png", "rb") as file:
        results = [predictor(file, NAMES)]
    results += [predictor(address, NAMES), predictor.encode(io.BytesIO(content))(NAMES)]
    results += predictor([io.BytesIO(content), address], NAMES)
    results += [predictor(one, NAMES, tile=30) for one in (address, io.BytesIO(content))]
    for result in results:
        assert np.array_equal(result.image, image) and np.array_equal(result.image, image)
        assert np.array_equal(pickle.loads(pickle.dumps(result)).image, image)
    assert fetched == [address] * 3
    assert [result.sample_id == address for result in results] == [False, True, False, False, True, True, False]


def test_representations_say_what_it_is(predictor, image):
    assert repr(predictor) == "Predictor(DenseCLIPHead on CLIPBackbone, cpu)"
    assert repr(predictor.encode(image)) == "EncodedImage(image 0, 40x56)"
    assert repr(predictor.vocabulary("cat, dog")) == f"{predictor!r} for cat, dog"


@pytest.mark.parametrize("kind", ["dense_clip_shapes", "lseg_shapes", "groupvit_shapes", "vild_text_shapes"])
def test_an_encoded_image_answers_as_the_predictor_does_without_its_backbone(kind, image):
    predictor = predictor_of(kind)
    encoded = predictor.encode(image)
    encoded(NAMES)
    calls = []
    handle = predictor.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    answers = [encoded(names) for names in ("tree, car", "sky", NAMES)]
    handle.remove()
    assert not calls
    for names, answer in zip(("tree, car", "sky", NAMES), answers):
        expected = predictor(image, names)
        assert repr(answer) == repr(expected) and answer.names == expected.names


def test_scores_are_kept_if_they_are_asked_for(predictor, image):
    result = predictor(image, NAMES, scores=True)
    heats = np.stack([result.heat_map(name) for name in NAMES])
    assert np.allclose(heats.sum(axis=0), 1, atol=1e-5) and np.allclose(heats.max(axis=0), result.scores, atol=1e-6)
    assert predictor(image, NAMES).score_map is None
    limit = float(np.median(result.scores))
    filtered = predictor(image, NAMES, min_score=limit)
    assert np.array_equal(filtered.label_map == filtered.unlabeled, result.scores < limit)


@pytest.mark.parametrize("kind", ["dense_clip_shapes", "lseg_shapes", "groupvit_shapes", "training_free_shapes"])
@pytest.mark.parametrize("logits_in_memory", [1 << 27, 0])
def test_a_pickled_result_keeps_its_scores_and_leaves_the_model_behind(kind, logits_in_memory, image, monkeypatch):
    monkeypatch.setattr("openvocab.model.LOGITS_IN_MEMORY", logits_in_memory)
    result = predictor_of(kind)(image, NAMES, scores=True)
    content = pickle.dumps(result)
    copied = pickle.loads(content)
    assert len(content) < 150_000  # the model has megabytes
    assert np.allclose(copied.scores, result.scores, atol=1e-6)
    assert np.allclose(copied.heat_map("dog"), result.heat_map("dog"), atol=1e-6)
    if result.presence_of is not None:
        assert copied.presence == result.presence


def test_a_tiled_image_keeps_its_name_its_scores_and_its_presence(predictor, image, tmp_path):
    path = str(tmp_path / "a.png")
    Image.fromarray(image).save(path)
    result = predictor(path, NAMES, tile=(24, 30), scores=True)
    assert result.sample_id == path and result.presence == predictor.presence(path, NAMES)
    content = pickle.dumps(result)
    assert len(content) < 500_000 and np.array_equal(pickle.loads(content).scores, result.scores)


def test_a_lowest_score_alone_keeps_no_scores(predictor, image):
    assert predictor(image, NAMES, min_score=0.4).score_map is None
    assert predictor(image, NAMES, min_score=0.4, scores=True).score_map is not None


def test_presence_is_a_softmax_or_with_a_bias_a_sigmoid(predictor, image, monkeypatch):
    presence = predictor(image, NAMES, scores=True).presence
    assert presence == predictor.presence(image, NAMES) == predictor.encode(image).presence(NAMES)
    images, texts = predictor.encode_image(image, normalize=True), predictor.embed_names
    vocabulary = predictor.vocabulary(NAMES).vocabulary
    rows = texts(vocabulary)
    logits = rows.logit_scale * (images @ rows.embed.T)[0]
    assert np.allclose(list(presence.values()), logits.softmax(0), atol=1e-6) and list(presence) == NAMES
    encode = predictor.model.encode_texts

    def with_bias(texts):
        features = encode(texts)
        features.logit_bias = torch.tensor(-1.5)
        return features

    monkeypatch.setattr(predictor.model, "encode_texts", with_bias)
    assert np.allclose(list(predictor.presence(image, NAMES).values()), (logits - 1.5).sigmoid(), atol=1e-6)


def test_a_head_without_embeddings_of_images_has_no_presence(image):
    result = predictor_of("lseg_shapes")(image, NAMES, scores=True)
    with pytest.raises(ValueError, match="does not embed|no presence"):
        _ = result.presence
    assert result.scores.shape == (40, 56)


def test_the_background_is_one_of_the_names(image):
    predictor = predictor_of("dense_clip_shapes", head=dict(background_threshold=0.99))
    assert len(predictor(image, NAMES)) > 1
    result = predictor(image, NAMES, background="Other")
    assert set(np.unique(result.label_map)) == {2}
    assert predictor.vocabulary(NAMES, background="other")(image).label_map.min() == 2
    with pytest.raises(ValueError, match="background: 'sky' is not among the 3 class names"):
        predictor(image, NAMES, background="sky")


def test_low_scores_are_left_out_of_objects(detector, image):
    result = detector(image, NAMES)
    assert isinstance(result, DetectionResult) and len(result) > 3
    limit = float(result.scores.median())
    assert torch.equal(detector(image, NAMES, min_score=limit).boxes, result.boxes[result.scores >= limit])


def test_threads_get_the_results_of_a_single_one(predictor, detector, image):
    asked = [(one, names, part) for one in (predictor, detector) for names in ("cat, dog", "sky, tree, car")
             for part in (image, image[:20], image[::-1])]  # fmt: skip
    expected = [repr(one(part, names)) for one, names, part in asked]
    actual: dict[int, str] = {}

    def ask(start):
        for number in range(start, len(asked), 4):
            one, names, part = asked[number]
            actual[number] = repr(one(part, names))

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [actual[number] for number in range(len(asked))] == expected
