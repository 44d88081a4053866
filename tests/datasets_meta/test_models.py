"""The model table: complete for the suites, and every figure what its source says."""

import pytest

from datasets_meta import dataset_names
from datasets_meta.models import load_model_table
from devprof.records import Workload
from devprof.workloads.catalogue import build
from devprof.workloads.compat import ensure_torchvision_operators
from devprof.workloads.suites import load_suite

TABLE = load_model_table()


def test_the_table_has_the_models_of_the_vision_suite():
    assert list(TABLE) == [model for group in load_suite("rpi5-vision").groups for model in group.models]


def test_a_figure_has_a_source_and_an_image_size_and_no_figure_has_none():
    for model in TABLE.values():
        assert (model.top1 is None) == (model.top1_source is None) == (model.top1_image_size is None)
        assert model.top1 is None or 50 < model.top1 < 90
        assert model.top1_source is None or "{" not in model.top1_source
        assert model.parameters_source
    unknown = {model.name for model in TABLE.values() if model.top1 is None}
    expected = {"mobilenetv2_050", "vit_tiny_patch16_224", "vit_small_patch16_224", "efficientvit_b0", "edgenext_base"}
    assert unknown == expected


def test_the_table_of_models_is_no_data_set():
    assert "models" not in dataset_names()
    assert "mnist" in dataset_names()


@pytest.mark.slow
def test_parameters_are_those_of_the_models_as_built_here():
    for model in TABLE.values():
        if not model.name.startswith("fastervit:"):
            trainable = build(Workload(model.name, image_size=224, num_classes=1000), device="meta")
            assert trainable.parameter_counts()[0] == model.parameters, model.name


def test_figures_of_torchvision_are_those_of_its_weights_for_the_same_architecture():
    ensure_torchvision_operators()
    models = pytest.importorskip("torchvision").models
    checked = 0
    for model in TABLE.values():
        source, _, rest = (model.top1_source or "").partition(" ")
        if source == "torchvision":
            builder, weights_name = rest.split()
            weights = models.get_model_weights(builder)[weights_name]
            assert weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] == model.top1, model.name
            assert weights.meta["num_params"] == model.parameters, model.name
            assert weights.transforms().crop_size == [model.top1_image_size], model.name
            checked += 1
    assert checked == 22
