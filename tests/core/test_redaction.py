"""Masking of credentials in text and settings."""

from __future__ import annotations

import pytest

from ipgl.core.redaction import redacted


def test_userinfo_in_addresses() -> None:
    assert (
        redacted("see https://ann:pw@host:5000/x and http://host/y")
        == "see https://***@host:5000/x and http://host/y"
    )


def test_a_password_may_hold_an_at_sign() -> None:
    assert redacted("https://ann:p@w@host/") == "https://***@host/"


@pytest.mark.parametrize(
    "key", ["password", "MLFLOW_TRACKING_PASSWORD", "api_key", "HF_TOKEN", "token", "client_secret"]
)
def test_telling_keys(key: str) -> None:
    assert redacted({"a": [{key: "abc"}]}) == {"a": [{key: "***"}]}


def test_everything_else_is_kept() -> None:
    data = {"tokenizer": "bpe", "key": 1, "tokens": 3, "lr": 0.1, "none": None, "password": ""}
    assert redacted(data) == data
