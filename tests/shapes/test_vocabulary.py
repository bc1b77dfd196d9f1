"""What can be said: classes, the truth of captions, splits."""

import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from froster_hf.shapes import (
    COLORS,
    MOTIONS,
    OPPOSITES,
    SHAPES,
    UNSAID,
    MovingShape,
    all_classes,
    draw_captions,
    draw_classes,
    draw_scenes,
    matches,
    split_base_novel,
    still_attributes,
)
from froster_hf.shapes.vocabulary import COLOR, MOTION, SHAPE, SIZE

RED, BLUE, STAR, RING, LEFT = 0, 5, 3, 5, 0
NOTHING = (UNSAID,) * 4


def test_label_names_color_shape_and_motion():
    assert str(MovingShape("red", "star", "sliding left")) == "a red star sliding left"
    assert str(MovingShape("orange", "bar", "growing")) == "an orange bar growing"


def test_every_label_is_read_back():
    classes = all_classes()
    assert len({str(c) for c in classes}) == len(classes) == len(COLORS) * (len(SHAPES) * len(MOTIONS) - 2)
    assert [MovingShape.from_label(str(c)) for c in classes] == classes


def test_opposite_of_the_opposite_is_the_class_itself():
    assert MovingShape("red", "star", "growing").opposite == MovingShape("red", "star", "shrinking")
    assert all(c.opposite.opposite == c for c in all_classes())
    assert MovingShape("red", "star", "bouncing").opposite == MovingShape("red", "star", "bouncing")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("crimson", "star", "growing"), "Unknown color 'crimson'.*red, orange"),
        (("red", "sun", "growing"), "Unknown shape 'sun'.*circle"),
        (("red", "star", "flying"), "Unknown motion 'flying'.*sliding left"),
        (("red", "ring", "spinning"), "looks the same while spinning"),
    ],
)
def test_class_that_is_not_of_the_world_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        MovingShape(*words)


def test_text_that_is_no_label_is_refused():
    with pytest.raises(ValueError, match="form 'a COLOR SHAPE MOTION'"):
        MovingShape.from_label("juggling")


@pytest.mark.parametrize(
    ("claim", "scene", "true"),
    [
        ([(RED, STAR, UNSAID, UNSAID), NOTHING], [(RED, STAR, 0, LEFT), NOTHING], True),
        ([(RED, UNSAID, UNSAID, UNSAID), NOTHING], [(RED, STAR, 0, LEFT), NOTHING], True),
        ([(RED, RING, UNSAID, UNSAID), NOTHING], [(RED, STAR, 0, LEFT), NOTHING], False),
        # The object may be the scene's second one.
        ([(BLUE, RING, UNSAID, UNSAID), NOTHING], [(RED, STAR, 0, LEFT), (BLUE, RING, 1, 4)], True),
        # Two claims must hold of two objects, each whole.
        ([(RED, RING, UNSAID, UNSAID), NOTHING], [(RED, STAR, 0, LEFT), (BLUE, RING, 1, 4)], False),
        ([(BLUE, UNSAID, UNSAID, 4), (UNSAID, STAR, 0, UNSAID)], [(RED, STAR, 0, LEFT), (BLUE, RING, 1, 4)], True),
        ([(RED, UNSAID, UNSAID, UNSAID), (UNSAID, STAR, UNSAID, UNSAID)], [(RED, STAR, 0, LEFT), NOTHING], False),
        ([(RED, STAR, UNSAID, LEFT), NOTHING], [(RED, STAR, 0, UNSAID), NOTHING], False),
    ],
)
def test_caption_is_true_when_different_objects_fulfil_its_claims(claim, scene, true):
    assert matches(np.array([claim]), np.array([scene])).tolist() == [[true]]


def test_every_caption_is_true_of_its_own_scene_and_of_few_others():
    scenes = draw_scenes(0, 500, second_object_rate=0.5, trail_rate=0.5)
    for attributes in (scenes.attributes, still_attributes(scenes)):
        true = matches(draw_captions(1, attributes).claims, attributes)
        assert true.diagonal().all()
        assert true.mean() < 0.1


