"""`calyx`: the command line. What is here is cheap; a command's module is imported when the command is used.

`COMMANDS` is the whole list. Its summaries are the first sentences of the commands' own help, so that `calyx --help`
imports none of them; a test holds the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from traceback import walk_tb
from typing import Annotated, Any, Final, NoReturn

import typer
import typer.main
from typer.core import TyperGroup

from executor.endings import (
    BROKEN_PIPE,
    INTERRUPTED,
    UNAVAILABLE,
    USAGE,
    drop_output,
    tell,
    tell_interrupted,
    wants_json,
)
from keys.errors import CalyxError

_WRONG_WORDS: Final[Any] = typer.BadParameter.__base__
"""What Typer raises for a command line that it cannot read; every such error is one of these."""
_AS_JSON: Final = "calyx.json"


@dataclass(frozen=True, slots=True)
class Command:
    """One word after `calyx`. `place`: module below `executor.commands`, and the function or Typer app in it."""

    section: str
    place: str
    summary: str


COMMANDS: Final[Mapping[str, Command]] = {
    "init": Command("Begin", "init:init", "Make a ledger here, with keys for you and for each machine."),
    "propose": Command("Every day", "propose:propose", "Ask for a change of production: an intent and a lease in one."),
    "inbox": Command("Every day", "inbox:inbox", "List what waits for your key."),
    "show": Command("Every day", "show:show", "Show a lease or proposal exactly as its proposer signed it."),
    "approve": Command("Every day", "approve:approve", "Look at a lease or proposal, then sign your approval of it."),
    "deny": Command("Every day", "approve:deny", "Refuse a lease for good."),
    "withdraw": Command("Every day", "approve:withdraw", "Take back the approvals that you gave so far."),
    "attach": Command("Every day", "attach:attach", "Append what was prepared with --prepare and signed elsewhere."),
    "check": Command("Every day", "check:check", "Go through the two-key rule for a lease, step by step."),
    "status": Command("Every day", "status:status", "Say what is in force, what is waiting and what is running."),
    "watch": Command("Every day", "watch:watch", "Follow a rollout: tiers, instances, gates, time left, who did what."),
    "lease": Command("Every day", "lease:app", "List leases, show one with its cosigners, and make one from another."),
    "intent": Command("Every day", "intent:app", "List what was meant to change, and why."),
    "message": Command("Every day", "message:app", "Ask, answer and acknowledge, signed and in the ledger."),
    "start": Command("Orders", "orders:start", "Start a claimed deployment that waits for its command."),
    "pause": Command("Orders", "orders:pause", "Stop a rollout where it is; nothing goes forward until resumed."),
    "resume": Command("Orders", "orders:resume", "Let a paused rollout go on."),
    "promote": Command("Orders", "orders:promote", "Send a rollout that is baking on to its next tier."),
    "abort": Command("Orders", "orders:abort", "End a rollout; what it touched goes back."),
    "rollback": Command("Orders", "orders:rollback", "Take a deployment back to the trees from before it."),
    "audit": Command("Prove", "audit:audit", "Check every byte, signature and rule of a ledger."),
    "ledger": Command("Prove", "ledger:app", "Read the ledger, prove what is in it, and export it."),
    "svf": Command("Prove", "svf:app", "Read the station's event feed (SVF), which is made from the ledger."),
    "keys": Command("Set up", "keys:app", "Make keys and see who may sign."),
    "trust": Command("Set up", "trust:app", "See and change who may sign, in which role, and with which key."),
    "policy": Command("Set up", "policy:app", "See and change what the machines may do, and on which terms."),
    "fleet": Command("Set up", "fleet:app", "See and change which machines a target stands for."),
    "agent": Command("Run", "agent:app", "Run a reviewing or monitoring agent: cp14, cp18 or cp19."),
    "notify": Command("Run", "notify:app", "Tell people what the ledger says, by mail, chat or web hook."),
    "executor": Command("Run", "executor:app", "Run the executor, which deploys leases that carry both keys."),
    "serve": Command("Run", "serve:serve", "Serve this home to one calyx on another machine, over ssh."),
}
ALIASES: Final[Mapping[str, str]] = {"sign": "approve", "verify": "check"}


class Commands(TyperGroup):
    """The group behind `calyx`: it finds commands in `COMMANDS`, and turns refusals into one line and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every word that may follow, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, its module imported now."""
        del ctx
        command = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        return None if command is None else load_command(command)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The help's list of commands, by section, without importing them."""
        del ctx
        for section in dict.fromkeys(command.section for command in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(name, c.summary) for name, c in COMMANDS.items() if c.section == section])

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the words before the command, and whether errors are wanted as JSON."""
        as_json = wants_json(args)
        try:
            ctx = super().make_context(info_name, args, parent, **extra)
        except _WRONG_WORDS as error:
            _end_wrong(error, as_json=as_json)
        except KeyboardInterrupt:
            _end_interrupted(as_json=as_json)
        except OSError as error:
            _end_unwritten(error, as_json=as_json)
        ctx.meta[_AS_JSON] = as_json
        return ctx

    def invoke(self, ctx: Any) -> Any:
        """Run the command. A refusal becomes its exit code, an interrupt 130, a closed pipe silence; a bug stays a
        traceback.
        """
        as_json = ctx.meta[_AS_JSON]
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except CalyxError as error:
            from executor.commands.terminal import show_error

            show_error(error, as_json=as_json)
            if error.code == "output_failed":
                drop_output()
            raise typer.Exit(error.exit_code) from None
        except _WRONG_WORDS as error:
            _end_wrong(error, as_json=as_json)
        except (KeyboardInterrupt, typer.Abort):
            _end_interrupted(as_json=as_json)
        except OSError as error:
            _end_unwritten(error, as_json=as_json)
        return result


def _end_wrong(error: Any, *, as_json: bool) -> NoReturn:
    """End over a command line that cannot be read. Without JSON, Typer says what it says of one."""
    if not as_json:
        with suppress(OSError):
            error.show()
        raise typer.Exit(error.exit_code)
    where = "calyx" if error.ctx is None else error.ctx.command_path
    tell("usage", error.format_message(), (), USAGE, as_json=True, hint=f"{where} --help")
    raise typer.Exit(USAGE)


def _end_interrupted(*, as_json: bool) -> NoReturn:
    tell_interrupted(as_json=as_json)
    raise typer.Exit(INTERRUPTED)


def _end_unwritten(error: OSError, *, as_json: bool) -> NoReturn:
    """End because standard output takes no more: silently where whoever read us has enough. Another error is a bug."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    if not isinstance(error, BrokenPipeError) and frame.f_code is not typer.echo.__code__:
        raise error
    drop_output()
    if isinstance(error, BrokenPipeError):
        raise typer.Exit(BROKEN_PIPE)
    message = f"cannot write what was asked for: {error.strerror}"
    tell("output_failed", message, (f"error: output_failed: {message}",), UNAVAILABLE, as_json=as_json)
    raise typer.Exit(UNAVAILABLE)


def load_command(command: Command) -> Any:
    """Import a command's module and give its command object."""
    module, _, name = command.place.partition(":")
    found = getattr(import_module(f"executor.commands.{module}"), name)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    single.command()(found)
    return typer.main.get_command(single)


app = typer.Typer(
    name="calyx",
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="calyx COMMAND --help says more about each. Exit codes: 0 done, 1 refused, 2 usage, 3 rolled back, "
    "4 rollback failed, 5 unavailable, 6 something waits.",
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"calyx {version('station-calyx')}")
        raise typer.Exit


@app.callback()
def calyx(
    home: Annotated[
        str | None,
        typer.Option("--home", metavar="HOME", help="The directory of the ledger, or ssh://HOST/DIR; else CALYX_HOME."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Two keys for every change of production: a person's and an agent's, in a ledger that anyone can check.

    Begin with `calyx init`, then `calyx status`.
    """
    del home, version  # the commands read --home through their own option; --version was answered already
