"""What the system says of the memory that is left."""

from pathlib import Path

import pytest

from froster_hf import machine_memory

MB = 2**20


@pytest.fixture(params=["", "memory"], ids=["version 2", "version 1"])
def control_groups(request, tmp_path, monkeypatch):
    """Makes groups of either version, and puts this process into one."""
    version = machine_memory._CONTROL_GROUPS[request.param]._replace(root=tmp_path / "groups")
    monkeypatch.setattr(machine_memory, "_CONTROL_GROUPS", {request.param: version})
    monkeypatch.setattr(machine_memory, "_OWN_GROUPS", tmp_path / "own")

    def make(path: str, limit: object, taken: int, **cache: int) -> None:
        group: Path = version.root / path
        group.mkdir(parents=True, exist_ok=True)
        (group / version.limit).write_text(f"{limit}\n")
        (group / version.taken).write_text(f"{taken}\n")
        names = dict(zip(("inactive", "active"), version.cache))
        stat = {"anon": 7, **{names[name]: size for name, size in cache.items()}}
        (group / "memory.stat").write_text("".join(f"{name} {size}\n" for name, size in stat.items()))

    def enter(path: str) -> None:
        (tmp_path / "own").write_text(f"9:name=systemd:/elsewhere\n4:{request.param}:{path}\n")

    return make, enter


def test_a_containers_limit_counts_where_it_is_lower(control_groups):
    make, enter = control_groups
    enter("/")
    free = machine_memory.free_bytes()
    assert free > MB
    make("", MB, 0)
    assert machine_memory.free_bytes() == MB
    # A container may be told its group by the name that it has outside, and see it as the root.
    enter("/docker/0f1e")
    assert machine_memory.free_bytes() == MB


def test_the_limit_of_a_job_and_of_what_it_is_in_counts(control_groups):
    make, enter = control_groups
    make("", "max", 0)
    make("job", 3 * MB, 0)
    make("job/step", 9 * MB, 0)
    make("another", MB, 0)
    enter("/job/step")
    assert machine_memory.free_bytes() == 3 * MB
    make("job/step", 2 * MB, 0)
    assert machine_memory.free_bytes() == 2 * MB


def test_what_is_taken_of_a_limit_is_not_left_but_for_the_cache_of_files(control_groups):
    make, enter = control_groups
    enter("/job")
    make("job", 8 * MB, 6 * MB)
    assert machine_memory.free_bytes() == 2 * MB
    make("job", 8 * MB, 6 * MB, inactive=MB, active=2 * MB)
    assert machine_memory.free_bytes() == 5 * MB
    make("job", 8 * MB, 9 * MB)
    assert machine_memory.free_bytes() == 0
