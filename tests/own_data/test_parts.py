"""What is known about a user's data: what they are called in logs, results and work dirs."""

import pytest
from own_files import NAMES, write_photos, write_yolo

from openvocab.own_data.recognition import recognize


@pytest.mark.parametrize(
    ("folder", "file", "name"),
    [
        ("cells", None, "cells"),
        ("Hard Hats.v1i.yolov8", None, "Hard Hats.v1i.yolov8"),  # Roboflow's exports
        ("cells", "data.yaml", "cells"),  # ultralytics calls every such file so
        ("cells", "my.yaml", "my"),
    ],
)
def test_data_are_called_as_their_folder_or_by_a_file_with_a_name_of_its_own(tmp_path, folder, file, name):
    root = tmp_path / folder
    write_photos(root / "images" / "train")
    write_yolo(root / "labels" / "train")
    text = "images: images/train\nlabels: labels/train\n" if file == "my.yaml" else "train: images/train\n"
    (root / (file or "data.yaml")).write_text(f"path: .\n{text}names: {NAMES}\n")
    data = recognize(root if file is None else root / file, "detection")
    assert data.name == name and data.dataset("train", "detection", tmp_path)["name"] == f"{name}/train"
