"""`tiepoints doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..errors import counted
from .options import examples, json_option, print_json, quiet_option, say


@click.command(
    "doctor",
    epilog=examples(
        "tiepoints doctor",
    ),
)
@json_option
@quiet_option
def command(as_json: bool) -> None:
    """Check the installation: versions, devices, caches, free memory, packages in each other's way.

    Each fault is followed by a remedy, and the exit code is then 1.
    """
    from ..doctor import examine

    findings = examine()
    faults = [finding for finding in findings if finding.remedy]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], "faults": len(faults)})
    else:
        wide = max(len(finding.what) for finding in findings)
        for finding in findings:
            say(f"{finding.what:{wide}}  {finding.value}")
            if finding.remedy:
                lines = finding.remedy.splitlines()
                say(f"{'':{wide}}  FAULT; try: {lines[0] if len(lines) == 1 else ''}".rstrip())
                for line in lines if len(lines) > 1 else ():
                    say(f"{'':{wide}}  {line}")
        say(f"{counted(len(faults), 'fault')} found" if faults else "no faults found")
    if faults:
        raise SystemExit(1)
