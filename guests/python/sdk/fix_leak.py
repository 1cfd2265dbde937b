"""Mends a leak in a component that componentize-py 0.25.1 has built.

`build.py` does so; by hand it is `python3 sdk/fix_leak.py service.wasm`.

Each `list<u8>` that leaves the component (an answer, a payload that is
published, a saved state) is copied for the host, and the copy is never freed:
64 KiB a message of 64 KiB, until the service reaches its memory limit. The
component's glue, which componentize-py generates, frees every other kind of
list after its call by `wit_dylib_dealloc_bytes`. This program rewrites the glue
to do so for these lists too:

    pop_list(cx, type, out):
        length = wit_dylib_pop_list(cx, type, out)
        if *out: wit_dylib_dealloc_bytes(cx, *out, length, align=1, defer=1)
        return length

It does so only where the runtime in the component is the one that is known to
leak. Any other is left as it is, since one that frees for itself would free
twice.
"""

import hashlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

# SHA-256 of the body of `wit_dylib_pop_list` in the runtime of componentize-py 0.25.1,
# which is not the same in its packages for different systems.
LEAKS = {
    "7d55157189da4a72a2cab05e1a8805a2d21aa0248f9bc4e063f59bb0f6712f0c",  # Linux
    "e6f08e0650f64cafcd0babb24494f52f275df70a7d08fc3e673278ea1b2c320b",  # macOS
    "0eb08fd11db8ab2704bbac1688c902e30d880e4d8ff62a4c164645589138acf4",  # Windows
}

POP_LIST = "wit_dylib_pop_list"
DEALLOC = "wit_dylib_dealloc_bytes"

CORE_MODULE = 1  # a section of a component
IMPORT, FUNCTION, EXPORT, CODE = 2, 3, 7, 10  # sections of a core module
CALL = 0x10


class Unknown(Exception):
    """Something in the component that this program does not know."""


class Section(NamedTuple):
    id: int
    start: int  # of its id
    body: int
    end: int


class Reader:
    """Reads WebAssembly's binary format from `at` on."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def bytes(self) -> bytes:
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at]

    def sections(self) -> Iterator[Section]:
        self.at = 8  # after the magic number and the version
        while self.at < len(self.data):
            start = self.at
            id = self.byte()
            size = self.number()
            body = self.at
            yield Section(id, start, body, body + size)
            self.at = body + size


def number(value: int) -> bytes:
    """An unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def section(id: int, body: bytes) -> bytes:
    return bytes([id]) + number(len(body)) + body


