"""FixMatch's views: the first is weak, the second strong, for losses that learn on one what the other is sure of."""

from __future__ import annotations

from clop_det.data.views import STANDARD, WEAK, ViewGroup
from clop_det.methods.registry import register_method
from clop_det.methods.single import Single


@register_method("fixmatch")
class FixMatch(Single):
    """One encoder and the loss that LOSS.NAME names, of a weak and of a strong view of each image.

    The weak view is a crop of AUGMENT.WEAK_CROP_SCALE and a flip, the strong one what AUGMENT describes. FixMatch is
    LOSS.NAME fixmatch_prototypes with it. Source: Sohn et al. 2020 (FixMatch, arXiv 2001.07685), section 2.3.
    """

    views_needed = (ViewGroup((WEAK, STANDARD)),)
