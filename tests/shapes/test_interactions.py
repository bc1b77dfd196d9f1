"""Two objects of which one does something to the other: the motion is what the label says, and the only sign of it."""

import itertools

import numpy as np
import pytest
import torch

from froster_hf.shapes import (
    INTERACTIONS,
    Hardships,
    MovingShape,
    draw_captions,
    draw_classes,
    draw_scenes,
    render_clips,
    split_base_novel,
    with_interactions,
)
from froster_hf.shapes.motions import frame_times
from froster_hf.shapes.tables import render_world
from froster_hf.shapes.vocabulary import COLOR, COLOR_NAMES, MOTION, SHAPE, SHAPES, UNSAID
from froster_hf.training.recipes import RecipeWorld

NUM_FRAMES = 48
TIMES = np.broadcast_to(frame_times(NUM_FRAMES), (40, NUM_FRAMES))
EPSILON = 1e-9


def labeled(interaction: str) -> MovingShape:
    return MovingShape("red", "star", interaction, partner="blue square")


def places(interaction: str, seed: int = 0):
    """Both objects' places in 40 scenes, (40, T, 2) each, and the scenes."""
    scenes = draw_scenes(seed, classes=[labeled(interaction)] * 40)
    return scenes.places(0, TIMES), scenes.places(1, TIMES), scenes


def steps(path: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(path, axis=1), axis=-1)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first - second, axis=-1)


def test_who_pushes_comes_to_the_other_and_both_go_on_touching():
    first, second, scenes = places("pushing")
    touch = scenes.radius.sum(1)
    apart = distances(first, second)
    rests = steps(second) < EPSILON
    assert rests[:, :12].all()
    assert (~rests[:, -20:]).all()
    assert (apart[:, 0] > touch + 0.1).all()
    assert (np.diff(apart, axis=1)[:, :12] < 0).all()
    together = apart[:, -20:]
    assert (together < touch[:, None]).all()
    np.testing.assert_allclose(together, together[:, :1].repeat(20, axis=1))
    # The one that pushes is behind.
    way = second[:, -1] - second[:, 0]
    assert (((second - first)[:, -1] * way).sum(-1) > 0).all()
    assert (np.linalg.norm(way, axis=-1) > 0.3).all()


def test_who_pulls_goes_ahead_and_leaves_the_other_behind():
    first, second, scenes = places("pulling")
    apart = distances(first, second)
    rests = steps(second) < EPSILON
    assert (~rests[:, :20]).all()
    assert rests[:, -12:].all()
    assert (apart[:, :20] < scenes.radius.sum(1)[:, None]).all()
    assert (apart[:, -1] > scenes.radius.sum(1) + 0.1).all()
    way = second[:, 20] - second[:, 0]
    assert (((first - second)[:, 0] * way).sum(-1) > 0).all()


def test_who_passes_goes_by_another_that_rests():
    first, second, scenes = places("passing")
    assert (steps(second) < EPSILON).all()
    assert (steps(first) > EPSILON).all()
    assert (distances(first, second) > 0.9 * scenes.radius.sum(1)[:, None]).all()
    way = (first[:, -1] - first[:, 0])[:, None]
    ahead = ((second - first) * way).sum(-1)
    assert (ahead[:, 0] > 0).all()
    assert (ahead[:, -1] < 0).all()


def test_who_follows_stays_behind_at_one_distance():
    first, second, scenes = places("following")
    np.testing.assert_allclose(steps(first), steps(second))
    assert (steps(first) > EPSILON).all()
    apart = distances(first, second)
    np.testing.assert_allclose(apart, apart[:, :1].repeat(NUM_FRAMES, axis=1))
    assert (apart[:, 0] > scenes.radius.sum(1)).all()
    way = second[:, -1] - second[:, 0]
    assert (((second - first)[:, 0] * way).sum(-1) > 0).all()


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_both_stay_in_the_picture_and_go_any_way(interaction):
    first, second, scenes = places(interaction)
    for slot, path in enumerate((first, second)):
        assert (np.abs(path) < 1.05 - 0.5 * scenes.radius[:, slot, None, None]).all()
    headings = np.sign(np.round(first[:, -1] - first[:, 0], 1))
    assert len(np.unique(headings, axis=0)) >= 4


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_played_backwards_it_is_its_opposite(interaction):
    """Of the same draw: pushing is pulling, passing goes the other way, and who followed is followed."""
    one = labeled(interaction)
    first, second, _ = places(interaction)
    if interaction == "following":
        assert one.opposite == one.other_role == MovingShape("blue", "square", interaction, partner="red star")
        way = second[:, 0] - second[:, -1]
        assert (((first - second)[:, 0] * way).sum(-1) > 0).all()
    elif interaction == "passing":
        assert one.opposite == one
    else:
        others = draw_scenes(0, classes=[one.opposite] * 40)
        np.testing.assert_allclose(others.places(0, TIMES), first[:, ::-1], atol=1e-12)
        np.testing.assert_allclose(others.places(1, TIMES), second[:, ::-1], atol=1e-12)
        assert one.opposite.opposite == one


