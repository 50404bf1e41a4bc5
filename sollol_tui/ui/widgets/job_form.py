"""The settings of a job as fields: the usual ones or all, what is typed in them, and where the
cursor is. It plans nothing and starts nothing."""

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from sollol_tui.model.form import MAIN, job_fields
from sollol_tui.ui.widgets.form_field import FormField


class JobForm(Vertical):
    """Begins with what was `typed`, by key."""

    class Changed(Message):
        """Something else is typed now."""

    def __init__(self, typed: Mapping[str, str], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._begun_with = dict(typed)
        self._shows_all = False

    def compose(self) -> ComposeResult:
        yield from self._fields_for(self._begun_with)

    def on_mount(self) -> None:
        self._say_how_many()
        self.fields[0].enter()

    def _fields_for(self, typed: Mapping[str, str]) -> list[FormField]:
        """The usual fields first, then those in which something stands, or all."""
        fields = {field.key: field for field in job_fields()}
        keys: list[str] = [key for key in MAIN if key in fields]
        keys += [key for key in fields if key not in keys and (self._shows_all or key in typed)]
        return [FormField(fields[key], typed.get(key, "")) for key in keys]

    @property
    def fields(self) -> list[FormField]:
        return list(self.query(FormField))

    @property
    def typed(self) -> dict[str, str]:
        """What stands in the form, by key."""
        return {field.field.key: field.typed for field in self.fields if field.typed}

    @property
    def is_changed(self) -> bool:
        """Whether something else stands there than in the beginning."""
        return self.typed != self._begun_with

    @property
    def entered(self) -> FormField | None:
        """The field where the cursor is."""
        focused = self.screen.focused
        parents = () if focused is None else focused.ancestors_with_self
        return next((each for each in parents if isinstance(each, FormField)), None)

    def on_form_field_changed(self, message: FormField.Changed) -> None:
        message.stop()
        self.post_message(self.Changed())

    def mark(self, problems: Mapping[str, str]) -> None:
        """Says at each field what is wrong with it, by its key; nothing at the others."""
        for field in self.fields:
            field.mark(problems.get(field.field.key, ""))

    def move(self, places: int) -> None:
        """Puts the cursor into a field below, or above; round at the ends."""
        fields, entered = self.fields, self.entered
        at = fields.index(entered) + places if entered in fields else 0
        fields[at % len(fields)].enter()

    async def turn(self) -> None:
        """Shows every setting, or again the usual ones only."""
        self._shows_all = not self._shows_all
        await self.fill(self.typed)

    async def fill(self, typed: Mapping[str, str]) -> None:
        """Makes these the settings, and the fields those that they need."""
        key = entered.field.key if (entered := self.entered) is not None else ""
        fields = self._fields_for(typed)
        with self.app.batch_update():
            await self.remove_children()
            await self.mount_all(fields)
        next((field for field in fields if field.field.key == key), fields[0]).enter()
        self._say_how_many()

    def _say_how_many(self) -> None:
        count, every = len(self.fields), len(job_fields())
        told = f"{count} of {every} settings" if count < every else f"all {every} settings"
        self.border_title = f"job - {told}"
