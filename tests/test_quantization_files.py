"""What torchao and bitsandbytes write of themselves is taken; whatever else they would call or compare is not."""

import copy
import json
import shutil
from pathlib import Path

import pytest
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from froster_hf import FrosterConfig, FrosterForVideoClassification, FrosterProcessor
from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.quantization_files import check_quantization, refuse_other_quantizers

DTYPE = {"_type": "torch.dtype", "_data": "float8_e4m3fn"}
TORCHAO = {
    "quant_method": "torchao",
    "quant_type": {
        "default": {
            "_type": "Float8DynamicActivationFloat8WeightConfig",
            "_version": 2,
            "_data": {
                "activation_dtype": DTYPE,
                "granularity": [{"_type": "PerRow", "_version": 1, "_data": {"dim": -1}}] * 2,
                "packing_format": {"_type": "Float8PackingFormat", "_data": "PLAIN"},
                "mm_config": {"_type": "Float8MMConfig", "_version": 1, "_data": {"emulate": False}},
                "activation_value_lb": None,
            },
        }
    },
    "modules_to_not_convert": ["vision_model.encoder.layers.0"],
    "include_input_output_embeddings": False,
}
BITSANDBYTES = {
    "quant_method": "bitsandbytes",
    "_load_in_4bit": True,
    "load_in_4bit": True,
    "load_in_8bit": False,
    "llm_int8_threshold": 6.0,
    "llm_int8_skip_modules": None,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
    "bnb_4bit_quant_type": "nf4",
}
# As transformers calls what bitsandbytes writes.
READ = ("torchao", "bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit")
CALL = {"_type": "_replace_with_custom_fn_if_matches_filter", "_data": {"model": 1}}


@pytest.mark.parametrize("stated", [TORCHAO, BITSANDBYTES], ids=["torchao", "bitsandbytes"])
@pytest.mark.parametrize("place", ["model", "tower"])
def test_what_the_configurations_write_is_taken(stated, place):
    config = {"quantization_config": stated}
    check_quantization(config if place == "model" else {"vision_config": config}, where="quantized")


def within(*keys):
    """Change the value at these keys."""

    def change(stated, value):
        for key in keys[:-1]:
            stated = stated[key]
        stated[keys[-1]] = value

    return change


DATA = ("quant_type", "default", "_data")


@pytest.mark.parametrize("place", ["model", "tower"])
@pytest.mark.parametrize(
    ("change", "value"),
    [
        (within("quant_type"), {"default": CALL}),
        (within("quant_type"), {"default": DTYPE}),
        (within("quant_type"), {"default": {"_type": "PerRow", "_data": {}}}),
        (within("quant_type"), {**TORCHAO["quant_type"], "second": CALL}),
        (within("quant_type"), "int8_weight_only"),
        (within("quant_type", "default", "_data"), "os.system"),
        (within("quant_type", "default", "further"), CALL),
        (within(*DATA, "activation_dtype"), {"_type": "torch.dtype", "_data": "_import_dotted_name"}),
        (within(*DATA, "granularity"), [CALL]),
        (within(*DATA, "granularity"), [[CALL]]),
        (within(*DATA, "granularity"), {"a": CALL}),
        (within(*DATA, "granularity"), {"_type": "PerRow", "_data": {"dim": CALL}}),
        (within(*DATA, "packing_format"), {"_type": "Float8PackingFormat", "_data": "__class__"}),
        (within(*DATA, "activation_value_lb"), "text"),
        (within("modules_to_not_convert"), ["(a+)+$"]),
        (within("modules_to_not_convert"), ["a"] * 1001),
        (within("include_input_output_embeddings"), {"_type": "torch.dtype", "_data": "float32"}),
    ],
)
def test_what_they_do_not_write_is_refused_by_name(place, change, value):
    stated = copy.deepcopy(TORCHAO)
    change(stated, value)
    config = {"quantization_config": stated}
    with pytest.raises(ValueError, match=r"of its quantization is .*, which torchao does not write") as refused:
        check_quantization(config if place == "model" else {"text_config": config}, where="quantized")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("stated", ["torchao", "bitsandbytes", BITSANDBYTES])
def test_a_method_alone_and_one_with_kernels_of_its_own_are_refused(stated):
    with pytest.raises(ValueError, match=r"is quantized by '\w+', .*; torchao, with its settings"):
        refuse_other_quantizers({"quantization_config": stated}, where="quantized")
    refuse_other_quantizers({"quantization_config": TORCHAO}, where="quantized")


@pytest.mark.parametrize("method", [None, "no such", *sorted(AUTO_QUANTIZATION_CONFIG_MAPPING.keys() - {*READ})])
def test_a_method_that_may_compare_expressions_of_the_file_is_refused(tmp_path, method):
    folder = Path(shutil.copytree(SMALL_FROSTER, tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    stated = {"quant_method": method, "modules_to_not_convert": ["(.*.*.*.*.*.*.*.*.*.*.*.*.*)*!"]}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))
    with pytest.raises(ValueError, match=f"is quantized by '?{method}'?; models are read that torchao or bitsand"):
        FrosterForVideoClassification.from_pretrained(folder)


@pytest.mark.parametrize("name", ["bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "bnb_4bit_quant_type"])
@pytest.mark.parametrize("value", ["_import_dotted_name('os')", {"a": 1}, "x" * 100])
def test_types_of_numbers_are_names_of_such(name, value):
    with pytest.raises(ValueError, match=f"'{name}' of its quantization"):
        check_quantization({"quantization_config": {**BITSANDBYTES, name: value}}, where="quantized")


@pytest.mark.parametrize("stated", ["torchao", [1]])
@pytest.mark.parametrize(
    ("original", "load"),
    [
        (SMALL_FROSTER, FrosterConfig.from_pretrained),
        (SMALL_FROSTER, FrosterForVideoClassification.from_pretrained),
        (SMALL_CLIP, FrosterProcessor.from_dual_encoder),
    ],
)
def test_a_quantization_that_is_no_object_is_an_error_of_the_checkpoint(tmp_path, original, load, stated):
    folder = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))
    with pytest.raises(ValueError, match=r"its quantization is .*; it has to be an object"):
        load(folder)


@pytest.mark.parametrize("flags", [{}, {"load_in_8bit": False}, {"load_in_8bit": None, "_load_in_8bit": True}])
def test_a_quantization_that_quantizes_nothing_is_refused(flags):
    """With it, weights that are stored as integers would be taken for what they stand for."""
    stated = {"quant_method": "bitsandbytes", **flags}
    with pytest.raises(ValueError, match="has neither load_in_8bit nor load_in_4bit, with which bitsandbytes quant"):
        check_quantization({"quantization_config": stated}, where="quantized")
