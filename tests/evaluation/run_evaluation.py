"""What a user's own script would do, for a launcher to start several times side by side.

It evaluates twice. The second time every process but the first reads stored predictions only when the first has stored
some: what a slow disk does to one of them.
"""

import sys
import time
from pathlib import Path

import torch

torch.set_num_threads(1)

from accelerate import Accelerator  # noqa: E402

from froster_hf.evaluation import evaluate_protocol, load_protocol  # noqa: E402
from froster_hf.evaluation.predicting import PredictionStore  # noqa: E402
from froster_hf.modeling.modeling_froster import FrosterForVideoClassification  # noqa: E402
from froster_hf.processing.processing_froster import FrosterProcessor  # noqa: E402


def main(checkpoint: str, root: str, annotations: str, output_dir: str, slowed_dir: str) -> None:
    accelerator = Accelerator(cpu=True)
    evaluate(checkpoint, root, annotations, output_dir, accelerator)
    if not accelerator.is_main_process:
        wait_before_reading(Path(slowed_dir) / "predictions" / "sample_0" / "predictions.0.jsonl")
    evaluate(checkpoint, root, annotations, slowed_dir, accelerator)


def evaluate(checkpoint: str, root: str, annotations: str, output_dir: str, accelerator: Accelerator) -> None:
    model = FrosterForVideoClassification.from_pretrained(checkpoint)
    evaluate_protocol(
        load_protocol("base_to_novel_hmdb51", ["num_views=2", "frame_stride=2"]),
        models=model,
        processor=FrosterProcessor.from_pretrained(checkpoint),
        data={"root": root, "annotations": annotations},
        output_dir=output_dir,
        batch_size=2,
        accelerator=accelerator,
    )
    if accelerator.num_processes > 1:
        (Path(output_dir) / f"was_process_{accelerator.process_index}").touch()


def wait_before_reading(file: Path) -> None:
    read = PredictionStore.read

    def read_late(store):
        deadline = time.monotonic() + 60
        while not (file.exists() and b'"row"' in file.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return read(store)

    PredictionStore.read = read_late


if __name__ == "__main__":
    main(*sys.argv[1:])
