"""Config keys of the classification images, of the labels that a loss may see, and of the views."""

from __future__ import annotations

from clop_det.keys import BOTH, PRETRAINING, Key, above, at_least, between, declare, one_of, rising_pair

_SHARE = between(0, 1)

declare(
    BOTH,
    {
        "INPUT.MAX_PIXELS": Key(
            89_478_485,
            "Pixels of the largest image that is read (Pillow's own limit by default): a small file can hold a picture"
            " that fills the memory.",
            at_least(1),
            content=False,
        ),
        "INPUT.GREY_BITS": Key(
            16,
            "Bits of the values in grey images of more than 8 bits: a value of 2 ** bits - 1 is white. Files of 16 or"
            " 32 bits often hold values of 8 or 12.",
            between(8, 32),
        ),
    },
)
declare(
    PRETRAINING,
    {
        "CLASSIFICATION.STREAM_CROPS": Key(
            "exact",
            "How the crops of images that stream are cut. exact: the image is decoded in full, and Pillow resizes the"
            " crop. fast: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where every crop keeps at least as many"
            " pixels as its view, and PyTorch resizes the crop; the views differ a little from those of exact.",
            one_of("exact", "fast"),
        ),
    },
)
# What pretraining trains on, and the probes' bank and queries in both stages.
declare(
    BOTH,
    {
        "CLASSIFICATION.LAYOUT": Key("folder", "How the images lie on disk: the name of a registered layout."),
        "CLASSIFICATION.ROOT": Key(
            "", "Folder of the images, or a digits:// address of the embedded digits.", content=False
        ),
        "CLASSIFICATION.UNLABELLED_ROOT": Key(
            "",
            "Folder of further images that pretraining trains on without labels (all below it); empty: none.",
            content=False,
        ),
        "CLASSIFICATION.TRAIN_SPLIT": Key(
            "train",
            'Split that pretraining trains on and the probes fit on (its labelled images); "a+b" joins two.',
        ),
        "CLASSIFICATION.EVAL_SPLIT": Key("val", "Split that the probes are evaluated on."),
        "CLASSIFICATION.IMAGE_SIZE": Key(
            32, "Side of the views and of the probes' square images, in pixels.", at_least(1)
        ),
        "CLASSIFICATION.STORE_MAX_SIZE": Key(
            96,
            "Up to this IMAGE_SIZE, in pixels, images are decoded once into a store of central squares on disk; larger"
            " ones stream: DATALOADER.NUM_WORKERS processes decode them for each batch and cut the crops from the whole"
            " image.",
            at_least(0),
        ),
        "CLASSIFICATION.UNREADABLE": Key(
            "fail",
            "What happens to an image that cannot be read: fail, or replace by the next one of its class, counted and"
            " logged.",
            one_of("fail", "replace"),
        ),
        "CLASSIFICATION.MAX_UNREADABLE": Key(
            0.01, '"replace" fails all the same past this share of a split\'s images.', between(0, 1, "[)")
        ),
    },
)
declare(
    PRETRAINING,
    {
        "LABELS.FRACTION": Key(
            0.1,
            "Share of the training labels that the loss may see: one stratified split, a function of SEED alone.",
            between(0, 1, "(]"),
        ),
        "LABELS.PER_CLASS": Key(
            0,
            "This many visible labels of every class instead of LABELS.FRACTION; 0: by LABELS.FRACTION.",
            at_least(0),
        ),
        "LABELS.SPLIT_FILE": Key(
            "",
            "A given split: JSON as written into a run folder, or a text file with an image's name a line; empty:"
            " drawn.",
            content=False,
        ),
        "LABELS.IMBALANCE": Key(
            1.0,
            "Ratio of the most to the least frequent class of the visible labels: thinned out to an exponential long"
            " tail, whose order of classes follows SEED. 1: as drawn.",
            at_least(1),
        ),
        "LABELS.NOISE": Key(
            0.0,
            "Share of the visible labels that are replaced by another class, drawn uniformly from SEED. The probes see"
            " the true labels.",
            between(0, 1, "[)"),
        ),
        "AUGMENT.CROP_SCALE": Key(
            (0.2, 1.0),
            "Area of the random crop as a share of the image, (low, high).",
            rising_pair(between(0, 1, "(]")),
        ),
        "AUGMENT.CROP_RATIO": Key(
            (0.75, 1.3333333), "Aspect ratio of the random crop, (low, high).", rising_pair(above(0))
        ),
        "AUGMENT.FLIP_PROB": Key(
            0.5,
            "Probability of a horizontal flip; 0 where left and right mean something, as in digits.",
            _SHARE,
        ),
        "AUGMENT.JITTER_PROB": Key(
            0.8, "Probability that a view's brightness, contrast, saturation and hue are changed.", _SHARE
        ),
        "AUGMENT.BRIGHTNESS": Key(0.4, "Half-width of the uniform factor around 1 for the brightness.", at_least(0)),
        "AUGMENT.CONTRAST": Key(0.4, "Half-width of the uniform factor around 1 for the contrast.", at_least(0)),
        "AUGMENT.SATURATION": Key(0.4, "Half-width of the uniform factor around 1 for the saturation.", at_least(0)),
        "AUGMENT.HUE": Key(0.1, "Half-width of the uniform hue shift, in turns of the colour wheel.", between(0, 0.5)),
        "AUGMENT.GREY_PROB": Key(0.2, "Probability of grey.", _SHARE),
        "AUGMENT.BLUR_PROB": Key(0.0, "Probability of Gaussian blur.", _SHARE),
        "AUGMENT.BLUR_SIGMA": Key(
            (0.1, 2.0), "Range of the blur's standard deviation, in pixels of the view.", rising_pair(above(0))
        ),
        "AUGMENT.WEAK_CROP_SCALE": Key(
            (0.5, 1.0),
            "Area of the crop of a weak view, (low, high); methods with weak views add a flip to it and nothing else.",
            rising_pair(between(0, 1, "(]")),
        ),
        "AUGMENT.SOLARIZE_PROB": Key(0.0, "Probability of solarisation (inversion above half brightness).", _SHARE),
    },
)
