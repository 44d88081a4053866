"""Services and images: what they name exists, and the programs know every flag that they are given."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
import yaml

from strategies.commandlines import NodeSpec, TlsFiles, superlink_line, supernode_line
from strategies.compat import flower_offline_environment

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ENVIRONMENTS = sorted((DEPLOY / "systemd").glob("*.env.example"))
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


@pytest.fixture(scope="module")
def flags():
    """Flags of Flower's programs, from their help."""
    known = {}
    for program in ("flower-superlink", "flower-supernode"):
        path = Path(sys.executable).with_name(program)
        done = subprocess.run([path, "--help"], capture_output=True, text=True, check=True)
        known[program] = set(FLAG.findall(done.stdout))
    return known


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def instructions(path):
    """Instructions of a Dockerfile: a word and its arguments."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def ids(path):
    return path.name


def sections(path):
    """A unit's sections; a key may come several times."""
    found = {}
    for line in path.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            current = found.setdefault(header[1], {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            current.setdefault(key, []).append(value)
    return found


def environment_file(path):
    """Variables as a POSIX shell reads them; systemd's rules agree for quoted values without backslashes."""
    script = f"set -a; . {shlex.quote(str(path))}; exec {shlex.quote(sys.executable)} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(["env", "-i", "sh", "-euc", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def node_config(text):
    """Read as Flower reads it: pairs, values as in TOML."""
    pairs = re.findall(r"(\S+?)=('[^']*'|\"[^\"]*\"|\S+)", text)
    return tomllib.loads("\n".join(f"{key} = {value}" for key, value in pairs))


class TestCommandLines:
    def test_what_a_local_federation_starts_is_known_to_flower(self, flags):
        tls = TlsFiles.in_folder(Path("/keys"))
        for files in (None, tls):
            words = superlink_line(1, files)
            assert {word for word in words if word.startswith("--")} <= flags[words[0]]
            words = supernode_line(
                NodeSpec("a", private_key=Path("/k")), files, superlink="h:1", port=2, node_config=Path("c.toml")
            )
            assert {word for word in words if word.startswith("--")} <= flags[words[0]]

    def test_what_make_keys_says_next_is_known_to_flower(self, flags, tmp_path):
        command = [DEPLOY / "make-keys", "--folder", tmp_path, "--host", "a.example", "pi-1"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
        lines = [shlex.split(line) for line in told.splitlines() if line.startswith("  flower-")]
        assert {line[0] for line in lines} == flags.keys()
        for line in lines:
            assert {word for word in line if word.startswith("--")} <= flags[line[0]]

    def test_commands_of_the_guide_are_known_to_flower(self, flags):
        text = (ROOT / "docs" / "devices.md").read_text().replace("\\\n", " ")
        lines = [line.split() for line in text.splitlines() if re.match(r"(\S*/)?flower-super(link|node) ", line)]
        assert lines
        for line in lines:
            program = line[0].rsplit("/", maxsplit=1)[-1]
            assert {word for word in line if word.startswith("--")} <= flags[program], line


class TestUnits:
    @pytest.mark.parametrize("path", UNITS, ids=ids)
    def test_systemd_accepts_it(self, path, tmp_path):
        if shutil.which("systemd-analyze") is None:
            configparser.ConfigParser(strict=False, interpolation=None).read(path)
            pytest.skip("systemd-analyze is missing: the unit was only parsed")
        # The programs are not installed where the unit wants them.
        program = tmp_path / "flower"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        unit = tmp_path / path.name
        unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={program}", path.read_text(), flags=re.MULTILINE))
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.strip()) == (0, "")

    @pytest.mark.parametrize("path", UNITS, ids=ids)
    def test_it_waits_for_network_and_time_and_never_gives_up(self, path):
        found = sections(path)
        for target in ("network-online.target", "time-sync.target"):
            assert target in found["Unit"]["After"][0]
            assert target in found["Unit"]["Wants"][0]
        # A SuperNode that is refused ends with 0.
        assert found["Service"]["Restart"] == ["always"]
        assert found["Unit"]["StartLimitIntervalSec"] == ["0"]

    @pytest.mark.parametrize("path", UNITS, ids=ids)
    def test_flower_knows_its_flags_and_the_unit_its_variables(self, path, flags):
        service = sections(path)["Service"]
        (line,) = service["ExecStart"]
        program = Path(line.split()[0]).name
        assert set(FLAG.findall(line)) <= flags[program]
        example = DEPLOY / "systemd" / f"{Path(service['EnvironmentFile'][0]).name}.example"
        given = environment_file(example).keys() | {"CREDENTIALS_DIRECTORY"}
        assert set(re.findall(r"\$\{(\w+)\}", line)) <= given
        credentials = {entry.split(":")[0] for entry in service["LoadCredential"]}
        assert set(re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/(\S+)", line)) == credentials

    @pytest.mark.parametrize("path", ENVIRONMENTS, ids=ids)
    def test_the_example_switches_off_what_calls_out(self, path):
        given = environment_file(path)
        assert all(
            given[name] == value for name, value in flower_offline_environment().items() if name.startswith("FLWR")
        )

    def test_the_node_config_of_the_example_is_one(self):
        given = environment_file(DEPLOY / "systemd" / "supernode.env.example")
        assert node_config(given["NODE_CONFIG"]) == {
            "device-id": "pi-1",
            "device": "pi4",
            "processor": "cpu",
            "partition-id": 0,
            "num-partitions": 2,
        }

    def test_sensors_and_devices_stay_readable(self):
        service = sections(DEPLOY / "systemd" / "supernode.service")["Service"]
        hidden = {
            "PrivateDevices",
            "ProtectClock",
            "DeviceAllow",
            "MemoryDenyWriteExecute",
            "InaccessiblePaths",
            "ProcSubset",
        }
        assert not hidden & service.keys()


class TestDockerfiles:
    @pytest.mark.parametrize("path", DOCKERFILES, ids=ids)
    def test_it_is_whole(self, path):
        words = [word for word, _ in instructions(path)]
        assert set(words) <= {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "ENTRYPOINT"}
        assert words[0] in {"FROM", "ARG"}
        assert words.count("FROM") == 1
        assert words[-1] == "ENTRYPOINT"

    @pytest.mark.parametrize("path", DOCKERFILES, ids=ids)
    def test_it_copies_all_that_the_packages_need(self, path):
        copied = {source for word, rest in instructions(path) if word == "COPY" for source in rest.split()[:-1]}
        assert all((ROOT / source).exists() for source in copied)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
        assert copied == packages | {
            "pyproject.toml",
            project["project"]["readme"],
            *project["project"]["license-files"],
        }

    @pytest.mark.parametrize("path", DOCKERFILES, ids=ids)
    def test_it_installs_extras_that_exist_with_flower(self, path):
        (extras,) = re.findall(r'pip install "\.\[([\w,]+)\]"', path.read_text())
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()
        assert {"fl", "train"} <= set(extras.split(","))

    @pytest.mark.parametrize("path", DOCKERFILES, ids=ids)
    def test_it_runs_without_root_and_without_calling_out(self, path):
        found = instructions(path)
        assert [rest for word, rest in found if word == "USER"][-1] not in {"root", "0"}
        given = dict(re.findall(r"(\w+)=(\S+)", " ".join(rest for word, rest in found if word == "ENV")))
        assert all(
            given[name] == value for name, value in flower_offline_environment().items() if name.startswith("FLWR")
        )

    @pytest.mark.parametrize("path", DOCKERFILES, ids=ids)
    def test_its_shell_lines_are_shell_and_its_program_is_flowers(self, path, flags):
        for word, rest in instructions(path):
            if word == "RUN":
                subprocess.run(["sh", "-n", "-c", rest], check=True)
        program, *words = json.loads(instructions(path)[-1][1])
        assert set(words) <= flags[program]


class TestCompose:
    def test_it_is_a_superlink_and_two_nodes(self, compose):
        services = compose["services"]
        assert services.keys() == {"superlink", "register", "node-1", "node-2"}
        images = {service["image"] for service in services.values() if "build" in service}
        assert {service["image"] for service in services.values()} == images
        for service in services.values():
            if "build" in service:
                folder = DEPLOY / service["build"]["context"]
                assert (folder / service["build"]["dockerfile"]).is_file()

    def test_flower_knows_the_flags(self, compose, flags):
        for name, service in compose["services"].items():
            if name != "register":
                program = "flower-superlink" if name == "superlink" else "flower-supernode"
                assert {word.split("=")[0] for word in service["command"]} <= flags[program]

    def test_every_service_has_the_files_that_it_names_and_no_other_secret(self, compose):
        for service in compose["services"].values():
            named = set(re.findall(r"/run/secrets/([\w.-]+)", " ".join(service["command"])))
            if "configs" in service:
                named |= {"ca.crt", "node-1.pub", "node-2.pub"}
            assert named == set(service["secrets"])
            assert named <= compose["secrets"].keys()

    def test_the_command_at_its_top_makes_every_secret(self, compose, tmp_path):
        (line,) = re.findall(r"^#   deploy/make-keys (.*)$", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE)
        words = [str(tmp_path / "keys") if word == "deploy/keys" else word for word in shlex.split(line)]
        subprocess.run([DEPLOY / "make-keys", *words], check=True, capture_output=True)
        assert all((tmp_path / secret["file"]).is_file() for secret in compose["secrets"].values())
        checked = ["openssl", "x509", "-in", tmp_path / "keys" / "server.crt", "-noout", "-checkhost", "superlink"]
        assert "does match" in subprocess.run(checked, capture_output=True, text=True, check=True).stdout

    def test_nodes_have_different_partitions_of_one_split(self, compose):
        configs = [
            node_config(word.split("=", 1)[1])
            for name in ("node-1", "node-2")
            for word in compose["services"][name]["command"]
            if word.startswith("--node-config")
        ]
        assert [config["partition-id"] for config in configs] == [0, 1]
        assert {config["num-partitions"] for config in configs} == {len(configs)}

    def test_keys_are_registered_by_a_script_that_the_shell_takes(self, compose):
        (script,) = compose["services"]["register"]["command"]
        subprocess.run(["sh", "-n", "-c", script.replace("$$", "$")], check=True)
        connection = tomllib.loads((DEPLOY / compose["configs"]["flower.toml"]["file"]).read_text())["superlink"]
        assert connection[connection["default"]]["address"] == "superlink:8000"
        assert f'register "/run/secrets/$$name.pub" {connection["default"]}' in script

    def test_it_is_open_to_this_machine_only_unless_asked(self, compose):
        assert compose["services"]["superlink"]["ports"] == ["${SUPERLINK_ADDRESS:-127.0.0.1}:8000:8000"]
