import json

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from devprof.costmodel.features import WORK, Features  # noqa: E402
from devprof.costmodel.trace import trace_step, trace_training  # noqa: E402
from devprof.errors import CostModelError  # noqa: E402


def trace(build, shape, *, freeze=(), classes=10, dtype=None):
    with torch.device("meta"):
        model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not name.startswith(tuple(freeze)) if freeze else True

    def make_batch(size):
        inputs = torch.zeros(size, *shape, dtype=dtype, device="meta")
        return inputs, torch.zeros(size, dtype=torch.long, device="meta")

    return trace_training(model, make_batch, functional.cross_entropy)


def per_sample(features, kind):
    """Work per sample, forward and backward together."""
    return sum(features.per_sample[WORK.index(f"{phase}_{kind}")] for phase in ("forward", "backward"))


def constant(features, kind):
    return sum(features.constant[WORK.index(f"{phase}_{kind}")] for phase in ("forward", "backward"))


def classifier(channels, pixels, classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * pixels, classes))


def test_a_linear_layer_costs_forward_and_weight_gradient():
    features = trace(lambda: nn.Linear(20, 10), (20,))
    # The input is data: nobody asks for its gradient.
    assert per_sample(features, "matmul_macs") == 2 * 20 * 10
    assert features.parameters == features.trainable_parameters == 20 * 10 + 10


def test_an_inner_linear_layer_costs_the_input_gradient_too():
    features = trace(lambda: nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10)), (20,))
    assert per_sample(features, "matmul_macs") == 2 * 20 * 30 + 3 * 30 * 10


def test_weights_that_are_read_are_a_constant_part():
    features = trace(lambda: nn.Linear(20, 10, bias=False), (20,))
    assert constant(features, "matmul_elements") == 2 * 20 * 10


@pytest.mark.parametrize(
    ("layer", "family", "macs"),
    [
        (lambda: nn.Conv2d(4, 8, 3, padding=1, bias=False), "conv_macs", 36 * 8 * 4 * 9),
        (lambda: nn.Conv2d(4, 8, 1, bias=False), "conv_1x1_macs", 36 * 8 * 4),
        (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), "conv_depthwise_macs", 36 * 8 * 9),
        (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False), "conv_grouped_macs", 36 * 8 * 2 * 9),
        (lambda: nn.ConvTranspose2d(4, 8, 3, padding=1, bias=False), "conv_macs", 36 * 4 * 8 * 9),
    ],
)
def test_convolutions_count_exactly(layer, family, macs):
    features = trace(lambda: nn.Sequential(layer(), classifier(8, 36)), (4, 6, 6))
    # Forward and weight gradient; as the first layer it gives no input gradient.
    assert per_sample(features, family) == 2 * macs
    assert constant(features, family) == 0


def test_an_inner_convolution_counts_three_products():
    features = trace(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 3, padding=1), classifier(4, 36)),
        (3, 6, 6),
    )
    assert per_sample(features, "conv_macs") == 3 * 36 * 4 * 4 * 9


def test_frozen_layers_cost_the_forward_pass_only():
    features = trace(
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), classifier(8, 36)), (4, 6, 6), freeze=("0",)
    )
    assert per_sample(features, "conv_macs") == 36 * 8 * 4 * 9
    assert features.trainable_parameters == 8 * 36 * 10 + 10
    assert features.parameters > features.trainable_parameters
    # Only the classifier's input is kept for its weight gradient, and the loss keeps the log-probabilities and targets.
    assert features.saved_bytes[1] == 4 * 8 * 36 + 4 * 10 + 8


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 10)

    def forward(self, inputs):
        query, key, value = self.qkv(inputs).chunk(3, dim=-1)
        return self.out(functional.scaled_dot_product_attention(query, key, value).mean(1))


def test_attention_counts_scores_and_values_forward_and_backward():
    features = trace(Attention, (5, 16))
    # Two products forward, two gradients for each of them backward.
    assert per_sample(features, "attention_macs") == 6 * 5 * 5 * 16
    assert per_sample(features, "matmul_macs") == 2 * 5 * 16 * 48 + 3 * 16 * 10


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.out = nn.Linear(16, 10)

    def forward(self, inputs):
        return self.out(self.lstm(self.embedding(inputs))[0][:, -1])


