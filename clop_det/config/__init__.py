"""Every key that clop_det adds to Detectron2's config, each with its meaning, unit and range.

Both stages use one `CfgNode`: Detectron2's own keys keep their meaning in pretraining (SEED, OUTPUT_DIR,
SOLVER.BASE_LR, SOLVER.IMS_PER_BATCH, SOLVER.MAX_ITER, SOLVER.WARMUP_ITERS, TEST.EVAL_PERIOD, MODEL.PIXEL_MEAN, ...).
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode as CN

from clop_det.annotations.checks.kinds import KINDS
from clop_det.losses import loss_options


def add_clop_config(cfg: CN) -> None:
    """Add clop_det's keys and defaults to a fresh `get_cfg()`, in place."""
    # Detectron2 says "cuda" and fails without one; the device is resolved here so that config.yaml says what ran.
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    _add_pretraining_keys(cfg)
    _add_loss_keys(cfg)
    _add_classification_keys(cfg)
    _add_solver_keys(cfg)
    _add_detection_keys(cfg)


def _add_pretraining_keys(cfg: CN) -> None:
    cfg.ENCODER = CN()
    # torchvision ResNet to pretrain: resnet18, resnet34, resnet50, resnet101, resnet152, wide_resnet50_2, ...
    cfg.ENCODER.ARCH = "resnet18"
    # "imagenet": 7x7 stride-2 convolution and max-pooling, what detection needs; "cifar": 3x3 stride 1, no pooling.
    cfg.ENCODER.STEM = "imagenet"
    # With several processes: whether BatchNorm takes its statistics over all of them, on any device. Without it the
    # result depends on the number of processes.
    cfg.ENCODER.SYNC_BN = True

    cfg.PROJECTOR = CN()
    # Width of the projector's hidden layers, > 0.
    cfg.PROJECTOR.HIDDEN_DIM = 512
    # Dimension d of the embeddings; orthonormal prototypes need d >= number of classes.
    cfg.PROJECTOR.OUT_DIM = 128
    # Linear layers of the projector, >= 1.
    cfg.PROJECTOR.NUM_LAYERS = 2

    # When the embeddings of a training batch count as collapsing, looked at wherever a line is written after warm-up.
    cfg.COLLAPSE = CN()
    # Smallest RankMe of the unit embeddings, in directions, >= 0; 1 is a single direction, 0 switches the check off.
    cfg.COLLAPSE.MIN_RANKME = 1.5
    # Largest norm of the mean unit embedding, in (0, 1]; 1 switches the check off.
    cfg.COLLAPSE.MAX_MEAN_NORM = 0.95
    # Whether a run stops (saved) when it has been past a threshold for PATIENCE lines in a row; else it only warns.
    cfg.COLLAPSE.STOP = False
    # Lines in a row, >= 1.
    cfg.COLLAPSE.PATIENCE = 3

    # Weights & Biases (extra "wandb"): metrics and pictures of pretraining; WANDB_MODE=offline needs no network.
    cfg.WANDB = CN()
    # Whether a run reports there.
    cfg.WANDB.ENABLED = False
    # Project of the run.
    cfg.WANDB.PROJECT = "clop_det"

    cfg.LABELS = CN()
    # Share of the training labels that the loss may see, in (0, 1]: one stratified split, a function of SEED alone.
    cfg.LABELS.FRACTION = 0.1
    # This many visible labels of every class instead of LABELS.FRACTION, >= 1; 0: by LABELS.FRACTION.
    cfg.LABELS.PER_CLASS = 0
    # A given split: JSON as written into a run folder, or a text file with an image's name a line; empty: drawn.
    cfg.LABELS.SPLIT_FILE = ""
    # Ratio of the most to the least frequent class of the visible labels, >= 1: thinned out to an exponential long
    # tail, whose order of classes follows SEED. 1: as drawn.
    cfg.LABELS.IMBALANCE = 1.0
    # Share of the visible labels that are replaced by another class, drawn uniformly from SEED, in [0, 1). The probes
    # see the true labels.
    cfg.LABELS.NOISE = 0.0

    cfg.AUGMENT = CN()
    # Area of the random crop as a share of the image, (low, high) in (0, 1].
    cfg.AUGMENT.CROP_SCALE = (0.2, 1.0)
    # Aspect ratio of the random crop, (low, high), > 0.
    cfg.AUGMENT.CROP_RATIO = (0.75, 1.3333333)
    # Probability of a horizontal flip; 0 where left and right mean something, as in digits.
    cfg.AUGMENT.FLIP_PROB = 0.5
    # Probability that a view's brightness, contrast, saturation and hue are changed.
    cfg.AUGMENT.JITTER_PROB = 0.8
    # Half-widths of the uniform jitter factors around 1 (brightness, contrast, saturation), >= 0.
    cfg.AUGMENT.BRIGHTNESS = 0.4
    cfg.AUGMENT.CONTRAST = 0.4
    cfg.AUGMENT.SATURATION = 0.4
    # Half-width of the uniform hue shift, in turns of the colour wheel, in [0, 0.5].
    cfg.AUGMENT.HUE = 0.1
    # Probability of grey.
    cfg.AUGMENT.GREY_PROB = 0.2
    # Probability of Gaussian blur, and the range of its standard deviation in pixels of the view.
    cfg.AUGMENT.BLUR_PROB = 0.0
    cfg.AUGMENT.BLUR_SIGMA = (0.1, 2.0)
    # Probability of solarisation (inversion above half brightness).
    cfg.AUGMENT.SOLARIZE_PROB = 0.0


