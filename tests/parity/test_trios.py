import re

import pytest
import torch

from tests.parity import table
from tests.parity.trios import TRIOS, build_model, load_trio, original_gradient_norms

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def differences():
    torch.set_num_threads(1)
    return table.measure_all()


@pytest.mark.parametrize("name", TRIOS)
def test_outputs_losses_and_gradient_norms_equal_the_originals(differences, name):
    too_large = {
        quantity: difference
        for quantity, difference in differences[name].items()
        if not difference <= table.TOLERANCE.get(quantity, table.DEFAULT_TOLERANCE)
    }
    assert not too_large


@pytest.mark.parametrize("name", TRIOS)
def test_every_stored_key_finds_its_place(name):
    trio = load_trio(name)
    assert not trio.converted.unused
    assert not trio.converted.dropped
    assert set(trio.converted.model) == {
        key for key in build_model(trio).froster.state_dict() if not key.startswith("distillation_projectors")
    }
    assert bool(trio.converted.teacher) == (name == "expand_temporal_view")


@pytest.mark.parametrize("name", TRIOS)
def test_a_gradient_norm_is_stored_for_every_parameter(name):
    trio = load_trio(name)
    model = build_model(trio)
    model(trio.stored["pixel_values_videos"], **trio.label_inputs, labels=trio.stored["labels"]).loss.backward()
    for parameter in model.froster.distillation_projectors.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert set(original_gradient_norms(trio, model)) == set(trio.facts["grad_norms"])


def test_the_stored_teacher_is_the_model_without_a_temporal_module():
    trio = load_trio("expand_temporal_view")
    teacher = build_model(load_trio("frozen_none")).froster
    teacher.distillation_projectors = None
    teacher.load_state_dict(trio.converted.teacher, strict=True)
    with torch.no_grad():
        frames = teacher.get_video_features(trio.stored["pixel_values_videos"]).frame_embeds.flatten(0, 1)
        texts = teacher.get_label_embeds(**trio.label_inputs)
    torch.testing.assert_close(frames, trio.stored["teacher_frame_embeds"], atol=1e-5, rtol=0)
    torch.testing.assert_close(texts, trio.stored["teacher_text_embeds"], atol=1e-5, rtol=0)


def test_the_document_holds_the_table_that_is_measured(differences):
    """The same rows and columns, and figures of the same size: rounding differs between machines."""
    figure = re.compile(r"\d\.\de[+-]\d\d")
    written, measured = table.DOCUMENT.read_text(), table.render(differences)
    assert figure.sub("#", written) == figure.sub("#", measured)
    for old, new in zip(figure.findall(written), figure.findall(measured), strict=True):
        assert abs(float(old) - float(new)) < table.DEFAULT_TOLERANCE
