"""Whether this host goes down or restarts, as systemd says. Ends nothing; a host without systemd
says nothing."""

import subprocess

ASK_S = 1.0  # of the few seconds that a SIGTERM leaves


def host_is_stopping() -> bool:
    """Whether the machine itself ends its processes, so that nobody is meant by that."""
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "stopping"
