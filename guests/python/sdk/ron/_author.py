"""Finds the author's service, and says at build time what is wrong with it."""

import difflib
import importlib
import importlib.util
import inspect
import os
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

from ron import _crash
from ron._service import Service

MODULE = "app"

_U32_MAX = 2**32 - 1

# What the host calls, each with what it passes.
_HANDLERS = {
    "start": (),
    "on_message": ("message",),
    "on_event": ("event",),
    "stop": (),
    "save": (),
    "restore": ("schema", "state"),
    "on_batch": ("batch",),
}
# How much of a name two must share to be taken for each other: more than `step` and `stop`.
_ALIKE = 0.76


class BuildError(Exception):
    """What is wrong with `app.py`; shown by the build."""


def directory() -> str:
    """Where the author's modules are."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise BuildError("there is no app.py in the directories that componentize-py was given")
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
    check_names(service)
    name = service.__name__
    for method in _HANDLERS:
        if inspect.iscoroutinefunction(getattr(service, method)):
            raise BuildError(
                f"{name}.{method} is `async def`: the host waits for it, so write `def`"
            )
    check_signatures(service)
    has = {method: not _lacks(service, method) for method in ("save", "restore", "on_batch")}
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


def check_names(service: type[Service]) -> None:
    """Raises BuildError where a method looks like a handler and is none, or there is none.

    It does where the class itself makes no use of it, and it begins with `on_` or is
    named much like a handler that the class lacks: a helper called `restart` is
    nobody's slip in a class that has `start`, and neither is one that is called.
    """
    classes = [one for one in service.__mro__ if issubclass(one, Service) and one is not Service]
    methods = {
        name: value
        for one in reversed(classes)
        for name, value in vars(one).items()
        if isinstance(value, FunctionType)
    }
    lacking = [name for name in _HANDLERS if _lacks(service, name)]
    used = {name for method in methods.values() for name in _names(method.__code__)}
    for name, method in methods.items():
        if name in _HANDLERS or name in used or name.startswith("_"):
            continue
        alike = [one for one in lacking if name == f"on_{one}"]
        alike = alike or difflib.get_close_matches(name, lacking, n=1, cutoff=_ALIKE)
        # What is dispatched to by name is used, too.
        is_event = name.startswith("on_") and "on_" not in used
        if not is_event and (not alike or "getattr" in used):
            continue
        hint = (
            f"did you mean {alike[0]}?"
            if alike
            else "there are on_message, on_event and on_batch; give a method of your own"
            " another name"
        )
        place = _crash.place(inspect.unwrap(method).__code__)
        raise BuildError(f"{place}: {name}: there is no such handler; {hint}")
    if len(lacking) == len(_HANDLERS):
        raise BuildError(
            f"{service.__name__} has no method that the host calls: write `start` and `on_message`"
        )


def check_signatures(service: type[Service]) -> None:
    """Raises BuildError where a handler does not take what the host passes.

    What is no function of Python's, such as an object with `__call__`, is left to be
    called.
    """
    for name, passed in _HANDLERS.items():
        method = inspect.getattr_static(service, name)
        # The object or the class comes before what the host passes.
        before = () if isinstance(method, staticmethod) else (None,)
        if isinstance(method, (staticmethod, classmethod)):
            method = method.__func__
        if not isinstance(method, FunctionType):
            continue
        signature = _signature(method)
        try:
            signature.bind(*before, *passed)
        except TypeError:
            call = f"{name}({', '.join(passed)})"
            raise BuildError(
                f"{_crash.place(method.__code__)}: {name} takes {signature},"
                f" and the host calls {call}"
            ) from None


def _signature(function: FunctionType) -> inspect.Signature:
    """What a function itself takes, without types.

    Of a decorator's wrapper it is the wrapper's, which may add arguments. Types are not
    looked at: their names may be there for a type checker alone.
    """
    bare = FunctionType(function.__code__, {}, None, function.__defaults__, function.__closure__)
    bare.__kwdefaults__ = function.__kwdefaults__
    return inspect.signature(bare)


def _lacks(service: type[Service], handler: str) -> bool:
    return getattr(service, handler) is getattr(Service, handler)


def _names(code: CodeType) -> Iterator[str]:
    """What a function names, texts too, and the functions within it."""
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _names(one)
        elif isinstance(one, str):
            yield one
