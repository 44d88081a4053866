import json
import re

import pandas as pd
import pytest

from devprof.costmodel.card import (
    ERROR_HEADINGS,
    error_cells,
    new_device_headings,
    new_device_notes,
    new_device_rows,
    render_card,
)
from devprof.costmodel.dataused import describe_data
from devprof.costmodel.evaluate import KNOWN_MODELS, UNSEEN_FAMILY, ErrorReport, NewDeviceError
from devprof.costmodel.limits import limits_of
from devprof.costmodel.model import CostModel
from devprof.costmodel.rates import format_rate, rate_rows
from devprof.costmodel.summary import Coefficient, CostReport

ROW = {
    "device": "board",
    "model": "resnet18",
    "mode": "full",
    "batch_size": 16,
    "image_size": 224,
    "processor": "cpu",
    "threads": 4.0,
    "precision": "fp32",
    "started_utc": "2026-03-01T10:00:00+00:00",
    "devprof_version": "0.1.0",
    "versions": '{"torch": "2.13.0", "compiler": "GCC"}',
    "source": None,
    "rss_peak_bytes": 1e9,
}


def described(*changes, operators=None):
    return describe_data([ROW | change for change in changes], operators or {})


def limits(*data, **more):
    return "\n".join(limits_of(CostReport(1, 1, data=data, **more)))


@pytest.fixture
def fitted(make_rows, tracer):
    old, new = (make_rows(device=name, noise=0.05, seed=seed) for seed, name in enumerate(("old", "new")))
    broken = old.head(3).assign(status="oom")
    return CostModel.fit(pd.concat([old, new, broken], ignore_index=True), tracer=tracer)


class TestData:
    def test_a_device_is_described_from_its_rows(self):
        (one,) = described({}, {"batch_size": 4}, {"model": "vit_tiny", "mode": "head", "started_utc": "2026-03-04"})
        assert (one.rows, one.configurations, one.several_sizes) == (3, 3, 1)
        assert (one.models, one.families, one.kinds) == (("resnet18", "vit_tiny"), ("resnet", "vit"), ("image",))
        assert (one.modes, one.batch_sizes, one.image_sizes) == (("full", "head"), (4, 16), (224,))
        assert one.setting == {"processor": ("cpu",), "threads": ("4",), "precision": ("fp32",)}
        assert (one.first_day, one.last_day) == ("2026-03-01", "2026-03-04")
        assert one.versions == {"devprof": ("0.1.0",), "torch": ("2.13.0",)}
        assert (one.memory_rows, one.energy_rows) == (3, 0)

    def test_repeats_are_one_configuration(self):
        assert [(one.rows, one.configurations) for one in described({}, {})] == [(2, 1)]

    def test_published_rows_have_the_day_of_nobody(self):
        (one,) = described({"source": "somebody/table"})
        assert (one.first_day, one.sources) == (None, ("somebody/table",))
        assert "devprof" not in one.versions

    def test_versions_that_are_no_json_are_left_out(self):
        (one,) = described({"versions": "torch 2"}, {"versions": "[1]"})
        assert set(one.versions) == {"devprof"}

    def test_a_calibrated_device_has_operators_and_no_rows(self):
        (_, one) = described({}, operators={"new": 7})
        assert (one.device, one.rows, one.operators) == ("new", 0, 7)

    def test_rows_that_were_not_used_do_not_count(self, fitted):
        assert {one.device: one.rows for one in fitted.report.data} == {"old": 36, "new": 36}
        assert fitted.report.used_rows == 72


class TestLimits:
    def test_they_follow_from_the_data(self):
        (one,) = described({}, {"batch_size": 32})
        text = limits(one)
        assert "devices other than board" in text
        assert "processor cpu, threads 4, precision fp32 (not in the table: power mode, optimizer" in text
        assert "batch sizes far from the measured ones on board: 16, 32; 1 of 1 models at two or more" in text
        assert "image sizes far from 224 pixels on board" in text
        assert "mode head on board" in text
        assert "only 1 of the 9 families" in text
        assert "energy on board" in text
        assert "memory, and" not in text

    def test_what_was_measured_is_no_limit(self):
        models = (
            "resnet18",
            "vgg11",
            "vit_tiny",
            "densenet121",
            "alexnet",
            "convnext_tiny",
            "xception",
            "mnasnet",
            "dla34",
        )
        rows = [{"model": model, "mode": mode, "energy_j": 1.0} for model in models for mode in ("full", "head")]
        text = limits(*described(*rows))
        for gone in ("mode head", "energy on", "families that it takes", "memory, and"):
            assert gone not in text

    def test_one_size_per_model_is_said(self):
        assert "each model at one only" in limits(*described({}, {"model": "vgg11", "batch_size": 4}))

    def test_other_kinds_name_those_that_ran(self):
        assert "only image models and seed:lstm ran there" in limits(*described({}, {"model": "seed:lstm"}))

    def test_a_device_that_was_only_calibrated_is_named(self):
        assert "exact figures on new: calibrated" in limits(*described({}, operators={"new": 3}))

    def test_intervals_that_covered_too_little_are_named(self):
        errors = tuple(
            ErrorReport(name, "full", "leave-one-family-out", 10, 5, mape=0.1, coverage_90=covered)
            for name, covered in (("good", 0.9), ("bad", 0.7))
        )
        text = limits(*described({}), errors=errors)
        assert "bad, full, at face value (leave-one-family-out): they covered 70%" in text
        assert "good" not in text

    def test_devices_that_share_a_note_share_a_sentence(self):
        text = limits(
            *described({}),
            interval_notes={"a, full": "x: few; y: none", "b, full": "x: 3; y: 1; x: 4", "c, full": "x: few"},
        )
        assert "90 % intervals at face value for x, y on a, full; b, full: too few residuals" in text
        assert "90 % intervals at face value for x on c, full" in text


