"""What the SDK for Python does beside what a component shows of it.

Run in a copy of this directory in which `ron-host build` was run, which brings the SDK:
`PYTHONPATH=sdk python3 -m unittest`.
"""

import functools
import os
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ron
from ron._author import BuildError, check, check_names, check_signatures
from ron.testing import Host

HERE = os.path.basename(__file__)


class Quiet(ron.Service):
    def start(self) -> None:
        pass

    def on_message(self, message: ron.Message) -> ron.Reply:
        return None


class Names(unittest.TestCase):
    """A handler that the host does not know is not passed over in silence."""

    def refused(self, service: type[ron.Service], method: str, hint: str) -> None:
        line = getattr(service, method).__code__.co_firstlineno
        with self.assertRaises(BuildError) as told:
            check_names(service)
        expected = f"{HERE}:{line}: {method}: there is no such handler; {hint}"
        self.assertEqual(str(told.exception), expected)

    def test_a_misspelt_handler(self) -> None:
        class Misspelt(ron.Service):
            def on_mesage(self, message: ron.Message) -> ron.Reply:
                return None

        self.refused(Misspelt, "on_mesage", "did you mean on_message?")
        with self.assertRaises(BuildError):
            Host(Misspelt)

    def test_each_handler(self) -> None:
        for wrong, meant in (
            ("strat", "start"),
            ("on_start", "start"),
            ("onMessage", "on_message"),
            ("message", "on_message"),
            ("on_events", "on_event"),
            ("on_stop", "stop"),
            ("savee", "save"),
            ("restroe", "restore"),
            ("on_batches", "on_batch"),
        ):
            def method(self: ron.Service) -> None:
                pass

            service = type("Misspelt", (ron.Service,), {wrong: method})
            self.refused(service, wrong, f"did you mean {meant}?")

    def test_an_event_that_there_is_not(self) -> None:
        class Reloads(Quiet):
            def on_reload(self) -> None:
                pass

        hint = "there are on_message, on_event and on_batch; give a method of your own another name"
        self.refused(Reloads, "on_reload", hint)

    def test_methods_of_the_author_s_own(self) -> None:
        class Own(Quiet):
            def on_message(self, message: ron.Message) -> ron.Reply:
                self.on_order()
                return None

            def on_order(self) -> None:
                self.save_all()

            def save_all(self) -> None:
                pass

            def restart(self) -> None:
                pass

            def step(self) -> None:
                pass

            def _on_timer(self) -> None:
                pass

        check_names(Own)

        class Dispatches(Quiet):
            def on_message(self, message: ron.Message) -> ron.Reply:
                getattr(self, f"on_{message.text}")()
                return None

            def on_order(self) -> None:
                pass

        check_names(Dispatches)

    def test_no_handler_at_all(self) -> None:
        class Nothing(ron.Service):
            def handle(self) -> None:
                pass

        with self.assertRaisesRegex(BuildError, "^Nothing has no method that the host calls"):
            check_names(Nothing)

    def test_one_of_a_base_class(self) -> None:
        class Base(ron.Service):
            def message(self) -> str:
                return "a helper"

        class Whole(Base):
            def on_message(self, message: ron.Message) -> ron.Reply:
                return None

        check_names(Whole)


class Signatures(unittest.TestCase):
    """A handler that does not take what the host passes would crash when it is called."""

    def refused(self, method: Any, name: str, takes: str, call: str) -> None:
        service = type("Wrong", (Quiet,), {name: method})
        function = getattr(method, "__func__", method)
        expected = (
            f"{HERE}:{function.__code__.co_firstlineno}: {name} takes {takes},"
            f" and the host calls {call}"
        )
        with self.assertRaises(BuildError) as told:
            check(service, handover=False, bulk=False)
        self.assertEqual(str(told.exception), expected)
        with self.assertRaises(BuildError):
            Host(service)

    def test_each_handler(self) -> None:
        event = "on_event(event)"
        message = "on_message(message)"
        for name, method, takes, call in (
            ("start", lambda self, x: None, "(self, x)", "start()"),
            ("on_message", lambda self: None, "(self)", message),
            ("on_message", lambda self, *, message: None, "(self, *, message)", message),
            ("on_event", lambda self, event, more: None, "(self, event, more)", event),
            ("stop", lambda: None, "()", "stop()"),
            ("save", lambda self, schema: "", "(self, schema)", "save()"),
            ("restore", lambda self, state: None, "(self, state)", "restore(schema, state)"),
            ("on_batch", lambda self: {}, "(self)", "on_batch(batch)"),
        ):
            self.refused(method, name, takes, call)

    def test_types_are_not_shown(self) -> None:
        def stop(self: ron.Service, why: str) -> None:
            pass

        self.refused(stop, "stop", "(self, why)", "stop()")

    def test_methods_without_an_object(self) -> None:
        call = "on_message(message)"
        self.refused(staticmethod(lambda self, m: None), "on_message", "(self, m)", call)
        self.refused(classmethod(lambda cls: None), "on_message", "(cls)", call)

    def test_what_takes_it(self) -> None:
        def with_stock(method: Callable[..., ron.Reply]) -> Callable[..., ron.Reply]:
            @functools.wraps(method)
            def wrapper(*args: object) -> ron.Reply:
                return method(*args, "the stock")

            return wrapper

        class Fits(Quiet):
            @staticmethod
            def start() -> None:
                pass

            @with_stock
            def on_message(self, message: ron.Message, stock: str) -> ron.Reply:
                return stock

            def on_event(self, event: "NotThere", more: int = 3) -> None:  # type: ignore # noqa
                pass

            @classmethod
            def stop(cls, *args: object, **more: object) -> None:
                super().__init__(cls)

        check_signatures(Fits)


class Build(unittest.TestCase):
    def test_app_is_not_there(self) -> None:
        build = Path(__file__).with_name("sdk") / "build.py"
        with tempfile.TemporaryDirectory() as empty:
            command = [sys.executable, str(build), "-o", "x.wasm"]
            for more, where in (([], "this directory"), (["-p", "one", "-p", "two"], "one or two")):
                done = subprocess.run(command + more, cwd=empty, capture_output=True, text=True)
                self.assertEqual(done.returncode, 1)
                self.assertEqual(done.stderr, f"error: there is no app.py in {where}\n")


if __name__ == "__main__":
    unittest.main()
