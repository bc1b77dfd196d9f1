"""What a benchmark ran on, and how it was called, for the head of its table."""

import platform
import shlex
import sys
from pathlib import Path

import torch


def describe_machine() -> str:
    """Processor, its vector instructions, the cores that are there, and torch's version."""
    names = [
        line.partition(":")[2].strip()
        for path in (Path("/proc/cpuinfo"),)
        if path.exists()
        for line in path.read_text().splitlines()
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    cores = torch.cpu.get_capabilities()["num_physical_cores"]
    return f"{processor} ({capability}, {cores} cores), torch {torch.__version__}"


def command_line() -> str:
    """The command that made the table."""
    script = Path(sys.argv[0])
    return shlex.join(["python", f"benchmarks/{script.name}", *sys.argv[1:]])
