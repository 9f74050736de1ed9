"""What was written before 0.2 finds its modules: imports, configs, and the configs inside checkpoints."""

import subprocess
import sys
import warnings
from importlib import import_module

import pytest
from config_parts import REPOSITORY

from openvocab import former_names
from openvocab.config.saved import config_changes, config_of
from openvocab.former_names import MOVED, PARTS, accept_former_arguments, present_arguments, present_path
from openvocab.registry import CONTRASTIVE_TERMS, HEADS

OLD_CONFIG = """
from openvocab.datasets.noun_prompts import RuleNouns
from openvocab.metrics.average_precision import CocoAveragePrecision
from openvocab.text.vocabulary import Vocabulary
model = dict(type=CocoAveragePrecision, nouns=dict(type=RuleNouns))
"""


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_what_the_new_one_has(old):
    new = import_module(f"openvocab.{MOVED[old]}")
    public = next(name for name in vars(new) if not name.startswith("_"))
    with pytest.warns(FutureWarning, match=rf"openvocab\.{old} is openvocab\.{MOVED[old]} now"):
        assert getattr(sys.modules[f"openvocab.{old}"], public) is getattr(new, public)


def test_what_is_changed_under_the_old_name_is_changed():
    from openvocab.process import processor_cores

    with pytest.warns(FutureWarning):
        sys.modules["openvocab.processor_cores"].made_up = "changed"
    assert vars(processor_cores).pop("made_up") == "changed"


def test_no_old_name_is_one_of_today():
    for old in MOVED:
        path = REPOSITORY.joinpath("openvocab", *old.split("."))
        assert not path.with_suffix(".py").exists() and not (path / "__init__.py").exists(), old


def test_a_config_of_before_is_read(tmp_path):
    (tmp_path / "old.py").write_text(OLD_CONFIG)
    program = "from openvocab.config import read_config; print(read_config('old.py').model.nouns.type)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, text=True, capture_output=True, timeout=60)
    assert ended.stdout == "<class 'openvocab.datasets.transforms.noun_prompts.RuleNouns'>\n", ended.stderr
    assert "openvocab.datasets.noun_prompts is openvocab.datasets.transforms.noun_prompts now" in ended.stderr


def test_a_walk_over_all_modules_imports_and_says_nothing():
    program = "import sys, openvocab; [getattr(m, '__warningregistry__', 0) for m in list(sys.modules.values())]"
    program += "; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("False\n", "")


def test_the_config_in_an_old_checkpoint_is_that_of_today():
    old = {"type": "openvocab.datasets.noun_prompts.AddNounPrompts", "nouns": ["a", "openvocab.text.vocabulary.X"]}
    new = {"type": "openvocab.datasets.transforms.noun_prompts.AddNounPrompts", "nouns": ["a", "other"]}
    changes = config_changes({"model": old}, {"model": new})
    assert list(changes) == ["model.nouns.1"]


def test_a_part_under_its_old_path_is_built_from_a_checkpoint():
    head = {"type": "openvocab.heads.dense_clip.DenseCLIPHead"}
    step = {"type": "openvocab.datasets.transforms.loading.LoadImage"}
    saved = {"model": {"type": "openvocab.model.OpenVocabModel", "head": head}}
    saved["test_dataloader"] = {"dataset": {"pipeline": [step]}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = config_of({"meta": {"config": saved}}, "a checkpoint")
    assert config.model.head.type.__name__ == "DenseCLIPHead"


@pytest.mark.parametrize("old", PARTS)
def test_a_part_is_found_and_imported_by_its_former_name(old):
    with pytest.warns(FutureWarning, match=f"{old} is {PARTS[old]} now"):
        kind = CONTRASTIVE_TERMS.get(old)
    assert kind.__name__ == PARTS[old]
    with pytest.warns(FutureWarning, match=f"{old} is {PARTS[old]} now"):
        assert getattr(import_module("openvocab.heads.terms"), old) is kind
    assert present_path(f"openvocab.heads.terms.captions.{old}").endswith(PARTS[old])


class Renaming:
    """A part whose arguments had other names."""

    def __init__(self, present=0, group=None, kept=0):
        self.given = present, group, kept


Renaming.__module__ = "openvocab.made_up"  # arguments of foreign classes are never renamed


@pytest.fixture
def renamed(monkeypatch):
    monkeypatch.setitem(
        former_names.ARGUMENTS, "Renaming", {"old": "present", "group.b": "group.c", "flat": "group.flat"}
    )


def test_former_arguments_are_given_under_their_present_names(renamed):
    config = {"type": Renaming, "old": 1, "kept": 2, "group": {"b": 3}, "flat": 4}
    with pytest.warns(FutureWarning, match=r"Renaming: group\.b=\.\.\. is group=dict\(c=\.\.\.\) now; the old name"):
        assert HEADS.build(config).given == (1, {"c": 3, "flat": 4}, 2)
    assert config == {"type": Renaming, "old": 1, "kept": 2, "group": {"b": 3}, "flat": 4}


def test_an_argument_under_both_names_is_an_error(renamed):
    with pytest.raises(ValueError, match="got both present and old, its name before 0.2; give present alone"):
        present_arguments(Renaming, {"old": 1, "present": 2}, warn=False)


def test_a_call_in_python_takes_former_names_too(renamed):
    class Of(accept_former_arguments(Renaming)):
        """A subclass that hands its arguments on."""

        def __init__(self, *args, flat=None, **kwargs):
            super().__init__(*args, **kwargs)

    for kind in (Renaming, accept_former_arguments(Of)):
        with pytest.warns(FutureWarning, match=r"old=\.\.\. is present=\.\.\. now; the old name") as warned:
            assert kind(old=4, kept=1).given == (4, None, 1)
        assert warned[0].filename == __file__
    assert Of(flat=1).given == (0, None, 0)  # an argument of its own


def test_a_subclass_takes_the_former_arguments_of_its_base(renamed):
    kind = type("Of", (Renaming,), {})
    assert present_arguments(kind, {"old": 1}, warn=False) == {"present": 1}


def test_a_renamed_argument_is_no_change_of_a_config(renamed):
    then, now = {"type": "openvocab.m.Renaming", "old": 1}, {"type": "openvocab.m.Renaming", "present": 1}
    assert config_changes({"model": then}, {"model": now}) == {}
    assert list(config_changes({"model": then}, {"model": {**now, "present": 2}})) == ["model.present"]


@pytest.mark.parametrize(
    "text", ["a.b", "user.NeighbourContrast", "", "vocabulary.X", "text.vocabulary.X", "openvocab.heads.lseg.LSegHead"]
)
def test_other_texts_stay_as_they_are(text):
    assert present_path(text) == text
