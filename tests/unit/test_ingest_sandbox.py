"""Which sandbox is chosen, and what is said when there is none."""

from collections.abc import Callable

import pytest

from paletta_server.ingest import sandbox as module
from paletta_server.ingest.sandbox import Sandbox, SandboxUnavailable

# `create` remembers its answer for the life of a process; here it must look again.
create: Callable[[type[Sandbox], str], Sandbox] = Sandbox.create.__func__.__wrapped__  # type: ignore[attr-defined]


@pytest.fixture
def no_jail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose bubblewrap starts and fails, as where user namespaces are barred."""
    broken = module._Jail("/bin/sh", ("-c", "echo 'setting up uid map: Permission denied' >&2; exit 1", "--"))
    monkeypatch.setattr(module, "_candidates", lambda: iter([broken]))


@pytest.mark.usefixtures("no_jail")
def test_require_refuses_to_go_without() -> None:
    with pytest.raises(SandboxUnavailable) as refused:
        create(Sandbox, "require")
    assert "uid map: Permission denied" in refused.value.reason
    assert "PALETTA_SANDBOX=prefer" in refused.value.hint


@pytest.mark.usefixtures("no_jail")
def test_prefer_goes_without_and_says_so() -> None:
    chosen = create(Sandbox, "prefer")
    assert chosen.level == "limits"
    assert "limits" in chosen.describe()
    assert any("without a sandbox" in warning for warning in chosen.warnings)


def test_off_is_a_warning_too() -> None:
    chosen = create(Sandbox, "off")
    assert chosen.level == "limits"
    assert any("switched off" in warning for warning in chosen.warnings)


def test_a_missing_filter_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.seccomp, "program", lambda: None)
    chosen = create(Sandbox, "prefer")
    assert "without a system-call filter" in chosen.describe()
    assert any("libseccomp" in warning for warning in chosen.warnings)
