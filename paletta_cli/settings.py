"""Where the service is and who is asking: flags > environment > profile.

`config.toml` in the configuration directory holds profiles (never secrets):

    default_profile = "studio"

    [profiles.studio]
    url = "https://paletta.example"
    email = "ana@example.org"

Environment: PALETTA_URL, PALETTA_PROFILE, PALETTA_CONFIG_DIR, PALETTA_STATE_DIR (and PALETTA_TOKEN, see
credentials).
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from paletta_cli.errors import PalettaError, UsageError, cannot

DEFAULT_URL = "http://127.0.0.1:8750"
DEFAULT_PROFILE = "default"


@dataclass(frozen=True)
class Profile:
    """One named account of this person on one service."""

    url: str | None = None
    email: str | None = None


@dataclass(frozen=True)
class Settings:
    """What a command needs to know about its surroundings. `url` has no trailing slash."""

    profile: str
    url: str
    config_dir: Path
    state_dir: Path
    default_profile: str = DEFAULT_PROFILE
    profiles: dict[str, Profile] = field(default_factory=dict)

    @property
    def config_file(self) -> Path:
        return self.config_dir / "config.toml"


@dataclass
class _Flags:
    """What stood on the command line before the noun; set once by `paletta_cli.main`."""

    profile: str | None = None
    url: str | None = None


flags = _Flags()


def load() -> Settings:
    """The settings in force now.

    Raises UsageError for an unusable address, PalettaError for a broken config file.
    """
    config_dir = _directory("PALETTA_CONFIG_DIR", "config")
    default_profile, profiles = _read(config_dir / "config.toml")
    profile = flags.profile or os.environ.get("PALETTA_PROFILE") or default_profile
    url = flags.url or os.environ.get("PALETTA_URL") or profiles.get(profile, Profile()).url or DEFAULT_URL
    return Settings(
        profile=profile,
        url=checked_url(url),
        config_dir=config_dir,
        state_dir=state_dir(),
        default_profile=default_profile,
        profiles=profiles,
    )


def names_a_service(settings: Settings) -> bool:
    """Whether the address is one that somebody chose: not where a profile is named that is not there, beside others."""
    asked = flags.url or os.environ.get("PALETTA_URL")
    return bool(asked) or not settings.profiles or settings.profile in settings.profiles


def state_dir() -> Path:
    """The directory of the upload journal and of crash logs.

    Created when something is first written there.
    """
    return _directory("PALETTA_STATE_DIR", "state")


def save_profile(settings: Settings, name: str, profile: Profile, *, make_default: bool = False) -> None:
    """Write one profile into `config.toml` (atomic, 0600); the others stay as they are."""
    profiles = {**settings.profiles, name: profile}
    default = name if make_default or not settings.profiles else settings.default_profile
    lines = [f"default_profile = {json.dumps(default)}"]
    for key, value in profiles.items():
        lines += ["", f"[profiles.{json.dumps(key)}]"]
        lines += [
            f"{member} = {json.dumps(text, ensure_ascii=False)}"
            for member, text in (("url", value.url), ("email", value.email))
            if text
        ]
    write_private(settings.config_file, "\n".join(lines) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace `path` at once with `text`: mode 0600 in a 0700 directory, whatever the umask; never half a
    file.

    Raises PalettaError where the file system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace_private(path, text)
    except OSError as error:
        raise cannot("write", path, error) from error


def _replace_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o600)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def checked_url(url: str) -> str:
    """`url` without its trailing slash; https, or http to this machine only (a token must not cross a network
    bare).
    """
    from urllib.parse import urlsplit

    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"`{url}` is not an address of a service", hint="it looks like https://paletta.example"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise UsageError(
            f"refusing to send credentials in the clear to `{parts.hostname}`",
            hint="use https:// in the address",
        )
    return url.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    import ipaddress

    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _directory(variable: str, kind: str) -> Path:
    if given := os.environ.get(variable):
        return Path(given).expanduser()
    import platformdirs

    return (
        platformdirs.user_config_path("paletta")
        if kind == "config"
        else platformdirs.user_state_path("paletta")
    )


def _read(path: Path) -> tuple[str, dict[str, Profile]]:
    import tomllib

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return DEFAULT_PROFILE, {}
    except (OSError, ValueError) as error:
        raise PalettaError(f"cannot read `{path}`: {error}", hint="mend or remove the file") from error
    profiles = {
        name: Profile(url=_text(value.get("url")), email=_text(value.get("email")))
        for name, value in document.get("profiles", {}).items()
        if isinstance(value, dict)
    }
    return _text(document.get("default_profile")) or DEFAULT_PROFILE, profiles


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
