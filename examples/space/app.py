"""A Hugging Face Space: colleagues try a FROSTER checkpoint with videos of their own.

The variable MODEL of the Space's settings names the checkpoint: one on the Hub, or `small`, which ships with it.
"""

import os
import tempfile

import froster_hf
from froster_hf.integrations.app import AppExample, launch_app
from froster_hf.shapes import DEMO_LABELS, STORY_WINDOWS, render_demo_videos

MODEL = os.environ.get("MODEL", "small")

classify = froster_hf.load_pipeline(MODEL)
examples = []
if MODEL == "small":  # it knows rendered shapes only
    *videos, story = render_demo_videos(tempfile.mkdtemp())
    examples = [AppExample(story, DEMO_LABELS, STORY_WINDOWS), *(AppExample(video, DEMO_LABELS) for video in videos)]

if __name__ == "__main__":
    launch_app(classify, examples=examples, host="0.0.0.0", port=7860, max_megabytes=200)
