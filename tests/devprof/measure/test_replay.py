"""Operators are called again from their signatures alone: real torch for what they give, a clock by hand for how long."""

import functools
import itertools
import weakref

import pytest
import torch

from devprof.costmodel.signature import encode_signature
from devprof.costmodel.trace import trace_step
from devprof.measure.calibration import OperatorCall
from devprof.measure.operands import extent, needed_bytes
from devprof.measure.replay import Bench, Replay, UnsupportedCallError, make_bench, rebuild, time_operator
from devprof.records import Workload
from devprof.workloads.catalogue import build

aten = torch.ops.aten


def shapes(value):
    if isinstance(value, (list, tuple)):
        return [shape for part in value for shape in shapes(part)]
    return [(tuple(value.shape), value.dtype)] if isinstance(value, torch.Tensor) else []


def again(operator, *args, **options):
    """The result of an operator, and of what its signature makes of it; which says the same of itself."""
    signature = encode_signature(str(operator), args, options)
    call = rebuild(signature)
    assert encode_signature(str(operator), call.run.args, call.run.keywords) == signature
    return operator(*args, **options), call.run()


@functools.cache
def operators_of(model, image_size=None):
    trainable = build(Workload(model=model, image_size=image_size), device="meta")
    step = trace_step(trainable.model, *trainable.make_batch(2), trainable.loss_fn, 2)
    return sorted({operator.signature for operator in step.operators})


@pytest.mark.parametrize(
    ("model", "image_size"),
    [("seed:cnn", None), ("seed:lstm", None), ("seed:mlp", None), ("seed:net", 8), ("vit_tiny_patch16_224", 32)],
)
def test_every_operator_of_a_step_can_be_called_again_and_gives_results_of_its_shapes(model, image_size):
    signatures = operators_of(model, image_size)
    assert len(signatures) > 10
    for signature in signatures:
        call = rebuild(signature)
        name = str(call.run.func)
        assert encode_signature(name, call.run.args, call.run.keywords) == signature
        result, expected = call.run(), rebuild(signature, "meta").run()
        assert shapes(result) == shapes(expected), signature


