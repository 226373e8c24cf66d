"""The command group: which commands there are, how errors are shown, and exit codes.

Commands are imported when they are asked for, and import what they need when they run, so that `advbench --help` and
everything about tables and plans does without torch.
"""

import contextlib
import difflib
import importlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import click

from advbench.benchmark.files import without_steering

COMMANDS = (
    "run-all",
    "tune",
    "train",
    "evaluate",
    "work",
    "job",
    "diagnose",
    "verify",
    "leaderboard",
    "compare",
    "findings",
    "power",
    "images",
    "transfer",
    "plot",
    "bibtex",
    "publish",
    "export",
    "push",
    "pull",
    "site",
    "new-method",
    "check",
    "submit",
    "validate",
    "status",
    "cancel",
    "prune",
    "methods",
    "protocols",
    "datasets",
    "doctor",
)
"""The commands in the order of the help; each lies in the file of its name, as the function of its name."""
EXTRAS = {"train": ("torch", "torchvision", "pyautoattack", "safetensors", "sklearn"), "hub": ("huggingface_hub",)}
"""Extra of the package → the modules that come with it."""
FAILED, REFUSED, INTERRUPTED = 1, 2, 130
SPINS = "3000"
"""How long OpenMP's threads spin before they sleep: set before torch loads, here and so in the workers.

Where other work shares the cores, waiting threads spin away the very time that the awaited one needs: of two
processes with two threads each on two cores, each made 90 input gradients a second by default and 1,900 so; alone
4,270 and 4,130.
"""


class Failed(click.ClickException):
    """Work that was begun and failed: exit code 1."""

    exit_code = FAILED


class Refused(click.ClickException):
    """Input that cannot be worked with: exit code 2."""

    exit_code = REFUSED


class App(click.Group):
    """A group whose commands are imported on demand and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's)
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"advbench.benchmark.cli.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was named, or else refuse it with the nearest name."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {near[0]}?" if near else "`advbench --help` lists them"
            raise Refused(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:  # noqa: ANN401 (click's)
        """Run, turn every error into one line on stderr and an exit code; `--debug` anywhere shows the traceback."""
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given
        given = [*(["--debug"] if debug else []), *(word for word in given if word != "--debug")]
        extra["standalone_mode"] = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that has no "∞" loses a character, not the results
        try:
            with _ended_by_sigterm():
                code = super().main(given, *rest, **extra)
        except BaseException as error:  # noqa: BLE001 (the last line of defence of a program)
            code, message = explain(error)
            if debug and not isinstance(error, SystemExit | click.exceptions.Exit):
                traceback.print_exception(error)
            if message:
                click.echo(f"error: {without_steering(' '.join(message.split()))}", err=True)
        sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: workers are dismissed, and the last line says how to go on."""
    usual = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not usual:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the one line of an error; no line for a plain exit."""
    code, message = FAILED, str(error)
    if isinstance(error, click.exceptions.Exit):
        code, message = error.exit_code, ""
    elif isinstance(error, SystemExit):
        code, message = (error.code if isinstance(error.code, int) else FAILED), ""
    elif isinstance(error, click.Abort | KeyboardInterrupt):
        code, message = INTERRUPTED, "interrupted; the same command goes on where this one stopped"
    elif isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        code, message = error.exit_code, error.format_message()
        message += f" (see {context.command_path} --help)" if context is not None else ""
    elif isinstance(error, ValueError | RuntimeError) and type(error).__module__.startswith("advbench."):
        code = REFUSED
    elif isinstance(error, ModuleNotFoundError) and without(error):
        code, message = REFUSED, without(error)
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        message = f"{place}{(error.strerror or message).lower()}; are the path, its permissions and its space right?"
    else:
        message = f"{type(error).__name__}: {error}; this is a bug: run again with --debug and report what it shows"
    return code, message


def without(error: ModuleNotFoundError) -> str:
    """Say how to install what the core installation does without; empty for another module, whose absence is a bug."""
    module = (error.name or "").partition(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
    return "" if extra is None else f"{module} is not installed, which this needs: pip install 'advbench[{extra}]'"


def configure_logging(level: int, *, tracebacks: bool) -> None:
    """Show what the library logs from a level on, on stderr.

    A failure that is logged with its traceback ends the command, which says so itself, in one line: without
    `tracebacks` it is not shown a second time.
    """
    handler = logging.StreamHandler()
    if not tracebacks:
        handler.addFilter(lambda record: record.exc_info is None)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[handler], force=True)


@click.group(
    cls=App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all is well; 1 a job failed; 2 the input was refused; 130 interrupted.",
)
@click.version_option(version("advbench"), prog_name="advbench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere on the line).")
@click.option("-v", "--verbose", is_flag=True, help="Show what the library logs.")
def main(*, debug: bool, verbose: bool) -> None:
    """Train adversarial-training defenses under one frozen protocol, attack them, compare them.

    \b
    Examples:
      advbench run-all                                    # digits, minutes on a laptop
      advbench run-all --protocol cifar10-linf-short --methods pgd_at,trades
      advbench leaderboard --protocol cifar10-linf-short
      advbench doctor                                     # what is missing and how to fix it
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    configure_logging(logging.INFO if verbose else logging.WARNING, tracebacks=debug)
