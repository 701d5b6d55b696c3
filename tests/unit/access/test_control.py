"""Open, closed, or not known yet: who is let in without a key, and when."""

from __future__ import annotations

import pytest

from app.access.control import AccessControl, AccessMode, is_loopback, is_this_machine, names_this_machine
from app.access.keys import KeyRequest, Peppers, issue
from app.access.principal import ANONYMOUS, EVERY_SCOPE, Scope
from app.errors import (
    ClosedToStrangers,
    ConfigurationError,
    KeyMissing,
    KeyRefused,
    KeysUnread,
    ScopeMissing,
)

PEPPERS = Peppers([b"pepper-of-32-characters-or-more-1"])
ADMIN = "admin-secret-of-at-least-32-characters"
TOKEN, RECORD = issue(KeyRequest(name="x"), PEPPERS, created_by="test")


def control(
    mode: AccessMode = AccessMode.AUTO, *, admin: str | None = None, peppers: Peppers | None = PEPPERS
) -> AccessControl:
    return AccessControl(mode, peppers, admin)


def local() -> bool:
    return True


def stranger() -> bool:
    return False


def test_nobody_is_let_in_before_the_keys_are_read() -> None:
    access = control()
    with pytest.raises(KeysUnread):
        access.admit(Scope.GUARD, None, local)
    closed = control(AccessMode.KEYS)
    with pytest.raises(KeysUnread):
        closed.admit(Scope.GUARD, TOKEN, local)


def test_without_keys_this_machine_is_let_in_and_a_stranger_is_told_what_to_do() -> None:
    access = control()
    access.replace([])
    assert access.admit(Scope.ADMIN, None, local) is ANONYMOUS
    assert ANONYMOUS.scopes == EVERY_SCOPE
    with pytest.raises(ClosedToStrangers, match="vigil keys create"):
        access.admit(Scope.GUARD, None, stranger)


def test_the_first_key_closes_the_door_and_losing_it_does_not_open_it() -> None:
    access = control()
    access.replace([])
    access.put(RECORD)
    with pytest.raises(KeyMissing):
        access.admit(Scope.GUARD, None, local)
    assert access.admit(Scope.GUARD, TOKEN, stranger).key_id == RECORD.id
    access.replace([])
    with pytest.raises(KeyMissing):
        access.admit(Scope.GUARD, None, local)
    with pytest.raises(KeyRefused):
        access.admit(Scope.GUARD, TOKEN, local)


def test_an_entry_that_cannot_be_read_or_was_not_made_here_closes_the_door_too() -> None:
    unreadable, forged = control(), control()
    unreadable.replace([], unreadable=1)
    forged.replace([RECORD.model_copy(update={"scopes": frozenset({Scope.ADMIN})})])
    for access in (unreadable, forged):
        with pytest.raises(KeyMissing):
            access.admit(Scope.GUARD, None, local)
    with pytest.raises(KeyRefused):
        forged.admit(Scope.ADMIN, TOKEN, local)


def test_a_key_does_what_its_scopes_say() -> None:
    access = control()
    access.replace([RECORD])
    with pytest.raises(ScopeMissing, match="admin"):
        access.admit(Scope.ADMIN, TOKEN, local)


def test_the_admin_key_of_the_settings_makes_keys_and_judges_nothing() -> None:
    access = control(admin=ADMIN)
    assert access.admit(Scope.ADMIN, ADMIN, stranger).key_id == "bootstrap"
    with pytest.raises(ScopeMissing):
        access.admit(Scope.GUARD, ADMIN, local)
    access.replace([])
    for wrong in (ADMIN[:-1], ADMIN + "x", "ż", "\udc80"):
        with pytest.raises(KeyRefused):
            access.admit(Scope.ADMIN, wrong, local)


def test_without_a_pepper_every_key_is_refused() -> None:
    access = control(peppers=None)
    access.replace([RECORD])
    with pytest.raises(KeyRefused):
        access.admit(Scope.GUARD, TOKEN, local)


def test_open_means_open() -> None:
    assert control(AccessMode.OPEN).admit(Scope.ADMIN, None, stranger) is ANONYMOUS


def test_listening_for_other_machines_without_a_key_is_refused_with_what_to_do() -> None:
    access = control()
    access.replace([])
    for host in ("0.0.0.0", "::", "192.168.1.5", "guard.example"):  # noqa: S104 - what is refused
        with pytest.raises(ConfigurationError, match="VIGIL_ACCESS__MODE=keys"):
            access.check_bind(host)
    for host in ("127.0.0.1", "::1", "localhost", None):
        access.check_bind(host)


def test_listening_for_other_machines_is_fine_with_a_key_or_when_it_was_chosen() -> None:
    with_key = control()
    with_key.replace([RECORD])
    for access in (with_key, control(admin=ADMIN), control(AccessMode.KEYS), control(AccessMode.OPEN)):
        access.check_bind("0.0.0.0")  # noqa: S104


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("172.17.0.1", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("[::ffff:127.0.0.1]", True),
        ("localhost", True),
        ("LocalHost", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("vigil.example.com", False),
    ],
)
def test_addresses_and_names_of_this_machine_alone(host: str, expected: bool) -> None:
    assert is_this_machine(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LocalHost:8000", True),
        ("guard.localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("null", False),
    ],
)
def test_a_page_of_another_site_uses_none_of_this_machines_names(host: str, expected: bool) -> None:
    assert names_this_machine(host) is expected
