import importlib.machinery
import subprocess
import sys
import types

import pytest
import torch

from devprof.errors import UnknownNameError, WorkloadError
from devprof.records import Workload
from devprof.workloads import compat, names
from devprof.workloads.catalogue import build
from devprof.workloads.names import SEED_NAMES, check_names, split_name
from devprof.workloads.seeds import SEEDS
from devprof.workloads.training import inference_step, make_optimizer, training_step


@pytest.mark.parametrize(
    ("model", "parameters", "head", "shape"),
    [
        ("seed:cnn", 47_226, 38_730, (1, 28, 28)),
        ("seed:lstm", 641_032, 520, (8, 1024)),
        ("seed:mlp", 1_707_274, 2_570, (3072,)),
        ("seed:net", 421_642, 1_290, (1, 28, 28)),
    ],
)
def test_seeds_have_their_published_sizes(model, parameters, head, shape):
    assert build(Workload(model)).parameter_counts() == (parameters, parameters)
    trainable = build(Workload(model, mode="head"))
    assert trainable.parameter_counts() == (parameters, head)
    assert trainable.input_shape == shape


def test_the_names_of_seeds_need_no_torch():
    assert set(SEED_NAMES) == set(SEEDS)


@pytest.mark.parametrize(
    "model",
    [
        "resnet18",
        "mobilenetv3_small_050",
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "torchvision:resnet18",
    ],
)
def test_head_mode_trains_the_classifier_only(model):
    trainable = build(Workload(model, mode="head", num_classes=7), device="meta")
    trained = [name for name, parameter in trainable.model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(name.startswith(("fc", "classifier", "head")) for name in trained)


def test_a_step_changes_trained_parameters_only():
    trainable = build(Workload("seed:cnn", mode="head", batch_size=4))
    before = {name: value.clone() for name, value in trainable.model.state_dict().items()}
    inputs, targets = trainable.make_batch(4)
    phases = []
    loss_fn = torch.nn.functional.cross_entropy
    loss = training_step(
        trainable.model, make_optimizer("sgd", trainable.model, 0.1), loss_fn, inputs, targets, mark=phases.append
    )
    changed = {name for name, value in trainable.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"6.weight", "6.bias"}
    assert phases == ["forward", "backward", "optimizer"]
    assert torch.isfinite(loss)
    assert all(parameter.grad is None for parameter in trainable.model.parameters())


def test_an_inference_leaves_no_graph():
    trainable = build(Workload("seed:mlp"))
    assert not inference_step(trainable.model, trainable.make_batch(2)[0]).requires_grad


@pytest.mark.parametrize("size", [96, 224])
def test_a_transformer_is_built_for_the_image_size(size):
    trainable = build(Workload("vit_tiny_patch16_224", image_size=size, num_classes=5), device="meta")
    inputs, _ = trainable.make_batch(2)
    assert trainable.model(inputs).shape == (2, 5)


def test_batches_are_reproducible():
    trainable = build(Workload("seed:cnn"))
    first, second = trainable.make_batch(3, seed=1), trainable.make_batch(3, seed=1)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        (Workload("seed:mlp", image_size=28), "takes no images"),
        (Workload("seed:cnn", image_size=5), "at least 8x8"),
        (Workload("seed:net", image_size=2), "at least 4x4"),
        (Workload("seed:net", num_classes=-1), "cannot be built"),
    ],
)
def test_a_model_that_does_not_fit_its_input_says_why(workload, reason):
    with pytest.raises(WorkloadError, match=reason):
        build(workload, device="meta")


@pytest.mark.parametrize(
    ("name", "closest"),
    [("seed:cn", "seed:cnn"), ("resnet81", "resnet18"), ("torchvision:resnet17", "torchvision:resnet18")],
)
def test_an_unknown_model_names_the_closest(name, closest):
    with pytest.raises(UnknownNameError, match=closest):
        build(Workload(name), device="meta")


def test_unknown_names_are_found_without_torch_in_this_process():
    bad = check_names(["seed:cnn", "resnet18", "resnet81", "cnn", "no.such.module:thing"])
    assert set(bad) == {"resnet81", "cnn", "no.such.module:thing"}
    assert "seed:cnn" in bad["cnn"]
    assert "PYTHONPATH" in bad["no.such.module:thing"]


def test_names_have_sources():
    assert split_name("resnet18") == ("timm", "resnet18")
    assert split_name("seed:cnn") == ("seed", "cnn")
    assert split_name("my.module:make") == ("factory", "my.module:make")


def test_the_users_own_factory():
    trainable = build(Workload("faulty_models:good", mode="head"))
    assert (trainable.input_shape, trainable.num_classes) == ((4,), 3)