def test_the_scene_shows_the_two_objects_that_the_label_names():
    _, _, scenes = places("pushing")
    shown = scenes.attributes
    assert (shown[..., COLOR] == [COLOR_NAMES.index("red"), COLOR_NAMES.index("blue")]).all()
    assert (shown[..., SHAPE] == [SHAPES.index("star"), SHAPES.index("square")]).all()
    # Captions say nothing that is not true of one object alone.
    assert (shown[..., MOTION] == UNSAID).all()
    assert not any("still" in text or "rest" in text for text in draw_captions(0, shown).texts)
    clips = render_clips(scenes[:4], num_frames=4, resolution=64)
    assert (clips[:, 0] != clips[:, -1]).any()


def test_other_classes_of_the_same_draw_are_what_they_were():
    plain = draw_classes(3, 6)
    mixed = draw_scenes(5, classes=[*plain, labeled("passing")])
    alone = draw_scenes(5, classes=[*plain, MovingShape("red", "star", "standing still")])
    for name in ("attributes", "motion", "center", "reach", "pace", "course"):
        np.testing.assert_array_equal(getattr(mixed, name)[:6, 0], getattr(alone, name)[:6, 0])
    assert torch.equal(render_clips(mixed[:6], num_frames=3), render_clips(alone[:6], num_frames=3))


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_labels_name_both_and_are_read_back(interaction):
    one = labeled(interaction)
    assert str(one) == f"a red star {interaction} a blue square"
    assert MovingShape.from_label(str(one)) == one
    assert one.other_role.other_role == one
    assert one.other_speed is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("red", "star", "pushing"), "'pushing' with the partner '': pushing, pulling, passing, following need one"),
        (("red", "star", "spinning", "", "blue square"), "nothing else has one"),
        (("red", "star", "pushing", "", "red square"), "neither that of a red star"),
        (("red", "star", "pushing", "", "blue star"), "neither that of a red star"),
        (("red", "star", "pushing", "", "blue thing"), "must be a color and a shape"),
        (("red", "star", "pushing", "slowly", "blue square"), "has no speed"),
    ],
)
def test_pairs_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MovingShape(*arguments)


def test_only_the_motion_tells_the_labels_of_two_objects_apart():
    split = split_base_novel(0, classes_per_side=32)
    sides = [with_interactions(1, side, 0.5) for side in split]
    assert [len(side) for side in sides] == [32, 32]
    for side, plain in zip(sides, split):
        assert side[:16] == plain[:16]
        interactions = side[16:]
        assert len(set(interactions)) == 16
        for one in interactions:
            assert one.opposite in interactions
            assert one.other_role in interactions
    words = [{word for one in side for word in (one.color, one.shape, *one.partner.split())} for side in sides]
    assert not words[0] & words[1]
    assert with_interactions(1, split.base, 0.5) == sides[0]


def test_more_interactions_than_there_are_objects_are_refused():
    with pytest.raises(ValueError, match="3 interactions wanted; the colors and shapes of 3 classes make 0"):
        with_interactions(
            0, [MovingShape("red", "star", motion) for motion in ("spinning", "growing", "pulsing")], 1.0
        )
    with pytest.raises(ValueError, match=r"interactions is 2\.0; it goes from 0 to 1"):
        Hardships(interactions=2.0)


def test_a_recipe_renders_them_under_every_hardship(tmp_path):
    world = RecipeWorld(
        num_classes=16,
        clips_per_class=1,
        eval_clips_per_class=1,
        num_frames=2,
        resolution=32,
        hardships={"interactions": 0.5, "speeds": True, "camera_speed": 0.2, "scene_bias": 1.0, "occlusion_rate": 0.5},
    )
    train, evaluation = render_world(world, root=tmp_path, label_set="base")
    for table in (train, *evaluation.values()):
        names = table.features["label"].names
        assert sum(word in name for name, word in itertools.product(names, INTERACTIONS)) == 8
    assert evaluation["base"].features["label"].names == train.features["label"].names