def _add_loss_keys(cfg: CN) -> None:
    cfg.LOSS = CN()
    # Pretraining loss: a name of the registry in clop_det.losses.
    cfg.LOSS.NAME = "clop"
    # LOSS.<NAME>.<OPTION>: what each registered loss declares; `help` texts stand beside the loss.
    for loss, options in loss_options().items():
        node = CN()
        for option, declared in options.items():
            node[option.upper()] = declared.default
        cfg.LOSS[loss.upper()] = node


def _add_classification_keys(cfg: CN) -> None:
    # The classification images: what pretraining trains on, and the probes' bank and queries in both stages.
    cfg.CLASSIFICATION = CN()
    # How the images lie on disk: "folder", "csv", "imagenet", "tiny_imagenet", "cifar10", "cifar100", "stl10"; the
    # registry in clop_det.data.layouts.
    cfg.CLASSIFICATION.LAYOUT = "folder"
    # Folder, or a digits:// address of the embedded digits.
    cfg.CLASSIFICATION.ROOT = ""
    # Folder of further images that pretraining trains on without labels (all below it); empty: none.
    cfg.CLASSIFICATION.UNLABELLED_ROOT = ""
    # Split that pretraining trains on and the probes fit on (its labelled images); "a+b" joins two.
    cfg.CLASSIFICATION.TRAIN_SPLIT = "train"
    # Split that the probes are evaluated on.
    cfg.CLASSIFICATION.EVAL_SPLIT = "val"
    # Side of the views and of the probes' square images, in pixels.
    cfg.CLASSIFICATION.IMAGE_SIZE = 32
    # Up to this IMAGE_SIZE, in pixels, images are decoded once into a store of central squares on disk; larger
    # ones stream: DATALOADER.NUM_WORKERS processes decode them for each batch and cut the crops from the whole image.
    cfg.CLASSIFICATION.STORE_MAX_SIZE = 96
    # An image that cannot be read: "fail", or "replace" by the next one of its class, counted and logged.
    cfg.CLASSIFICATION.UNREADABLE = "fail"
    # "replace" fails all the same past this share of a split's images, in [0, 1).
    cfg.CLASSIFICATION.MAX_UNREADABLE = 0.01

    cfg.PROBE = CN()
    # Whether evaluations fit kNN and linear probes on frozen features.
    cfg.PROBE.ENABLED = True
    # Neighbours of the kNN votes; the first is reported as knn_top1.
    cfg.PROBE.KNN_K = (20, 200)
    # Temperature of the votes exp(cosine / T), > 0.
    cfg.PROBE.KNN_TEMPERATURE = 0.07
    # At most this many images of the training split in the bank (a seeded subset); 0: all.
    cfg.PROBE.MAX_BANK = 0
    # At most this many images of the evaluation split as queries (a seeded subset); 0: all.
    cfg.PROBE.MAX_QUERIES = 0
    # Images per forward pass.
    cfg.PROBE.BATCH_SIZE = 256
    # Detection: annotated boxes of the training set in the object probe's bank, and at most as many of each test set as
    # its queries (seeded); 0: no object probe.
    cfg.PROBE.MAX_OBJECTS = 500
    # Side of the squares that the object probe cuts out, in pixels; 0: CLASSIFICATION.IMAGE_SIZE.
    cfg.PROBE.OBJECT_SIZE = 0
    # Probe figure of pretraining whose best checkpoint is kept as model_best.pth, e.g. "linear_top1"; empty: none.
    cfg.PROBE.KEEP_BEST = "knn_top1"


