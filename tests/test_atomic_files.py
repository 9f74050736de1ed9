"""A file is whole or as it was."""

import pytest

from openvocab.atomic_files import replacing


def test_a_file_is_replaced_when_all_is_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as file:
        file.write("é new")
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "é new" and list(tmp_path.iterdir()) == [path]


def test_after_an_error_nothing_has_changed(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), replacing(path, "wb") as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
