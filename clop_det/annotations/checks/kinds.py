"""The kinds of fault that annotated images have, what each policy does about them, and the default."""

from __future__ import annotations

from dataclasses import dataclass

REPAIR, DROP, FAIL = "repair", "drop", "fail"
IMAGE, ANNOTATION = "image", "annotation"


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: in DATASETS.CHECKS in capitals.
        meaning: what is wrong.
        default: "repair", "drop" or "fail".
        repair: what "repair" does; empty where nothing can be repaired.
        dropped: what "drop" leaves out, an "image" or an "annotation" (one box with its class and mask).
        loud: whether a repair is worth a warning.
        cause: what is likely the matter where many are found; then a share of them beyond DATASETS.MAX_FAULT_SHARE is
            an error, unless another policy than the default was chosen. Empty: any number of them is admitted.
        share: the least that this share is, where what is done by default loses nothing.
    """

    name: str
    meaning: str
    default: str
    repair: str = ""
    dropped: str = IMAGE
    cause: str = ""
    loud: bool = False
    share: float = 0.0

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies that this kind admits."""
        return (REPAIR, DROP, FAIL) if self.repair else (DROP, FAIL)


# Repaired by default: what every reader agrees on how to read. Dropped: what can mean nothing. The rest stops the run,
# since a file that is not what its data set says may be one of many.
_ALL = (
    Kind("missing_file", "an image, or its annotation file, does not exist", FAIL),
    Kind("outside_root", "a file name leads out of the data set's folder", FAIL),
    Kind("doctype", "an XML file holds a DOCTYPE or an entity, which can read other files or exhaust the memory", FAIL),
    Kind("unreadable_annotation", "an annotation file cannot be read or is not well-formed", FAIL),
    Kind("duplicate_image_id", "an image id, or its line in a list, occurs again; the first counts", FAIL),
    Kind(
        "repeated_image",
        "one image file is listed under several ids, as after an export with one entry for each object",
        REPAIR,
        "its annotations are joined under the first id",
        loud=True,
        cause="the export may have written one entry for each object",
    ),
    Kind(
        "unannotated_image",
        "a list names an image that has no annotation file",
        REPAIR,
        "taken as an image without a box",
        loud=True,
        cause="the annotation files may lie in another folder: see ANNOTATION_DIR in DATASETS.REGISTER",
    ),
    Kind(
        "respelled_file",
        "an image's name is written with other separators, letters in its ending, percent signs, Unicode forms or"
        " prefix of an upload than that of its file",
        REPAIR,
        "the file is read",
    ),
    Kind("unreadable_image", "a file is no image, or of an unknown format", FAIL),
    Kind("oversized_image", "an image has more pixels than INPUT.MAX_PIXELS", FAIL),
    Kind("truncated_image", "an image file ends too early", FAIL),
    Kind("no_size", "the annotation gives no size, or 0 x 0", REPAIR, "the image's own size is used"),
    Kind(
        "size_mismatch",
        "the annotated size contradicts the image, whichever way it is turned",
        FAIL,
        "the image's own size is used; boxes stay where they are",
    ),
    Kind(
        "exif_rotation",
        "an EXIF tag turns the image",
        REPAIR,
        "turned upright, or left as stored where the annotated size says that the boxes were drawn on it so",
    ),
    Kind("format_mismatch", "an image's content is of another format than its name says", REPAIR, "read by content"),
    Kind("palette_image", "an image has a colour palette", REPAIR, "converted to RGB"),
    Kind("alpha_image", "an image has a transparency channel", REPAIR, "converted to RGB, transparency left out"),
    Kind("grey_image", "an image is grey or black and white", REPAIR, "converted to RGB"),
    Kind(
        "deep_image", "an image has more than 8 bits a channel", REPAIR, "converted to RGB, the high byte of each value"
    ),
    Kind("float_image", "an image's values are floating-point numbers, which have no black and no white", FAIL),
    Kind("cmyk_image", "an image is CMYK or of another colour space than RGB", REPAIR, "converted to RGB"),
    Kind(
        "malformed_object",
        "an annotation lacks a class or a box of four numbers, or a field of it is of a wrong type",
        FAIL,
        "",
        ANNOTATION,
    ),
    Kind(
        "no_box",
        "an annotation has no box, but a mask",
        REPAIR,
        "the smallest box around the mask is used",
        ANNOTATION,
    ),
    Kind(
        "unclear_difficult",
        "the field difficult of a Pascal VOC object is neither a number nor a word such as yes or no",
        REPAIR,
        "taken as not difficult",
        ANNOTATION,
    ),
    Kind("nonfinite_box", "a box has an infinite coordinate, or one that is no number", FAIL, "", ANNOTATION),
    Kind(
        "inverted_box",
        "a box's right or lower edge comes before its left or upper",
        REPAIR,
        "edges swapped",
        ANNOTATION,
    ),
    Kind("degenerate_box", "a box has no width or no height", DROP, "", ANNOTATION),
    Kind(
        "one_pixel_box",
        "the first and last pixel of a Pascal VOC box are the same column or row, as after a click without a drag",
        REPAIR,
        "taken as written: one pixel wide or high",
        ANNOTATION,
    ),
    Kind(
        "normalised_box",
        "a box lies within the first pixel, as it does where its numbers are shares of the image",
        DROP,
        "its numbers are multiplied by the image's width and height",
        ANNOTATION,
        "the boxes may be written as shares of the image's width and height, as YOLO's are",
    ),
    Kind(
        "out_of_image_box",
        "a box leaves the image by more than a pixel",
        REPAIR,
        "cut off at the image's edge; a box wholly outside is dropped",
        ANNOTATION,
        "the boxes may have been drawn on images of another size",
    ),
    Kind(
        "repeated_box",
        "a box is there again: the same image, class, corners and mask",
        DROP,
        "both are kept",
        ANNOTATION,
        "the objects may have been exported or merged several times",
        share=0.5,
    ),
    Kind(
        "near_box",
        "two boxes of one class differ by at most a twentieth of their width and height",
        REPAIR,
        "both are kept",
        ANNOTATION,
        "the objects may be there twice, from two exports that round differently",
    ),
    Kind(
        "zero_area",
        "an area of 0 stands beside a box of some extent",
        REPAIR,
        "the box's area is used",
        ANNOTATION,
        "two exports may be mixed, one of which writes no areas: sizes would be those of masks here and of boxes there",
    ),
    Kind(
        "twin_class",
        "the names of two classes differ in upper and lower case or in blanks alone",
        REPAIR,
        "they are two classes",
        ANNOTATION,
        loud=True,
    ),
    Kind("unknown_class", "an annotation is of a class that the data set does not have", FAIL, "", ANNOTATION),
    Kind("unselected_class", "an annotation is of a category that CLASSES leaves out", DROP, "", ANNOTATION),
    Kind("no_annotation_id", "an annotation has no id", REPAIR, "it is numbered here", ANNOTATION),
    Kind("unknown_image", "an annotation belongs to an image that is not listed", FAIL, "", ANNOTATION),
    Kind(
        "duplicate_annotation_id",
        "an annotation id occurs again",
        FAIL,
        "it is kept, under an id of its own",
        ANNOTATION,
    ),
    Kind(
        "bad_polygon",
        "a polygon has fewer than three points, half a point or one far outside the image, or a mask another size than"
        " the image",
        REPAIR,
        "it is left out; the box stays",
        ANNOTATION,
    ),
    Kind("no_mask", "with MODEL.MASK_ON, a box of a training set has no mask to learn from", DROP, "", ANNOTATION),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
