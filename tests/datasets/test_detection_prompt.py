"""Class names as text: which are named, in which order, and what the token budget leaves out."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from coco_folder import coco_content, write_coco
from grounding_folder import write_odvg

from openvocab.datasets import DetectionDataset, GroundingDataset
from openvocab.datasets.transforms import DetectionPrompt, LoadImage, LoadInstances, PackSample
from openvocab.seeding import DrawIndex, seeded_draw
from openvocab.structures import FederatedLabels, Instances
from openvocab.text.token_counter import TokenCounter
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = [f"thing {number}" for number in range(200)]
THINGS, FEW_THINGS = Vocabulary.from_names(NAMES), Vocabulary.from_names(NAMES[:10])


def words(text: str) -> int:
    """Count words and full stops, as a tokenizer without word pieces does."""
    return len(text.replace(".", " .").split())


def results(classes=(3, 3, 9), crowd=None, vocabulary=None, **more):
    boxes = torch.arange(4 * len(classes), dtype=torch.float32).reshape(-1, 4)
    is_crowd = None if crowd is None else torch.tensor(crowd)
    instances = Instances(boxes, torch.tensor(classes, dtype=torch.int64), is_crowd=is_crowd)
    return {"sample_id": "a", "vocabulary": vocabulary or THINGS, "instances": instances, **more}


def drawn(transform, seed=0, **options):
    with seeded_draw(DrawIndex(0, seed)):
        return transform(results(**options))


def test_text_and_phrases_are_names_with_full_stops_between_them():
    prompt = drawn(DetectionPrompt(words), vocabulary=Vocabulary.from_names(NAMES[:12]))["prompt"]
    texts = [NAMES[owner] for owner in prompt.owners]
    assert prompt.text == ". ".join(texts) and prompt.phrase_texts == tuple(texts)
    assert {3, 9} <= {*prompt.owners} and len({*prompt.owners}) == len(prompt)


def test_the_number_of_negatives_is_all_half_of_the_time_and_else_uniform():
    counts, transform = Counter(), DetectionPrompt(words, budget=10_000)
    for seed in range(2000):
        prompt = drawn(transform, seed, classes=[])["prompt"]
        counts[len(prompt)] += 1
    assert abs(counts[85] / 2000 - (0.5 + 0.5 / 85)) < 0.04
    assert set(counts) == set(range(1, 86))
    low = sum(count for number, count in counts.items() if number <= 42)
    assert abs(low / 2000 - 0.5 * 42 / 85) < 0.04


def test_positives_are_removed_from_the_drawn_negatives_and_order_is_random():
    first, sizes, transform = Counter(), set(), DetectionPrompt(words, full_negatives=1)
    for seed in range(400):
        prompt = drawn(transform, seed, classes=[1, 2], vocabulary=FEW_THINGS)["prompt"]
        first[prompt.owners[0]] += 1
        sizes.add(len(prompt))
    assert sizes == {10}, "all ten are drawn, the two positives among them once"
    assert set(first) == set(range(10)) and max(first.values()) < 80


def test_negatives_end_before_the_budget_is_full():
    transform = DetectionPrompt(words, full_negatives=1, budget=30)
    for seed in range(50):
        prompt = drawn(transform, seed)["prompt"]
        assert {3, 9} <= {*prompt.owners}
        # three tokens each: two positives leave 24, of which the negatives may use fewer than all
        assert len(prompt) == 2 + 7 and sum(words(f"{NAMES[owner]}. ") for owner in prompt.owners) < 30


def test_whole_classes_and_their_boxes_are_dropped_if_the_positives_exceed_the_budget():
    kept, transform = Counter(), DetectionPrompt(words, budget=7)
    for seed in range(300):
        out = drawn(transform, seed, classes=[0, 1, 1, 2])
        owners = out["prompt"].owners
        assert len(owners) == 2 and {*owners} == {*out["instances"].classes.tolist()} < {0, 1, 2}
        rows = [row for row, index in enumerate([0, 1, 1, 2]) if index in owners]
        assert out["instances"].boxes.tolist() == results([0, 1, 1, 2])["instances"].boxes[rows].tolist()
        kept.update(owners)
    assert min(kept.values()) > 150


def test_a_budget_that_is_exactly_used_drops_nothing():
    out = drawn(DetectionPrompt(words, budget=9), classes=[0, 1, 2])
    assert {*out["prompt"].owners} == {0, 1, 2} and len(out["instances"].classes) == 3


def test_negatives_of_federated_data_are_verified_ones():
    found, transform = Counter(), DetectionPrompt(words)
    for seed in range(100):
        out = drawn(transform, seed, classes=[3], federated=FederatedLabels((5, 6, 7), (3,)))
        found.update(out["prompt"].owners)
    assert set(found) == {3, 5, 6, 7} and found[3] == 100


def test_a_class_of_which_there_are_crowds_only_is_not_named():
    vocabulary = Vocabulary.from_names(NAMES[:6])
    for seed in range(30):
        out = drawn(DetectionPrompt(words), seed, classes=[0, 1, 1], crowd=[False, True, True], vocabulary=vocabulary)
        assert 0 in out["prompt"].owners and 1 not in out["prompt"].owners
        assert len(out["instances"].classes) == 3


def test_all_names_in_fixed_order_without_a_draw():
    vocabulary = Vocabulary.from_names(["rest", ["dog (animal)", "hound"], "traffic_light"], background="rest")
    transform = DetectionPrompt(words, all_names=True)
    prompt = transform(results(classes=[1], vocabulary=vocabulary))["prompt"]
    assert prompt == Prompt("dog. hound. traffic light", (((0, 3),), ((5, 10),), ((12, 25),)), (1, 1, 2))
    with pytest.raises(ValueError, match=r"all 200 classes take 600 tokens, more than budget=254; .*all_names=False"):
        transform(results())


def test_the_background_is_never_a_negative_and_synonyms_are_phrases_of_one_class():
    vocabulary = Vocabulary.from_names(["rest", ["dog", "hound"], "cat"], background="rest")
    prompt = drawn(DetectionPrompt(words, full_negatives=1), classes=[2], vocabulary=vocabulary)["prompt"]
    assert sorted(zip(prompt.phrase_texts, prompt.owners)) == [("cat", 2), ("dog", 1), ("hound", 1)]


def test_a_caption_keeps_its_prompt(tmp_path):
    write_odvg(tmp_path)
    pipeline = [LoadImage(), LoadInstances(), DetectionPrompt(words), PackSample()]
    dataset = GroundingDataset("images", "grounding.jsonl", pipeline, root=tmp_path)
    assert dataset[0]["sample"].prompt.text == "A man rides a brown horse ."


def test_a_draw_depends_on_its_seed_alone(tmp_path):
    write_coco(tmp_path)
    pipeline = [LoadImage(), LoadInstances(), DetectionPrompt(words), PackSample()]
    dataset = DetectionDataset("images", "labels.json", pipeline=pipeline, root=tmp_path)
    texts = [dataset[DrawIndex(0, seed)]["sample"].prompt.text for seed in (1, 2, 3, 4, 5, 6, 1)]
    assert texts[0] == texts[-1] and len(set(texts)) > 2
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    dataset[DrawIndex(0, 5)]
    assert np.random.get_state()[1].tolist() == before


WRONG = {
    "num_negatives": dict(num_negatives=-1),
    "full_negatives": dict(full_negatives=1.5),
    "budget": dict(budget=0),
    "all_names": dict(all_names="yes"),
    "tokenizer": dict(tokenizer=3),
}


@pytest.mark.parametrize("argument", WRONG)
def test_wrong_arguments_are_named(argument):
    with pytest.raises(ValueError, match=f"{argument}: expected"):
        DetectionPrompt(**{"tokenizer": words, **WRONG[argument]})


def test_names_that_cannot_be_in_a_prompt_are_named():
    with pytest.raises(ValueError, match=r"class 'a b c d e f g h' takes 9 tokens, more than budget=8"):
        drawn(DetectionPrompt(words, budget=8), classes=[0], vocabulary=Vocabulary.from_names(["a b c d e f g h"]))
    with pytest.raises(ValueError, match=r"class 0: nothing is left of the name '\(none\)'"):
        drawn(DetectionPrompt(words), classes=[0], vocabulary=Vocabulary.from_names(["(none)"]))
    with pytest.raises(ValueError, match="sample 'a': neither objects nor absent classes"):
        drawn(DetectionPrompt(words), classes=[], federated=FederatedLabels())
    with pytest.raises(ValueError, match="vocabulary of DetectionPrompt: sample 'a' is needed"):
        DetectionPrompt(words)({"sample_id": "a"})


# ---- counting tokens ----


def test_clips_tokenizer_by_the_name_of_a_model():
    count = TokenCounter("ViT-B-16")
    assert [count(text) for text in ("cat", "cat. ", "a photo of a cat")] == [1, 2, 5]
    assert count("cat " * 100) == 100, "not cut at the length that CLIP reads"


@pytest.fixture
def bert_folder(tmp_path):
    pytest.importorskip("transformers")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hair", "dr", "##ier", ".", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    return tmp_path


def test_a_folder_with_words_of_bert(bert_folder):
    count = TokenCounter(bert_folder)
    assert [count(text) for text in ("hair drier. ", "Cat", "cat. ", "unknown")] == [4, 1, 2, 1]


def test_a_folder_with_a_tokenizer_file(bert_folder, tmp_path):
    import transformers

    folder = tmp_path / "saved"
    transformers.BertTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    assert TokenCounter(folder)("hair drier. cat") == 5


def test_the_prompt_counts_as_the_folder_says(bert_folder):
    vocabulary = Vocabulary.from_names(["hair drier", "cat"])
    out = drawn(DetectionPrompt(str(bert_folder), budget=5), classes=[0, 1], vocabulary=vocabulary)
    assert len(out["prompt"]) == 1, "four and two tokens do not fit into five"


def test_no_tokenizer_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer: the folder .* holds no tokenizer\.json or vocab\.txt"):
        TokenCounter(tmp_path)("cat")
    with pytest.raises(ValueError, match="tokenizer: 'ViT-B-61' is neither a folder nor an open_clip model"):
        TokenCounter("ViT-B-61")("cat")


def test_lists_of_objects_without_labels_are_no_error(tmp_path):
    content = coco_content()
    write_coco(tmp_path, content)
    pipeline = [LoadImage(), LoadInstances(), DetectionPrompt(words, full_negatives=1), PackSample()]
    dataset = DetectionDataset("images", "labels.json", pipeline=pipeline, root=tmp_path, keep_empty=True)
    owners = [sorted(dataset[DrawIndex(index, 1)]["sample"].prompt.owners) for index in range(4)]
    assert owners == [[0, 1, 2], [0, 1, 2], [1, 2], [0, 1, 2]], "cats are in a crowd only in the third image"
