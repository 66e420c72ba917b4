"""The services that run the work unattended."""

from __future__ import annotations

import re

from cellseg_device.doctor.finding import ABSENT, OK, PROBLEM, WARNING, Finding, Subject, file_text, output_of, worst

_UNITS = "etc/systemd/system"


def services(subject: Subject) -> Finding:
    """Check the services that `install-service` has made."""
    units = sorted(path.name for path in (subject.root / _UNITS).glob("cellseg-*.service"))
    if not units:
        fix = "to run unattended: cellseg-device install-service --watch FOLDER"
        return Finding("service", ABSENT, "none is installed", fix)
    findings = [_service(unit) for unit in units]
    for unit in units:
        if re.search(r"^ExecStart=.* --source \S*://", file_text(subject.root / _UNITS / unit) or "", re.MULTILINE):
            fix = (
                "write it again with 'sudo cellseg-device install-service', which keeps the address in a file of root's"
            )
            text = f"{unit} shows everybody the camera's address, with its password if it has one"
            findings.append(Finding(unit, WARNING, text, fix))
    controllers = file_text(subject.root / "sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "memory" not in controllers.split():  # as on Raspberry Pi OS out of the box
        fix = "add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt, then start again"
        findings.append(Finding("service", WARNING, "its memory limit has no effect", fix))
    state = worst([finding.state for finding in findings])
    fixes = [finding.fix for finding in findings if finding.state == state]
    return Finding("service", state, "; ".join(finding.text for finding in findings), fixes[0])


def _service(unit: str) -> Finding:
    names = ("ActiveState", "SubState", "Result", "NRestarts", "UnitFileState", "StatusText")
    try:
        shown = output_of(["systemctl", "show", unit, f"--property={','.join(names)}"])
    except OSError as error:
        return Finding(unit, WARNING, f"{unit}: systemctl cannot be run ({error})", "start the computer with systemd")
    values = dict(line.partition("=")[::2] for line in shown.stdout.splitlines())
    if shown.returncode or "ActiveState" not in values:
        last = (shown.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding(unit, WARNING, f"{unit}: systemctl does not answer ({last})", "start the computer with systemd")
    if (values["ActiveState"], values["SubState"]) != ("active", "running"):
        text = f"{unit} is {values['ActiveState']} ({values['SubState']}, {values['Result']})"
        return Finding(
            unit, PROBLEM, text, f"see why with 'journalctl -u {unit} -n 50', then 'sudo systemctl restart {unit}'"
        )
    again = f", started again {values['NRestarts']} times" if values["NRestarts"] not in ("", "0") else ""
    text = f"{unit} runs{again}" + (f" ({values['StatusText']})" if values.get("StatusText") else "")
    if values["UnitFileState"] != "enabled":
        return Finding(unit, WARNING, f"{text}, but will not start at the next boot", f"sudo systemctl enable {unit}")
    return Finding(unit, OK, text)
