"""The command ``cellseg-host edgetpu``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.command_line import Command, section
from cellseg_device.errors import InputError, ModelError, OutputError
from cellseg_host.commands import config_file

if TYPE_CHECKING:
    from cellseg_host.edgetpu.compiler import Compilation

EXIT_NOT_WHOLLY = 1
_TILE = 256
# Also in edgetpu.rules, which is imported when the command runs
_COMPILERS = ("14", "15", "16")
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command, short_help="Say whether a model maps onto a Coral Edge TPU.")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@section(
    "A network in place of MODEL",
    click.option("--arch", metavar="NAME|FILE.py:BUILD", help="A network that is not trained yet."),
    click.option(
        "--option",
        "options",
        metavar="KEY=VALUE",
        multiple=True,
        callback=config_file.key_values,
        help="With --arch: an option of the network. May be given several times.",
    ),
    click.option(
        "--heads", metavar="NAME,…", callback=config_file.comma_list, help="With --arch: the maps it predicts."
    ),
    click.option("--tile", type=click.IntRange(1), help=f"With --arch: side of the input, pixels.  [default: {_TILE}]"),
)
@section(
    "Rules",
    click.option(
        "--compiler",
        "version",
        type=click.Choice(_COMPILERS),
        default=_COMPILERS[-1],
        show_default=True,
        help="Version of the compiler whose rules are used.",
    ),
    click.option(
        "--fix",
        type=_FILE,
        metavar="OUT.tflite",
        help="Write MODEL with nearest-neighbour resizes that compilers 14 and 15 support, with the same outputs bit "
        "by bit, and check that.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print everything as JSON."),
)
@section(
    "Compiler",
    click.option("--no-compile", is_flag=True, help="Only predict, even if edgetpu_compiler is on the PATH."),
    click.option("--out", type=_FILE, help="The compiled model.  [default: NAME_edgetpu.tflite beside MODEL]"),
    click.option(
        "--time-limit",
        type=click.FloatRange(0, min_open=True),
        default=180,
        show_default=True,
        help="Seconds to compile.",
    ),
)
def edgetpu(
    *,
    model: Path | None,
    arch: str | None,
    options: dict[str, Any],
    heads: tuple[str, ...],
    tile: int | None,
    version: str,
    fix: Path | None,
    no_compile: bool,
    out: Path | None,
    time_limit: float,
    as_json: bool,
) -> None:
    """Say whether MODEL maps onto a Coral Edge TPU, what would stay on the CPU, why, and what to change.

    Every operator and tensor is checked against the compiler's published rules; limits that are not published are
    reported as doubts. The compiler maps one part of a graph: what needs the output of an operator on the CPU runs on
    the CPU too. If edgetpu_compiler is on the PATH, it compiles the model, which keeps its card, and its result is
    printed beside the prediction.

    \b
    Examples:
      cellseg-host edgetpu nuclei-256.tflite
      cellseg-host edgetpu nuclei-256.tflite --compiler 15 --fix nuclei-256-v2.tflite
      cellseg-host edgetpu --arch unet --option filters=8,16,32 --tile 128
      cellseg-host edgetpu nuclei-256.tflite --json | jq .share_on_tpu

    Exit codes: 0 it maps wholly (by the compiler if it ran, else by the rules, with or without doubts), 1 it does not,
    2 the command cannot work as given.
    """
    _check(model, arch, is_for_arch=bool(options or heads or tile), fix=fix, out=out, no_compile=no_compile)

    from cellseg_device.model import card as cards
    from cellseg_host.edgetpu import check, compiler, text
    from cellseg_host.edgetpu.fix import rewrite_resizes

    command = None if no_compile else compiler.find()
    if out and not command:
        raise InputError(f"--out: {compiler.COMMAND} is not on the PATH: install it, or leave out --out")
    if model:
        name, data = model.name, cards.read_model_file(model)
    else:
        assert arch is not None
        name, data = arch, _untrained(arch, options, heads, tile or _TILE)
    verdict = check.check(data, name, int(version))
    if fix:
        data, _ = rewrite_resizes(data, name)
        _write(fix, data)
        model, name, verdict = fix, fix.name, check.check(data, fix.name, int(version))

    document: dict[str, Any] = {"model": name, **verdict.as_dict(), "compilation": None, "compiler_error": None}
    compiled: Compilation | None = None
    failure: compiler.CompilerError | None = None
    if command:
        try:
            compiled = compiler.compile_model(data, command, time_limit)
        except compiler.CompilerError as error:
            failure = error
            document["compiler_error"] = error.format_message()
    written = out or (model.with_name(f"{model.stem}_edgetpu.tflite") if model else None)
    if compiled and written:
        _write(written, _with_card(compiled.data, data))
    if compiled:
        document["compilation"] = compiled.as_dict() | {"model": str(written) if written else None}
    if as_json:
        from cellseg_host.json_text import to_json

        click.echo(to_json(document))
    else:
        click.echo(text.verdict_text(verdict, name))
        if compiled:
            click.echo(text.comparison_text(verdict, compiled))
            click.echo(f"  compiled model: {written}" if written else "  compiled but not kept: give --out to keep it")
    if failure:
        raise failure
    wholly = compiled.on_cpu == 0 and compiled.on_tpu > 0 if compiled else verdict.maps
    if not wholly:
        raise SystemExit(EXIT_NOT_WHOLLY)


def _check(
    model: Path | None, arch: str | None, *, is_for_arch: bool, fix: Path | None, out: Path | None, no_compile: bool
) -> None:
    """Raise for flags that contradict each other."""
    if (model is None) == (arch is None):
        raise click.UsageError("give either MODEL or --arch NAME")
    if model and is_for_arch:
        raise click.UsageError("--option, --heads and --tile work only with --arch: a MODEL is already quantized")
    if arch and fix:
        raise click.UsageError("--fix works only with MODEL")
    if out and no_compile:
        raise click.UsageError("--out is for the compiled model: leave out --no-compile")


def _untrained(spec: str, options: dict[str, Any], heads: tuple[str, ...], tile: int) -> bytes:
    """Return the int8 model of an architecture before training."""
    from cellseg_host.tensorflow_quietly import import_tensorflow

    import_tensorflow()
    from cellseg_host.edgetpu.untrained import untrained_model
    from cellseg_host.plugins.networks import find_architecture

    return untrained_model(find_architecture(spec, heads, options), options, (tile, tile), heads)


def _with_card(compiled: bytes, data: bytes) -> bytes:
    """Return the compiled model with the card of the one it was made from, if that has one."""
    from cellseg_device.model import card as cards

    try:
        return cards.attach(compiled, cards.read_from(data))
    except ModelError:
        return compiled


def _write(path: Path, data: bytes) -> None:
    from cellseg_device.system import files

    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder: make it first")
    try:
        files.write(path, data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