def test_attention_is_one_operator_as_on_a_cpu():
    with torch.device("meta"):
        model = Attention()
    batch = torch.zeros(2, 5, 16, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")
    # Heads of a real transformer come with four dimensions.
    heads = nn.Unflatten(2, (2, 8))
    model.forward = lambda inputs: model.out(
        functional.scaled_dot_product_attention(
            *(heads(part).transpose(1, 2) for part in model.qkv(inputs).chunk(3, -1))
        )
        .transpose(1, 2)
        .flatten(2)
        .mean(1)
    )
    step = trace_step(model, *batch, functional.cross_entropy, 2)
    names = [
        (json.loads(one.signature)[0].split(".")[1], one.backward)
        for one in step.operators
        if one.family == "attention"
    ]
    fused = "_scaled_dot_product_flash_attention_for_cpu"
    assert names == [(fused, False), (f"{fused}_backward", True)]


def test_a_step_says_what_is_alive_when():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(20, 30, bias=False), nn.ReLU(), nn.Linear(30, 10, bias=False))
    batch = torch.zeros(8, 20, device="meta"), torch.zeros(8, dtype=torch.long, device="meta")
    step = trace_step(model, *batch, functional.cross_entropy, 8)
    assert (step.parameters, step.trainable_tensors, step.batch_bytes) == (900, 2, 4 * 160 + 8 * 8)
    # At the end only the loss and the gradients of the parameters are left.
    assert step.live_bytes[-1] <= 4 * 900 + 64
    assert max(step.live_bytes) >= 4 * 900 + 4 * 8 * 30
    assert max(step.storages) == 4 * 600


def test_recurrent_networks_are_matrix_products_step_by_step():
    features = trace(Recurrent, (5,), dtype=torch.long)
    assert per_sample(features, "matmul_macs") >= 5 * 4 * 16 * (8 + 16)
    assert per_sample(features, "transcendental_elements") > 0


def test_elements_count_what_is_read_and_written():
    features = trace(lambda: nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(12, 10)), (3, 2, 2), classes=10)
    forward = 2 * 12
    assert per_sample(features, "elementwise_elements") >= forward
    assert per_sample(features, "norm_elements") == 0


def test_views_are_free():
    flat = trace(lambda: nn.Linear(12, 10), (12,))
    viewed = trace(lambda: nn.Sequential(nn.Unflatten(1, (3, 4)), nn.Flatten(), nn.Linear(12, 10)), (12,))
    assert viewed.operators == flat.operators
    assert viewed.per_sample == flat.per_sample


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(20, 10, bias=False), nn.Linear(20, 10, bias=False)

    def forward(self, inputs):
        shared = inputs * 2
        return self.left(shared) + self.right(shared)


def test_a_tensor_kept_twice_is_counted_once():
    features = trace(Twice, (20,))
    assert features.saved_bytes[1] == 4 * 20 + 4 * 10 + 8


def test_parameters_are_no_activations():
    features = trace(lambda: nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 10, bias=False)), (20,))
    assert features.saved_bytes[1] == 4 * (20 + 30 + 10) + 8
    assert features.saved_bytes[0] < 100


class Looks(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 10)

    def forward(self, inputs):
        return self.out(inputs) if inputs.sum().item() > 0 else self.out(-inputs)


def test_a_model_that_looks_at_values_is_an_error_with_the_reason():
    with pytest.raises(CostModelError, match=r"Looks cannot be traced without data \(.*item"):
        trace(Looks, (4,))


def test_a_model_with_data_is_refused():
    with pytest.raises(CostModelError, match="not on the meta device"):
        trace_training(nn.Linear(2, 2), lambda size: (torch.zeros(size, 2), torch.zeros(size)), functional.mse_loss)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(CostModelError, match="no trainable parameter"):
        trace(lambda: nn.Linear(4, 2), (4,), freeze=("",))


def test_tracing_leaves_no_gradients_behind():
    with torch.device("meta"):
        model = nn.Linear(4, 10)

    def make(size):
        return torch.zeros(size, 4, device="meta"), torch.zeros(size, dtype=torch.long, device="meta")

    first = trace_training(model, make, functional.cross_entropy)
    assert model.weight.grad is None
    assert trace_training(model, make, functional.cross_entropy) == first


@pytest.fixture(scope="module")
def timm():
    compat = pytest.importorskip("devprof.workloads.compat")
    compat.ensure_torchvision_operators()
    return pytest.importorskip("timm")


# Forward multiply-accumulates as the models' authors publish them (in millions): training takes about three times as
# many.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "forward_mmacs"),
    [
        ("resnet18", 1814),
        ("mobilenetv3_small_100", 56),
        ("vit_tiny_patch16_224", 1258),
        ("swin_tiny_patch4_window7_224", 4490),
    ],
)
def test_published_models_take_about_three_forward_passes(timm, name, forward_mmacs):
    features = trace(lambda: timm.create_model(name), (3, 224, 224), classes=1000)
    macs = sum(value for family, value in zip(WORK, features.per_sample, strict=True) if family.endswith("_macs"))
    assert macs / 1e6 == pytest.approx(3 * forward_mmacs, rel=0.1)
    assert isinstance(features, Features)
