"""The model card: what a cost model was made from, how wrong it is, and what it is not for, as Markdown.

After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019). Everything in it is in the report of the fit; here it is
only put into words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from devprof.costmodel.dataused import SETTINGS, DeviceData
from devprof.costmodel.evaluate import ELSEWHERE, FAMILY_OUT, MODEL_OUT, ErrorReport, NewDeviceError
from devprof.costmodel.rates import RATE_HEADINGS, rate_rows
from devprof.costmodel.summary import CostReport

__all__ = ["ERROR_HEADINGS", "error_cells", "new_device_headings", "new_device_notes", "new_device_rows", "render_card"]

# What was left out, in a word or two that a table has room for.
_SCHEMES = {FAMILY_OUT: "family", MODEL_OUT: "model", ELSEWHERE: "model, here"}
# Heading, and whether what is below it is a number.
ERROR_HEADINGS: tuple[tuple[str, bool], ...] = (
    *(("device", False), ("mode", False), ("left out", False), ("rows", True), ("groups", True), ("mean", True)),
    *(("median", True), ("≤ 10 %", True), ("≤ 20 %", True), ("covers", True), ("tau", True)),
)
_READING = (
    "Each family, then each model, is left out of the fit of all devices that were fitted together and predicted from the "
    "rest. *family*: what to expect of a model of a family never measured. *model*: of one with measured relatives. "
    "*model, here*: of one that only other devices ran. *mean*, *median*: of the relative error; *≤ 10 %*, *≤ 20 %*: the share "
    "of measurements with no larger one. *covers*: the share inside 90 % intervals made from the other groups; the fewer the "
    "groups, the rougher this share. *tau*: Kendall's rank correlation of predicted and measured; 1 is the same order."
)
_NEW_READING = (
    "Mean error on a device that is treated as new: it keeps some random measurements (probes) of its own, the devices it was "
    "fitted with keep theirs. With 0 probes, all that is known of it is its calibration."
)


def render_card(report: CostReport) -> str:
    """The card of a cost model as Markdown.

    Args:
        report: The report of its fit.
    """
    sections: Sequence[tuple[str, Iterable[str]]] = (
        ("What it must not be used for", [_list(report.not_for)]),
        ("Data", _data(report)),
        ("Errors of step time", _errors(report.errors)),
        ("Errors on a new device", _new_devices(report)),
        (
            "Errors of peak memory",
            _errors(report.memory_errors) if report.memory_errors else ["No row has a memory peak."],
        ),
        ("Errors of energy per step", _errors(report.energy_errors) if report.energy_errors else []),
        ("Errors of mean power", _errors(report.power_errors) if report.power_errors else []),
        ("What work costs", _costs(report)),
        ("How intervals were made", _intervals(report)),
        ("Suspicious measurements", [_list(report.suspects)] if report.suspects else []),
    )
    costs = ", ".join(
        ["seconds per training step"]
        + (["peak memory"] if report.memory_errors else [])
        + (["energy"] if report.energy_errors else [])
    )
    devices = ", ".join(one.device for one in report.data)
    made = f" Made by devprof {report.made_by}." if report.made_by else ""
    blocks = [
        "# Cost model card",
        f"Predicts {costs} on {devices}.{made} All errors are on measurements that the fit did not see.",
    ]
    for title, parts in sections:
        said = [part for part in parts if part]
        if said:
            blocks += [f"## {title}", *said]
    return "\n\n".join(blocks) + "\n"


def _data(report: CostReport) -> list[str]:
    parts = [f"{report.used_rows} of {report.total_rows} runs were used."]
    left_out = [f"{count} run(s): {reason}" for reason, count in report.rejected.items()]
    left_out += [f"model {model}: {reason}" for model, reason in report.dropped_models.items()]
    left_out += [f"the power of {count} run(s): {reason}" for reason, count in report.power_rejected.items()]
    if left_out:
        parts += ["Left out:", _list(left_out)]
    for one in report.data:
        parts += [f"### {one.device}", _list(_device(one, report.kin.get(one.device, ())))]
    return parts


def _device(one: DeviceData, kin: Sequence[str]) -> list[str]:
    facts = [
        f"{one.rows} runs of {one.configurations} configurations" if one.rows else "no run: it was only calibrated",
        f"{one.operators} operators timed by a calibration" if one.operators else "",
        f"{len(one.models)} models of {len(one.families)} families: {', '.join(one.families)}" if one.models else "",
        f"modes {', '.join(one.modes)}; batch sizes {_numbers(one.batch_sizes)}" if one.rows else "",
        f"image sizes {_numbers(one.image_sizes)}" if one.image_sizes else "",
        "setting: " + "; ".join(_setting(one)) if one.rows else "",
        f"fitted together with {', '.join(kin)}" if kin else "fitted alone: no other device runs the same models alike",
        f"measured {_days(one)}" if one.first_day else "",
        f"published by {', '.join(one.sources)}; day and devprof version of such rows are those of an import, not told here"
        if one.sources
        else "",
        "versions: " + "; ".join(f"{name} {', '.join(values)}" for name, values in one.versions.items())
        if one.versions
        else "",
        f"{one.memory_rows} runs with a memory peak, {one.energy_rows} with energy" if one.rows else "",
    ]
    return [fact for fact in facts if fact]


def _setting(one: DeviceData) -> list[str]:
    return [
        f"{name.replace('_', ' ')} {' or '.join(one.setting[name]) if name in one.setting else 'not in the table'}"
        for name in SETTINGS
    ]


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _days(one: DeviceData) -> str:
    return f"on {one.first_day}" if one.first_day == one.last_day else f"from {one.first_day} to {one.last_day}"


def _errors(errors: Sequence[ErrorReport]) -> list[str]:
    if not errors:
        return ["Nothing was measured."]
    notes = list(dict.fromkeys(error.note for error in errors if error.note))
    return [_READING, _table(ERROR_HEADINGS, [error_cells(error) for error in errors]), _list(notes)]


def error_cells(error: ErrorReport) -> tuple[str, ...]:
    """An error as texts, one for each of :data:`ERROR_HEADINGS`."""
    shares = (error.mape, error.median, error.within_10, error.within_20, error.coverage_90)
    named = (error.device, error.mode, _SCHEMES.get(error.scheme, error.scheme), str(error.rows), str(error.groups))
    tau = "–" if error.kendall_tau is None else f"{error.kendall_tau:.2f}"
    return (*named, *(_percent(share) for share in shares), tau)


def _percent(value: float | None) -> str:
    return "–" if value is None else "100 %" if value == 1 else f"{100 * value:.1f} %"


def _new_devices(report: CostReport) -> list[str]:
    rows = new_device_rows(report.new_device)
    notes = _list(new_device_notes(report.new_device))
    return [_NEW_READING, _table(new_device_headings(report.new_device), rows) if rows else "", notes]


def new_device_headings(errors: Sequence[NewDeviceError]) -> list[tuple[str, bool]]:
    """The headings of :func:`new_device_rows`: numbers of probes."""
    return [("device as new", False), ("predicted", False), *((_probes([count]), True) for count in _counts(errors))]


def _counts(errors: Sequence[NewDeviceError]) -> list[int]:
    return sorted({error.probes for error in errors})


def new_device_rows(errors: Sequence[NewDeviceError]) -> list[tuple[str, ...]]:
    """Mean errors by device and scheme, a column per number of probes; devices without any number are left out."""
    rows: dict[tuple[str, str], Mapping[int, NewDeviceError]] = {}
    for error in errors:
        rows[error.device, error.scheme] = {**rows.get((error.device, error.scheme), {}), error.probes: error}
    return [
        (device, scheme, *(_percent(own[count].mape) if count in own else "–" for count in _counts(errors)))
        for (device, scheme), own in rows.items()
        if any(error.mape is not None for error in own.values())
    ]


def new_device_notes(errors: Sequence[NewDeviceError]) -> list[str]:
    """Draws behind the numbers, and why others are missing, a sentence each."""
    draws = sorted({error.draws for error in errors if error.probes and error.draws})
    notes = [f"with probes: means over {' or '.join(map(str, draws))} draws, so expect them to vary"] if draws else []
    reasons: dict[tuple[str, str, str], list[int]] = {}
    for error in errors:
        if error.note:
            reasons.setdefault((error.device, error.scheme, error.note), []).append(error.probes)
    schemes: dict[tuple[str, str, str], list[str]] = {}
    for (device, scheme, note), counts in reasons.items():
        schemes.setdefault((device, _probes(counts), note), []).append(scheme)
    said: dict[str, list[str]] = {}
    for (device, probes, note), of in schemes.items():
        which = "" if len(of) > 1 else f" ({of[0]})"
        said.setdefault(f"{probes}{which}: {note}", []).append(device)
    return notes + [f"{', '.join(devices)} with {text}" for text, devices in said.items()]


def _probes(counts: Sequence[int]) -> str:
    return f"{_numbers(counts)} probe{'s' if list(counts) != [1] else ''}"


def _costs(report: CostReport) -> list[str]:
    parts = []
    for device in dict.fromkeys(one.device for one in report.coefficients):
        own = [one for one in report.coefficients if one.device == device]
        parts += [f"### {device}", _table(RATE_HEADINGS, rate_rows(own))]
    reading = (
        "Rates that fit the measured steps best, not peaks of the hardware: work that always comes together is told apart by "
        "prior knowledge only. Bytes count each read and written element as four bytes. Work that explains less than 1 % of a "
        "step is not listed."
    )
    return [reading, *parts] if parts else []


def _intervals(report: CostReport) -> list[str]:
    if not report.interval_notes:
        return ["From residuals of what was left out; they were enough everywhere."]
    return [
        "From residuals of what was left out. Where they were too few, the width is wider by rule:",
        _list(f"{name}: {note}" for name, note in report.interval_notes.items()),
    ]


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(headings: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if numeric else "---" for _, numeric in headings]
    lines = [[heading for heading, _ in headings], rule, *rows]
    # A bar would end the cell.
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
