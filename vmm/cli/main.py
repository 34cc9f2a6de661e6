"""Entry of the command line: finds the command and turns its exceptions into one line and an exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from vmm.cli.command import FAILED, Command, CommandError, Parser, say

COMMANDS = {
    "run": Command("vmm.cli.run", "run a program in a system", takes_program=True),
    "ps": Command("vmm.cli.ps", "list the components of the running system"),
    "log": Command("vmm.cli.log", "show the log of the running system"),
    "kill": Command("vmm.cli.kill", "kill a component of the running system; it is replaced by a fresh one"),
    "update": Command("vmm.cli.update", "replace components of the running system by new versions"),
    "history": Command("vmm.cli.history", "list all instances that components have had"),
    "policy": Command("vmm.cli.policy", "show what a system allows, and who can influence whom"),
    "doctor": Command("vmm.cli.doctor", "say what this machine's KVM can do, and how to fix what is missing"),
}


def main(
    arguments: Sequence[str] | None = None,
    more: Mapping[str, Command] | None = None,
    elsewhere: str | None = None,
) -> int:
    """Run the command in `arguments` (default: the process's own). Layers above give `more` commands, and
    `elsewhere`, the module that runs systems in a test bed (vmm.cli.perform)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {**COMMANDS, **(more or {})}
    try:
        status = _run(words, commands, elsewhere)
        sys.stdout.flush()
        return status
    except CommandError as error:
        say(str(error))
        return error.status
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return FAILED


def _run(words: list[str], commands: Mapping[str, Command], elsewhere: str | None) -> int:
    name = words[0] if words else ""
    if name in commands:
        module = importlib.import_module(commands[name].module)
        parser = Parser(prog=f"r3s3 {name}", description=commands[name].description)
        module.add_arguments(parser)
        options, own, program = argparse.Namespace(), words[1:], []
        if commands[name].takes_program and "--" in own:
            program = own[own.index("--") + 1 :]
            own = own[: own.index("--")]
        options.program, options.elsewhere = program, elsewhere
        try:
            status: int = module.run(parser.parse_args(own, options))
        except SystemExit as end:  # --help
            return int(end.code or 0)
        return status
    listing = "\n".join(f"  {each:8} {command.summary}" for each, command in commands.items())
    if name in ("-h", "--help", "help"):
        print(f"usage: r3s3 COMMAND ...\n\ncommands:\n{listing}\n\nr3s3 COMMAND --help says more.")
        return 0
    if name.startswith("-"):
        raise CommandError(f"{name}: options come after the command, as in r3s3 ps {name}")
    if name:
        raise CommandError(f'no command "{name}"; commands are {", ".join(commands)}')
    raise CommandError(f"no command given; commands are {', '.join(commands)}")
