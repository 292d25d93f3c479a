"""The command line of every launcher: an experiment's config file, its fields, and plain flags.

A mistake ends in one sentence on standard error and exit code 2. This module imports nothing heavy, so that `--help`
and mistakes are answered at once; a launcher should import what it runs only when it runs.
"""

import difflib
import re
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxnas.core.errors import Stopped, UserError, unknown

if TYPE_CHECKING:
    from absl.flags import FlagValues

USER_ERROR, INTERRUPTED, SIGNALLED = 2, 130, 128  # exit codes; the number of the signal is added to the last
EXAMPLE = "configs/search/darts_digits.py"


class Flag(NamedTuple):
    """A flag with a value, beside --config. Without a default it has to be given."""

    help: str
    default: str | None = None


def main(
    run: Callable[..., int | None],
    *,
    description: str,
    flags: Mapping[str, Flag] | None = None,
    config: bool = True,
    fields: Sequence[str] = (),
    example: str = EXAMPLE,
    arguments: Sequence[str] | None = None,
) -> int:
    """Parses the command line, calls run(config, **flags) and returns its exit code, 0 for None.

    description: what --help says first. flags: the launcher's flags by name, all strings, beside --config.
    config: whether there is a config; without one, run is called as run(**flags).
    fields: what the launcher reads of the config; a config without one of them is a mistake.
    example: a config file to name where none was given.
    arguments: the command line with the program's name first, that of the process by default.
    A UserError, from parsing or from running, is written to standard error as one sentence and gives exit code 2; an
    interruption from the keyboard gives 130, and a run that was stopped by a signal and saved 128 + its number.
    """
    arguments = list(sys.argv if arguments is None else arguments)
    flags = flags or {}
    if {"--help", "-help", "-h"} & set(arguments[1:]):
        print(_usage(Path(arguments[0]).name, description, flags, example if config else ""))
        return 0
    try:
        values = _parse(arguments, flags, example if config else "")
        parsed: list[Any] = [values["config"].value] if config else []
        lacking = [field for field in fields for tree in parsed if field not in tree]
        if lacking:
            raise UserError(f"the config lacks the field {lacking[0]!r}; this command takes configs of another kind.")
        return run(*parsed, **{name: values[name].value for name in flags}) or 0
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return USER_ERROR
    except Stopped as stopped:
        print(f"{stopped}; the same command continues it.", file=sys.stderr)
        return SIGNALLED + signal.Signals[stopped.signal]
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _usage(program: str, description: str, flags: Mapping[str, Flag], example: str) -> str:
    lines = [description.strip(), "", f"usage: python {program} [flags]", ""]
    if example:
        lines += [
            f"  --config=FILE         an experiment, such as {example}",
            "  --config.FIELD=VALUE  replaces a field of it, such as --config.seed=1",
        ]
    for name, flag in flags.items():
        default = f" (default: {flag.default})" if flag.default else ""
        lines.append(f"  {f'--{name}=VALUE':<21} {flag.help}{default}")
    return "\n".join([*lines, f"  {'--help':<21} this text"])


def _parse(arguments: list[str], flags: Mapping[str, Flag], example: str) -> "FlagValues":
    """All flags' values, and the config unless `example` is empty; raises UserError for whatever is wrong."""
    from absl.flags import DEFINE_string, Error, FlagValues, IllegalFlagValueError, UnrecognizedFlagError
    from ml_collections.config_flags import DEFINE_config_dict

    values, fields = FlagValues(), {}
    for name, flag in flags.items():
        DEFINE_string(name, flag.default, flag.help, flag_values=values)
    if example:
        path, arguments = _take_config(arguments, example)
        loaded = _load(path)
        fields = dict(_dotted(loaded))
        _check_names(arguments, fields)
        DEFINE_config_dict("config", loaded, flag_values=values, sys_argv=arguments)
    try:
        rest = values(arguments)[1:]
    except UnrecognizedFlagError as error:
        raise unknown("flag", error.flagname, [*flags, *(["config"] if example else [])]) from error
    except (IllegalFlagValueError, TypeError) as error:
        raise _misfit(str(error), fields) from error
    except Error as error:
        raise UserError(f"the command line cannot be read: {str(error).rstrip('.')}.") from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; flags are written --name=value.")
    for name in flags:
        if not values[name].value and flags[name].default is None:
            raise UserError(f"the flag --{name} is missing: {flags[name].help}.")
    return values


def _take_config(arguments: Sequence[str], example: str) -> tuple[str, list[str]]:
    """The value of --config, and the other arguments; raises UserError unless there is exactly one."""
    given = [number for number, argument in enumerate(arguments) if re.match(r"--?config(=|$)", argument)]
    if len(given) > 1:
        raise UserError("the flag --config is given twice.")
    first = given[0] if given else len(arguments)
    _, equals, path = "".join(arguments[first : first + 1]).partition("=")
    after = first + (1 if equals else 2)  # --config=FILE, or --config FILE
    path = path if equals else "".join(arguments[first + 1 : after])
    if not path:
        raise UserError(f"the flag --config is missing: give the file of an experiment, such as --config={example}.")
    return path, [*arguments[:first], *arguments[after:]]


def _check_names(arguments: Sequence[str], fields: Mapping[str, Any]) -> None:
    """Raises UserError unless every field that the command line names is one of the config's, and named once."""
    matches = [re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in arguments[1:]]
    named = [match[1] for match in matches if match]
    for number, name in enumerate(named):
        if name not in fields:
            raise unknown("config field", name, fields)
        if hasattr(fields[name], "items"):
            raise UserError(f"{name} is a group of fields, like {name}.{next(iter(fields[name]), 'NAME')}; give those.")
        if name in named[:number]:
            raise UserError(f"the flag --config.{name} is given twice.")


def _misfit(message: str, fields: Mapping[str, Any]) -> UserError:
    """The error for a value of the wrong type; absl's message is "flag --config.FIELD=VALUE: reason"."""
    match = re.match(r"flag (--config\.([\w.]+)=.*?): ", message)
    if not match or match[2] not in fields:
        return UserError(f"a value on the command line does not fit: {message.rstrip('.')}.")
    value = fields[match[2]]
    return UserError(
        f"{match[1]} does not fit: the field holds a value of type {type(value).__name__}, like {value!r}."
    )


def _load(path: str) -> Any:
    """The ConfigDict that FILE makes, or FILE:ARGUMENT; raises UserError if there is no such file or it fails."""
    name, *argument = path.split(":", 1)
    file = Path(name)
    if not file.is_file():
        others = [str(other) for other in file.parent.glob("*.py")] if file.parent.is_dir() else []
        near = difflib.get_close_matches(str(file), others, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"an experiment is given like {EXAMPLE}."
        raise UserError(f"the config file {name!r} does not exist; {hint}")
    try:
        made = runpy.run_path(name)
        if "get_config" not in made:
            raise UserError(f"the config file {name} has no function get_config.")
        config = made["get_config"](*argument)
        if not hasattr(config, "lock"):
            kind = type(config).__name__
            raise UserError(f"get_config of the config file {name} returns a {kind}, not an ml_collections.ConfigDict.")
        config.lock()
    except UserError:
        raise
    except Exception as error:  # whatever the user's file does wrong
        raise UserError(f"the config file {name} cannot be loaded, {type(error).__name__}: {error}") from error
    return config


def _dotted(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All fields of a ConfigDict, those inside of a field with dots in their name."""
    for name, value in config.items():
        yield prefix + name, value
        if hasattr(value, "items"):
            yield from _dotted(value, f"{prefix}{name}.")
