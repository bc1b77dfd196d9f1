import pytest

from froster_hf.data.safe_paths import UnsafePathError, VideoRoot


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "class").mkdir(parents=True)
    (tmp_path / "root" / "class" / "clip.mp4").touch()
    (tmp_path / "secret.mp4").touch()
    return tmp_path / "root"


@pytest.mark.parametrize(
    "path", ["class/clip.mp4", "./class/clip.mp4", "class/../class/clip.mp4", "class/a:b, c.mp4", "class/absent.mp4"]
)
def test_plain_paths_under_the_root_resolve_to_absolute_ones(root, path):
    assert VideoRoot(root).resolve(path, where="list") == str((root / path).resolve())


def test_an_absolute_path_under_the_root_is_allowed(root):
    path = str(root / "class" / "clip.mp4")
    assert VideoRoot(root).resolve(path, where="list") == path


@pytest.mark.parametrize(
    "path",
    [
        "../secret.mp4",
        "class/../../secret.mp4",
        "/etc/passwd",
        "http://example.org/clip.mp4",
        "concat:class/clip.mp4|/etc/passwd",
        "file:class/clip.mp4",
        "hf://datasets/x/clip.mp4",
        "class/clip.mp4\0.txt",
        "",
        "x" * 5000,
    ],
)
def test_paths_that_leave_the_root_or_are_not_plain_are_refused_with_the_line(root, path):
    with pytest.raises(UnsafePathError, match=r"list\.csv, line 7"):
        VideoRoot(root).resolve(path, where="list.csv, line 7")


def test_symbolic_links_that_escape_are_refused_and_those_that_stay_are_followed(root):
    (root / "out.mp4").symlink_to(root.parent / "secret.mp4")
    (root / "outside").symlink_to(root.parent)
    (root / "in.mp4").symlink_to(root / "class" / "clip.mp4")
    video_root = VideoRoot(root)
    for path in ("out.mp4", "outside/secret.mp4"):
        with pytest.raises(UnsafePathError, match="outside the data root"):
            video_root.resolve(path, where="list")
    assert video_root.resolve("in.mp4", where="list") == str(root / "class" / "clip.mp4")


def test_symbolic_links_in_a_circle_are_refused(root):
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")
    with pytest.raises(UnsafePathError, match="list"):
        VideoRoot(root).resolve("one/clip.mp4", where="list")
    with pytest.raises(UnsafePathError, match="list"):
        VideoRoot(root).resolve("one", where="list")


def test_a_path_longer_than_any_is_refused_without_looking_for_its_parts(root):
    with pytest.raises(UnsafePathError, match=r"list\.csv:3: .* cannot be resolved \(File name too long\)"):
        VideoRoot(root).resolve("a/" * 2_000_000 + "b.mp4", where="list.csv:3")


def test_a_root_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(NotADirectoryError, match="absent"):
        VideoRoot(tmp_path / "absent")
