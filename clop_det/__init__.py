"""Semi-supervised contrastive pretraining with orthonormal prototypes, carried to detection.

Importing this package imports no framework; it only makes `import detectron2` work (see `detectron2_provider`).
"""

from clop_det import detectron2_provider

__version__ = "0.2.0"

detectron2_provider.install()
