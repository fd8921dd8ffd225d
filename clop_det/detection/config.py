"""Config keys of fine-tuning and evaluation."""

from __future__ import annotations

from clop_det.keys import DETECTION, Key, at_least, constrain, declare, each, one_of, whole

declare(
    DETECTION,
    {
        "DATALOADER.CACHE_MIB": Key(
            1024,
            "Decoded images that the loaders keep in memory, in MiB over all of them and their workers in a process"
            " (training, each test set and precise BN share it evenly); 0: decode every time.",
            at_least(0),
            content=False,
        ),
        "MODEL.ROI_ALIGN": Key(
            "auto",
            "matmul: RoIAlign as matrix products on small feature maps (fast on CPUs, deterministic); torchvision: its"
            " kernel; auto: matmul on CPUs.",
            one_of("auto", "torchvision", "matmul"),
        ),
        "MODEL.FREEZE": Key(
            "",
            "all: the network that the detector carries is not trained, its BatchNorms keep their statistics and it"
            " drops no paths; pyramid and heads are trained. Empty: what MODEL.BACKBONE.FREEZE_AT says.",
            one_of("", "all"),
        ),
        "TEST.IMS_PER_BATCH": Key(8, "Test images of one size that are inferred at once.", at_least(1)),
        "TEST.KEEP_BEST": Key(
            "bbox/AP",
            'Figure whose best checkpoint is kept as model_best.pth, e.g. "bbox/AP50"; empty: none. With several test'
            ' sets it begins with the name of one, as "NAME/bbox/AP"; without a name it is that of the first.',
        ),
        "TEST.COCO_BACKEND": Key(
            "pycocotools",
            "What computes COCO's AP: a name of the registry in clop_det.detection.coco_backends; all give the same"
            " figures.",
        ),
        "TEST.COCO_MAX_DETECTIONS": Key(
            100,
            "Detections of one class in one image that COCO's AP scores, the best first (COCO's own rule: 100). Raise"
            " it, and TEST.DETECTIONS_PER_IMAGE, for images with more objects; the figure is then another than COCO's.",
            at_least(1),
        ),
        "TEST.PICTURES": Key(
            8, "Test images drawn with their detections at the end of a run; 0: none.", at_least(0), content=False
        ),
    },
)
constrain(
    DETECTION,
    {
        "SOLVER.REFERENCE_WORLD_SIZE": at_least(0),
        "INPUT.MIN_SIZE_TRAIN": each(whole(0)),
    },
)
