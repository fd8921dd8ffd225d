"""The probes that the package ships, one file each."""

import importlib
import pkgutil

# A probe registers itself when its file is imported, so that a new file in this folder is all that a new probe needs.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
