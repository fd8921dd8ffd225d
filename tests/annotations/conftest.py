"""The scenes that detection's tests draw, too."""

from tests.detection.conftest import cache_folder, crops_root, finished, shapes_root, tiny_cfg, tiny_options

__all__ = ["cache_folder", "crops_root", "finished", "shapes_root", "tiny_cfg", "tiny_options"]
