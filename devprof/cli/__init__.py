"""The command line: ``devprof``. A root of the project, where its parts meet.

One module per command or group of commands, imported when the command is used; nothing here imports more than click at the
start. Results go to stdout, progress and warnings to stderr; exit codes are 0 for success, 1 for an error, 2 for wrong usage.
"""

from __future__ import annotations

import importlib

import click

from devprof.errors import DevprofError, UnknownNameError

__all__ = ["COMMANDS", "main"]

# Name -> (module, what it is for). The help page is made from this table, so that it needs no command's module.
COMMANDS = {
    "doctor": ("devprof.cli.doctor", "Say what can be measured here, with which meter, and why not the others."),
    "measure": ("devprof.cli.measure", "Measure training steps: one fresh process per configuration, into Parquet."),
    "meter": (
        "devprof.cli.meter",
        "Share a meter with other hosts; find a run's energy in an unattended meter's log.",
    ),
    "calibrate": ("devprof.cli.calibrate", "Time the operators that models are made of, in minutes, for cost models."),
    "emulate": ("devprof.cli.emulate", "Run any command as a slower or smaller device."),
    "summary": ("devprof.cli.summary", "Say what measurement folders hold, a line per configuration."),
    "import": ("devprof.cli.imports", "Import measurements that other tools made: CSV, timm's benchmark, pyperf."),
    "fit": ("devprof.cli.fit", "Fit a cost model to measurements and print its honest errors."),
    "predict": ("devprof.cli.predict", "Predict step time, memory and round time of a model on a device."),
    "plan": ("devprof.cli.plan", "Plan a federated round of a fleet, and say what each choice costs."),
    "report": ("devprof.cli.report", "Make one self-contained page with live figures, and PNG and SVG files."),
    "fleet": ("devprof.cli.fleet", "Measure on every connected SuperNode, or ask them how they are, through Flower."),
    "demo": ("devprof.cli.demo", "Go the whole way on this machine: measure, fit, federate, report."),
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command runs, and turns devprof's errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UnknownNameError as error:
            raise click.UsageError(str(error)) from error
        except DevprofError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="devprof", message="devprof %(version)s")
def main() -> None:
    """Measure a device once, know what any model costs on it, and plan federated rounds from that.

    Start with "devprof doctor", or see everything at once with "devprof demo".
    """
