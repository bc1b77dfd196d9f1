"""A checkpoint goes on only in the run that it belongs to."""

import pytest
import torch

from froster_hf import FrosterForVideoClassification
from froster_hf.training import FrozenTeacher, LabelPrompts
from froster_hf.training.checkpointing import ResumeError
from froster_hf.training.run_identity import identity_of
from tests.modeling.tiny import END, tiny_model, tiny_texts
from tests.training.tiny import LABELS, TEMPLATES, label_prompts, tiny_trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_trainer(folder, save_strategy="steps", save_steps=1).train()
    return folder


def resume(run, **fields):
    tiny_trainer(run, **fields).train(resume_from_checkpoint=str(run / "checkpoint-1"))


def test_a_trainer_built_from_a_checkpoints_model_is_refused(run):
    model = FrosterForVideoClassification.from_pretrained(run / "checkpoint-1")
    with pytest.raises(ResumeError, match=r"another teacher.*from the model before the training"):
        resume(run, model=model)


def test_another_seed_is_refused(run):
    with pytest.raises(ResumeError, match="another seed"):
        resume(run, data_seed=7)


def test_a_run_that_shares_its_backbone_with_the_teacher_resumes(tmp_path):
    fields = {
        "model_fields": {"temporal_module": "st_adapter"},
        "trained_parameters": "adapters",
        "save_strategy": "steps",
        "save_steps": 1,
    }
    first = tiny_trainer(tmp_path, **fields)
    assert first.teacher.shared
    first.train()
    again = tiny_trainer(tmp_path, **fields)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    for name, tensor in first.student.state_dict().items():
        assert torch.equal(again.student.state_dict()[name], tensor), name


def test_every_part_of_the_identity_counts():
    prompts, teacher = label_prompts(), FrozenTeacher.from_student(tiny_model())
    identity = identity_of(teacher=teacher, prompts=prompts, seed=0)
    assert identity_of(teacher=FrozenTeacher.from_student(tiny_model()), prompts=prompts, seed=0) == identity

    with torch.no_grad():
        teacher.model.visual_projection.weight[3, 3] += 1e-3
    other_texts = LabelPrompts.from_tokens(LABELS, TEMPLATES, tiny_texts(12).flip(0), eos_token_id=END)
    for name, other in {
        "teacher": identity_of(teacher=teacher, prompts=prompts, seed=0),
        "list of labels or templates": identity_of(teacher=None, prompts=other_texts, seed=0),
        "seed": identity_of(teacher=teacher, prompts=prompts, seed=1),
    }.items():
        assert other[name] != identity[name]
