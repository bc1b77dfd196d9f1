"""Fine-tune on a small folder of videos: from raw files to a checkpoint that the zero-shot pipeline uses.

    python examples/finetune_small_folder.py --model openai/clip-vit-base-patch16 --output-dir runs/small

Without `--videos` the folder is rendered first. Your own folder has one subfolder a class, named as the action is
called:

    videos/
      bouncing ball/   0.mp4  1.mp4  ...
      growing square/  0.mp4  1.mp4  ...
"""

import argparse
from pathlib import Path

import numpy as np
from transformers import pipeline

from froster_hf import FrosterForVideoClassification, FrosterProcessor, FrosterTrainer, FrosterTrainingArguments
from froster_hf.data import read_video_folder
from froster_hf.printing import printable
from froster_hf.shapes import write_mp4

CLASSES = ("bouncing ball", "growing square", "falling rain")


def main(argv: list[str] | None = None) -> dict[str, str]:
    """Train, save, and ask the saved model; returns the answer for one video of each class."""
    options = parse_options(argv)
    output_dir = Path(options.output_dir)
    videos = Path(options.videos) if options.videos else render_folder(output_dir / "videos")

    # 1. Raw files to a table of {video, label}; nothing is decoded yet.
    table = read_video_folder(videos).train_test_split(test_size=0.25, seed=0, stratify_by_column="label")

    # 2. CLIP with a temporal module, and what turns videos and labels into tensors.
    model = FrosterForVideoClassification.from_clip(
        options.model, temporal_module="local_attention", num_frames=options.num_frames
    )
    processor = FrosterProcessor.from_clip(
        options.model, video_options={"num_frames": options.num_frames, "frame_stride": 2}
    )

    # 3. Fine-tune, with the CLIP that the model began as for a teacher.
    trainer = FrosterTrainer(
        model=model,
        args=FrosterTrainingArguments(
            output_dir=str(output_dir / "run"),
            num_train_epochs=options.epochs,
            per_device_train_batch_size=6,
            learning_rate=options.learning_rate,
            warmup_steps=0.1,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            logging_steps=5,
            report_to="none",
        ),
        train_dataset=table["train"],
        eval_dataset=table["test"],
        processing_class=processor,
    )
    trainer.train()
    print("held-out accuracy:", trainer.evaluate()["eval_top1"], "%")

    # 4. The model for inference: without projectors, with its labels stored.
    trainer.save_model(str(output_dir / "model"))

    # 5. Use it, with these labels and any others.
    classify = pipeline("zero-shot-video-classification", model=str(output_dir / "model"))
    labels = table["test"].features["label"].names
    answers = {}
    # One held-out video of each class.
    for label, video in sorted(dict(zip(table["test"]["label"], table["test"]["video"])).items()):
        best = classify(video, candidate_labels=[*labels, "a person juggling"])[0]
        answers[labels[label]] = best["label"]
        print(f"{printable(labels[label])}: {printable(best['label'])} ({best['score']:.2f})")
    return answers


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="openai/clip-vit-base-patch16", help="a CLIP checkpoint: name or folder")
    parser.add_argument("--videos", help="a folder of class folders (default: rendered)")
    parser.add_argument("--output-dir", default="runs/small")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--num-frames", type=int, default=8)
    return parser.parse_args(argv)


def render_folder(root: Path, clips_per_class: int = 8) -> Path:
    """Videos of three actions, with places, sizes and speeds at random."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(clips_per_class):
            write_mp4(render_clip(name, random), root / name / f"{index}.mp4", fps=30)
    return root


def render_clip(name: str, random: np.random.Generator, num_frames: int = 32, side: int = 64) -> np.ndarray:
    """One clip, (frames, 3, side, side)."""
    rows, columns = np.mgrid[:side, :side]
    left, radius, phase = random.integers(16, side - 16), random.integers(8, 14), random.uniform(0, 2 * np.pi)
    frames = np.zeros((num_frames, 3, side, side), np.uint8)
    for time, frame in enumerate(frames):
        if name == "bouncing ball":
            height = side - radius - (side - 2 * radius) * abs(np.sin(np.pi * time / 12 + phase))
            frame[0, (rows - height) ** 2 + (columns - left) ** 2 < radius**2] = 240
        elif name == "growing square":
            half = 4 + radius * time // num_frames
            frame[1, (abs(rows - side // 2) < half) & (abs(columns - left) < half)] = 220
        else:
            frame[2, (columns * 7 % side + 3 * time - rows) % 16 < 3] = 250
    return frames


if __name__ == "__main__":
    main()