class TestRates:
    @pytest.mark.parametrize(
        ("seconds", "unit", "text"),
        [
            (1e-10, "multiply-accumulate", "10 GMAC/s"),
            (4e-14, "multiply-accumulate", "25,000 GMAC/s"),
            (1e-9, "element", "4 GB/s"),
            (1e-9, "byte", "1 GB/s"),
            (0.0, "element", "–"),
            (2e-9, "parameter", "2 ms per million"),
            (5e-6, "operator", "5 µs"),
            (0.0325, "step", "32.5 ms"),
        ],
    )
    def test_units_are_those_of_hardware(self, seconds, unit, text):
        assert format_rate(seconds, unit) == text

    def test_passes_share_a_row_and_modes_have_shares(self):
        def one(mode, name, share, unit="multiply-accumulate"):
            return Coefficient("d", mode, name, 1e-9, unit, share)

        rows = rate_rows(
            [
                *(one("full", f"{phase}_conv_1x1_macs", 0.2) for phase in ("forward", "backward")),
                *(one("head", f"{phase}_conv_1x1_macs", 0.05) for phase in ("forward", "backward")),
                one("full", "step", 0.5, "step"),
                one("full", "forward_norm_elements", 0.001, "element"),
            ]
        )
        assert rows == [
            ("each step", "0.001 µs", "", "50 %", "–"),
            ("convolution 1 x 1, products", "1 GMAC/s", "1 GMAC/s", "40 %", "10 %"),
        ]


class TestTables:
    def test_errors_have_a_cell_for_each_heading(self):
        cells = error_cells(ErrorReport("d", "full", "leave-one-family-out", 8, 4, 0.1234, 0.1, 0.5, 1.0, None, 0.987))
        assert len(cells) == len(ERROR_HEADINGS)
        assert cells[2:] == ("family", "8", "4", "12.3 %", "10.0 %", "50.0 %", "100 %", "–", "0.99")

    def test_new_devices_have_a_column_per_number_of_probes(self):
        errors = [
            NewDeviceError("a", KNOWN_MODELS, 0, note="needs devprof calibrate"),
            NewDeviceError("a", KNOWN_MODELS, 3, 5, 40, 0.082),
            NewDeviceError("b", KNOWN_MODELS, 3, note="needs kin"),
        ]
        assert [name for name, _ in new_device_headings(errors)] == [
            "device as new",
            "predicted",
            "0 probes",
            "3 probes",
        ]
        assert new_device_rows(errors) == [("a", KNOWN_MODELS, "–", "8.2 %")]
        notes = new_device_notes(errors)
        assert "means over 5 draws" in notes[0]
        assert f"a with 0 probes ({KNOWN_MODELS}): needs devprof calibrate" in notes

    def test_devices_and_schemes_with_the_same_reason_share_a_note(self):
        errors = [
            NewDeviceError(device, scheme, count, note="alone")
            for device in ("a", "b")
            for scheme in (KNOWN_MODELS, UNSEEN_FAMILY)
            for count in (1, 3)
        ]
        assert new_device_notes(errors) == ["a, b with 1, 3 probes: alone"]


class TestCard:
    def test_it_has_all_sections_with_what_belongs_there(self, fitted):
        card = render_card(fitted.report)
        sections = dict(
            zip(
                re.findall(r"^## (.*)$", card, re.MULTILINE),
                re.split(r"^## .*$", card, flags=re.MULTILINE)[1:],
                strict=True,
            )
        )
        assert list(sections) == [
            *("What it must not be used for", "Data", "Errors of step time", "Errors on a new device"),
            *("Errors of peak memory", "What work costs", "How intervals were made"),
        ]
        for text in fitted.report.not_for:
            assert f"- {text}" in sections["What it must not be used for"]
        assert "72 of 75 runs were used" in sections["Data"]
        assert "3 run(s): status is oom" in sections["Data"]
        assert "fitted together with new" in sections["Data"]
        assert sections["Errors of step time"].count("| old |") == 6
        assert f"| old | {KNOWN_MODELS} |" in sections["Errors on a new device"]
        assert "GMAC/s" in sections["What work costs"]

    def test_tables_are_rectangles(self, fitted):
        card = render_card(fitted.report)
        for table in re.findall(r"(?:^\|.*\|$\n?)+", card, re.MULTILINE):
            assert len({line.count("|") for line in table.strip().splitlines()}) == 1

    def test_a_saved_model_has_the_same_card(self, fitted, tracer, tmp_path):
        fitted.save(tmp_path / "cost.skops")
        loaded = CostModel.load(tmp_path / "cost.skops", tracer=tracer)
        assert loaded.report == fitted.report
        assert render_card(loaded.report) == render_card(fitted.report)

    def test_it_is_plain_data(self, fitted):
        plain = json.loads(json.dumps(fitted.report.to_dict()))
        assert CostReport.from_dict(plain) == fitted.report
        assert plain["not_for"]
        assert plain["left_out"]
        assert plain["new_device"]

    def test_a_device_that_was_only_calibrated_has_a_card(self, make_operators, make_rows, tracer, step_tracer):
        model = CostModel.fit(make_rows().head(0), operators=make_operators(), tracer=tracer, step_tracer=step_tracer)
        card = render_card(model.report)
        assert "no run: it was only calibrated" in card
        assert "exact figures on board" in card
