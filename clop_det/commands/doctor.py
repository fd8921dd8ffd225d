"""The command `clop-det doctor`."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from clop_det.commands.common import argument_parser, find_config_of, load_config
from clop_det.engine.importing import without_collecting

if TYPE_CHECKING:
    from clop_det.doctor.findings import Finding

_EPILOG = """example:
  clop-det doctor --config-file detection/digits/faster_rcnn_R_18_FPN_digits.yaml \\
      MODEL.WEIGHTS converted.pth
exit codes: 0 no error (there may be warnings); 1 an error; 2 the configuration itself cannot be read."""


def main(argv: list[str] | None = None) -> int:
    """Print one line a check; returns 1 if any is an error."""
    parser = argument_parser(
        "doctor", "Check a fine-tuning run before it starts: weights, configuration, data, disk.", _EPILOG
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--allow-imports", action="store_true", help="import what IMPORTS names in the config of a run folder, too"
    )
    args = parser.parse_args(argv)
    # A config of a run folder may be anybody's, and importing what it names would run code.
    given = not find_config_of(args).in_run_folder

    with without_collecting():
        from clop_det.doctor.diagnosis import diagnose
        from clop_det.doctor.findings import ERROR

    cfg = load_config(args, args.allow_imports or given, sys.stderr if args.json else None)
    findings = diagnose(cfg, max(1, args.num_gpus) * args.num_machines, args.num_machines)
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        print(text(findings))
    return int(any(finding.status == ERROR for finding in findings))


def text(findings: list[Finding]) -> str:
    """One line a finding, then the count."""
    from clop_det.doctor.findings import ERROR, WARN

    width = max(len(finding.check) for finding in findings)
    lines = [
        f"{finding.status:<5}  {finding.check:<{width}}  {finding.message}"
        + (f"  -> {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]
    errors, warnings = (sum(finding.status == status for finding in findings) for status in (ERROR, WARN))
    return "\n".join([*lines, f"{errors} error(s), {warnings} warning(s) in {len(findings)} checks"])
