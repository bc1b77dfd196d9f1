"""What batches take of a machine's memory, known before the first of them is made.

A file of settings may say any number of clips, frames and texts, and the system ends a process that takes more than
there is. What is counted here is taken for certain: what is refused could not have been computed on this machine.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Bytes of a number in single precision.
FLOAT_BYTES = 4


class _ControlGroups(NamedTuple):
    """Where one version of Linux' control groups lies, and in which files a group says what its processes may have.

    Args:
        root: folder of the groups.
        limit: file with the most that the processes of a group have together.
        taken: file with what they have.
        cache: what counts as taken, and is let go of where memory is short: names in the file `memory.stat`.
    """

    root: Path
    limit: str
    taken: str
    cache: tuple[str, ...]


# By the name that `/proc/self/cgroup` has for them: version 2 and version 1.
_CONTROL_GROUPS = {
    "": _ControlGroups(Path("/sys/fs/cgroup"), "memory.max", "memory.current", ("inactive_file", "active_file")),
    "memory": _ControlGroups(
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
}
_OWN_GROUPS = Path("/proc/self/cgroup")


def free_bytes() -> float:
    """What the system has left for this process; infinite where it does not say, which is elsewhere than on Linux."""
    try:
        rows = re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/meminfo").read_text(), flags=re.MULTILINE)
    except OSError:
        return float("inf")
    entries = {name: 1024 * float(number) for name, number in rows}
    of_machine = entries.get("MemAvailable", float("inf")) + entries.get("SwapFree", 0.0)
    return min([of_machine, *_left_in_groups()])


def _left_in_groups() -> Iterator[float]:
    """What is left in each control group with a limit that this process is in, such as a container's or a job's."""
    try:
        rows = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for row in rows:
        _, names, path = row.split(":", 2)
        for version in (_CONTROL_GROUPS[name] for name in names.split(",") if name in _CONTROL_GROUPS):
            own = version.root / path.lstrip("/")
            for group in (own, *own.parents):
                try:
                    limit, taken = (float((group / file).read_text()) for file in (version.limit, version.taken))
                    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                # Of the other version; `max`, without a limit; of a container, which is seen as the root.
                except (OSError, ValueError):
                    continue
                yield max(0.0, limit - taken + sum(float(stat.get(name, 0)) for name in version.cache))


def refuse_beyond_memory(num_bytes: float, what: str, *, advice: str) -> None:
    """Raise where something does not fit into the memory that is left.

    Args:
        num_bytes: that it takes at least.
        what: what takes it, with its numbers.
        advice: what to lower.

    Raises:
        ValueError: says how much is asked for, and how much there is.
    """
    if num_bytes > (free := free_bytes()):
        raise ValueError(
            f"{what} would take at least {num_bytes / 2**30:,.1f} GB of memory, and this machine has "
            f"{free / 2**30:,.1f} GB left. {advice}"
        )


def tower_bytes(tower: Any, num_tokens: float, *, kept_layers: float = 0, number_bytes: int = FLOAT_BYTES) -> float:
    """What a transformer holds at once of the tokens of a batch, at least.

    Args:
        tower: its configuration.
        num_tokens: of all frames or texts together.
        kept_layers: layers whose activations are held for the backward pass; 0 without one.
        number_bytes: bytes of a number.
    """
    width, inner = tower.hidden_size, tower.intermediate_size
    in_one_pass = has_one_pass(tower, number_bytes)
    # With the gradient of one layer's MLP.
    kept = kept_layers * layer_numbers(tower, number_bytes) + min(1, kept_layers) * inner
    # Without a backward pass, of the layer that is computed: what goes past it, and what its attention or MLP make.
    return num_tokens * number_bytes * max(kept, 5 * width, 3 * width + (0 if in_one_pass else 2 * inner))


def forward_bytes(config: Any, *, num_frames: int, num_clips: int, number_bytes: int = FLOAT_BYTES) -> float:
    """What a model holds on a CPU of clips of which nothing is kept for a backward pass, at least.

    Of those that it computes together, what a block or the pooling makes; of all, the embeddings.

    Args:
        config: a [`FrosterConfig`].
        num_frames: of a clip.
        num_clips: that it is given at once.
        number_bytes: bytes of a number.
    """
    costs, vision = config.costs(num_frames), config.vision_config
    at_once = min(num_clips, costs.clips_at_once)
    return max(
        tower_bytes(vision, at_once * num_frames * frame_tokens(vision), number_bytes=number_bytes),
        float(at_once) * number_bytes * costs.held_numbers(0, is_trained=False),
        2.0 * num_clips * number_bytes * costs.embed_numbers,
    )


def layer_numbers(tower: Any, number_bytes: int = FLOAT_BYTES) -> int:
    """Numbers that a layer holds of a token for the backward pass.

    What its norms, its attention and its MLP read, the queries, keys and values, and what is in the MLP.

    Args:
        tower: its configuration.
        number_bytes: bytes of a number.
    """
    return 8 * tower.hidden_size + (1 if has_one_pass(tower, number_bytes) else 2) * tower.intermediate_size


def has_one_pass(tower: Any, number_bytes: int) -> bool:
    """Whether its MLPs are computed in one pass, which goes without its function's own tensor.

    Args:
        tower: its configuration.
        number_bytes: bytes of a number.
    """
    return tower.hidden_act == "quick_gelu" and number_bytes == FLOAT_BYTES


def frame_tokens(tower: Any) -> int:
    """Tokens of one frame: its patches, and most often one for their class.

    Args:
        tower: configuration of the vision tower.
    """
    return (tower.image_size // tower.patch_size) ** 2
