"""`VideoProcessingTestMixin` and `ProcessorTesterMixin` on this package's processors."""

import unittest
from unittest import mock

from froster_hf import FrosterProcessor, FrosterVideoProcessor
from tests.fixtures.tiny import tiny_tokenizer, tiny_video_processor
from tests.transformers.inapplicable import PROCESSOR, VIDEO_PROCESSOR, leave_out
from tests.transformers.source import load

video_processing_common = load("test_video_processing_common")
processing_common = load("test_processing_common")

BATCH_SIZE, NUM_FRAMES, SIDE = 5, 8, 18


class VideoProcessorTester:
    """Options, and videos of different sizes."""

    batch_size = BATCH_SIZE
    num_frames = NUM_FRAMES

    def prepare_video_processor_dict(self) -> dict:
        return {
            "size": {"shortest_edge": 20},
            "crop_size": {"height": SIDE, "width": SIDE},
            "num_frames": NUM_FRAMES,
            "do_sample_frames": True,
        }

    def expected_output_video_shape(self, videos) -> list[int]:
        return [NUM_FRAMES, 3, SIDE, SIDE]

    def prepare_video_inputs(self, equal_resolution: bool = False, return_tensors: str = "pil") -> list:
        return video_processing_common.prepare_video_inputs(
            batch_size=BATCH_SIZE,
            num_frames=NUM_FRAMES,
            num_channels=3,
            min_resolution=30,
            max_resolution=80,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )


class TestFrosterVideoProcessor(video_processing_common.VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = FrosterVideoProcessor
    test_cast_dtype = True

    def setUp(self):
        super().setUp()
        self.video_processor_tester = VideoProcessorTester()

    @property
    def video_processor_dict(self) -> dict:
        return self.video_processor_tester.prepare_video_processor_dict()


class TestFrosterProcessor(processing_common.ProcessorTesterMixin, unittest.TestCase):
    processor_class = FrosterProcessor

    @classmethod
    def setUpClass(cls):
        # Registered as remote code, a processor writes an `auto_map` that the one it is loaded into does not show.
        unregistered = mock.patch.object(FrosterProcessor, "_auto_class", None)
        unregistered.start()
        cls.addClassCleanup(unregistered.stop)
        super().setUpClass()

    @classmethod
    def _setup_tokenizer(cls):
        return tiny_tokenizer()

    @classmethod
    def _setup_video_processor(cls):
        return tiny_video_processor()


leave_out(TestFrosterVideoProcessor, VIDEO_PROCESSOR)
leave_out(TestFrosterProcessor, PROCESSOR)
