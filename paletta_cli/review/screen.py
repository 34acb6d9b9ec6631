"""The review screen: the poster and the facts side by side, frames of the film below, a key for each decision."""

import webbrowser
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from paletta_cli.clips import previews
from paletta_cli.errors import PalettaError
from paletta_cli.review import drawing, facts
from paletta_cli.review.desk import RENEW_SECONDS, Desk, Offered, addresses
from paletta_cli.review.drawing import Pictures
from paletta_cli.review.reason import Reason, ReasonScreen
from paletta_cli.review.viewing import view
from paletta_cli.text import clean, plural

_KEYS = (
    ("a", "approve"), ("r", "reject"), ("c", "changes"), ("s", "skip"), ("←→", "go"), ("↑↓", "read"), ("o", "play"),
    ("v", "view"), ("q", "quit"),
)  # fmt: skip
_SIDE_BY_SIDE = 0.45
_STRIP_SHARE = 0.2
_LEAST_STRIP, _MOST_STRIP = 4, 9
_OTHER_ROWS = 3  # heading, message, keys


class ReviewApp(App[None]):
    """Runs until the moderator quits. Everything that waits for the service happens in threads."""

    CSS = """
    #heading { height: 1; background: $primary; color: $text; padding: 0 1; }
    #upper { height: 1fr; }
    #poster { width: auto; margin: 0 1 0 0; }
    #facts { width: 1fr; height: 100%; scrollbar-size-vertical: 1; padding: 0 1; }
    #strip { height: auto; }
    #message { height: 1; color: $warning; padding: 0 1; }
    #keys { height: 1; padding: 0 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "decide('approved')"),
        Binding("r", "turn_down('rejected')"),
        Binding("c", "turn_down('changes_requested')"),
        Binding("s", "skip"),
        Binding("right,n", "forward"),
        Binding("left,p", "previous"),
        Binding("down,j", "scroll_facts(1)"),
        Binding("up,k", "scroll_facts(-1)"),
        Binding("pagedown,space", "scroll_facts(10)"),
        Binding("pageup", "scroll_facts(-10)"),
        Binding("o", "play"),
        Binding("v", "view"),
        Binding("g", "anew"),
        Binding("q,escape,ctrl+c", "quit", priority=False),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.busy = False
        """A step is under way: keys wait for nothing and are not queued, so that no key decides on an unseen clip."""
        self.pictures: Pictures | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="heading")
        with Horizontal(id="upper"):
            yield Static(id="poster")
            with VerticalScroll(id="facts", can_focus=False):
                yield Static(id="words")
        yield Static(id="strip")
        yield Static(id="message")
        yield Static(_keys(), id="keys")

    def on_mount(self) -> None:
        self.set_interval(RENEW_SECONDS, self._renew)
        self._show()

    def on_resize(self, _event: events.Resize) -> None:
        self._draw()

    # ---- what is on the screen

    def _show(self, message: str = "") -> None:
        """Show the clip that the desk is at, and fetch its pictures."""
        offered = self.desk.current
        self.pictures = None
        self._say(message)
        self._static("heading").update(self._heading(offered))
        words = facts.described(offered.item, offered.outcome) if offered else self._nothing()
        self._static("words").update(words)
        self.query_one("#facts", VerticalScroll).scroll_home(animate=False)
        self._draw()
        if offered is not None:
            self._fetch(offered)

    def _heading(self, offered: Offered | None) -> Text:
        decided = sum(self.desk.done.values())
        left = f"review: {plural(self.desk.waiting, 'clip')} waiting, {decided} decided"
        right = f"{offered.id}  no. {self.desk.at + 1}" if offered else "the end of the queue"
        gap = max(2, self.size.width - 2 - len(left) - len(right))
        return Text(f"{left}{' ' * gap}{right}", no_wrap=True, overflow="ellipsis")

    def _nothing(self) -> Text:
        if not self.desk.waiting:
            return Text("Nothing waits for review.\n\ng looks again, q quits.")
        return Text(
            f"The end of the queue: {plural(self.desk.waiting, 'clip')} waiting, which you have skipped or somebody"
            " else looks at.\n\ng begins anew, ← goes back, q quits."
        )

    def _draw(self) -> None:
        """The pictures, as large as the screen lets them be."""
        found = self.pictures
        strip_rows = max(_LEAST_STRIP, min(_MOST_STRIP, int(self.size.height * _STRIP_SHARE)))
        strip = drawing.strip(found, self.size.width, strip_rows) if found else None
        # The place is kept while the frames are on their way, so that nothing jumps.
        self._static("strip").styles.height = strip_rows if self.desk.current else 0
        self._static("strip").update(strip or "")
        rows = self.size.height - strip_rows - _OTHER_ROWS
        columns = int(self.size.width * _SIDE_BY_SIDE)
        picture = drawing.poster(found.poster, columns, rows) if found else None
        self._static("poster").update(picture or "")

    def _say(self, message: str) -> None:
        self._static("message").update(Text(clean(message), no_wrap=True, overflow="ellipsis"))

    def _static(self, name: str) -> Static:
        # Of the main screen, also while a dialogue lies over it.
        return self.screen_stack[0].query_one(f"#{name}", Static)

    # ---- steps, in threads

    @work(thread=True, exclusive=True, group="pictures")
    def _fetch(self, offered: Offered) -> None:
        found = drawing.fetched(addresses(offered.item))
        self.call_from_thread(self._fetched, offered, found)

    def _fetched(self, offered: Offered, found: Pictures) -> None:
        if self.desk.current is not offered:
            return
        self.pictures = found
        if found.trouble:
            self._say(f"not all pictures could be had: {found.trouble}")
        self._draw()

    def _step(self, step: Callable[[], str]) -> None:
        if self.busy:
            return
        self.busy = True
        self._run(step)

    @work(thread=True, group="steps")
    def _run(self, step: Callable[[], str]) -> None:
        try:
            message, moved = step(), True
        except PalettaError as error:
            message, moved = f"not done: {error.message}" + (f" ({error.hint})" if error.hint else ""), False
        self.call_from_thread(self._stepped, message, moved)

    def _stepped(self, message: str, moved: bool) -> None:
        self.busy = False
        if moved:
            self._show(message)
        else:
            self._say(message)  # the clip stays, and the same key tries again

    @work(thread=True, group="renewing")
    def _renew(self) -> None:
        try:
            self.desk.renew()
        except PalettaError as error:
            self.call_from_thread(self._say, f"the claim on this clip may end: {error.message}")

    # ---- keys

    def action_decide(self, verdict: str, reason: Reason | None = None) -> None:
        def step() -> str:
            code, words = reason or (None, None)
            message = self.desk.decide(verdict, reason_code=code, reason=words)
            offered = self.desk.current
            if offered is not None and offered.outcome is not None:
                self.desk.forward()
            return message

        if self.desk.current is not None:
            self._step(step)

    def action_turn_down(self, verdict: str) -> None:
        offered = self.desk.current
        if offered is None or self.busy:
            return
        if offered.outcome is not None:
            self._say(f"this clip is done: {offered.outcome}")
            return

        def chosen(reason: Reason | None) -> None:
            if reason is not None:
                self.action_decide(verdict, reason)

        self.push_screen(ReasonScreen(verdict, self.desk.reasons), chosen)

    def action_skip(self) -> None:
        self._step(lambda: self._moved(self.desk.skip, "skipped"))

    def action_forward(self) -> None:
        self._step(lambda: self._moved(self.desk.forward))

    def action_previous(self) -> None:
        if self.desk.at <= 0:
            self._say("this is the first one")
            return
        self._step(lambda: self._moved(self.desk.back))

    def action_anew(self) -> None:
        self._step(lambda: self._moved(self.desk.anew, "from the start of the queue"))

    @staticmethod
    def _moved(move: Callable[[], Offered | None], message: str = "") -> str:
        move()
        return message

    def action_scroll_facts(self, lines: int) -> None:
        self.query_one("#facts", VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_play(self) -> None:
        offered = self.desk.current
        if offered is None:
            return
        address = addresses(offered.item).get("comp")
        if address is None:
            self._say("this clip has no preview")
            return
        try:
            previews.checked(address)
        except PalettaError as error:
            self._say(error.message)
            return
        if not webbrowser.open(address):
            self._say(f"nothing here can open it: `paletta clips show {offered.id} --preview FILE` saves it")

    def action_view(self) -> None:
        if self.pictures is None or self.pictures.poster is None:
            self._say("the poster is not here yet")
            return
        poster = self.pictures.poster
        with self.suspend():
            seen = view(poster)
        if not seen:
            self._say("this terminal shows no pictures but these blocks")
        self.refresh(layout=True)


def _keys() -> Text:
    """What each key does, on one line of 78 columns."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for key, what in _KEYS:
        text.append("  " if text else "")
        text.append(key, "bold")
        text.append(f" {what}")
    return text
