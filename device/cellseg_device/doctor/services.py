"""The services that run the work unattended."""

from __future__ import annotations

from cellseg_device.doctor.finding import ABSENT, OK, PROBLEM, WARNING, Asked, Finding, said, told, worst


def services(asked: Asked) -> Finding:
    """The services that `install-service` has made, and how they are."""
    units = sorted(path.name for path in (asked.root / "etc/systemd/system").glob("cellseg-*.service"))
    if not units:
        fix = "to run unattended: cellseg-device install-service --watch FOLDER"
        return Finding("service", ABSENT, "none is installed", fix)
    findings = [_service(unit) for unit in units]
    controllers = told(asked.root / "sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "memory" not in controllers.split():  # as on Raspberry Pi OS out of the box
        fix = "add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt, then start again"
        findings.append(Finding("service", WARNING, "the limit of its memory is not in force", fix))
    state = worst([finding.state for finding in findings])
    fixes = [finding.fix for finding in findings if finding.state == state]
    return Finding("service", state, "; ".join(finding.text for finding in findings), fixes[0])


def _service(unit: str) -> Finding:
    names = ("ActiveState", "SubState", "Result", "NRestarts", "UnitFileState", "StatusText")
    try:
        shown = said(["systemctl", "show", unit, f"--property={','.join(names)}"])
    except OSError as error:
        return Finding(unit, WARNING, f"{unit}: systemctl cannot be asked ({error})", "start the computer with systemd")
    values = dict(line.partition("=")[::2] for line in shown.stdout.splitlines())
    if shown.returncode or "ActiveState" not in values:
        last = (shown.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding(unit, WARNING, f"{unit}: systemctl does not tell ({last})", "start the computer with systemd")
    if (values["ActiveState"], values["SubState"]) != ("active", "running"):
        text = f"{unit} is {values['ActiveState']} ({values['SubState']}, {values['Result']})"
        return Finding(
            unit, PROBLEM, text, f"see why with 'journalctl -u {unit} -n 50', then 'sudo systemctl restart {unit}'"
        )
    again = f", started again {values['NRestarts']} times" if values["NRestarts"] not in ("", "0") else ""
    text = f"{unit} runs{again}" + (f" ({values['StatusText']})" if values.get("StatusText") else "")
    if values["UnitFileState"] != "enabled":
        return Finding(unit, WARNING, f"{text}, but not from the next start on", f"sudo systemctl enable {unit}")
    return Finding(unit, OK, text)
