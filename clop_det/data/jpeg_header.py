"""What the first bytes of an ordinary JPEG say of it, without Pillow, which takes ten times as long."""

from __future__ import annotations

from typing import NamedTuple

# Markers (ITU-T T.81, table B.1): baseline, extended and progressive frames; the scan, where pixels begin.
_FRAMES, _SCAN = (0xC0, 0xC1, 0xC2), 0xDA
_OTHERS = (0xC4, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE)  # Huffman, quantisation, restarts, JFIF, Adobe's colours, a comment
ENOUGH = 4096  # bytes of a file; an ordinary header is shorter


class Frame(NamedTuple):
    """Width and height in pixels, 1 channel (grey) or 3 (colours)."""

    width: int
    height: int
    channels: int


def ordinary_frame(content: bytes) -> Frame | None:
    """The frame of a JPEG of 8 bits whose header ends and holds nothing that turns it or changes its colours.

    None: ask Pillow. Whatever else the header holds (EXIF, a profile, further pictures, four channels) is not judged
    here, nor is one that does not fit together.

    Args:
        content: of the file, or as much of its beginning as there is.
    """
    frame, place = None, 2
    while content.startswith(b"\xff\xd8\xff") and place + 9 < len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == _SCAN:
            return frame
        if marker in _FRAMES:
            height, width = (int.from_bytes(content[place + k : place + k + 2], "big") for k in (5, 7))
            channels = content[place + 9]
            sound = content[place + 4] == 8 and length == 8 + 3 * channels and width * height > 0
            if frame is not None or not sound or channels not in (1, 3):
                break
            frame = Frame(width, height, channels)
        elif marker not in _OTHERS:
            break
        place += 2 + length
    return None