class TestOperands:
    @pytest.mark.parametrize(
        "made",
        [
            lambda: (aten.embedding.default, torch.rand(3, 4), torch.tensor([0, 2, 1, 1])),
            lambda: (aten.embedding_dense_backward.default, torch.rand(5, 4), torch.arange(5) % 3, 3, -1, False),
            lambda: (aten.index.Tensor, torch.rand(3, 2), [torch.tensor([2, 0]), torch.tensor([1, 1])]),
            lambda: (aten.index.Tensor, torch.rand(3, 2), [None, torch.tensor([1, 1, 0])]),
            lambda: (aten.index_put.default, torch.rand(3, 2), [torch.tensor([2, 0])], torch.rand(2, 2), True),
            lambda: (aten.gather.default, torch.rand(3, 2), 1, torch.tensor([[1], [0], [1]])),
            lambda: (aten.scatter_add.default, torch.rand(3, 2), -1, torch.zeros(3, 1, dtype=torch.long), torch.rand(3, 1)),
            lambda: (aten.index_select.default, torch.rand(3, 2), 0, torch.tensor([2, 2])),
            lambda: (aten.nll_loss_forward.default, torch.rand(4, 3), torch.tensor([0, 2, 1, 0]), None, 1, -100),
            lambda: (aten.nll_loss2d_forward.default, torch.rand(1, 3, 2, 2), torch.ones(1, 2, 2).long(), None, 1, -100),
            lambda: (aten.masked_fill.Scalar, torch.rand(3, 2), torch.rand(3, 2) > 0.5, 0.0),
            lambda: (aten.where.self, torch.rand(3) > 0.5, torch.rand(3), torch.rand(1)),
            lambda: (aten.native_dropout_backward.default, torch.rand(3), torch.rand(3) > 0.5, 2.0),
            lambda: (aten.cat.default, [torch.rand(3, 1), torch.rand(3, 2)], 1),
            lambda: (aten.add.Tensor, torch.tensor(3), 1),
            lambda: (aten.mul.Tensor, torch.rand(2, 3).half(), torch.rand(2, 3).half()),
            lambda: (aten.sum.dim_IntList, torch.rand(4, 6).t(), [0]),
            lambda: (aten.mul.Tensor, torch.rand(2, 1, 3).expand(2, 5, 3), torch.rand(3)),
            lambda: (aten.relu.default, torch.rand(0, 3)),
            lambda: (aten.clone.default, torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)),
            lambda: (aten.native_batch_norm.default, torch.rand(4, 3), None, None, torch.rand(3), torch.rand(3), True, 0.1, 1e-5),
        ],
    )  # fmt: skip
    def test_operands_of_every_kind_are_valid(self, made):
        result, replayed = again(*made())
        assert shapes(replayed) == shapes(result)

    @pytest.mark.parametrize("operator", [aten.max_pool2d_with_indices, aten.max_pool3d_with_indices])
    def test_positions_of_pooling_lie_within_the_plane(self, operator):
        sizes = [2] * (2 if operator is aten.max_pool2d_with_indices else 3)
        images = torch.rand(2, 3, *([6] * len(sizes)))
        pooled, places = operator.default(images, sizes)
        backward = getattr(aten, f"{operator.__name__}_backward").default
        rest = (sizes, sizes, [0] * len(sizes), [1] * len(sizes), False, places)
        assert shapes(again(backward, pooled, images, *rest)[1]) == shapes(images)

    def test_options_are_made_again(self):
        options = {"dtype": torch.float16, "memory_format": torch.channels_last}
        result, replayed = again(aten._to_copy.default, torch.rand(2, 3, 4, 4), **options)
        assert shapes(replayed) == shapes(result)
        assert replayed.is_contiguous(memory_format=torch.channels_last)

    def test_a_new_tensor_needs_no_device_in_its_signature(self):
        options = {"dtype": torch.float32, "device": torch.device("cpu"), "pin_memory": False}
        assert shapes(again(aten.zeros.default, [2, 3], **options)[1]) == [((2, 3), torch.float32)]

    def test_numbers_are_positive_and_differ(self):
        (values,) = rebuild(encode_signature("aten.sqrt.default", [torch.rand(200_000)], {})).run.args
        assert 0.5 <= values.min() < values.max() <= 1.5

    def test_indices_use_their_whole_range(self):
        call = rebuild(encode_signature(str(aten.embedding.default), [torch.rand(7, 2), torch.zeros(500).long()], {}))
        assert call.run.args[1].unique().tolist() == list(range(7))

    def test_what_is_overwritten_gets_its_values_again(self):
        scaled = [torch.rand(4), torch.rand(4)]
        call = rebuild(encode_signature(str(aten.mul_.Tensor), scaled, {}))
        factor = call.run.args[1].clone()
        for _ in range(3):
            call.reset()
            call.run()
        assert torch.equal(call.run.args[0], factor)
        assert torch.equal(call.run.args[1], factor)

    @pytest.mark.parametrize(
        ("signature", "reason"),
        [
            ('["aten.no_such_operator.default",[],{}]', "no operator aten.no_such_operator.default"),
            ('["nowhere.relu.default",[],{}]', "no operator nowhere.relu"),
            ('["aten.relu",[],{}]', "names no overload"),
            ('["aten.relu.default",[{"t":[2],"d":"quint8"}],{}]', "quint8"),
            ('["aten.relu.default",[{"t":[2],"d":"float77"}],{}]', "float77"),
            ('["aten.relu.default",[{"t":[2],"d":"float32"},1,2],{}]', "takes 1 arguments"),
            ('["aten.relu.default",[{"x":"<torch._C.Generator object>"}],{}]', "Generator"),
            ('["aten.relu.default"]', "not the signature"),
            ("relu", "Expecting value"),
        ],
    )
    def test_what_cannot_be_called_again_has_a_reason(self, signature, reason):
        with pytest.raises(UnsupportedCallError, match=reason):
            rebuild(signature)


