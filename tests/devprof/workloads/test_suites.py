import pytest

from devprof.errors import UnknownNameError, WorkloadError
from devprof.workloads.names import check_names
from devprof.workloads.suites import load_suite, suite_names

GOOD = 'models = ["seed:cnn"]\nmodes = ["full"]\nbatch_sizes = [1, 8]\n'


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_names_models_that_exist(name):
    suite = load_suite(name)
    assert suite.description
    assert check_names(suite.models) == {}


def test_a_users_own_suite(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + "image_size = 64\n")
    suite = load_suite(str(path))
    assert (suite.name, suite.models, suite.modes, suite.batch_sizes) == ("mine", ("seed:cnn",), ("full",), (1, 8))
    assert (suite.image_size, suite.num_classes) == (64, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models = [", "not valid TOML"),
        (GOOD + "batchsize = 3\n", "unknown keys: batchsize"),
        (GOOD.replace('"full"', '"half"'), "modes must be among full, head"),
        (GOOD.replace("[1, 8]", "[]"), "batch_sizes must be a non-empty list"),
        (GOOD.replace("[1, 8]", "[0]"), "positive int"),
        (GOOD.replace('["seed:cnn"]', "3"), "models must be a non-empty list"),
        (GOOD + "image_size = -1\n", "image_size must be a whole number"),
    ],
)
def test_a_suite_that_makes_no_sense_names_file_and_key(tmp_path, text, reason):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=reason) as caught:
        load_suite(str(path))
    assert str(path) in str(caught.value)


def test_an_unknown_suite_names_the_closest():
    with pytest.raises(UnknownNameError, match="closest: quick"):
        load_suite("quik")
    with pytest.raises(UnknownNameError, match="no such file"):
        load_suite("none.toml")
