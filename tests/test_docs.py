"""The documentation: every command in it runs, every command is in it, every link leads somewhere.

Lines that begin with ``$`` in ``console`` blocks are run in the order of the file, in one folder per file, by the shell, as a
reader would; devprof's commands that start no other process are run by its entry point in this process, because a new one would
spend its time on importing. Measuring commands get a short time, which changes nothing but their patience. A ``toml``
block whose first line is its file name as a comment is a file in that folder.
"""

import contextlib
import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from devprof.cli import COMMANDS, main
from devprof.device.emulate import Limits, check
from devprof.errors import DevprofError
from devprof.measure.checks import Warn
from devprof.records import STATUSES
from devprof.store.schema import TABLES, arrow_schema

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Where each tool of a documented command line is run, for real.
ELSEWHERE = {
    "flwr": "tests/strategies/app/test_flwr_run.py",
    "devprof fleet": "tests/strategies/fleet/test_real_fleet.py",
}
# Commands of devprof that stay in their process, and the signs by which a line needs the shell.
IN_PROCESS = {"doctor", "summary", "import", "fit", "predict", "plan", "report"}
SHELL = set("|&;<>$`*?~")


def commands_of(page):
    """Command lines of a page's console blocks."""
    return [
        line[2:].strip()
        for language, text in BLOCK.findall(page.read_text())
        if language == "console"
        for line in text.splitlines()
        if line.startswith("$ ")
    ]


def files_of(page):
    """Files that a page shows whole: name and content."""
    blocks = [text for language, text in BLOCK.findall(page.read_text()) if language == "toml"]
    return {match[1]: text for text in blocks if (match := re.match(r"# (\S+\.toml)\n", text))}


def ids(page):
    return page.name


@pytest.fixture(scope="module")
def can_emulate():
    """Whether control groups can be made here; documented emulations are run only then."""
    try:
        check(Limits(cpus=0.5, memory_bytes=2 << 30))
    except DevprofError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=ids)
def test_every_command_of_a_page_runs(page, tmp_path, flower_environment, can_emulate):
    for name, text in files_of(page).items():
        (tmp_path / name).write_text(text)
    for command in commands_of(page):
        tests = [test for tool, test in ELSEWHERE.items() if f"{command} ".startswith(f"{tool} ")]
        if tests:
            assert (ROOT / tests[0]).is_file()
            continue
        if command.startswith("devprof emulate") and not can_emulate:
            continue
        line = command
        if command.startswith("devprof measure"):
            line += " --min-time 50ms"
        code, said = run_line(line, tmp_path, flower_environment)
        assert code == 0, f"{page.name}: {command}\n{said}"


def run_line(line, folder, environment):
    """Exit code and the end of what a command line printed, run in a folder."""
    tool, name, *_ = [*shlex.split(line), ""]
    if tool == "devprof" and name in IN_PROCESS and not SHELL & set(line):
        with contextlib.chdir(folder):
            result = CliRunner().invoke(main, shlex.split(line)[1:])
        return result.exit_code, result.output[-3000:]
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout[-1500:] + done.stderr[-1500:]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_python_blocks_are_python(page):
    for language, text in BLOCK.findall(page.read_text()):
        if language == "python":
            # ``...`` stands for the reader's own code, and a file may be quoted from the middle.
            assert compile(text, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files_of_the_project(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_within_pages_lead_to_headings(page):
    for file, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / file).read_text() if file else page.read_text()
        headings = {
            re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-")
            for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert anchor in headings, f"{page.name} links to #{anchor}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    text = (ROOT / "docs" / "commands.md").read_text()
    assert f"`devprof {name}" in text


def test_every_documented_option_exists():
    import importlib

    for page in PAGES:
        for command in commands_of(page):
            # What follows a bare "--" belongs to another command.
            words = list(itertools.takewhile(lambda word: word != "--", shlex.split(command)))
            if words[0] != "devprof" or words[1].startswith("-"):
                continue
            typed = importlib.import_module(COMMANDS[words[1]][0]).command
            # A group's options are those of the command in it.
            typed = getattr(typed, "commands", {}).get(words[2], typed) if len(words) > 2 else typed
            known = {option for parameter in typed.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, command


def test_every_column_status_and_warning_is_documented():
    text = (ROOT / "docs" / "measuring.md").read_text()
    for column in (*arrow_schema("runs").names, *arrow_schema("operators").names):
        assert re.search(rf"\b{column}\b", text), column
    for word in (*TABLES, *(status for status in STATUSES if status != "ok"), *(warning.code for warning in Warn)):
        assert f"`{word}`" in text, word


def test_the_first_screen_has_the_sentence_a_picture_and_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()[:20]
    assert any(line.startswith("**Measure a device once") for line in lines)
    assert any("](reports/demo/figures/accuracy_over_time.png)" in line for line in lines)
    assert any(line.startswith("make demo") for line in lines)
    assert any(line.startswith("make test") for line in lines)


@pytest.mark.parametrize("target", ["help", "demo", "test", "lint", "format", "clean"])
def test_make_knows_its_targets(target, tmp_path):
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    assert "## [Unreleased]" in text
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Schema",
    }  # fmt: skip
