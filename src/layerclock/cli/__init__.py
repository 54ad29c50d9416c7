"""The command line. Each verb is one file, loaded when it is used."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import click

from layerclock.errors import LayerclockError, TooNoisyError
from layerclock.plugins import missing_package
from layerclock.version import VERSION

__all__ = ["main"]

# verb: (module, one line of help). The help stands here so that `layerclock --help` imports no verb.
_VERBS = {
    "quickstart": ("quickstart", "The whole way on this machine: train, profile, fit, search, measure again."),
    "devices": ("devices", "List the devices that can be profiled here, and how to get the others."),
    "profile": ("profile", "Measure sub-networks of a space on a device into a latency table."),
    "table": ("table", "Look into latency tables, bring in those of others, give them on."),
    "fit": ("fit", "Fit a latency predictor to a table."),
    "evaluate": ("evaluate", "Hold a predictor against measured networks that it never saw."),
    "predict": ("predict", "Predict the latency of networks."),
    "fleet": ("fleet", "Members of a fleet: boards elsewhere that measure for `profile --fleet`."),
    "search": ("search", "Search a space for Pareto-optimal networks."),
    "coexplore": ("coexplore", "Search networks and the accelerators that run them together."),
    "report": ("report", "Show campaigns, tables, predictors and searches on one HTML page."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _VERBS:
            return None
        command: click.Command = import_module(f"layerclock.cli.{_VERBS[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="layerclock")
def group() -> None:
    """Time neural networks layer by layer, predict latency from the tables, search with the predictions.

    \b
    Exit codes: 0 ok, 1 an error with a hint, 2 wrong usage, 3 the measurement
    was too noisy, 130 interrupted.

    Example: layerclock profile --device openvino:CPU --space ofa-mobilenetv3 -o runs/x
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(group.main(words, prog_name="layerclock", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        if "--json" in words:
            click.echo(json.dumps({"error": error.format_message(), "hint": "", "kind": type(error).__name__}))
        error.show()
        sys.exit(error.exit_code)
    except LayerclockError as error:
        _show(error, as_json="--json" in words)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        known = missing_package(error, "this command")
        _show(known, as_json="--json" in words)
        sys.exit(known.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: what was measured is kept; the same command goes on from there", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away (| head)
        sys.stderr.close()
        sys.exit(0)


def _show(error: LayerclockError, as_json: bool) -> None:
    # A command that ends with "too noisy" has printed its document already.
    if as_json and not isinstance(error, TooNoisyError):
        click.echo(json.dumps({"error": error.message, "hint": error.hint, "kind": type(error).__name__}))
    click.echo(f"error: {error.message}" + (f"\n hint: {error.hint}" if error.hint else ""), err=True)
