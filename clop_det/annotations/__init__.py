"""Detection data: VOC and COCO readers, registration, checks, fractions."""
