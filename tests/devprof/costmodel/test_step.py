import json

import pytest

from devprof.costmodel.step import STEP_VERSION, Step
from devprof.errors import CostModelError


def test_a_step_survives_json_exactly(step_tracer):
    step = step_tracer("cross2", "full", 224, 1000, 8)
    assert Step.from_dict(json.loads(json.dumps(step.to_dict()))) == step


def test_steps_of_another_version_are_refused(step_tracer):
    data = step_tracer("plain1").to_dict() | {"step_version": STEP_VERSION + 1}
    with pytest.raises(CostModelError, match="trace the model again"):
        Step.from_dict(data)


@pytest.mark.parametrize("damage", [{"operators": [[1, 2]]}, {"storages": None}, {"batch_size": "many"}])
def test_damaged_steps_are_refused(step_tracer, damage):
    with pytest.raises(CostModelError, match="damaged"):
        Step.from_dict(step_tracer("plain1").to_dict() | damage)
