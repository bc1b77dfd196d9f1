from froster_hf.hub_cache import blobs_of_snapshot


def test_a_snapshot_and_folders_below_it_know_their_blobs(tmp_path):
    entry = tmp_path / "datasets--someone--videos"
    (entry / "snapshots" / "0123abc" / "data").mkdir(parents=True)
    assert blobs_of_snapshot(entry / "snapshots" / "0123abc") is None, "there are no blobs"
    (entry / "blobs").mkdir()
    assert blobs_of_snapshot(entry / "snapshots" / "0123abc") == entry / "blobs"
    assert blobs_of_snapshot(entry / "snapshots" / "0123abc" / "data") == entry / "blobs"
    assert blobs_of_snapshot(entry) is None
    assert blobs_of_snapshot(tmp_path) is None


def test_blobs_that_are_a_link_are_none(tmp_path):
    (tmp_path / "entry" / "snapshots" / "0123abc").mkdir(parents=True)
    (tmp_path / "entry" / "blobs").symlink_to(tmp_path)
    assert blobs_of_snapshot(tmp_path / "entry" / "snapshots" / "0123abc") is None
