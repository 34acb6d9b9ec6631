"""Everything about one clip, for its owner and for whoever may buy it."""

from pathlib import Path

from paletta_cli.api import clip_segment, connect
from paletta_cli.clips import posters, previews
from paletta_cli.clips.showing import show_clip
from paletta_cli.errors import PalettaError
from paletta_cli.output import Output
from paletta_cli.text import size


def show_one(
    out: Output,
    clip: str,
    *,
    login: bool,
    addresses: bool,
    open_: bool,
    preview: Path | None,
    force: bool,
    pictures: bool,
) -> None:
    """Show a clip, and save or play its preview. Without `login` strangers may ask too."""
    if preview is not None:
        previews.refuse_if_taken(preview, force=force)
    with connect(login=login) as service:
        found = service.get(f"/v1/clips/{clip_segment(clip)}")
    if found["media"]["poster"]:
        posters.draw(out, [found["media"]["poster"]], off=not pictures)
    show_clip(out, found, addresses=addresses)
    comp = found["media"]["comp"]
    if (open_ or preview is not None) and not comp:
        raise PalettaError(f"`{found['id']}` has no preview yet", hint="it comes when the clip is processed")
    if preview is not None:
        count = previews.save(comp, preview, force=force)
        out.note(f"wrote `{preview}`: {size(count)}")
    if open_:
        previews.checked(comp)
        import webbrowser

        if not webbrowser.open(comp):
            raise PalettaError("nothing here can open the preview", hint="--preview FILE saves it")
