"""What the command lines of both packages share: help in titled sections, and one style of errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from cellseg_device.errors import InputError

_F = TypeVar("_F", bound=Callable[..., Any])
_Rows = list[tuple[str, str]]

_OTHER = "Other"  # the section of options that `section` put into none, such as --help
_WIDEST_NAME = 30  # of options that have their help beside them
_NO_LIMIT = 10_000
_SUGGESTED = re.compile(r"\. \(?Did you mean (?:one of: )?(.*)\?\)?$")


def section(title: str, *decorators: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Return a decorator that adds the options of these decorators to a section of the command's help."""

    def decorate(function: _F) -> _F:
        former = list(getattr(function, "__click_params__", ()))
        for decorator in reversed(decorators):
            function = decorator(function)
        for parameter in vars(function)["__click_params__"]:
            if parameter not in former:
                parameter.section = title
        return function

    return decorate


class _Styled(click.Command):
    """A command whose errors of use look like all others, and whose options are listed by section."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _one_style():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_style():
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help, a section after the other."""
        sections: dict[str, _Rows] = {}
        for parameter in self.get_params(ctx):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", _OTHER), []).append(record)
        others = sections.pop(_OTHER, [])
        _write(formatter, sections | {_OTHER if sections else "Options": others})


class Command(_Styled):
    """A command whose options are listed by section."""


class Group(_Styled, click.Group):
    """A group whose commands are listed by section, each with the whole first sentence of its help."""

    command_class = Command

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sections: dict[str, str] = {}  # by name of the command

    def add(self, title: str, commands: Iterable[click.Command]) -> None:
        """Add commands in a section of this title."""
        for command in commands:
            self.add_command(command)
            self._sections[command.name or ""] = title

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands, in the order in which they were added."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the commands into the help."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the commands into the help, a section after the other."""
        sections: dict[str, _Rows] = {}
        for name, command in self.commands.items():
            title = self._sections.get(name, "Commands")
            sections.setdefault(title, []).append((name, command.get_short_help_str(_NO_LIMIT)))
        _write(formatter, sections)


def _write(formatter: click.HelpFormatter, sections: Mapping[str, _Rows]) -> None:
    """Write sections whose second columns stand below each other."""
    widest = max((len(name) for rows in sections.values() for name, _ in rows), default=0)
    width = min(widest, _WIDEST_NAME)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", text) for name, text in rows], col_max=width)


@contextmanager
def _one_style() -> Iterator[None]:
    """Raise click's errors of use as ours, which are printed in one line."""
    try:
        yield
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # which prints the help; click 8.1 has no such error
            raise
        message = error.format_message()
        message = f"{message[:1].lower()}{message[1:]}".removesuffix(".")
        message = _SUGGESTED.sub(r": did you mean \1?", message)
        raise InputError(f"{message} (see '{error.ctx.command_path} --help')" if error.ctx else message) from None
