# mypy: disable-error-code="import-not-found"
"""What componentize-py makes a component of; never imported by an author.

It imports the author's `app.py` and joins the one class in there that derives
from `ron.Service` to the exports of the contract. All of this runs at build
time, up to the first call of `start`; the component is a picture of the
interpreter at that moment.
"""

import io
import sys
from collections.abc import Callable
from types import CodeType
from typing import NoReturn

import wit_world.exports as exports
from componentize_py_types import Err
from wit_world.imports import types

from ron import _author, _crash, _host, _logging, _modules, _wasm
from ron._errors import Error
from ron._message import Message, Payload, to_bytes, to_text
from ron._service import Batch, Service

_crash.set_project(_author.directory())
app = _author.load()

_HANDOVER = hasattr(exports, "Handover")
_BULK = hasattr(exports, "Bulk")

_class = _author.find(app)
_author.check(_class, handover=_HANDOVER, bulk=_BULK)
_crash.keep_lines()
_modules.close()

_service: Service | None = None


class Lifecycle:
    """The export `lifecycle`."""

    def start(self) -> None:
        global _service
        # One write a line, and at once: the host makes a record of each line.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True, write_through=False)
        _host.install(_wasm.ComponentHost())
        _logging.install()
        try:
            service = _class()
            service.start()
            _service = service
        except Error as error:
            _fail(error)
        except BaseException as error:
            _crash.end(error, _code(_class.start))

    def on_message(self, message: types.Message) -> bytes | None:
        service = _running()
        try:
            reply = service.on_message(
                Message(
                    message.id,
                    message.topic,
                    message.payload,
                    message.source,
                    message.attempt,
                    message.wants_reply,
                )
            )
            return None if reply is None else to_bytes(reply, "on_message returned")
        except Error as error:
            raise Err(_failure(error)) from None
        except BaseException as error:
            _crash.end(error, _code(_class.on_message))

    def on_event(self, event: types.KernelEvent) -> None:
        service = _running()
        try:
            service.on_event(_wasm.event(event))
        except BaseException as error:
            _crash.end(error, _code(_class.on_event))

    def stop(self) -> None:
        service = _running()
        try:
            service.stop()
        except BaseException as error:
            _crash.end(error, _code(_class.stop))


if _HANDOVER:
    from wit_world.exports import handover

    class Handover:
        """The export `handover`."""

        def save(self) -> handover.State:
            service = _running()
            try:
                state = to_bytes(service.save(), "save returned")
                return handover.State(_class.SCHEMA, state)
            except Error as error:
                _fail(error)
            except BaseException as error:
                _crash.end(error, _code(_class.save))

        def restore(self, state: handover.State) -> None:
            service = _running()
            try:
                service.restore(state.schema, state.bytes)
            except Error as error:
                _fail(error)
            except BaseException as error:
                _crash.end(error, _code(_class.restore))


if _BULK:
    from wit_world.exports import bulk

    class Bulk:
        """The export `bulk`."""

        def on_batch(self, batch: bulk.Batch) -> list[tuple[int, bulk.Outcome]]:
            service = _running()
            names, payloads = batch.names, batch.payloads
            messages = [
                Message(
                    entry.id,
                    names[entry.topic],
                    payloads[entry.offset : entry.offset + entry.length],
                    names[entry.source],
                    entry.attempt,
                    entry.wants_reply,
                )
                for entry in batch.entries
            ]
            try:
                outcomes = service.on_batch(Batch(messages))
                return [(place, _outcome(outcome)) for place, outcome in outcomes.items()]
            except BaseException as error:
                _crash.end(error, _code(_class.on_batch))

    def _outcome(outcome: Payload | Error) -> bulk.Outcome:
        if isinstance(outcome, Error):
            return bulk.Outcome_Failed(_failure(outcome))
        return bulk.Outcome_Reply(to_bytes(outcome, "an outcome is"))


def _running() -> Service:
    assert _service is not None, "the host calls `start` before anything else"
    return _service


def _failure(error: Error) -> types.Failure:
    text = to_text(str(error))
    return types.Failure_Retry(text) if error.retry else types.Failure_Reject(text)


def _fail(error: Error) -> NoReturn:
    raise Err(to_text(str(error))) from None


def _code(method: Callable[..., object]) -> CodeType | None:
    return getattr(method, "__code__", None)