def _add_solver_keys(cfg: CN) -> None:
    # PRECISION and KEEP_CHECKPOINTS hold for both stages. The others are pretraining's; detection refuses any value but
    # the default of those that would promise something there (clop_det.detection.config_check says what it does).
    # Optimiser: "SGD", "LARS" or "AdamW". Detection: SGD.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # LARS: local learning rate = coefficient * |w| / |g|.
    cfg.SOLVER.LARS_TRUST_COEFFICIENT = 0.001
    # "auto": bf16 autocast where the processor computes in it, else fp32; "bf16" and "fp32" force one. (Detection on
    # GPUs also takes Detectron2's SOLVER.AMP.ENABLED: fp16 in training, gradients scaled.)
    cfg.SOLVER.PRECISION = "auto"
    # Whether the encoder computes in the channels-last memory layout: faster with bf16 and on GPUs, same results.
    # Detection: on CPUs, and on GPUs unless PRECISION is "fp32".
    cfg.SOLVER.CHANNELS_LAST = True
    # Whether torch.compile compiles the encoder, which takes a minute; on a CPU there was no gain. Detection: no.
    cfg.SOLVER.COMPILE = False
    # Steps of a run that may be left out because loss or gradient is not finite, >= 0; one more stops the run.
    # Detection: the first loss that is not finite stops it.
    cfg.SOLVER.MAX_SKIPPED = 0
    # Micro-batches that a process cuts its part of the batch into, >= 1, to save memory: the loss and its gradient stay
    # those of the whole batch, at the price of one more forward pass; BatchNorm sees micro-batches. Detection: 1.
    cfg.SOLVER.ACCUMULATE = 1
    # How the learning rate follows the global batch: "none": BASE_LR as it stands; "linear": BASE_LR * b, "sqrt":
    # BASE_LR * sqrt(b), with b = IMS_PER_BATCH / LR_REFERENCE_BATCH. Detection: the whole schedule is scaled by
    # Detectron2's SOLVER.REFERENCE_WORLD_SIZE instead.
    cfg.SOLVER.LR_SCALING = "none"
    # Global batch, in images, for which BASE_LR is meant under "linear" and "sqrt", >= 1.
    cfg.SOLVER.LR_REFERENCE_BATCH = 256
    # Periodic checkpoints kept, >= 1; the final one is always kept.
    cfg.SOLVER.KEEP_CHECKPOINTS = 2


def _add_detection_keys(cfg: CN) -> None:
    # Detection data sets to register before the run: a list of mappings, see clop_det.annotations.datasets.
    cfg.DATASETS.REGISTER = []
    # Share of the training images that the run may see, in (0, 1]: drawn from SEED alone, a larger share contains a
    # smaller; 1.0: all. Only images that hold a box count, if DATALOADER.FILTER_EMPTY_ANNOTATIONS. Frozen into the run
    # folder as train_split.json.
    cfg.DATASETS.TRAIN_FRACTION = 1.0
    # A given choice instead of a drawn one: such a JSON file, or a text file with one image id a line; empty: drawn.
    cfg.DATASETS.TRAIN_SPLIT_FILE = ""
    cfg.DATASETS.CHECKS = CN()
    # What is done about each kind of fault in images and annotations, in training and test sets: "repair" (where the
    # kind admits it), "drop" with a count, or "fail". annotations.checks.kinds says what each kind and policy means.
    for kind in KINDS.values():
        cfg.DATASETS.CHECKS[kind.name.upper()] = kind.default
    # Decoded images that the loaders keep in memory, in MiB over all of them and their workers in a process (training,
    # each test set and precise BN share it evenly); 0: decode every time.
    cfg.DATALOADER.CACHE_MIB = 1024
    # "matmul": RoIAlign as matrix products on small feature maps (fast on CPUs, deterministic); "torchvision": its
    # kernel; "auto": matmul on CPUs.
    cfg.MODEL.ROI_ALIGN = "auto"
    # Test images of one size that are inferred at once, >= 1.
    cfg.TEST.IMS_PER_BATCH = 8
    # Figure whose best checkpoint is kept as model_best.pth, e.g. "bbox/AP50"; empty: none.
    cfg.TEST.KEEP_BEST = "bbox/AP"
    # What computes COCO's AP: a name of the registry in clop_det.detection.coco_backends; all give the same figures.
    cfg.TEST.COCO_BACKEND = "pycocotools"
    # Test images drawn with their detections at the end of a run; 0: none.
    cfg.TEST.PICTURES = 8
