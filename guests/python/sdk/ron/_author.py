"""Finds the author's service, and says at build time what is wrong with it."""

import importlib
import importlib.util
import inspect
import os
from types import ModuleType

from ron import _crash
from ron._service import Service

MODULE = "app"

_U32_MAX = 2**32 - 1


class BuildError(Exception):
    """What is wrong with `app.py`; shown by the build."""


def directory() -> str:
    """Where the author's modules are."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise BuildError("there is no app.py in the directories given with -p")
    return os.path.dirname(os.path.abspath(spec.origin))


def load() -> ModuleType:
    """Imports the author's module."""
    try:
        return importlib.import_module(MODULE)
    except BaseException as error:
        if isinstance(error, SyntaxError):
            # It says where it is itself; the rest is how Python reads a module.
            error = error.with_traceback(None)
        text = _crash.format_traceback(error)
        raise BuildError(f"app.py cannot be imported\n{text}") from None


def find(app: ModuleType) -> type[Service]:
    """The one class in `app` that derives from `Service`.

    Names with an underscore and classes from which another derives do not count,
    so that a base class can be imported.
    """
    found = [
        value
        for name, value in vars(app).items()
        if isinstance(value, type)
        and issubclass(value, Service)
        and value is not Service
        and not name.startswith("_")
    ]
    bases = {base for one in found for base in one.__mro__[1:]}
    found = [one for one in dict.fromkeys(found) if one not in bases]
    if not found:
        raise BuildError("app.py has no class that derives from ron.Service")
    if len(found) > 1:
        names = " and ".join(one.__name__ for one in found)
        raise BuildError(f"app.py has {names}, which all derive from ron.Service: keep one")
    return found[0]


def check(service: type[Service], *, handover: bool, bulk: bool) -> None:
    """Raises BuildError unless `service` fits what the component exports."""
    name = service.__name__
    for method in ("start", "on_message", "on_event", "stop", "save", "restore", "on_batch"):
        if inspect.iscoroutinefunction(getattr(service, method)):
            raise BuildError(
                f"{name}.{method} is `async def`: the host waits for it, so write `def`"
            )
    has = {
        method: getattr(service, method) is not getattr(Service, method)
        for method in ("save", "restore", "on_batch")
    }
    if has["save"] != has["restore"]:
        there, missing = ("save", "restore") if has["save"] else ("restore", "save")
        raise BuildError(f"{name} has `{there}` but no `{missing}`: a handover needs both")
    if has["save"] and not handover:
        raise BuildError(
            f"{name} has `save` and `restore`, which nobody would call: add"
            " `-w stateful-service` to the build command in ron.toml"
        )
    if handover and not has["save"]:
        raise BuildError(
            f"the build command has `-w stateful-service`, but {name} has no `save` and `restore`"
        )
    if has["on_batch"] and not bulk:
        raise BuildError(
            f"{name} has `on_batch`, which nobody would call: add `-w bulk-service` to the"
            " build command in ron.toml"
        )
    if not (isinstance(service.SCHEMA, int) and 0 <= service.SCHEMA <= _U32_MAX):
        raise BuildError(f"{name}.SCHEMA is {service.SCHEMA!r}, not a number from 0 to 2**32 - 1")
