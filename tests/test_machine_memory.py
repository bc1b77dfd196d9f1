"""What the system says of the memory that is left."""

from froster_hf import machine_memory


def test_a_containers_limit_counts_where_it_is_lower(tmp_path, monkeypatch):
    free = machine_memory.free_bytes()
    assert free > 2**20
    none, limit = tmp_path / "none", tmp_path / "limit"
    none.write_text("max\n")
    limit.write_text("1048576\n")
    monkeypatch.setattr(machine_memory, "_LIMITS", (none, tmp_path / "of the other version", limit))
    assert machine_memory.free_bytes() == 2**20
