"""What is kept of passwords and tokens, and the settings that hold it."""

from __future__ import annotations

import pytest

from cronqueue.errors import ConfigurationError
from cronqueue.settings import load_settings
from cronsched.credentials import is_password, is_token, keep_password, keep_token, new_token

CHEAP = (4, 8, 1)
KEPT = keep_password("correct horse battery", CHEAP)


def test_a_password_is_known_by_what_is_kept_and_another_is_not() -> None:
    assert is_password("correct horse battery", KEPT)
    assert not is_password("correct horse batterx", KEPT)
    assert not is_password("", KEPT)
    assert "horse" not in KEPT


def test_the_same_password_is_kept_differently_each_time() -> None:
    assert keep_password("correct horse battery", CHEAP) != KEPT


def test_what_is_kept_by_default_is_dear_to_guess() -> None:
    assert keep_password("correct horse battery").startswith("scrypt-14-8-5.")


def test_a_token_is_known_by_its_digest_and_what_is_kept_opens_nothing() -> None:
    token = new_token()
    kept = keep_token(token)
    assert is_token(token, kept)
    assert not is_token(new_token(), kept)
    assert not is_token(kept, kept)
    assert not is_token("correct horse battery", KEPT)
    assert not is_password(token, kept)


def test_users_come_from_the_environment() -> None:
    text = f"ann=operator:{KEPT}, ci=viewer:{keep_token('t')}"
    found = load_settings(environ={"SCHED_WEB_USERS": text}).settings.web_users
    assert found == (("ann", f"operator:{KEPT}"), ("ci", f"viewer:{keep_token('t')}"))


@pytest.mark.parametrize(
    "text",
    [
        "ann=correct horse battery",
        f"ann=root:{KEPT}",
        f"ann={KEPT}",
        f"=viewer:{KEPT}",
        "ann=viewer:sha256.abc",
        f"ann=viewer:{KEPT},ann=admin:{KEPT}",
    ],
    ids=["no role", "no such role", "a hash alone", "no name", "no such hash", "twice"],
)
def test_users_that_are_written_wrongly_stop_the_start_and_are_not_printed(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^SCHED_WEB_USERS \*\*\*: ") as raised:
        load_settings(environ={"SCHED_WEB_USERS": text})
    assert KEPT not in str(raised.value)