class TestMemory:
    def test_gaps_count(self):
        assert extent({"t": [2, 3], "d": "float32"}) == 6
        assert extent({"t": [2, 3], "d": "float32", "s": [10, 1]}) == 13
        assert extent({"t": [4, 3], "d": "float32", "s": [0, 1]}) == 3
        assert extent({"t": [0, 3], "d": "float32", "s": [9, 9]}) == 0

    def test_operands_and_results(self):
        relu = '["aten.relu.default",[{"t":[100],"d":"float32"}],{}]'
        assert needed_bytes(OperatorCall(relu, "elementwise", 0.0, 200.0)) == 800
        mask = '["aten.native_dropout_backward.default",[{"t":[100],"d":"float32"},{"t":[100],"d":"bool"},2.0],{}]'
        assert needed_bytes(OperatorCall(mask, "elementwise", 0.0, 300.0)) == 900

    def test_convolutions_work_on_copies(self):
        tensors = [{"t": [1, 1, 4, 4], "d": "float32"}, {"t": [1, 1, 1, 1], "d": "float32"}]
        signature = f'["aten.convolution.default",{tensors},{{}}]'.replace("'", '"')
        assert needed_bytes(OperatorCall(signature, "conv", 16.0, 33.0)) == 2 * 33 * 4


class FakeBench:
    """A processor whose calls take what a test says: milliseconds in turn, the last one for ever; colder ones longer."""

    def __init__(self, *durations_ms, cold_ms=0.0, least_batch_ns=20_000):
        self.now_ns = 0
        self.log = []
        self._durations = itertools.chain(durations_ms, itertools.repeat(durations_ms[-1]))
        self._cold_ms = cold_ms
        self._is_cold = False
        self.bench = Bench(lambda: None, self._flush, least_batch_ns, lambda: self.now_ns)
        self.call = Replay(self._run, lambda: self.log.append("reset"))

    def _flush(self):
        self.log.append("flush")
        self._is_cold = True

    def _run(self):
        self.log.append("run")
        self.now_ns += round(1e6 * (next(self._durations) + self._is_cold * self._cold_ms))
        self._is_cold = False

    def time(self, budget_s=0.0):
        return time_operator(self.call, budget_s, self.bench)


class TestTiming:
    def test_warm_up_ends_when_two_calls_agree(self):
        fake = FakeBench(100, 50, 49, 40, 41, 42, 40)
        timing = fake.time()
        assert timing.seconds == pytest.approx(0.041)
        assert timing.calls == 3
        assert fake.log.count("run") == 3 + 3 + 1

    def test_warm_up_is_at_least_two_and_at_most_five_calls(self):
        assert FakeBench(10).time().calls == 3
        restless = FakeBench(10, 20, 30, 40, 50, 7)
        assert restless.time().seconds == pytest.approx(0.007)
        assert restless.log.count("run") == 5 + 3 + 1

    def test_as_many_calls_as_fit_into_the_budget(self):
        assert FakeBench(10).time(budget_s=0.1).calls == 10
        assert FakeBench(10).time(budget_s=0.001).calls == 3

    def test_short_calls_are_timed_several_at_once(self):
        fake = FakeBench(0.003)
        timing = fake.time(budget_s=0.00021)
        assert timing.calls == 10 * 7
        assert timing.seconds == pytest.approx(3e-6)

    def test_the_median_ignores_an_interruption(self):
        assert FakeBench(10, 10, 10, 500, 10).time().seconds == pytest.approx(0.010)

    def test_a_cold_call_follows_a_flush(self):
        fake = FakeBench(1, cold_ms=3)
        timing = fake.time()
        assert (timing.seconds, timing.seconds_first) == (pytest.approx(0.001), pytest.approx(0.004))
        assert fake.log[-9:] == ["reset", "flush", "run"] * 3

    def test_results_are_freed_before_the_next_call(self):
        alive = []

        class Result:
            pass

        def run():
            assert not alive or alive[-1]() is None
            result = Result()
            alive.append(weakref.ref(result))
            return result

        time_operator(Replay(run, lambda: None), 0.0, make_bench("cpu"))
        assert len(alive) > 8

    def test_nothing_is_recorded_for_a_backward_pass(self):
        modes = set()
        call = Replay(lambda: modes.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled())), lambda: None)
        time_operator(call, 0.0, make_bench("cpu"))
        assert modes == {(False, False)}

    def test_real_operators_take_time_and_memory(self):
        signature = encode_signature(str(aten.exp.default), [torch.rand(1 << 24)], {})
        timing = time_operator(rebuild(signature), 0.0, make_bench("cpu"))
        assert timing.seconds > 0
        assert timing.seconds_first > 0
        # 64 MiB go back to the system after every call, and come back page by page.
        assert timing.faults > 0
