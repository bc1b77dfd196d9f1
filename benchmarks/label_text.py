"""What is text worth? Labels as they are, under templates, with one sentence, with several; and two objects at once.

    OMP_NUM_THREADS=1 python benchmarks/label_text.py

The shipped checkpoint scores rendered clips, and only the text that they are compared with differs. Two worlds:
objects with all their motions, of which those of one object compete ("a red star sliding left", "a red star growing");
and whole actions drawn from the whole world, half of them behind a gray post, under a camera that pans. Sentences say
the same in other words, those of the captions that the checkpoint's CLIP has read ("a red star moving to the left").
Templates are chosen on clips of other objects, as `froster evaluate LIST --choose-templates` does. Differences are
from the bare labels, clip by clip, with Bonett and Price's 95 % interval.

The interactions are pairs of objects of which one pushes, pulls, passes or follows the other: eight labels for two
objects, which no single frame and no word for an object tells apart.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

import froster_hf
from froster_hf.data.video_table import LABEL_COLUMN, VIDEO_COLUMN, video_features
from froster_hf.evaluation import choose_templates
from froster_hf.evaluation.metrics import paired_intervals
from froster_hf.processing.prompts_froster import TEXT_POOLINGS
from froster_hf.shapes import (
    INTERACTIONS,
    Hardships,
    MovingShape,
    all_classes,
    draw_classes,
    draw_scenes,
    render_clips,
    with_interactions,
    write_moving_shapes,
)
from froster_hf.shapes.captions import MOTION_WORDS
from froster_hf.shapes.vocabulary import ROUND

CLIPS_AT_ONCE = 64
# Of two objects: among all labels, among those of these objects, what is done if it is known who acts, and who acts.
ASKED = ("all labels", "the eight of the two objects", "what is done", "who does it")
HARDSHIPS = Hardships(camera_speed=0.5, occlusion_rate=0.5)


def motions_of_an_object(seed: int) -> list[MovingShape]:
    """Round shapes cannot be seen spinning."""
    one = next(drawn for drawn in draw_classes(seed, 32) if drawn.shape not in ROUND)
    return all_classes(colors=[one.color], shapes=[one.shape])


def whole_actions(seed: int) -> list[MovingShape]:
    return draw_classes(seed, 240)


# By name: labels that compete, drawn by a seed; what makes it hard; clips per label.
WORLDS: dict[str, tuple[Callable[[int], list[MovingShape]], Hardships, int]] = {
    "All motions of an object": (motions_of_an_object, Hardships(), 20),
    "Whole actions, half of them behind a post, under a panning camera": (whole_actions, HARDSHIPS, 4),
}


def other_words(one: MovingShape) -> list[str]:
    """Sentences about a label in the captions' other words."""
    return [f"{one.appearance} {words}" for words in MOTION_WORDS[one.motion][1:]]


@torch.no_grad()
def embed_clips(classify: Any, classes: Sequence[MovingShape], seed: int, hardships: Hardships) -> torch.Tensor:
    """(n, D), one clip for each of n classes."""
    scenes = draw_scenes(seed, classes=classes, hardships=hardships)
    embeds = []
    for start in range(0, len(classes), CLIPS_AT_ONCE):
        clips = render_clips(scenes[start : start + CLIPS_AT_ONCE], num_frames=8, resolution=32)
        inputs = classify.processor(videos=list(clips), return_tensors="pt")
        embeds.append(classify.model.froster.get_video_features(**inputs, only_embeds=True).pooler_output)
    return torch.cat(embeds)


def ways_to_say(classify: Any, chosen: dict[str, list[str]]) -> dict[str, Callable[[list[MovingShape]], torch.Tensor]]:
    """What labels are compared by, (K, D) or (K, S, D), by the name of the row."""

    def embed(labels: Any, **options: Any) -> torch.Tensor:
        return classify.processor.embed_labels(labels, model=classify.model, **options)

    def described(classes: list[MovingShape], number: int | None, **options: Any) -> torch.Tensor:
        return embed({str(one): other_words(one)[:number] for one in classes}, **options)

    def sentences_alone(classes: list[MovingShape], pooling: str) -> torch.Tensor:
        sentences = [other_words(one) for one in classes]
        return TEXT_POOLINGS[pooling].pool(
            embed([text for some in sentences for text in some]), [len(some) for some in sentences]
        )

    return {
        "the bare label": lambda classes: embed([*map(str, classes)], templates="none"),
        "the checkpoint's templates": lambda classes: embed([*map(str, classes)]),
        **{
            f"templates chosen on other clips, {search}": lambda classes, templates=templates: embed(
                [*map(str, classes)], templates=templates
            )
            for search, templates in chosen.items()
        },
        "FROSTER's 29 templates": lambda classes: embed([*map(str, classes)], templates="froster"),
        "one sentence": lambda classes: described(classes, 1),
        "several sentences, mean": lambda classes: described(classes, None, text_pooling="mean"),
        "several sentences, maximum": lambda classes: described(classes, None, text_pooling="max"),
        "several sentences in place of the label, mean": lambda classes: sentences_alone(classes, "mean"),
        "several sentences in place of the label, maximum": lambda classes: sentences_alone(classes, "max"),
    }


