"""Processes that end."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import ctypes, os, subprocess, sys
from gateway.server.children import Children

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
leaves_one = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0, stdout=-3, stderr=-3).pid)"
reading, writing = os.pipe()
orphan = int(subprocess.run([sys.executable, "-c", leaves_one], stdin=reading, capture_output=True).stdout)
children = Children((sys.executable, "-c", "import signal; signal.pause()"), is_init=sys.argv[1] == "init")
child = children.start()
children.reap()
assert os.path.exists(f"/proc/{orphan}") and list(children) == [child]  # neither has ended
os.write(writing, b"end\\n")
os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
children.reap()
print(os.path.exists(f"/proc/{orphan}"))
ends = []
child.on_end = ends.append
child.kill()
while list(children):
    children.reap()
print(*ends)
"""

GONE = """
import os, sys
from gateway.server.children import worker_command
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
print(worker_command() == (sys.executable, "-P", "-m", "gateway.server.entry"))
"""

CLOSED = """
import os, sys
from gateway.server import children
os.chdir(sys.argv[1])
os.chmod(sys.argv[1], 0)
if os.geteuid() == 0:
    os.seteuid(65534)
print(children.worker_command() == (sys.executable, "-P", "-m", "gateway.server.entry"))
"""


def run(role: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, role], capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_orphans_that_come_to_the_first_process_are_reaped_and_workers_told_of() -> None:
    assert run("init") == ["False", "-9"]


def test_another_process_leaves_orphans_alone() -> None:
    assert run("other") == ["True", "-9"]


def test_workers_can_be_started_where_the_working_directory_has_gone(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", GONE, tmp_path], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout, ran.stderr) == ("True\n", "")


def test_workers_can_be_started_where_the_working_directory_may_not_be_looked_into(tmp_path: Path) -> None:
    """As with `sudo -u` from the home directory of root."""
    ran = subprocess.run([sys.executable, "-c", CLOSED, tmp_path], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout, ran.stderr) == ("True\n", "")
