"""A process that has imported the frameworks, and forks a process for each job: jobs start without the imports.

The forked process runs the command as a process of its own would: its words are `sys.argv`, its environment, folder,
session and standard streams are its own, and it ends through `run_tool`. What was imported is what the comparison was
started with, whatever becomes of the files since. Only for jobs without a GPU: the driver does not survive a fork.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from clop_det.engine.descent import stop_with_parent
from clop_det.engine.importing import without_collecting
from clop_det.errors import UserError

_LONGEST = 1 << 20  # bytes of a request
# What the jobs import before they look at their config, and for their pictures.
_MODULES = (
    "clop_det.commands.pretrain",
    "clop_det.commands.convert_job",
    "clop_det.commands.train",
    "clop_det.commands.inspect_job",
    "clop_det.pretraining.run",
    "clop_det.pretraining.curves",
    "matplotlib.backends.backend_agg",
    "clop_det.detection.run",
)


class WarmStart:
    """Starts commands of this package from a process that has imported what they need.

    That process ends with the one that made it; it is started by the first job.

    Args:
        environment: what it is started in; the number of threads is read at the import, and holds for all jobs.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._socket: socket.socket | None = None

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: int, lock: int) -> WarmProcess:
        """Fork the process of `words` (this interpreter, -m, a command's module, its arguments).

        Args:
            log: the descriptor that its standard output and error go to.
            lock: a descriptor that it keeps open for as long as it lives.

        Raises:
            UserError: what forks it ends as soon as it is started.
        """
        request = {"start": list(words[2:]), "environment": dict(environment), "folder": os.getcwd()}
        answer = self.ask(request, (log, lock)) or self.ask(request, (log, lock))
        if answer is None:
            raise UserError("the process that imports the frameworks for the jobs ends at once; run `clop-det doctor`.")
        return WarmProcess(self, *answer)

    def ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> Any:
        """What the process answers to a request; None if it has died, with all that it forked: the next starts anew."""
        if self._socket is None:
            self._socket = self._begin()
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
            answer = self._socket.recv(_LONGEST)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer:
            self._socket = None
            return None
        return json.loads(answer)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            env=self._environment,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            preexec_fn=stop_with_parent,
        )
        theirs.close()
        weakref.finalize(self, _end, ours, process)
        return ours


def _end(requests: socket.socket, process: subprocess.Popen[bytes]) -> None:
    requests.close()
    process.wait()


class WarmProcess:
    """A forked process, as `subprocess.Popen` shows one."""

    def __init__(self, start: WarmStart, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._start = start
        self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Exit code (negative: ended by that signal), or None while it runs."""
        if self.returncode is None and select.select([self._handle], [], [], 0)[0]:  # it has ended
            answer = self._start.ask({"code": self.pid})
            self.returncode = -signal.SIGTERM if answer is None else answer[0]
            os.close(self._handle)
        return self.returncode


def serve(requests: socket.socket) -> None:
    """Import, then answer requests until their sender is gone. A forked process becomes its job and does not return."""
    with without_collecting():
        from clop_det.provenance import collect_provenance

        for name in _MODULES:
            importlib.import_module(name)
    collect_provenance()  # the commit that was imported is what each job reports
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _LONGEST, 2)
        if not request:
            return
        asked = json.loads(request)
        if "code" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["code"], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                requests.close()
                _become(asked["start"], asked["environment"], asked["folder"], *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
        requests.send(json.dumps([answer]).encode())


def _become(words: list[str], environment: dict[str, str], folder: str, log: int, lock: int) -> None:
    """Run a command in this forked process and leave with its exit code."""
    stop_with_parent()
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    module = sys.modules[words[0]]
    sys.argv = [str(module.__file__), *words[1:]]
    module.run_tool(module.main)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
