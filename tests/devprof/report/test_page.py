from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess

import pytest

from devprof.errors import MissingExtraError
from devprof.records import Evaluation
from devprof.report import Column, HeadlineTable, ReportContent, render_page
from devprof.report.figures import FIGURE_NAMES, figures_of
from devprof.report.theme import PANEL_MARGIN, to_spec

HOSTILE = "<script>alert('&\"')</script>"
SPEC = re.compile(r'<script type="application/json" id="spec-([a-z_]+)">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def page(content):
    return render_page(content)


def specs(page):
    return {name: json.loads(text) for name, text in SPEC.findall(page)}


def own_markup(page):
    """The page without the code and data in its scripts."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_page_holds_every_figure_with_caption_and_alternative_text(page):
    assert tuple(specs(page)) == FIGURE_NAMES
    markup = own_markup(page)
    assert markup.count("<figure ") == markup.count("<figcaption>") == len(FIGURE_NAMES)
    assert len(re.findall(r'role="img" aria-label="[^"]{40,}"', markup)) == len(FIGURE_NAMES)
    assert markup.count("<details>") == len(FIGURE_NAMES)
    assert all(spec["description"] for spec in specs(page).values())
    assert {name for name, spec in specs(page).items() if spec.get("width") != "container"} == {
        "phases_vs_batch",
        "predicted_vs_measured",
    }


def test_page_says_what_the_content_says(page, content):
    markup = own_markup(page)
    assert f"<title>{content.title}</title>" in markup
    assert content.lead in markup
    for name, value in content.facts:
        assert f"<dt>{name}</dt><dd>{value}</dd>" in markup
    assert '<td>one tau per processor</td><td class="number">86.9 %</td>' in markup
    assert f"<li>{content.notes[1]}</li>" in markup


def test_drawing_code_is_inside_once(page):
    assert page.count("window.vegaEmbed=") == 1


def test_page_fetches_nothing(page):
    assert not re.findall(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', own_markup(page))
    assert "@import" not in page
    assert "url(http" not in page
    assert "default-src 'none'" in page
    assert not re.findall(r"<script[^>]+src=", page)


def test_empty_content_is_a_page_that_says_what_to_run():
    page = render_page(ReportContent("Nothing yet"))
    assert "<h1>Nothing yet</h1>" in page
    assert "devprof measure MODEL -o DIR" in page
    assert "vegaEmbed" not in page
    assert "<figure" not in page
    assert "<h2>" not in page


def test_only_the_parts_with_records_are_shown():
    page = render_page(ReportContent("t", evaluations=(Evaluation("s", 1, 1.0, 0.5),)))
    assert tuple(specs(page)) == ("accuracy_over_time",)
    assert re.findall(r"<h2>(.*?)</h2>", own_markup(page)) == ["Federated"]


def test_hostile_names_stay_text(new_content, new_run):
    page = render_page(
        new_content(
            title=HOSTILE,
            lead=HOSTILE,
            facts=((HOSTILE, HOSTILE),),
            headline=HeadlineTable((Column(HOSTILE),), ((HOSTILE,),)),
            notes=(HOSTILE,),
            runs=(new_run(HOSTILE, device=HOSTILE), new_run(HOSTILE, "head", status="oom", error=HOSTILE)),
            evaluations=(Evaluation(HOSTILE, 1, 1.0, 0.5),),
        )
    )
    assert HOSTILE not in page
    assert "<script>alert" not in page
    layers = specs(page)["step_time"]["layer"]
    assert HOSTILE in {row.get("model") for layer in layers for row in layer.get("data", {}).get("values", ())}


def test_names_with_unicode_survive(new_run):
    page = render_page(ReportContent("Größe – 大きさ", runs=(new_run("モデル-é", device="Gerät №1"),)))
    assert "Größe – 大きさ" in page
    assert "Gerät №1" in own_markup(page)


def test_many_numbers_are_cut_and_counted(new_run):
    page = render_page(ReportContent("t", runs=tuple(new_run(batch=i + 1) for i in range(520))))
    assert page.count("20 more rows are left out here.") == 3


def test_missing_converter_names_the_extra(monkeypatch, content):
    real = importlib.import_module

    def without(name, *args):
        if name == "vl_convert":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"devprof\[report\]"):
        render_page(content)


def in_browser(text, folder):
    """The document after its scripts ran."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    (folder / "page.html").write_text(text, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000", "--window-size=1280,2000"]
    command = [chromium, *options, (folder / "page.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.slow
def test_page_draws_all_figures_in_a_real_browser(page, new_content, new_run, tmp_path):
    hostile = render_page(new_content(runs=(new_run(HOSTILE), new_run(HOSTILE + "2", status="oom"))))
    assert len(specs(page)) == len(FIGURE_NAMES)
    for text in (page, hostile):
        dom = in_browser(text, tmp_path)
        assert len(re.findall(r'data-drawn="yes"', dom)) == len(specs(text))
        assert len(re.findall(r'<svg[^>]*class="marks"', dom)) == len(specs(text))
        assert "could not be drawn" not in re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)


USE_TABLE = """<script>
const table = document.querySelector("#step_time table");
const headings = Array.from(table.tHead.rows[0].cells);
const button = headings.find(function (one) { return one.textContent === "Median step"; }).firstChild;
button.click(); button.click();
const input = document.querySelector("#step_time .tools input");
input.value = "FAILED killed"; input.dispatchEvent(new Event("input"));
</script>"""


@pytest.mark.slow
def test_numbers_can_be_sorted_and_searched(new_run, tmp_path):
    steps = [("a", 0.9), ("b", 0.012), ("ab", 150.0), ("c", 2.0), *((f"d{index}", 5.0) for index in range(8))]
    runs = [new_run(model, step_s=step_s, device="x") for model, step_s in steps]
    page = render_page(ReportContent("t", runs=(*runs, new_run("a-failed", status="killed", device="x"))))
    dom = in_browser(page + USE_TABLE, tmp_path)
    body = re.search(r'id="step_time".*?<tbody>(.*?)</tbody>', dom, re.DOTALL)[1]
    rows = re.findall(r"<tr(?P<hidden>[^>]*)><td>(?P<model>[^<]*)", body)
    assert [model for _, model in rows][:3] == ["ab", "d0", "d1"]
    assert [model for _, model in rows][-4:] == ["c", "a", "b", "a-failed"]
    shown = [model for hidden, model in rows if "hidden" not in hidden]
    assert shown == ["a-failed"]
    assert 'role="status">1 of 13 rows<' in dom
    assert 'aria-sort="descending"' in dom


def test_panels_are_laid_out_for_the_width(content):
    figure = next(figure for figure in figures_of(content) if figure.name == "phases_vs_batch")
    spec = to_spec(figure.chart, width=760)
    assert (spec["columns"], spec["spec"]["width"]) == (1, 760 - PANEL_MARGIN)
    assert "width" not in to_spec(figure.chart)["spec"]
