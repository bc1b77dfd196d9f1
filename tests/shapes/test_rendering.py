"""Pixels of the moving-shapes world, and what time does in them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from froster_hf.shapes import (
    COLORS,
    MOTIONS,
    OPPOSITES,
    SHAPES,
    UNSAID,
    MovingShape,
    all_classes,
    draw_scenes,
    ease,
    render_clips,
    render_stills,
)
from froster_hf.shapes.motions import Draw, frame_times, poses
from froster_hf.shapes.vocabulary import COLOR, MOTION, SHAPE, SIZE


def _scene(motion="standing still", *, shape="star", color="red", num=1, seed=0, **rates):
    return draw_scenes(seed, classes=[MovingShape(color, shape, motion)] * num, **rates)


def _gap(a, b):
    return (a.float() - b.float()).abs().mean().item()


@pytest.mark.parametrize(
    ("resolution", "size"), [(32, (32, 32)), (17, (17, 17)), ((48, 80), (48, 80)), (192, (192, 192))]
)
@pytest.mark.parametrize("num_frames", [1, 8])
def test_clips_have_the_size_and_length_asked_for(resolution, size, num_frames):
    scenes = draw_scenes(0, 3, second_object_rate=0.5, trail_rate=0.5)
    clips = render_clips(scenes, num_frames=num_frames, resolution=resolution)
    assert clips.shape == (3, num_frames, 3, *size)
    assert clips.dtype == torch.uint8
    assert render_stills(scenes, resolution=resolution).shape == (3, 3, *size)


def test_no_scenes_are_no_clips():
    assert render_clips(draw_scenes(0, 4)[:0]).shape == (0, 8, 3, 32, 32)


def test_pixels_are_decided_by_the_seed():
    rates = {"second_object_rate": 0.5, "trail_rate": 0.5}
    first = render_clips(draw_scenes(0, 8, **rates))
    assert torch.equal(first, render_clips(draw_scenes(0, 8, **rates)))
    assert not torch.equal(first, render_clips(draw_scenes(1, 8, **rates)))


def test_pixels_of_a_scene_do_not_depend_on_its_batch():
    scenes = draw_scenes(0, 12, second_object_rate=0.5, trail_rate=0.5)
    clips = render_clips(scenes)
    assert torch.equal(clips[3:7], render_clips(scenes[3:7]))
    order = np.array([9, 0, 4])
    assert torch.equal(clips[order], render_clips(scenes[order]))


def test_resolutions_show_the_same_picture():
    scenes = draw_scenes(0, 16, second_object_rate=0.5, trail_rate=0.5)
    small, large = (render_clips(scenes, num_frames=2, resolution=side) for side in (32, 192))
    shrunk = F.interpolate(large.flatten(0, 1).float(), size=(32, 32), mode="area").unflatten(0, (16, 2))
    # What is left is the fine noise (a few levels), which belongs to the pixels and not to the picture.
    assert _gap(small, shrunk) < 6
    assert _gap(small, shrunk.roll(1, 0)) > 20


def test_wide_picture_adds_room_at_the_sides_only():
    scene = _scene("sliding up", shape="circle")
    wide = render_clips(scene, resolution=(32, 64))
    assert _gap(wide[..., 16:48], render_clips(scene, resolution=32)) < 10


@pytest.mark.parametrize("color", COLORS)
def test_object_has_the_color_of_its_name(color):
    stills = render_stills(_scene(color=color, shape="square", num=20), resolution=48).float()
    target = torch.tensor(COLORS[color]).float()[:, None, None]
    distance = (stills - target).norm(dim=1).flatten(1)
    others = torch.stack([(stills - torch.tensor(COLORS[c]).float()[:, None, None]).norm(dim=1) for c in COLORS])
    nearest = others.flatten(2).argmin(0)
    # The object's pixels are near the named color, and nearer to it than to any other.
    inside = distance < 30
    assert (inside.float().mean(1) > 0.03).all()
    assert (nearest[inside] == list(COLORS).index(color)).all()


def test_shapes_can_be_told_apart():
    scenes = draw_scenes(0, classes=[MovingShape("white", shape, "standing still") for shape in SHAPES])
    for field in (scenes.center, scenes.angle):
        field[:] = 0
    scenes.radius[:] = 0.6
    covered = (render_stills(scenes, resolution=64).float().amin(1) > 225).flatten(1).float()
    shared = covered @ covered.T
    union = covered.sum(1)[:, None] + covered.sum(1) - shared
    overlap = shared / union - torch.eye(len(SHAPES))
    assert overlap.max() < 0.84
    # No shape is so much slighter than another that it would be lost.
    assert covered.mean(1).min() > 0.08


@pytest.mark.parametrize("motion", sorted(set(MOTIONS) - {"standing still"}))
def test_motion_changes_the_picture(motion):
    clips = render_clips(_scene(motion, num=32))
    assert all(len({frame.numpy().tobytes() for frame in clip}) > 1 for clip in clips)


def test_nothing_changes_where_an_object_stands_still():
    for trail_rate in (0.0, 1.0):
        clips = render_clips(_scene(num=8, trail_rate=trail_rate))
        assert torch.equal(clips, clips[:, :1].expand_as(clips))


@pytest.mark.parametrize(("motion", "opposite"), sorted(OPPOSITES.items()))
@pytest.mark.parametrize("num_frames", [7, 8])
def test_opposite_motion_is_the_reversed_clip_bit_for_bit(motion, opposite, num_frames):
    forward, backward = (render_clips(_scene(m, num=16), num_frames=num_frames) for m in (motion, opposite))
    assert torch.equal(forward.flip(1), backward)
    assert not torch.equal(forward, backward)


def test_opposite_motion_is_the_reversed_clip_beside_a_second_object():
    # A second object that is its own mirror image in time must not give the direction away either.
    pair = [
        draw_scenes(
            3, classes=[MovingShape("red", "star", m)] * 16, motions=["standing still"], second_object_rate=1.0
        )
        for m in ("sliding left", "sliding right")
    ]
    assert torch.equal(render_clips(pair[0]).flip(1), render_clips(pair[1]))


@pytest.mark.parametrize("motion", sorted(set(MOTIONS) - set(OPPOSITES)))
def test_motion_without_an_opposite_has_no_direction_in_time(motion):
    # Kolmogorov-Smirnov on random projections of whole paths, forwards against backwards (critical at p = 1e-4).
    num = 4000
    rng = np.random.default_rng(0)
    time = np.broadcast_to(frame_times(8), (2 * num, 8))
    draw = Draw(*rng.random((2, 2 * num, 1)))
    pose = poses(np.full(2 * num, MOTIONS.index(motion)), time, draw)
    turn = np.stack([np.cos(pose.angle), np.sin(pose.angle)], -1)
    path = np.concatenate([pose.offset, turn, pose.scale[..., None], pose.opacity[..., None]], -1)
    forward, backward = path[:num].reshape(num, -1), path[num:, ::-1].reshape(num, -1)
    for direction in rng.normal(size=(12, forward.shape[1])):
        a, b = np.sort(forward @ direction), np.sort(backward @ direction)
        both = np.concatenate([a, b]) + 1e-9
        gap = np.abs(np.searchsorted(a, both, "right") - np.searchsorted(b, both, "right")).max() / num
        assert gap < 2.2 * np.sqrt(2 / num)


def test_directions_are_what_their_names_say():
    def path(motion):
        pose = poses(np.array([MOTIONS.index(motion)]), frame_times(8)[None], Draw(np.zeros((1, 1)), np.zeros((1, 1))))
        return pose.offset[0]

    assert (np.diff(path("sliding left")[:, 0]) < 0).all()
    assert (np.diff(path("sliding down")[:, 1]) > 0).all()
    assert (np.diff(path("sliding up right"), axis=0) * [1, -1] > 0).all()
    # Clockwise with y down: the cross product of position and step is positive.
    place, step = path("circling clockwise")[:-1], np.diff(path("circling clockwise"), axis=0)
    assert (place[:, 0] * step[:, 1] - place[:, 1] * step[:, 0] > 0).all()


def test_growing_grows_and_fading_in_appears():
    backdrop_free = {}
    for motion in ("growing", "fading in"):
        clips = render_clips(_scene(motion, color="white", num=16, shape="square"), num_frames=2).float()
        backdrop_free[motion] = clips.sum((2, 3, 4)).diff(dim=1)
    assert (backdrop_free["growing"] > 0).all()
    assert (backdrop_free["fading in"] > 0).all()


def test_paths_stay_in_the_picture():
    scenes = draw_scenes(0, classes=all_classes(), second_object_rate=0.5)
    for slot in range(2):
        drawn = scenes[scenes.motion[:, slot] >= 0]
        time = np.broadcast_to(frame_times(24), (len(drawn), 24))
        pose = poses(drawn.motion[:, slot], time, Draw(drawn.pace[:, slot, None], drawn.phase[:, slot, None]))
        center = drawn.center[:, slot, None] + drawn.reach[:, slot, None, None] * pose.offset
        radius = (drawn.radius[:, slot, None] * pose.scale)[..., None]
        beyond = np.abs(center) + radius - 1
        # Never more than a fifth of an object's width is cut off.
        assert (beyond < 0.4 * radius).all()


def test_trail_shows_where_the_object_came_from():
    scenes = _scene("sliding left", num=16, color="white", shape="circle")
    bare = render_clips(scenes).float()
    scenes.trail[:] = True
    light = (render_clips(scenes).float() - bare).mean((1, 2, 3))
    position = torch.arange(32.0)
    where = (light * position).sum(-1) / light.sum(-1)
    middle = (scenes.center[:, 0, 0] + 1) * 16
    assert (light >= 0).all()
    assert (where.numpy() > middle + 2).all()


def test_trail_of_a_still_is_that_of_a_clip_at_the_same_moment():
    scenes = _scene("sliding right", num=4, trail_rate=1.0)
    scenes.moment[:] = frame_times(16)[9]
    torch.testing.assert_close(render_stills(scenes), render_clips(scenes, num_frames=16)[:, 9], atol=1, rtol=0)


def test_blinking_object_is_gone_at_times():
    clips = render_clips(_scene("blinking", num=16), num_frames=24).float()
    redness = (clips[:, :, 0] - clips[:, :, 1]).amax((-1, -2))
    assert ((redness > 120).any(1) & (redness < 80).any(1)).all()


def test_eased_scenes_begin_large_in_the_middle_and_end_as_drawn():
    scenes = draw_scenes(0, 64, second_object_rate=0.5, trail_rate=0.5)
    alone = scenes.motion[:, 1] == UNSAID
    easy = ease(scenes, 0.0)
    assert not easy.center[alone].any()
    assert easy.radius[alone].min() >= 0.5
    assert torch.equal(render_clips(easy[~alone]), render_clips(scenes[~alone]))
    assert torch.equal(render_clips(ease(scenes, 1.0)), render_clips(scenes))
    assert (ease(scenes, 1.0).attributes == scenes.attributes).all()
    half = ease(scenes, 0.5)
    assert (np.abs(half.center[alone]) <= np.abs(scenes.center[alone])).all()
    assert _gap(render_stills(half), render_stills(scenes)) > 1
    with pytest.raises(ValueError, match="`variety` is 2; it goes from 0 to 1"):
        ease(scenes, 2)


def test_eased_scene_claims_only_what_is_still_true():
    scenes = draw_scenes(0, 64)
    grown = ease(scenes, 0.0).attributes[:, 0]
    assert (grown[:, MOTION] == UNSAID).all()
    small = scenes.attributes[:, 0, SIZE] == 0
    assert (grown[small, SIZE] == UNSAID).all()
    large = scenes.attributes[:, 0, SIZE] == 2
    assert (grown[large, SIZE] == 2).all()
    assert (grown[:, [COLOR, SHAPE]] == scenes.attributes[:, 0][:, [COLOR, SHAPE]]).all()


@pytest.mark.parametrize("arguments", [{"num_frames": 0}, {"resolution": 0}, {"resolution": (32, -1)}])
def test_impossible_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="received"):
        render_clips(draw_scenes(0, 1), **arguments)
