"""How a person likes the screen: theme, columns, filters, keys. Kept in one file in their config
folder, which they may write as well; comments in it stay. Decides nothing about jobs and hosts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from annotated_types import MinLen

from sollol_tui.inventories import read_text, write_text
from sollol_tui.model.errors import InputError

NAME: Final = "screen.yaml"
HEAD: Final = """\
# How sollol's screens look; every line may be left out.
# theme: nord                  the palette (ctrl+p) chooses one and keeps it here
# hide: {hosts: [temp, ram]}   columns of jobs, hosts and events; C chooses and keeps them
# filters: {jobs: "state:running"}  with which a view begins; ctrl+s keeps the one that is on
# keys: {job.pause: f5}        by the ids that ? shows; several keys: "f5,ctrl+x"
"""
_Word = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """`hide` maps tables to keys of columns, `filters` views to what is typed into theirs, `keys`
    ids of bindings to keys with commas between."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    theme: _Word | None = None
    hide: dict[str, list[_Word]] = field(default_factory=dict)
    filters: dict[str, _Word] = field(default_factory=dict)
    keys: dict[str, _Word] = field(default_factory=dict)


def preferences_file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("sollol", appauthor=False) / NAME


def parse_preferences(raw: bytes, file: str) -> Preferences:
    """Raises InputError with the place of each problem."""
    # Late: YAML and pydantic take long to load, and most people have no such file.
    from sollol_tui.model.document import check, read_document

    document = read_document(raw, file)
    return check(document, Preferences, document.data or {})


class PreferencesFile:
    """One file, read anew before each change. Safe for several programs, not for threads."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or preferences_file()

    def read(self) -> Preferences:
        """What the file says; nothing, when it is not there. Raises InputError with its place."""
        if not self.path.exists():
            return Preferences()
        return parse_preferences(read_text(self.path).encode(), str(self.path))

    def keep_theme(self, name: str) -> None:
        self._change(lambda data: data.update(theme=name))

    def keep_hidden(self, table: str, columns: Iterable[str]) -> None:
        """Which columns of a table are not shown; none is said by leaving the table out."""
        self._keep_in("hide", table, list(columns))

    def keep_filter(self, view: str, text: str) -> None:
        """With which filter a view begins; "" is said by leaving the view out."""
        self._keep_in("filters", view, text)

    def _keep_in(self, part: str, name: str, value: list[str] | str) -> None:
        def change(data: Any) -> None:
            of = data.setdefault(part, {})
            if value:
                of[name] = value
            else:
                of.pop(name, None)
            if not of:
                del data[part]

        self._change(change)

    def _change(self, change: Callable[[Any], None]) -> None:
        """Raises InputError for a file that cannot be read, SollolError for one that cannot be
        written."""
        from ruamel.yaml import YAML

        self.read()
        old = read_text(self.path) if self.path.exists() else None
        yaml: Any = YAML(typ="rt", pure=True)
        data = yaml.load(old or HEAD + "{}\n")
        if data is None:  # comments alone
            data = yaml.load(f"{old}\n{{}}\n")
        if not hasattr(data, "update"):
            raise InputError.single(str(self.path), "holds no mapping; write KEY: VALUE lines")
        change(data)
        data.fa.set_block_style()
        stream = StringIO()
        yaml.dump(data, stream)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, stream.getvalue(), instead_of=old)
