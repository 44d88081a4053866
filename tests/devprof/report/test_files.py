from __future__ import annotations

import json
import os
import struct
from datetime import datetime, timedelta, timezone

import pytest

from devprof.errors import StoreError
from devprof.report import ReportContent, write_report
from devprof.report.figures import FIGURE_NAMES

NOON = datetime(2025, 3, 4, 13, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture(scope="module")
def written(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "new" / "report"
    return write_report(content, folder, now=NOON)


def png_size(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_every_figure_is_a_png_of_double_scale(written):
    assert tuple(written.png) == FIGURE_NAMES
    for path in written.png.values():
        width, height = png_size(path.read_bytes())
        assert width == pytest.approx(2 * 760, abs=4)
        assert 300 < height < 4000
        assert path.stat().st_size > 10_000


def test_every_figure_is_an_svg_with_its_title(written):
    assert tuple(written.svg) == FIGURE_NAMES
    assert "Accuracy over time" in written.svg["accuracy_over_time"].read_text()
    for path in written.svg.values():
        assert path.read_text().startswith("<svg")


def test_manifest_lists_what_was_written(written, content):
    manifest = json.loads(written.manifest.read_text())
    assert manifest["devprof_version"] == "0.1.0"
    assert manifest["generated_utc"] == "2025-03-04T12:00:00+00:00"
    assert manifest["title"] == content.title
    assert [figure["name"] for figure in manifest["figures"]] == list(FIGURE_NAMES)
    assert {figure["name"]: figure["rows"] for figure in manifest["figures"]}["step_time"] == 27
    for figure in manifest["figures"]:
        assert (written.folder / figure["png"]).is_file()
        assert (written.folder / figure["svg"]).is_file()


def test_nothing_temporary_is_left_and_others_may_read(written):
    files = [path for path in written.folder.rglob("*") if path.is_file()]
    assert len(files) == 2 + 2 * len(FIGURE_NAMES)
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in files)


def test_figures_of_an_earlier_report_do_not_stay(tmp_path, new_run):
    write_report(ReportContent("first", runs=(new_run(),)), tmp_path)
    (tmp_path / "figures" / "mine.png").write_bytes(b"")
    write_report(ReportContent("second"), tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["mine.png"]
    assert json.loads((tmp_path / "manifest.json").read_text())["figures"] == []


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/report"):
        write_report(ReportContent("t"), tmp_path / "file" / "report")


def test_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    files = write_report(ReportContent("old"), tmp_path)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write_report(ReportContent("new"), tmp_path)
    assert "<h1>old</h1>" in files.page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "manifest.json"]
