"""Control groups as plain files: ``/proc/self/cgroup``, ``/proc/self/mountinfo`` and the mounted trees."""

from devprof import paths


class FakeGroups:
    """A machine's control groups below a folder.

    Args:
        root: The folder; mount points are named relative to it.
        monkeypatch: Puts the real files back.
    """

    def __init__(self, root, monkeypatch):
        self.root = root
        self.proc = root / "proc/self"
        self.proc.mkdir(parents=True)
        monkeypatch.setattr(paths, "_ROOT", root)

    def member(self, *lines):
        """The lines of ``/proc/self/cgroup``."""
        (self.proc / "cgroup").write_text("\n".join(lines) + "\n")

    def mount(self, kind, point, *, root="/", controllers="rw"):
        """Mount a hierarchy (``cgroup`` or ``cgroup2``); ``root`` is the group that the mount begins with."""
        (self.root / point).mkdir(parents=True, exist_ok=True)
        escaped = str(self.root / point).replace(" ", "\\040")
        with (self.proc / "mountinfo").open("a") as file:
            file.write(f"30 23 0:26 {root} {escaped} rw,nosuid shared:9 - {kind} {kind} rw,{controllers}\n")

    def file(self, path, text):
        """Give a group a file; the group comes to be with it."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")

    def unified(self, member="0::/"):
        """Version 2 alone, as on a present-day system."""
        self.mount("cgroup2", "fs")
        self.member(member)
