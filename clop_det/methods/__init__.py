"""Pretraining methods: encoder, heads and objective in one module, one file each.

A method of your own is a module that registers a subclass of `Method`; see `examples/my_method`.
"""

import importlib
import pkgutil

from clop_det.methods.base import EmbeddingMethod, Method, MethodContext
from clop_det.methods.encoder import Encoder, build_projector
from clop_det.methods.registry import METHODS, register_method

__all__ = ["METHODS", "EmbeddingMethod", "Encoder", "Method", "MethodContext", "build_projector", "register_method"]

# A method registers itself when its file is imported, so that a new file in this folder is all that a new method needs.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
