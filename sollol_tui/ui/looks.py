"""What a person has chosen for the screens: theme, columns, filters, keys. Applies it, says what of
it cannot be, and keeps what they choose next. A damaged file costs nobody the screen."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Final

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import Keys, key_to_character
from textual.screen import Screen

from sollol_tui.model.columns import EVENT_COLUMNS, HOST_COLUMNS, job_columns
from sollol_tui.model.errors import SollolError
from sollol_tui.model.names import did_you_mean
from sollol_tui.model.text import clean
from sollol_tui.preferences import Preferences, PreferencesFile
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.theme import CALM
from sollol_tui.ui.widgets.keyed_table import KeyedTable
from sollol_tui.ui.widgets.log_view import LogView

_OURS: Final = f"{__package__}."
_COLUMNS: Final = {"jobs": job_columns(), "hosts": HOST_COLUMNS, "events": EVENT_COLUMNS}
_FILTERED: Final = ("overview", "jobs", "hosts", "logs", "events")
_MODIFIERS: Final = {"ctrl", "shift", "alt", "super", "hyper", "meta"}
_KEYS: Final = {key.value for key in Keys}


class Looks:
    """`keeps` is whether what is chosen here may be written."""

    def __init__(self, app: App[str], file: PreferencesFile, *, keeps: bool) -> None:
        self._app = app
        self._file = file
        self._keeps = keeps
        self._hidden: dict[str, frozenset[str]] = {}
        self._filters: dict[str, str] = {}
        self._theme = ""

    def apply(self) -> None:
        """Once, before the first screen."""
        app, complaints = self._app, list[str]()
        app.register_theme(CALM)
        try:
            chosen = self._file.read()
        except SollolError as error:
            complaints.append(str(error))
            chosen = Preferences()
        complaints += _unknown_columns(chosen.hide)
        complaints += [
            f"no view '{view}' has a filter{did_you_mean(view, _FILTERED)}"
            for view in chosen.filters
            if view not in _FILTERED
        ]
        self._filters = dict(chosen.filters)
        self._hidden = {table: frozenset(columns) for table, columns in chosen.hide.items()}
        theme = chosen.theme or CALM.name
        if theme not in app.available_themes:
            complaints.append(f"no theme '{theme}'{did_you_mean(theme, app.available_themes)}")
            theme = CALM.name
        app.theme = self._theme = theme
        if chosen.keys:
            complaints += self._apply_keys(chosen.keys)
        if complaints:
            self._tell("\n".join(map(clean, complaints)))
        app.theme_changed_signal.subscribe(app, lambda theme: self._keep_theme(theme.name))

    def hidden(self, table: str) -> frozenset[str]:
        """Keys of the columns of a table that are not wanted."""
        return self._hidden.get(table, frozenset())

    def hide(self, table: str, columns: Iterable[str]) -> None:
        """From now on, also the next time."""
        self._hidden[table] = frozenset(columns)
        if self._keeps:
            self._keep(lambda: self._file.keep_hidden(table, sorted(self._hidden[table])))

    def filter_of(self, view: str) -> str:
        """The filter with which a view begins."""
        return self._filters.get(view, "")

    def keep_filter(self, view: str, text: str) -> bool:
        """From the next time on; whether it is kept."""
        if not self._keeps:
            self._tell("what is chosen with --readonly is not kept")
            return False
        self._filters[view] = text
        return self._keep(lambda: self._file.keep_filter(view, text))

    def _keep_theme(self, name: str) -> None:
        if name == self._theme:
            return  # nobody chose it: the application tells the theme with which it begins too
        self._theme = name
        if self._keeps:
            self._keep(lambda: self._file.keep_theme(name))

    def _keep(self, keep: Callable[[], None]) -> bool:
        try:
            keep()
        except SollolError as error:
            self._tell(f"what was chosen is not kept: {clean(str(error))}")
            return False
        return True

    def _apply_keys(self, chosen: Mapping[str, str]) -> list[str]:
        """Gives the keys that can be given; returns what is wrong with the others."""
        from sollol_tui.ui import dialogues  # noqa: F401 - its screens have keys too

        known = {binding.id for node in _nodes() for binding in _bindings(node) if binding.id}
        good: dict[str, str] = {}
        complaints = []
        for name, keys in chosen.items():
            wrong = [key for key in keys.split(",") if not _is_key(key.strip())]
            if name not in known:
                complaints.append(f"no key has the id '{name}'{did_you_mean(name, known)}")
            elif wrong:
                complaints.append(f"{name}: '{wrong[0]}' is no key; write f5, x or ctrl+x")
            else:
                good[name] = keys
        self._app.set_keymap(good)
        return [*complaints, *_conflicts(good)]

    def _tell(self, sentences: str) -> None:
        self._app.notify(
            sentences, title=str(self._file.path), severity="warning", timeout=15, markup=False
        )


def _unknown_columns(hide: Mapping[str, Iterable[str]]) -> list[str]:
    complaints = []
    for table, columns in hide.items():
        if table not in _COLUMNS:
            complaints.append(f"no table '{table}'{did_you_mean(table, _COLUMNS)}")
            continue
        there = [column.key for column in _COLUMNS[table]]
        complaints += [
            f"{table}: no column '{column}'{did_you_mean(column, there)}"
            for column in columns
            if column not in there
        ]
    return complaints


def _nodes() -> Iterator[type[DOMNode]]:
    """Every class of ours that has keys."""
    waiting: list[type[DOMNode]] = [DOMNode]
    while waiting:
        waiting += (node := waiting.pop()).__subclasses__()
        if node.__module__.startswith(_OURS):
            yield node


def _bindings(node: type[DOMNode]) -> Iterator[Binding]:
    """Those of a class and of ours that it is made of, a key each."""
    for kind in node.__mro__:
        if kind.__module__.startswith(_OURS):
            yield from Binding.make_bindings(vars(kind).get("BINDINGS", ()))


def _conflicts(chosen: Mapping[str, str]) -> list[str]:
    """Where a chosen key does something else already, on the same screen."""
    nodes = list(_nodes())
    everywhere: list[type[DOMNode]] = [KeyedTable, LogView]
    everywhere += [node for node in nodes if issubclass(node, App)]
    told: dict[str, None] = {}
    for node in nodes:
        if not issubclass(node, Screen):
            continue
        together = [node, *everywhere] if issubclass(node, View) else [node]
        for key, ids in _keys_of(together, chosen).items():
            for pair in combinations(ids, 2):
                if set(pair) & set(chosen):
                    first, second = sorted(pair, key=lambda name: (name not in chosen, name))
                    told[f"{key} is {first}, and {second} as well; give one another key"] = None
    return list(told)


def _keys_of(
    nodes: Iterable[type[DOMNode]], chosen: Mapping[str, str]
) -> dict[str, dict[str, None]]:
    """The ids of what each key does in these, once what was chosen counts."""
    doing: dict[str, dict[str, None]] = {}
    for node in nodes:
        for binding in _bindings(node):
            if binding.id is not None:
                for key in chosen.get(binding.id, binding.key).split(","):
                    doing.setdefault(_named(key), {})[binding.id] = None
    return doing


def _named(key: str) -> str:
    """The key as a person writes it, whichever of its names was used."""
    return key_to_character(key.strip()) or key.strip()


def _is_key(key: str) -> bool:
    *modifiers, base = key.split("+") if len(key) > 1 else [key]
    return set(modifiers) <= _MODIFIERS and (
        len(base) == 1 or base in _KEYS or key_to_character(base) is not None
    )
