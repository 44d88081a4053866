"""What is installed: the wheel holds exactly the three packages and their data, the editable install exposes no others."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("devprof", "strategies", "datasets_meta")
DATA = {".toml", ".html", ".css", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # Built from a copy: a build leaves folders behind.
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*PACKAGES, "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and (path.suffix == ".py" or path.suffix in DATA or path.name == "py.typed")
    }
    assert held == expected


@pytest.mark.slow
def test_the_wheel_carries_the_licence_and_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "devprof = devprof.cli:main" in archive.read(entry_points).decode()
        assert any(name.endswith("licenses/LICENSE") for name in names)
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()


def test_the_editable_install_exposes_no_other_folder(tmp_path):
    script = (
        "import importlib.util as u\n"
        "for name in ('tests', 'benchmarks', 'reports', 'docs', 'deploy'):\n"
        "    spec = u.find_spec(name)\n"
        f"    assert spec is None or not str(spec.origin or list(spec.submodule_search_locations)[0]).startswith({str(ROOT)!r}), name\n"
        "import devprof, strategies, datasets_meta\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