@pytest.fixture
def fastervit(monkeypatch):
    """A stand-in for the optional package: what it is asked for, and a model that reads values while it is built."""
    asked = []

    def create_model(name, **options):
        asked.append((name, options))
        rates = [rate.item() for rate in torch.linspace(0, 0.2, 2)]
        return torch.nn.Sequential(torch.nn.Conv2d(3, options["num_classes"], 1), torch.nn.Dropout(rates[1]))

    package = types.ModuleType("fastervit")
    package.__spec__ = importlib.machinery.ModuleSpec("fastervit", None)
    package.create_model = create_model
    monkeypatch.setitem(sys.modules, "fastervit", package)
    return asked


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_model_of_the_optional_package(fastervit, device):
    trainable = build(Workload("fastervit:faster_vit_1_224", num_classes=6), device=device)
    assert fastervit[-1] == ("faster_vit_1_224", {"pretrained": False, "num_classes": 6})
    assert trainable.input_shape == (3, 224, 224)
    assert trainable.device.type == device
    build(Workload("fastervit:faster_vit_1_224", image_size=448), device=device)
    assert fastervit[-1] == ("faster_vit_1_224", {"pretrained": False, "num_classes": 1000, "resolution": 448})


@pytest.mark.usefixtures("fastervit")
def test_an_unknown_model_of_the_optional_package_names_the_closest():
    with pytest.raises(UnknownNameError, match="closest: fastervit:faster_vit_1_224"):
        build(Workload("fastervit:faster_vit_1"))


def test_models_of_a_package_that_is_not_installed_say_how_to_get_it(monkeypatch):
    monkeypatch.setattr(names.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WorkloadError, match="pip install fastervit"):
        build(Workload("fastervit:faster_vit_1_224"))


def test_optimizers():
    model = build(Workload("seed:cnn")).model
    assert isinstance(make_optimizer("adam", model), torch.optim.Adam)
    with pytest.raises(WorkloadError, match="use sgd or adam"):
        make_optimizer("lion", model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(WorkloadError, match="no parameter to train"):
        make_optimizer("sgd", model)


def test_a_model_without_a_classifier_has_no_head(monkeypatch):
    monkeypatch.setitem(
        SEEDS, "seed:cnn", SEEDS["seed:cnn"].__class__(lambda *_: torch.nn.Conv2d(1, 1, 3), (1, 8, 8), 2)
    )
    with pytest.raises(WorkloadError, match="no classifier"):
        build(Workload("seed:cnn", mode="head"))


class TestTorchvisionOperators:
    """Each in a process of its own: declarations of operators last as long as the process."""

    def run(self, script):
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    def test_timm_imports_after_the_declaration(self):
        done = self.run(
            "from devprof.workloads.compat import *; ensure_torchvision_operators(); import timm; print(timm.is_model('resnet18'))"
        )
        assert done.stdout.strip() == "True", done.stderr

    def test_a_package_that_builds_on_timm_finds_them_declared(self, tmp_path):
        stand_in = "import timm\ncreate_model = lambda name, **options: timm.create_model('mobilenetv3_small_050', **options)\n"
        (tmp_path / "fastervit.py").write_text(stand_in, encoding="utf-8")
        done = self.run(
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "from devprof.records import Workload; from devprof.workloads.catalogue import build\n"
            "print(build(Workload('fastervit:faster_vit_0_224')).input_shape)"
        )
        assert done.stdout.strip() == "(3, 224, 224)", done.stderr

    def test_missing_operators_are_declared_once_and_said(self):
        script = (
            "import logging; logging.basicConfig(level=logging.INFO)\n"
            "import devprof.workloads.compat as c\n"
            "c._compiled_operators_load = lambda: False\n"
            "print(c.ensure_torchvision_operators(), c.ensure_torchvision_operators())\n"
        )
        done = self.run(script)
        assert done.stdout.strip() == "True True"
        assert done.stderr.count("compiled operators cannot be loaded") == 1

    def test_nothing_is_declared_where_the_operators_load(self):
        script = (
            "import devprof.workloads.compat as c, torch\n"
            "c._compiled_operators_load = lambda: True\n"
            "print(c.ensure_torchvision_operators(), hasattr(torch.ops.torchvision, 'nms'))\n"
        )
        assert self.run(script).stdout.strip() == "False False"


def test_loading_an_extension_is_tried_and_its_failure_believed(monkeypatch, tmp_path):
    (tmp_path / "_C.so").write_bytes(b"no library")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda _: spec)
    assert not compat._compiled_operators_load()
    (tmp_path / "_C.so").unlink()
    assert not compat._compiled_operators_load()
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda _: None)
    assert compat._compiled_operators_load()
