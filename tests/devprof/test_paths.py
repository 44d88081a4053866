import pytest

from devprof.paths import cache_folder


@pytest.mark.parametrize(
    ("environment", "folder"),
    [({"DEVPROF_CACHE": "/a"}, "/a"), ({"XDG_CACHE_HOME": "/b"}, "/b/devprof"), ({"HOME": "/c"}, "/c/.cache/devprof")],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, environment, folder):
    for name in ("DEVPROF_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == folder
