"""Tests of transformers that do not apply to this package's classes, by name and with the reason.

All others run as they are. A name that ends in `*` stands for all tests that begin so.
"""

MODELS: dict[str, str] = {
    "test_can_load_ignoring_mismatched_shapes": (
        "label names without embeddings have no weights whose shape could differ; see tests/modeling"
    ),
    "test_model_weights_reload_no_missing_tied_weights": (
        "the label bank of a model without labels is a buffer of no rows that no file holds, which the test takes for "
        "a parameter"
    ),
}

OF_MODULES: dict[str, dict[str, str]] = {
    "cross_frame": {
        "test_attention_outputs": (
            "a message token takes part in the attention and not in the hidden states (X-CLIP), and the test has one "
            "number for both; see tests/modeling/test_modeling_common.py"
        ),
    },
    "context_tokens": {
        "test_attention_outputs": (
            "every block but the first has context tokens among its keys (TC-CLIP), and the test has one number of "
            "keys for all blocks; see tests/modeling/test_modeling_common.py"
        ),
    },
}

VIDEO_PROCESSOR: dict[str, str] = {
    "test_call_sample_frames": (
        "a clip has a fixed number of frames: `fps` is refused, and a shorter video repeats frames where the test "
        "wants an error; see tests/processing/test_sampling.py"
    ),
}

PROCESSOR: dict[str, str] = {}


def leave_out(case: type, inapplicable: dict[str, str]) -> type:
    """Skip the inapplicable tests of a test case, each with its reason.

    Raises:
        ValueError: a name that no test has.
    """
    tests = [name for name in dir(case) if name.startswith("test_")]
    for pattern, reason in inapplicable.items():
        found = [name for name in tests if name == pattern or (pattern[-1] == "*" and name.startswith(pattern[:-1]))]
        if not found:
            raise ValueError(f"transformers has no test {pattern!r}: take it off the list.")
        for name in found:
            setattr(case, name, _skipped(reason))
    return case


def _skipped(reason: str):
    def test(self):
        self.skipTest(reason)

    return test
