"""Recognising where a checkpoint comes from, by its content."""

from clop_det.conversion.sources.catalogue import SOURCES, Source
from clop_det.conversion.sources.recognise import Recognition, recognise
from clop_det.conversion.sources.roots import Root, find_roots

__all__ = ["SOURCES", "Recognition", "Root", "Source", "find_roots", "recognise"]
