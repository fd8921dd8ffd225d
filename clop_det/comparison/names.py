"""Names of files, folders and kinds that the four rooms of a comparison share."""

from __future__ import annotations

KINDS = ("pretrain", "convert", "detect", "inspect")
JOBS_FOLDER = "jobs"
REPORT_FOLDER = "report"
# Run folders that were moved aside because their jobs run again under other code; no report reads them there.
ASIDE_FOLDER = "moved_aside"
PLAN_NAME = "plan.json"
JOB_NAME = "job.json"
JOB_CONFIG = "job.yaml"
EXAMPLES_NAME = "examples.json"
REDRAW, KEEP = HEADS = ("redraw", "keep")  # what becomes of the heads of given detectors
PAIRED, DUNNETT = TESTS = ("paired", "dunnett")  # of the differences
LABEL, BOXED_IMAGE = "LABEL", "BOXED_IMAGE"  # what money is spent on
FIRST_LOOK = 3  # seeds before the first test, where seeds are run one after the other
LEAST_SCORE = 0.05  # weaker detections are not stored with the examples
