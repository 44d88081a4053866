import pytest

from devprof.errors import UnknownNameError, WorkloadError
from devprof.records import Workload
from devprof.workloads import suites
from devprof.workloads.catalogue import build
from devprof.workloads.names import FASTERVIT_NAMES, check_names
from devprof.workloads.suites import Group, Suite, load_suite, suite_names

GOOD = 'models = ["seed:cnn"]\nmodes = ["full"]\nbatch_sizes = [1, 8]\n'


@pytest.fixture
def write(tmp_path):
    """Writes a suite of one's own and gives its path."""

    def write_it(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write_it


def test_every_suite_names_models_that_exist():
    found = set()
    for name in suite_names():
        suite = load_suite(name)
        assert suite.description
        names = [model for group in suite.groups for model in group.models]
        assert len(set(names)) == len(names)
        found |= set(names)
    optional = {model for model in found if model.startswith("fastervit:")}
    assert optional <= set(FASTERVIT_NAMES)
    assert check_names(sorted(found - optional)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", suite_names())
def test_every_model_of_every_suite_runs_at_its_size(name):
    for group in load_suite(name).groups:
        for model in group.models:
            if not model.startswith("fastervit:"):
                workload = Workload(model, image_size=group.image_size, num_classes=group.num_classes)
                trainable = build(workload, device="meta")
                outputs = trainable.model(trainable.make_batch(2)[0])
                assert outputs.shape == (2, group.num_classes or trainable.num_classes), model


def test_the_suite_of_vision_models_has_59():
    groups = load_suite("rpi5-vision").groups
    assert sum(len(group.models) for group in groups) == 59
    assert {(group.image_size, group.batch_sizes, group.num_classes) for group in groups} == {(224, (16,), 1000)}


def test_the_suite_of_small_networks_goes_through_batch_sizes():
    suite = load_suite("rpi4-fl")
    assert (suite.repeats, suite.min_steps, suite.phase_steps) == (3, 50, 50)
    spans = {model: (group.batch_sizes[0], group.batch_sizes[-1]) for group in suite.groups for model in group.models}
    assert spans == {"seed:cnn": (1, 40), "seed:lstm": (1, 40), "seed:mlp": (1, 512)}


def test_a_users_own_suite(write):
    suite = load_suite(write(GOOD + 'image_size = 64\nmin_time = "2s"\nrepeats = 2\n'))
    assert suite == Suite(
        "mine", "", (Group(("seed:cnn",), ("full",), (1, 8), image_size=64),), repeats=2, min_time_s=2.0
    )


def test_groups_take_what_they_do_not_say_from_above(write):
    above = 'modes = ["full"]\nimage_size = 32\ndata = "memory"\n'
    first = '[[groups]]\nmodels = ["seed:cnn"]\nbatch_sizes = [2]\n'
    second = '[[groups]]\nmodels = ["seed:net"]\nimage_size = 64\ntasks = ["infer"]\noptimizer = "adam"\n'
    groups = load_suite(write(above + first + second)).groups
    assert groups == (
        Group(("seed:cnn",), ("full",), (2,), image_size=32, data="memory"),
        Group(("seed:net",), ("full",), tasks=("infer",), image_size=64, data="memory", optimizer="adam"),
    )


def test_a_group_whose_module_is_missing_is_left_out_with_the_reason(monkeypatch):
    found = set()
    monkeypatch.setattr(suites.importlib.util, "find_spec", lambda name: name if name in found else None)
    suite = load_suite("rpi5-vision")
    available, skipped = suite.available()
    assert sum(len(group.models) for group in available.groups) == 55
    assert list(skipped) == list(FASTERVIT_NAMES[:4])
    assert set(skipped.values()) == {"the package 'fastervit' is not installed: pip install fastervit"}
    found.add("fastervit")
    assert suite.available() == (suite, {})


def test_models_alone_leave_the_rest_to_the_command():
    assert Suite.of_models(("a", "b")).groups == (Group(("a", "b")),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models = [", "not valid TOML"),
        (GOOD + "batchsize = 3\n", r"unknown keys: batchsize \(closest: batch_sizes\)"),
        (GOOD + "xyz = 3\n", "unknown keys: xyz"),
        (GOOD + "[[groups]]\nmode = 3\n", r"group 1 has unknown keys: mode \(closest: modes\)"),
        (GOOD + "[[groups]]\nrepeats = 3\n", "group 1 has unknown keys: repeats"),
        (GOOD.replace('"full"', '"half"'), "modes must be among full, head"),
        (GOOD + 'tasks = ["guess"]\n', "tasks must be among train, infer"),
        (GOOD.replace("[1, 8]", "[]"), "batch_sizes must be a non-empty list"),
        (GOOD.replace("[1, 8]", "[0]"), "positive int"),
        (GOOD.replace('["seed:cnn"]', "3"), "models must be a non-empty list"),
        ('modes = ["full"]\n', "names no models"),
        ("groups = 3\n", "groups must be tables"),
        ("groups = []\n", "groups must be tables"),
        (GOOD + "image_size = -1\n", "image_size must be a whole number"),
        (GOOD + "min_steps = 1.5\n", "min_steps must be a whole number"),
        (GOOD + 'min_time = "soon"\n', "min_time: 'soon' is not a quantity"),
        (GOOD + "min_time = 0\n", "min_time must be longer than nothing"),
        (GOOD + 'data = "disk"\n', "data must be one of memory, jpeg, own"),
        (GOOD + 'optimizer = "lion"\n', "optimizer must be one of sgd, adam"),
        (GOOD + "requires = 3\n", "requires must be the name of a module"),
        (GOOD + 'requires = "a.b"\n', "requires must be the name of a module"),
    ],
)
def test_a_suite_that_makes_no_sense_names_file_and_key(write, text, reason):
    path = write(text)
    with pytest.raises(WorkloadError, match=reason) as caught:
        load_suite(path)
    assert path in str(caught.value)


def test_an_unknown_suite_names_the_closest():
    with pytest.raises(UnknownNameError, match="closest: quick"):
        load_suite("quik")
    with pytest.raises(UnknownNameError, match="no such file"):
        load_suite("none.toml")
