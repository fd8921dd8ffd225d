"""What would go wrong in a fine-tuning run, found before it starts."""

from clop_det.doctor.diagnosis import diagnose
from clop_det.doctor.findings import Finding

__all__ = ["Finding", "diagnose"]
