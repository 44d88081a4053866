import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters.base import MeterError
from devprof.meters.rails import RULES, choose_rule, given_rule

LABELS = sorted({label for rule in RULES for label in rule.rails} | {"VDD_SOC", "VDD_GPU", "NC"})
CHIPS = sorted({rule.chip for rule in RULES})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_board_with_the_rails_of_its_rule_gets_that_rule(rule):
    assert choose_rule([*rule.rails, "OTHER"], ("vendor,carrier", rule.chip)) is rule


def test_names_of_rules_have_a_version_and_differ():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(name.rpartition("/")[2].isdigit() for name in names)


@pytest.mark.parametrize("label", ["VIN", "VDD_IN", "POM_5V_IN"])
def test_an_unknown_board_with_one_power_input_is_measured_there(label):
    rule = choose_rule([label, "VDD_SOC", "CPU"], ("vendor,new", "nvidia,tegra999"))
    assert (rule.name, rule.rails) == ("jetson-one-input/1", (label,))
    assert label in rule.notes[0]


@pytest.mark.parametrize(
    ("labels", "compatible"),
    [
        (["VIN", "VDD_IN"], ("vendor,new",)),
        (["VDD_GPU", "VDD_CPU"], ("vendor,new", "nvidia,tegra234")),
        (["VDD_GPU_SOC", "VDD_CPU_CV"], ("nvidia,tegra234",)),
        (["VDD_IN", "VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], ("nvidia,tegra234",)),
        (["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"], ("nvidia,tegra234",)),
        (["MY_VDD_IN", "VDD_IN_2"], ("nvidia,tegra194",)),
        ([], ()),
    ],
)
def test_rails_that_do_not_say_what_the_total_is_make_no_total(labels, compatible):
    with pytest.raises(MeterError) as failure:
        choose_rule(labels, compatible)
    assert all(label in failure.value.reason for label in labels)
    assert "--meter ina:RAIL" in failure.value.remedy


def test_without_a_device_tree_a_sum_needs_the_rails_of_exactly_one_rule():
    rule = choose_rule(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"], ())
    assert (rule.name, rule.rails) == ("jetson-agx-orin/1", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
    assert "device tree" in rule.notes[-1]
    assert choose_rule(["VDD_IN", "VDD_SOC"], ()).name == "jetson-one-input/1"


@given(st.lists(st.sampled_from(LABELS), max_size=8), st.lists(st.sampled_from(CHIPS), max_size=1))
def test_a_total_is_made_of_rails_that_are_there_once(labels, compatible):
    try:
        rule = choose_rule(labels, tuple(compatible))
    except MeterError:
        return
    assert all(labels.count(label) == 1 for label in rule.rails)
    assert rule.name == "jetson-one-input/1" or not compatible or rule.chip == compatible[0]


def test_the_user_may_name_the_rails_of_the_total():
    rule = given_rule("A + B", ["A", "B", "C"])
    assert (rule.name, rule.rails) == ("given-rails/1:A+B", ("A", "B"))


@pytest.mark.parametrize("text", ["D", "A+D", "A+A", "+", ""])
def test_rails_that_are_not_there_are_refused_by_name(text):
    with pytest.raises(MeterError, match="A, B, C"):
        given_rule(text, ["A", "B", "C"])
