"""`sollol` in this process, as somebody at a terminal or a script runs it."""

import io

from click.testing import CliRunner

from sollol_tui.cli.main import main


class Keyboard(io.BytesIO):
    """Standard input that is a terminal, with what will be typed there."""

    def isatty(self) -> bool:
        return True


class _Command:
    """What CliRunner takes for a command: our `main`, which sets the exit code."""

    name = "sollol"

    def main(self, args: list[str], prog_name: str, **_extra: object) -> None:
        main(list(args))


def sollol(*arguments: str, typed: str | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; at a terminal when something is `typed`."""
    keyboard = None if typed is None else Keyboard(typed.encode())
    result = CliRunner().invoke(_Command(), list(arguments), input=keyboard)  # type: ignore[arg-type]
    return result.exit_code, result.stdout, result.stderr
