"""A component has the modules that were imported while it was built, and no others."""

import importlib
import sys
from typing import Any

# What the standard library imports only when it is needed.
_LATE = (
    "_strptime",  # datetime.strptime
    "encodings.cp1252",
    "encodings.idna",
    "encodings.iso8859_15",
    "encodings.punycode",
    "encodings.utf_8_sig",
)


def close() -> None:
    """Imports what would be wanted too late, and has later imports say why they fail."""
    for name in _LATE:
        importlib.import_module(name)
    sys.meta_path.append(_Closed())


class _Closed:
    """Asked last, for a module that is nowhere."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        raise ModuleNotFoundError(
            f"no module {fullname!r} in this component, which has those that were imported"
            " while it was built: import it at the top of app.py",
            name=fullname,
        )
