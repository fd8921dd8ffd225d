"""How a classification data set lies on disk; one module a layout, each registered under its name."""

from clop_det.data.image_list import ImageList
from clop_det.data.layouts import cifar, folder, imagenet, stl10, table, tiny_imagenet
from clop_det.data.layouts.registry import layout_names, read_images, register_layout

__all__ = [
    "ImageList",
    "cifar",
    "folder",
    "imagenet",
    "layout_names",
    "read_images",
    "register_layout",
    "stl10",
    "table",
    "tiny_imagenet",
]
