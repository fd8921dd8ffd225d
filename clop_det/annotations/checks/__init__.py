"""Checks of images and their annotations before training: kinds of fault, the policy for each, what was found."""

from clop_det.annotations.checks.findings import Checks, Fault, Policies
from clop_det.annotations.checks.image_facts import ImageFacts, facts_of, marks, read_facts
from clop_det.annotations.checks.kinds import ANNOTATION, IMAGE, KINDS, Kind

__all__ = [
    "ANNOTATION",
    "IMAGE",
    "KINDS",
    "Checks",
    "Fault",
    "ImageFacts",
    "Kind",
    "Policies",
    "facts_of",
    "marks",
    "read_facts",
]