def test_the_memory_of_all_pairs_is_a_few_bytes_for_each():
    attributes = draw_scenes(0, 1000).attributes
    claims = draw_captions(1, attributes).claims
    tracemalloc.start()
    true = matches(claims, attributes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert true.nbytes == 1000**2
    assert peak < 8 * true.nbytes


def test_caption_says_the_words_it_claims_and_no_others():
    captions = draw_captions(0, draw_scenes(0, 500, second_object_rate=0.5).attributes)
    assert len(set(captions.texts)) > 400
    for text, claims in zip(captions.texts, captions.claims):
        colors = [word for word in re.findall(r"\w+", text) if word in COLORS]
        assert Counter(colors) == Counter(list(COLORS)[c] for c in claims[:, COLOR] if c != UNSAID), text
        sizes = re.findall(r"small(?!er)|little|tiny|medium|large|big(?!ger)|huge", text)
        assert len(sizes) == (claims[:, SIZE] != UNSAID).sum(), text
        if (claims[:, MOTION] == UNSAID).all():
            assert not re.search(r"\w+ing\b(?<!thing)(?<!ring)(?<!drawing)", text), text


def test_still_tells_motion_only_by_a_trail():
    scenes = draw_scenes(0, 300, trail_rate=0.5)
    told = still_attributes(scenes)[:, 0, MOTION] != UNSAID
    assert not told[~scenes.trail].any()
    assert told[scenes.trail & (scenes.motion[:, 0] == MOTIONS.index("sliding left"))].all()
    assert not told[scenes.motion[:, 0] == MOTIONS.index("growing")].any()


def test_size_is_not_said_of_what_changes_its_size():
    scenes = draw_scenes(0, 300)
    sized = scenes.attributes[:, 0, SIZE] != UNSAID
    resizing = np.isin(scenes.motion[:, 0], [MOTIONS.index(m) for m in ("growing", "shrinking", "pulsing")])
    assert (sized == ~resizing).all()


def test_two_objects_differ_in_color_and_shape():
    attributes = draw_scenes(0, 1000, second_object_rate=1.0).attributes
    assert (attributes[:, 0, COLOR] != attributes[:, 1, COLOR]).all()
    assert (attributes[:, 0, SHAPE] != attributes[:, 1, SHAPE]).all()
    assert (attributes != UNSAID)[..., (COLOR, SHAPE, MOTION)].all()


def test_no_scene_shows_a_round_shape_spinning():
    scenes = draw_scenes(0, 5000, second_object_rate=1.0)
    spinning = scenes.motion == MOTIONS.index("spinning")
    assert spinning.any()
    assert not np.isin(scenes.attributes[..., SHAPE][spinning], [SHAPES.index("circle"), SHAPES.index("ring")]).any()


def test_scenes_need_a_number_or_classes():
    with pytest.raises(ValueError, match="not both"):
        draw_scenes(0)
    with pytest.raises(ValueError, match="`trail_rate` is 2; it goes from 0 to 1"):
        draw_scenes(0, 3, trail_rate=2)


@pytest.mark.parametrize("seed", range(5))
def test_base_and_novel_share_motions_but_no_color_and_no_shape(seed):
    base, novel = split_base_novel(seed, classes_per_side=48)
    assert len(set(base)) == len(set(novel)) == 48
    assert not {c.color for c in base} & {c.color for c in novel}
    assert not {c.shape for c in base} & {c.shape for c in novel}
    assert Counter(c.motion for c in base) == Counter(c.motion for c in novel)
    # Every motion is seen on as many appearances as there are classes of it, and the appearances are spread.
    assert max(Counter((c.color, c.shape) for c in base).values()) <= 3


def test_split_is_decided_by_its_seed():
    assert split_base_novel(3) == split_base_novel(3)
    assert split_base_novel(3) != split_base_novel(4)


def test_split_is_the_same_in_every_process():
    code = "from froster_hf.shapes import split_base_novel; print(*split_base_novel(3).novel, sep=chr(10))"
    run = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": s},
        ).stdout
        for s in ("1", "2")
    ]
    assert run[0] == run[1] == "".join(f"{c}\n" for c in split_base_novel(3).novel)


def test_split_uses_the_motions_asked_for():
    motions = ("sliding left", "sliding right")
    base, novel = split_base_novel(0, classes_per_side=10, motions=motions)
    assert {c.motion for c in base} == {c.motion for c in novel} == set(motions)
    with pytest.raises(ValueError, match="fewer classes"):
        split_base_novel(0, classes_per_side=80, motions=motions)


def test_drawn_classes_are_different_and_seeded():
    classes = draw_classes(0, 20)
    assert len(set(classes)) == 20
    assert classes == draw_classes(0, 20)
    with pytest.raises(ValueError, match="10000 classes wanted"):
        draw_classes(0, 10_000)


def test_motions_have_opposites_or_are_their_own():
    assert all(OPPOSITES[OPPOSITES[motion]] == motion for motion in OPPOSITES)
    assert len(OPPOSITES) == 14