def choose(world: tuple, seeds: Sequence[int], clips_per_label: int) -> dict[str, list[str]]:
    """Templates by clips of other seeds than those that are reported on."""
    draw, hardships, _ = world
    chosen = {}
    with tempfile.TemporaryDirectory() as folder:
        videos, labels = [], []
        for seed in seeds:
            classes = draw(seed)
            rows = write_moving_shapes(
                Path(folder, str(seed)),
                classes,
                clips_per_class=clips_per_label,
                seed=seed,
                num_frames=8,
                resolution=64,
                hardships=hardships,
            )
            videos += rows[VIDEO_COLUMN]
            labels += [str(classes[label]) for label in rows[LABEL_COLUMN]]
        columns = {VIDEO_COLUMN: videos, LABEL_COLUMN: labels}
        table = Dataset.from_dict(columns, features=video_features(list(dict.fromkeys(labels))))
        for search in ("sets", "greedy"):
            report = choose_templates(
                table,
                classify=froster_hf.load_pipeline("small"),
                output_dir=Path(folder, search),
                search=search,
                batch_size=CLIPS_AT_ONCE,
            )
            chosen[search] = report["chosen"]["templates"]
    return chosen


@torch.no_grad()
def compare_texts(classify: Any, name: str, seeds: Sequence[int], validation: Sequence[int]) -> None:
    draw, hardships, clips_per_label = WORLDS[name]
    chosen = choose(WORLDS[name], validation, max(1, clips_per_label // 4))
    ways = ways_to_say(classify, chosen)
    right: dict[str, list[torch.Tensor]] = {way: [] for way in ways}
    for seed in seeds:
        classes = draw(seed)
        labels = torch.arange(len(classes)).repeat_interleave(clips_per_label)
        videos = embed_clips(classify, [classes[label] for label in labels], seed, hardships)
        for way, embed in ways.items():
            logits = classify.model.froster.similarity(videos, embed(classes))
            right[way].append(logits.argmax(1) == labels)
    rows = np.stack([torch.cat(some).numpy() for some in right.values()])
    _, differences = paired_intervals(rows)
    print(f"\n{name}: {rows.shape[1]} clips, seeds {' '.join(map(str, seeds))}; {len(classes)} labels compete\n")
    print("| text | top-1 | difference from the bare label |\n| --- | --- | --- |")
    for number, (way, row, (low, high)) in enumerate(zip(ways, rows, differences)):
        change = 100 * (row.mean() - rows[0].mean())
        difference = f"{change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" if number else ""
        print(f"| {way} | {100 * row.mean():.1f} | {difference} |")
    for search, templates in chosen.items():
        print(f"\nChosen, {search}: {', '.join(f'`{template}`' for template in templates)}.")


@torch.no_grad()
def score_interactions(classify: Any, seeds: Sequence[int], num_labels: int, clips_per_label: int) -> None:
    """What is right of two objects and what one does to the other."""
    right: dict[str, dict[str, list[bool]]] = {kind: {one: [] for one in ASKED} for kind in INTERACTIONS}
    for seed in seeds:
        classes = with_interactions(seed, draw_classes(seed, num_labels), 1.0)
        own = np.repeat(np.arange(len(classes)), clips_per_label)
        videos = embed_clips(classify, [classes[label] for label in own], seed, Hardships())
        text_embeds = classify.processor.embed_labels([*map(str, classes)], model=classify.model)
        logits = classify.model.froster.similarity(videos, text_embeds).numpy()
        # (K, K): which labels are of the same two objects, which of these let the same one act, which do the same.
        pairs, actors, motions = (
            np.array([[value(a) == value(b) for b in classes] for a in classes])
            for value in (
                lambda one: frozenset({one.appearance, one.other_role.appearance}),
                lambda one: one.appearance,
                lambda one: one.motion,
            )
        )
        competing = dict(zip(ASKED, (np.ones_like(pairs), pairs, pairs & actors, pairs & motions)))
        for row, label in zip(logits, own):
            for one in ASKED:
                best = np.where(competing[one][label], row, -np.inf).argmax()
                right[classes[label].motion][one].append(best == label)
    print(f"\nTwo objects, seeds {' '.join(map(str, seeds))}: top-1 with its interval\n")
    print(f"| interaction | clips | {' | '.join(ASKED)} |\n|{' --- |' * (2 + len(ASKED))}")
    for kind in (*INTERACTIONS, "all"):
        kinds = INTERACTIONS if kind == "all" else (kind,)
        rows = np.array([[value for one in kinds for value in right[one][asked]] for asked in ASKED])
        own_intervals, _ = paired_intervals(rows)
        cells = [
            f"{100 * row.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            for row, (low, high) in zip(rows, own_intervals)
        ]
        print(f"| {kind} | {rows.shape[1]} | {' | '.join(cells)} |")
    print(f"| chance | | {100 / num_labels:.1f} | 12.5 | 25.0 | 50.0 |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[201, 202, 203, 204, 205, 206])
    parser.add_argument("--validation", type=int, nargs="+", default=[301, 302])
    arguments = parser.parse_args()
    classify = froster_hf.load_pipeline("small")
    for name in WORLDS:
        compare_texts(classify, name, arguments.seeds, arguments.validation)
    score_interactions(classify, arguments.seeds, num_labels=48, clips_per_label=10)


if __name__ == "__main__":
    main()
