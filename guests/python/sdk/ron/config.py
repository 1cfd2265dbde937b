"""This service's own table of the configuration, `[service.NAME.config]`.

A call reads the newest values in force. `ron.ConfigUpdated` tells when they
change. A value is a string as it stands, and the JSON text of any other TOML
value.
"""

from collections.abc import Callable
from typing import TypeVar, cast, overload

from ron import _errors, _host
from ron._message import to_text

T = TypeVar("T")
D = TypeVar("D")


@overload
def get(key: str) -> str | None: ...
@overload
def get(key: str, default: D) -> str | D: ...
def get(key: str, default: D | None = None) -> str | D | None:
    """The value of `key`, or `default` where the key is absent."""
    value = _host.current().config_get(to_text(key))
    return default if value is None else value


@overload
def parse(key: str, kind: Callable[[str], T]) -> T | None: ...
@overload
def parse(key: str, kind: Callable[[str], T], default: D) -> T | D: ...
def parse(key: str, kind: Callable[[str], T], default: D | None = None) -> T | D | None:
    """The value of `key` as a `kind`, or `default` where the key is absent.

    `kind` is a type, or any function of text that raises ValueError: `int`,
    `float`, `bool` (for `true` and `false`), `Decimal`; `json.loads` for arrays
    and tables. Raises `Error`.

        retries = config.parse("retries", int, 3)
    """
    value = get(key)
    if value is None:
        return default
    try:
        # bool("false") is True.
        return cast(T, _bool(value)) if kind is bool else kind(value)
    except (ValueError, ArithmeticError) as error:
        name = getattr(kind, "__name__", "valid value")
        raise Error(f"config `{key}`: expected {name}, found `{value}` ({error})") from None


def entries() -> dict[str, str]:
    """All keys and their values."""
    return dict(_host.current().config_entries())


def version() -> int:
    """Monotonic; grows by at least one with each applied change."""
    return _host.current().config_version()


class Error(_errors.Error):
    """A value that is not what the service expects. A handler that lets it pass
    rejects its message."""


def _bool(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError("neither true nor false")
    return value == "true"
