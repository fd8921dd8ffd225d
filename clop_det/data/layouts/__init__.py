"""How a classification data set lies on disk; one module a layout, each registered under its name."""

from clop_det.data.image_list import ImageList
from clop_det.data.layouts import cifar, folder, imagenet, stl10, table, tiny_imagenet
from clop_det.data.layouts.registry import LAYOUTS, layout_names, layout_options, read_images, register_layout

__all__ = [
    "LAYOUTS",
    "ImageList",
    "cifar",
    "folder",
    "imagenet",
    "layout_names",
    "layout_options",
    "read_images",
    "register_layout",
    "stl10",
    "table",
    "tiny_imagenet",
]
