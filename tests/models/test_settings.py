"""Settings that are refused: keys that could be guessed, addresses that are none."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.settings import Settings


@pytest.mark.parametrize("key", ["operator", "change-me", "x" * 31])
def test_a_key_that_could_be_guessed_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Before, `change-me` opened every customer's account; and an error of the settings showed the secret."""
    monkeypatch.setenv("GRAFT_ADMIN_KEY", key)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "fewer than 32 characters" in str(caught.value)
    assert "secrets.token_urlsafe(32)" in str(caught.value)
    assert key not in str(caught.value).replace("admin_key", "").replace("operator's key", "")


def test_a_long_key_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_ADMIN_KEY", "x" * 32)
    key = Settings().admin_key
    assert key is not None
    assert key.get_secret_value() == "x" * 32


@pytest.mark.parametrize("url", ["vllm:8000", "http://[bad", "http://", "http://vllm:99999999", "http://vllm:8000/v1/"])
def test_an_upstream_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("GRAFT_GENERATION_UPSTREAM", url)
    with pytest.raises(ValidationError, match=r"/v1"):
        Settings()


def test_an_upstream_is_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_GENERATION_UPSTREAM", "https://vllm:8000")
    assert Settings().generation_upstream == "https://vllm:8000"
