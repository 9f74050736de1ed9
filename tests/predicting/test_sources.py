"""Photos by files, folders, patterns, addresses, lists, videos and stdin."""

import io
from pathlib import Path, PurePath
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from openvocab.images.image_io import BadSample
from openvocab.predicting.sources import Video, count_photos, find_sources, photos_of


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A folder with photos, a list of them and other files, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.png", "inner/c.jpg", "inner/.hidden.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(name)
    Path("notes.md").write_text("none")
    return tmp_path


def names(*words, **options):
    return [(photo.display_name, str(photo.name)) for photo in photos_of(find_sources(words, None, **options))]


def test_files_folders_and_patterns(album):
    assert names("b.jpg", "a.png") == [("b.jpg", "b.jpg"), ("a.png", "a.png")]
    assert names("inner/c.jpg") == [("inner/c.jpg", "c.jpg")]
    everything = [("a.png", "a.png"), ("b.jpg", "b.jpg"), ("inner/c.jpg", "inner/c.jpg")]
    assert names(".") == everything
    assert names("**/*.*") == everything
    assert names("*/*.jpg") == [("inner/c.jpg", "inner/c.jpg")]
    assert names("[ab].*") == everything[:2]


def test_addresses_are_named_after_their_files(album):
    listed = names("https://example.org/a%20b.jpg?size=1", "http://example.org/")
    assert listed == [("https://example.org/a%20b.jpg?size=1", "a b.jpg"), ("http://example.org/", "image")]


def test_a_list_names_photos_relative_to_itself(album):
    Path("inner/list.txt").write_text("# mine\nc.jpg\n\n../b.jpg\nhttps://example.org/x.jpg\n..\n")
    assert [shown for shown, _ in names("inner/list.txt")][:3] == [
        "inner/c.jpg",
        "inner/../b.jpg",
        "https://example.org/x.jpg",
    ]
    assert len(names("inner/list.txt")) == 6
    Path("names.txt").write_bytes("\ufeffb.jpg\r\ninner/c.jpg\r\ninner\r\n".encode())
    assert names("names.txt") == [("b.jpg", "b.jpg"), *[("inner/c.jpg", "inner/c.jpg")] * 2]
    Path("empty.txt").write_text("# none\n")
    with pytest.raises(FileNotFoundError, match="empty.txt: the list names no photos"):
        names("empty.txt")
    Path("bad.txt").write_text("b.jpg\nmissing.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"bad.txt:2: missing.jpg: no such file"):
        names("bad.txt")
    Path("nested.txt").write_text("inner/list.txt\n")
    with pytest.raises(ValueError, match=r"nested.txt:1: a list names photos"):
        names("nested.txt")


def test_stdin_holds_one_image(album, monkeypatch):
    content = Path("b.jpg").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (photo,) = find_sources(["-"], None)
    assert photo.source == content and photo.display_name == "stdin"


@pytest.mark.parametrize(
    "word, message",
    [
        ("missing.jpg", "missing.jpg: no such file or folder$"),
        ("*.gif", r"\*.gif: the pattern matches no photo or video"),
        ("empty", "no photos in empty"),
        ("s3://bucket/a.jpg", "only http and https are fetched"),
    ],
)
def test_what_is_not_there_is_said(album, word, message):
    (album / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        names(word)


def test_results_of_an_earlier_command_are_no_photos(album, capsys):
    (album / "found").mkdir()
    Image.new("RGB", (2, 2)).save("found/a.png")
    sources = find_sources([".", "**/*.png"], "found")
    assert [photo.display_name for photo in sources] == ["a.png", "b.jpg", "inner/c.jpg", "a.png"]
    assert capsys.readouterr().err.count("1 pictures of an earlier command") == 2


def test_frames_of_a_video_are_photos(album):
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in range(7):
        writer.write(np.full((48, 64, 3), (30 * level, 0, 0), np.uint8))  # blue, in OpenCV's order
    writer.release()
    sources = find_sources(["clip.avi"], None, every=3)
    assert isinstance(sources[0], Video) and count_photos(sources) == 3
    photos = list(photos_of(sources))
    assert [photo.display_name for photo in photos] == [f"clip.avi, frame {number}" for number in (0, 3, 6)]
    assert [photo.name for photo in photos] == [PurePath(f"clip/{number:06d}.png") for number in (0, 3, 6)]
    for photo, level in zip(photos, (0, 90, 180)):
        assert photo.source.shape == (48, 64, 3)
        assert abs(photo.source[..., 2].mean() - level) < 6 and photo.source[..., 0].mean() < 6
    Path("broken.mp4").write_bytes(b"no video")
    (photo,) = photos_of(find_sources(["broken.mp4"], None))
    assert isinstance(photo.source, BadSample) and count_photos(find_sources(["broken.mp4"], None)) is None
    with pytest.raises(ValueError, match="--every"):
        find_sources(["clip.avi"], None, every=0)
