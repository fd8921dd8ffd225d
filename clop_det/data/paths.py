"""From a data root as written in a config to a folder on disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

from clop_det.data.digits_path import digits_folder
from clop_det.errors import UserError

_SCHEMES = {"digits": digits_folder}


def local_path(root: str | os.PathLike[str]) -> Path:
    """The existing folder that `root` names: a path (`~` is understood), or an address `digits://...`.

    The embedded digits are generated into the cache folder on first use.

    Raises:
        UserError: `root` is empty, does not exist or cannot be reached, its scheme is unknown, or the address is
            malformed.
    """
    text = os.fspath(root)
    if not text:
        raise UserError("the data root is empty; give a folder or an address such as digits://cluttered")
    address = re.fullmatch(r"([a-z][a-z0-9+]+):/{1,2}(.*)", text)  # Path() turns two slashes into one
    if address is not None:
        scheme, rest = address.groups()
        if scheme not in _SCHEMES:
            known = ", ".join(f"{name}://" for name in _SCHEMES)
            raise UserError(
                f"data root {text!r}: unknown scheme {scheme!r}; known: {known}, or a path without a scheme"
            )
        return _SCHEMES[scheme](rest)
    path = Path(os.path.expanduser(text))  # leaves the home of an unknown user as it is
    if not os.path.exists(path):
        raise UserError(
            f"data root {text!r} does not exist or cannot be reached (looked for {path.absolute()}); correct the path."
            " Where the data of a shipped config come from stands in its comments (clop-det config show NAME)."
        )
    return path
