"""Harder worlds: each hardship does what it says and nothing else, and without any the world is what it was."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch

from froster_hf.shapes import (
    Hardships,
    MovingShape,
    draw_classes,
    draw_scenes,
    render_clips,
    with_speeds,
    write_moving_shapes,
)
from froster_hf.shapes.tables import render_world
from froster_hf.shapes.vocabulary import SPEEDS, UNHURRIED
from froster_hf.training.recipes import RecipeWorld

CLASSES = [
    MovingShape.from_label(label)
    for label in (
        "a red star sliding left",
        "a blue square spinning",
        "a green ring growing",
        "a yellow heart bouncing",
    )
]


def render(seed=3, classes=CLASSES, **hardships):
    scenes = draw_scenes(seed, classes=classes, hardships=Hardships(**hardships))
    return scenes, render_clips(scenes, num_frames=6, resolution=64)


def test_without_hardships_pixels_are_those_of_the_first_version():
    _, clips = render()
    assert hashlib.sha256(clips.numpy().tobytes()).hexdigest().startswith("9b8d34843dc1")
    assert torch.equal(clips, render_clips(draw_scenes(3, classes=CLASSES), num_frames=6, resolution=64))


@pytest.mark.parametrize(
    "hardships", [{"scene_bias": 1.0}, {"camera_speed": 0.4}, {"occlusion_rate": 1.0}], ids=lambda h: next(iter(h))
)
def test_a_hardship_changes_pixels_and_no_object(hardships):
    plain, plain_clips = render()
    hard, hard_clips = render(**hardships)
    assert (plain_clips != hard_clips).any()
    kept = ("attributes", "motion", "radius", "center", "reach", "angle", "pace", "phase", "rgb", "tempo")
    for name in kept:
        np.testing.assert_array_equal(getattr(plain, name), getattr(hard, name))


def test_a_biased_backdrop_goes_with_the_label_and_with_nothing_else():
    first, _ = render(seed=1, scene_bias=1.0)
    second, _ = render(seed=2, scene_bias=1.0)
    same = np.abs(first.backdrop - second.backdrop).max(axis=(1, 2, 3))
    other = np.abs(first.backdrop - np.roll(second.backdrop, 1, axis=0)).max(axis=(1, 2, 3))
    assert (same < 0.12).all()
    assert (other > 0.2).all()
    half, _ = render(seed=1, classes=CLASSES[:1] * 200, scene_bias=0.5)
    share = (np.abs(half.backdrop - first.backdrop[:1]).max(axis=(1, 2, 3)) < 0.12).mean()
    assert 0.4 < share < 0.6
    with pytest.raises(ValueError, match="give classes"):
        draw_scenes(0, 2, hardships=Hardships(scene_bias=1.0))


def test_the_camera_moves_backdrop_and_objects_alike():
    still = [MovingShape.from_label("a red star standing still")]
    scenes, _ = render(classes=still, camera_speed=1.0)
    scenes = dataclasses.replace(scenes, camera=np.array([[0.5, 0.0]]))
    first, *_, last = render_clips(scenes, num_frames=2, resolution=64)[0]
    # Half a clip apart: half of the short side's half, 16 of 64 pixels, to the left.
    columns = slice(16, 64)
    difference = (first[..., columns].float() - last[..., : 64 - 16].float()).abs()
    assert difference.mean() < 2
    assert (first.float() - last.float()).abs().mean() > 5


def test_a_clip_played_backwards_is_a_clip_of_the_opposite_under_every_hardship():
    one = [MovingShape.from_label("a red star sliding left")]
    scenes, clips = render(classes=one, scene_bias=1.0, camera_speed=0.4, occlusion_rate=1.0)
    right, _ = render(classes=[one[0].opposite], camera_speed=0.4, occlusion_rate=1.0)
    backwards = dataclasses.replace(right, camera=-scenes.camera, backdrop=scenes.backdrop, post=scenes.post)
    assert torch.equal(render_clips(backwards, num_frames=6, resolution=64), clips.flip(1))


def test_a_post_hides_what_is_behind_it():
    scenes, clips = render(occlusion_rate=1.0)
    place = int((scenes.post[0, 0] + 1) * 32)
    hidden = clips[0, :, :, :, place].float()
    assert (hidden - hidden[:1, :1, :1]).abs().max() <= 1
    _, none = render(occlusion_rate=0.0)
    assert (none[0, :, :, :, place].float().std() > 1).all()


def test_only_speed_tells_the_two_classes_of_a_pair_apart():
    slow, quick = (MovingShape("red", "star", "sliding left", speed) for speed in SPEEDS)
    assert [str(slow), str(quick)] == ["a red star sliding left slowly", "a red star sliding left quickly"]
    assert MovingShape.from_label(str(slow)) == slow
    assert slow.other_speed == quick
    assert slow.opposite.speed == "slowly"
    # What is quick is what has always been; what is slow goes less than half of the way.
    clips = [render(classes=[one])[1] for one in (slow, quick, MovingShape("red", "star", "sliding left"))]
    assert torch.equal(clips[1], clips[2])
    scenes = [render(classes=[one])[0] for one in (slow, quick)]
    assert scenes[0].tempo[0, 0] == 0.4 < scenes[1].tempo[0, 0] == 1.0
    with pytest.raises(ValueError, match="has no speed"):
        MovingShape("red", "star", "standing still", "slowly")
    with pytest.raises(ValueError, match="Unknown speed 'fast'"):
        MovingShape("red", "star", "sliding left", "fast")


def test_classes_are_paired_by_speed():
    classes = with_speeds(0, draw_classes(0, 40))
    assert len(set(classes)) == len(classes)
    for one in classes:
        assert (one.speed == "") == (one.motion in UNHURRIED)
    with_partner = [one for one in classes if one.other_speed in classes]
    assert len(with_partner) > 25


def test_files_of_a_harder_world_tell_it_and_are_compressed_more(tmp_path):
    arguments = {"clips_per_class": 3, "seed": 0, "num_frames": 4, "resolution": 64}
    write_moving_shapes(tmp_path / "plain", CLASSES, **arguments)
    hardships = Hardships(max_crf=51)
    write_moving_shapes(tmp_path / "hard", CLASSES, hardships=hardships, **arguments)
    assert "hardships" not in json.loads((tmp_path / "plain" / "moving_shapes.json").read_text())
    assert json.loads((tmp_path / "hard" / "moving_shapes.json").read_text())["hardships"] == {"max_crf": 51}
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).glob("*.mp4")) for name in ("plain", "hard")]
    assert sizes[1] < sizes[0]
    with pytest.raises(ValueError, match="other arguments"):
        write_moving_shapes(tmp_path / "plain", CLASSES, hardships=hardships, **arguments)


def test_a_recipe_with_scene_bias_is_evaluated_out_of_context_too(tmp_path):
    world = RecipeWorld(
        num_classes=4,
        clips_per_class=1,
        eval_clips_per_class=1,
        num_frames=2,
        resolution=32,
        hardships={"scene_bias": 1.0, "speeds": True},
    )
    train, evaluation = render_world(world, root=tmp_path, label_set="base")
    assert list(evaluation) == ["base", "novel", "out_of_context"]
    names = {part: table.features["label"].names for part, table in evaluation.items()}
    assert names["out_of_context"] == names["base"] == train.features["label"].names
    told = {
        part: json.loads((tmp_path / part / "moving_shapes.json").read_text()) for part in ("base", "out_of_context")
    }
    assert told["base"]["hardships"] == {"scene_bias": 1.0, "speeds": True}
    assert told["out_of_context"]["hardships"] == {"speeds": True}


@pytest.mark.parametrize(
    ("hardships", "message"),
    [
        ({"scene_bais": 1.0}, "world.hardships: unknown fields scene_bais"),
        ({"scene_bias": 2.0}, "hardships: scene_bias is 2.0; it goes from 0 to 1"),
        ({"camera_speed": -0.1}, "camera_speed is -0.1; it goes from 0 to 1"),
        ({"max_crf": 60}, "max_crf is 60; it goes from 23 to 51"),
        ({"speeds": "yes"}, "speeds is 'yes'; it must be true or false"),
    ],
)
def test_hardships_that_cannot_be_are_refused(tmp_path, hardships, message):
    with pytest.raises(ValueError, match=message):
        render_world(RecipeWorld(hardships=hardships), root=tmp_path, label_set="base")
