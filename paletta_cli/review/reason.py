"""The dialogue that asks why: one of the published reasons, and words of the moderator's own."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from paletta_cli.text import clean

Reason = tuple[str | None, str | None]
"""A reason's code, and words; at least one of them says something."""
_TITLES = {"rejected": "Reject: why?", "changes_requested": "Ask for changes: which?"}
_LEAST, _MOST = 3, 1000


class ReasonScreen(ModalScreen[Reason | None]):
    """Arrows or a digit choose, Return goes on to the words and then sends, Escape goes back."""

    CSS = """
    ReasonScreen { align: center middle; }
    #dialogue { width: 72; max-width: 100%; height: auto; border: round $primary; background: $surface; padding: 0 1; }
    #dialogue OptionList { height: auto; max-height: 10; border: none; padding: 0; }
    #reads { height: 2; color: $text-muted; }
    #own { border: tall $primary; }
    #trouble { height: 1; color: $error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", priority=True)]

    def __init__(self, verdict: str, reasons: Sequence[dict[str, str]]) -> None:
        super().__init__()
        self.verdict = verdict
        self.reasons = list(reasons)

    def compose(self) -> ComposeResult:
        options = [
            Option(Text(f"{number % 10} {clean(reason['label'])}"))
            for number, reason in enumerate(self.reasons, start=1)
        ]
        with Vertical(id="dialogue"):
            yield Static(Text(_TITLES[self.verdict], "bold"))
            yield OptionList(*options)
            yield Static(id="reads")
            yield Input(placeholder="more, in your own words (may stay empty)", id="own", max_length=_MOST)
            yield Static(id="trouble")
            yield Static(Text("Return sends it, Escape goes back", "dim"))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()
        self._chosen(0)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._chosen(event.option_index)

    def on_option_list_option_selected(self, _event: OptionList.OptionSelected) -> None:
        self.query_one(Input).focus()

    def on_key(self, event: object) -> None:
        """A digit chooses, as long as nobody is writing."""
        key = getattr(event, "character", None) or ""
        options = self.query_one(OptionList)
        if options.has_focus and key.isascii() and key.isdigit():
            index = (int(key) - 1) % 10
            if index < len(self.reasons):
                options.highlighted = index
                self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        own = event.value.strip()
        reason = self.reasons[self.query_one(OptionList).highlighted or 0]
        if own and len(own) < _LEAST:
            self._trouble(f"at least {_LEAST} letters, or none")
        elif not own and not reason["text"]:
            self._trouble("say in your own words what is wrong")
        else:
            self.dismiss((reason["code"], own or None))

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _chosen(self, index: int) -> None:
        words = self.reasons[index]["text"] or "The contributor reads your own words alone."
        self.query_one("#reads", Static).update(Text(clean(words)))

    def _trouble(self, words: str) -> None:
        self.query_one("#trouble", Static).update(Text(words))