class Module:
    """A core module, as far as it matters here."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sections = {s.id: s for s in Reader(data).sections() if s.id != 0}
        # Of functions of `env`: the index, and that of the type.
        self.imported: dict[str, tuple[int, int]] = {}
        self.imports = 0
        if IMPORT in self.sections:
            self._read_imports(self.reader(IMPORT))

    def reader(self, id: int) -> Reader:
        return Reader(self.data, self.sections[id].body)

    def _read_imports(self, reader: Reader) -> None:
        for _ in range(reader.number()):
            where, name = reader.bytes(), reader.bytes()
            match reader.byte():
                case 0:
                    if where == b"env":
                        self.imported[name.decode()] = self.imports, reader.number()
                    else:
                        reader.number()
                    self.imports += 1
                case 1 | 2 as kind:  # a table, a memory
                    if kind == 1:
                        reader.byte()
                    flags = reader.byte()
                    for _ in range(1 + (flags & 1)):
                        reader.number()
                case 3:  # a global
                    reader.at += 2
                case kind:
                    raise Unknown(f"an import of kind {kind}")

    def exported_function(self, name: str) -> int | None:
        if EXPORT not in self.sections:
            return None
        reader = self.reader(EXPORT)
        for _ in range(reader.number()):
            found, kind, index = reader.bytes(), reader.byte(), reader.number()
            if kind == 0 and found == name.encode():
                return index
        return None

    def bodies(self) -> list[bytes]:
        reader = self.reader(CODE)
        return [reader.bytes() for _ in range(reader.number())]


def fix(component: bytes) -> bytes | None:
    """The component without the leak; None where its runtime is not known to leak."""
    parts = [s for s in Reader(component).sections() if s.id == CORE_MODULE]
    modules = [Module(component[part.body : part.end]) for part in parts]
    if not any(_leaks(module) for module in modules):
        return None
    glue = [
        (part, module)
        for part, module in zip(parts, modules, strict=True)
        if {POP_LIST, DEALLOC} <= module.imported.keys()
    ]
    if len(glue) != 1:
        raise Unknown(f"{len(glue)} modules of glue")
    ((part, module),) = glue
    return component[: part.start] + section(CORE_MODULE, _mend(module)) + component[part.end :]


def _leaks(module: Module) -> bool:
    index = module.exported_function(POP_LIST)
    if index is None:
        return False
    body = module.bodies()[index - module.imports]
    return hashlib.sha256(body).hexdigest() in LEAKS


def _mend(module: Module) -> bytes:
    pop_list, type_index = module.imported[POP_LIST]
    dealloc, _ = module.imported[DEALLOC]
    bodies = module.bodies()
    pop_and_free = (
        bytes([1, 1, 0x7F])  # local 3, an i32: the length
        + bytes([0x20, 0, 0x20, 1, 0x20, 2, CALL])
        + number(pop_list)
        + bytes([0x21, 3])  # local.set length
        + bytes([0x20, 2, 0x28, 2, 0, 0x04, 0x40])  # if i32.load out
        + bytes([0x20, 0, 0x20, 2, 0x28, 2, 0, 0x20, 3, 0x41, 1, 0x41, 1, CALL])
        + number(dealloc)
        + bytes([0x0B, 0x20, 3, 0x0B])  # end; length; end
    )
    if pop_and_free in bodies:
        return module.data  # mended before; twice would free twice
    mended = module.imports + len(bodies)
    bodies = [_redirect(body, pop_list, mended) for body in bodies] + [pop_and_free]
    reader = module.reader(FUNCTION)
    types = [reader.number() for _ in range(reader.number())] + [type_index]
    news = {
        FUNCTION: number(len(types)) + b"".join(map(number, types)),
        CODE: number(len(bodies)) + b"".join(number(len(body)) + body for body in bodies),
    }
    out = [module.data[:8]]
    for one in Reader(module.data).sections():
        new = news.get(one.id)
        out.append(module.data[one.start : one.end] if new is None else section(one.id, new))
    return b"".join(out)


def _redirect(body: bytes, old: int, new: int) -> bytes:
    """A function that calls `new` where it called `old`."""
    reader = Reader(body)
    for _ in range(reader.number()):  # groups of locals: how many, of which type
        reader.number()
        reader.byte()
    out = [body[: reader.at]]
    while reader.at < len(body):
        start = reader.at
        if body[start] == CALL and Reader(body, start + 1).number() == old:
            out.append(bytes([CALL]) + number(new))
            _skip(reader)
        else:
            _skip(reader)
            out.append(body[start : reader.at])
    return b"".join(out)


def _skip(reader: Reader) -> None:
    """Skips one instruction. Numbers are skipped alike, signed or not."""
    match reader.byte():
        case 0x02 | 0x03 | 0x04 | 0x0C | 0x0D | 0x10 | 0x41 | 0x42 | 0xD0 | 0xD2:
            reader.number()
        case 0x11:
            reader.number(), reader.number()
        case 0x0E:
            for _ in range(reader.number() + 1):
                reader.number()
        case code if 0x20 <= code <= 0x26 or code in (0x3F, 0x40):
            reader.number()
        case code if 0x28 <= code <= 0x3E:
            if reader.number() & 0x40:
                raise Unknown("a second memory")
            reader.number()
        case 0x43:
            reader.at += 4
        case 0x44:
            reader.at += 8
        case 0xFC:
            immediates = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}
            for _ in range(immediates.get(reader.number(), 0)):
                reader.number()
        case 0x00 | 0x01 | 0x05 | 0x0B | 0x0F | 0x1A | 0x1B:
            pass
        case code if 0x45 <= code <= 0xC4:
            pass
        case code:
            raise Unknown(f"the instruction {code:#04x}")


def fix_file(path: str) -> None:
    """Mends the component in `path`, or says why not and leaves it."""
    with open(path, "rb") as file:
        component = file.read()
    try:
        fixed = fix(component)
    except (Unknown, IndexError) as error:
        sys.exit(f"error: {path} is not as componentize-py 0.25.1 builds it: {error!r}")
    if fixed is None:
        print(
            f"warning: {path} is left as it is: its Python is not that of componentize-py"
            " 0.25.1, which is known to leak",
            file=sys.stderr,
        )
        return
    with open(path, "wb") as file:
        file.write(fixed)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: fix_leak.py COMPONENT")
    fix_file(sys.argv[1])
