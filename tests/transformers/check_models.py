"""`ModelTesterMixin` and `ConfigTester` on both models, for every temporal module and every pooling of the tables."""

import unittest

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES

from froster_hf import FrosterConfig, FrosterForVideoClassification, FrosterModel
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from tests.modeling.tiny import ARCHITECTURES, NUM_FRAMES, TEXT, VISION, architecture_id, tiny_config
from tests.transformers.inapplicable import MODELS, OF_MODULES, leave_out
from tests.transformers.source import load

common = load("test_modeling_common")
configuration_common = load("test_configuration_common")

# By the static names of this mapping, the tests know that labels are a clip's classes.
MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES["froster"] = "FrosterForVideoClassification"
BATCH_SIZE = 3
TOKENS = (VISION["image_size"] // VISION["patch_size"]) ** 2 + 1


class FrosterTester:
    """Configuration and inputs, and the sizes that the tests expect of the outputs."""

    def __init__(self, architecture: dict, model_class: type):
        self.architecture = architecture
        if model_class is FrosterModel:
            self.num_hidden_states_types = 2  # those of both towers
        self.batch_size = BATCH_SIZE
        self.hidden_size = VISION["hidden_size"]
        self.num_hidden_layers = VISION["num_hidden_layers"]
        self.num_attention_heads = VISION["num_attention_heads"]
        entry = TEMPORAL_MODULES[architecture["temporal_module"]]
        self.seq_length = 1 + NUM_FRAMES * (TOKENS - 1) if entry.place == "embeddings" else TOKENS
        self.key_length = 3 * TOKENS if entry.has_radius else self.seq_length
        self.is_training = True

    def get_config(self) -> FrosterConfig:
        return tiny_config(**self.architecture)

    def prepare_config_and_inputs_for_common(self):
        input_ids = torch.randint(1, 90, (BATCH_SIZE, 7))
        input_ids[:, -1] = TEXT["eos_token_id"]
        pixels = torch.rand(BATCH_SIZE, NUM_FRAMES, 3, VISION["image_size"], VISION["image_size"])
        return self.get_config(), {"pixel_values_videos": pixels, "input_ids": input_ids}


class FrosterTests(common.ModelTesterMixin):
    """What both models have in common."""

    test_resize_embeddings = False
    _is_composite = True
    additional_model_inputs = ("input_ids",)
    architecture: dict

    def setUp(self):
        self.model_tester = FrosterTester(self.architecture, self.all_model_classes[0])
        self.config_tester = configuration_common.ConfigTester(
            self, config_class=FrosterConfig, has_text_modality=False, common_properties=["projection_dim"]
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        # As CLIP's own tests: the loss of the two towers needs no labels.
        return inputs | {"return_loss": True} if return_labels and model_class is FrosterModel else inputs


for _architecture in ARCHITECTURES:
    _architecture = {"temporal_module": "local_attention"} | _architecture
    for _model in (FrosterModel, FrosterForVideoClassification):
        _name = f"Test_{_model.__name__}_{architecture_id(_architecture).replace('-', '_')}"
        _case = type(
            _name,
            (FrosterTests, unittest.TestCase),
            {"architecture": _architecture, "all_model_classes": (_model,), "__module__": __name__},
        )
        globals()[_name] = leave_out(_case, MODELS | OF_MODULES.get(_architecture["temporal_module"], {}))
