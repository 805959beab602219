"""The workers of a job: a scheduler at an address, or processes of this computer. Needs no torch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from importlib.metadata import version
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any

from ..core import errors
from ..core.distribution import install_extra, install_version
from ..core.errors import ClusterError, SettingsError
from ..core.events import Fallback
from .job_spec import ALIKE, SCHEDULER_FILE, JobSpec

ANSWER_WITHIN = 10.0
"""Timeout in seconds for a scheduler's answer."""
MOST_UNDERWAY = 1000
"""Tasks in flight: enough for some hundred workers."""
RETRIES = 2
"""Retries of a task that failed for a transient reason, such as a file system error."""
LOOK_EVERY = 0.2
"""Seconds between two checks whether to stop."""
_LEAVE_WITHIN = 2.0
"""Seconds to disconnect from a scheduler."""
_END_WITHIN = 0.5
"""Seconds that local workers have to exit. A running task is not recorded as done, so it runs again."""
_TELL_AFTER = 3.0
"""Seconds without workers before the user is notified."""

_PLAIN = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of local workers: waiting threads yield their core to other workers."""

_FIRST = "napari_unet.cluster.preload"
"""Module that local workers load first."""
_QUIETLY = "ignore:resource_tracker:UserWarning"
"""Silences Python's resource tracker, which complains about what stopped workers leave behind."""
_LEAN = {
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
"""Configuration of local workers: nobody looks at a profile, which costs some percent; and memory is not given back
to the system after each step of the network, as Dask has it, only to be asked for and cleared again at the next."""

Task = tuple[Any, str, tuple[Any, ...]]
"""Key of the task, its name in :data:`~napari_unet.cluster.worker.TASKS`, and its arguments."""


def _distributed() -> ModuleType:
    """Import dask.distributed.

    Raises
    ------
    ClusterError
        If it is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise ClusterError(
            f"Several workers need dask.distributed, here and where they run: {install_extra('cluster')}"
        ) from error
    return distributed


class Pool:
    """A pool of workers; use it as a context.

    Parameters
    ----------
    client : distributed.Client
        The connection to the scheduler.
    where : str
        Its name in messages.
    more : contextlib.ExitStack
        Closed with it, such as local workers.
    """

    def __init__(self, client: Any, where: str, more: contextlib.ExitStack) -> None:
        self.client, self.where, self._more = client, where, more

    @classmethod
    def connect(cls, address: str, timeout: float = ANSWER_WITHIN) -> Pool:
        """Return the workers of a scheduler.

        Parameters
        ----------
        address : str
            Such as ``tcp://node7:8786``, or the file in which the scheduler left it (``.json``).
        timeout : float
            Seconds in which it has to answer.

        Raises
        ------
        ClusterError
            When it does not.
        """
        distributed = _distributed()
        is_file = address.endswith(SCHEDULER_FILE)
        given = {"scheduler_file": address} if is_file else {"address": address}
        if is_file and not os.path.exists(address):
            raise ClusterError(f"There is no file {address}, in which a scheduler would have left its address.")
        quiet = contextlib.ExitStack()
        try:
            quiet.enter_context(_quiet())
            client = distributed.Client(**given, timeout=timeout, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            quiet.close()
            raise ClusterError(
                f"No scheduler answers at {address} within {timeout:g} s; start one (dask scheduler) and give the "
                "address that it shows, such as tcp://node7:8786. Firewalls may be in between."
            ) from error
        return cls(client, address, quiet)

    @classmethod
    def local(cls, workers: int) -> Pool:
        """Return so many processes of this computer, each with its share of the cores.

        Raises
        ------
        SettingsError
            When the number is less than 1.
        ClusterError
            When they do not start.
        """
        if workers < 1:
            raise SettingsError(f"--workers is {workers}, but has to be at least 1.")
        distributed = _distributed()
        import dask

        if _QUIETLY not in sys.warnoptions:
            sys.warnoptions.append(_QUIETLY)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_quiet())
            try:
                with dask.config.set(_LEAN), _interrupts_held():
                    cluster = distributed.LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address=None,
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                        env=_PLAIN,
                        preload=_FIRST,
                        worker_class=_impatient(distributed.Nanny),
                    )
                stack.callback(cluster.close)
                client = distributed.Client(cluster, set_as_default=False)
            except (OSError, TimeoutError, RuntimeError) as error:
                raise ClusterError(f"{workers} local workers cannot be started: {error}.") from error
            return cls(client, f"{workers} local worker(s)", stack.pop_all())

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect from the scheduler; local workers end, even in the middle of a task."""
        with self._more, contextlib.suppress(OSError, TimeoutError):
            # There is nothing to disconnect from once the scheduler has gone.
            self.client.close(timeout=_LEAVE_WITHIN)

    def count(self) -> int:
        """Return the present number of workers.

        Raises
        ------
        ClusterError
            If the scheduler has gone.
        """
        return len(self._asked(self.client.nthreads))

    def _asked(self, question: Callable[..., Mapping[str, Any]], *given: Any, **named: Any) -> dict[str, Any]:
        """Return the scheduler's answer."""
        if self.client.status not in ("running", "connecting"):
            raise self._lost()
        try:
            return dict(question(*given, **named))
        except (OSError, TimeoutError) as error:
            raise self._lost() from error

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"The scheduler ({self.where}) has gone. Finished chunks are kept: run the same command to resume."
        )

    def wait(self, stop: Callable[[], bool]) -> Generator[Fallback, None, bool]:
        """Wait for the first worker; return whether there is one, False if stopped."""
        begin, told = time.monotonic(), False
        while not stop():
            if self.count():
                return True
            if not told and time.monotonic() - begin > _TELL_AFTER:
                told = True
                yield Fallback(f"The scheduler ({self.where}) has no worker yet; waiting for one.")
            time.sleep(LOOK_EVERY)
        return False

    def everywhere(self, function: Callable[..., Any], *given: Any) -> dict[str, Any]:
        """Run a function on every worker; return results or exceptions by address."""
        return self._asked(self.client.run, function, *given, on_error="return")

    def patiently(self, stop: Callable[[], bool], function: Callable[..., Any], *given: Any) -> dict[str, Any] | None:
        """Return the same as :meth:`everywhere` for slow functions; None if stopped meanwhile."""
        answers: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self.everywhere(function, *given))
            except Exception as error:
                answers.put(error)

        threading.Thread(target=ask, name="unet-asking", daemon=True).start()
        while not stop():
            with contextlib.suppress(queue.Empty):
                found = answers.get(timeout=LOOK_EVERY)
                if isinstance(found, Exception):
                    raise found
                return found
        return None

    def check_versions(self, spec: JobSpec) -> None:
        """Raise unless all workers have the packages of the job.

        Raises
        ------
        ClusterError
            With the worker and both versions.
        """
        wanted = dict(spec.versions)
        for package in ALIKE:
            for worker, found in self.everywhere(version, package).items():
                has = "no " + package if isinstance(found, Exception) else f"{package} {found}"
                if isinstance(found, Exception) or found.partition("+")[0] != wanted[package]:
                    raise ClusterError(
                        f"The worker {worker} has {has}, but this computer has {package} {wanted[package]}. Install "
                        f"the same there: {install_version(package, wanted[package])}"
                    )

    def work(
        self, spec: JobSpec, tasks: Iterable[Task], stop: Callable[[], bool]
    ) -> Generator[tuple[Any, Any] | Fallback, None, bool]:
        """Submit tasks; yield key and result of each as it finishes.

        Returns
        -------
        bool
            Whether all are done; False if stopped.

        Raises
        ------
        UNetError
            The first error of a task.
        """
        from .worker import call

        waiting = iter(tasks)
        underway: dict[str, tuple[Any, Any]] = {}
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        absent = _Absence(self)
        try:
            while not stop():
                for whose, name, given in itertools.islice(waiting, MOST_UNDERWAY - len(underway)):
                    future = self.client.submit(call, name, spec, *given, pure=False, retries=RETRIES)
                    underway[future.key] = whose, future
                    future.add_done_callback(finished.put)
                if not underway:
                    return True
                try:
                    future = finished.get(timeout=LOOK_EVERY)
                except queue.Empty:
                    yield from absent.look()
                    continue
                whose, _ = underway.pop(future.key)
                yield whose, self._result(future)
            return False
        finally:
            self._cancel([future for _, future in underway.values()])

    def _cancel(self, futures: list[Any]) -> None:
        """Cancel tasks, if the scheduler is still there."""
        if futures and self.client.status == "running":
            with contextlib.suppress(OSError, TimeoutError):
                self.client.cancel(futures, force=True)

    def _result(self, future: Any) -> Any:
        """Return the result of a task, or raise its error."""
        if future.status == "finished":
            found = future.result()
            refused = answered(found)
            if refused is not None:
                raise refused
            return found
        if future.status != "error":
            raise self._lost()
        error = future.exception()
        if isinstance(error, _distributed().KilledWorker):
            raise ClusterError(
                "Workers died several times over the same part of the picture; most likely they have too little "
                "memory. Give them more, or take smaller tiles (--tile). Finished chunks are kept."
            ) from error
        raise ClusterError(f"A worker failed: {type(error).__name__}: {error}. Finished chunks are kept.") from error


def _impatient(nanny: type[Any]) -> type[Any]:
    """Return dask's Nanny class with a close that does not wait for the running task."""

    class Impatient(nanny):
        """Supervises a worker, and kills it on close."""

        async def close(self, timeout: float = _END_WITHIN, reason: str = "nanny-close") -> str:
            """End the worker; that it has not gone at once, on a busy computer, is no error once it was killed."""
            with contextlib.suppress(asyncio.TimeoutError):
                return str(await super().close(timeout=_END_WITHIN, reason=reason))
            return "OK"

    return Impatient


class _Absence:
    """Detects that all workers have gone, and reports it once each time."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._told = pool, False
        self._asked = time.monotonic()

    def look(self) -> Iterator[Fallback]:
        """Yield a message if all workers have gone; checks every few seconds."""
        if time.monotonic() - self._asked < _TELL_AFTER:
            return
        self._asked = time.monotonic()
        if self._pool.count():
            self._told = False
        elif not self._told:
            self._told = True
            yield Fallback("All workers have gone; waiting for others. Finished chunks are kept.")


def answered(found: Any, worker: str = "") -> errors.UNetError | None:
    """Return a worker's error, with its name if given; None if it reported none."""
    from .worker import Refusal

    if not isinstance(found, Refusal):
        return None
    kind = getattr(errors, found.kind, ClusterError)
    name = worker or found.worker
    if kind is ClusterError:
        return ClusterError(f"The worker {name} cannot take part: {found.message}")
    where = "" if kind is errors.DataError else f" (worker {name})"
    error: errors.UNetError = kind(f"{found.message}{where}")
    return error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Have Ctrl-C wait until the end, and all processes that are begun meanwhile never hear of it.

    It goes to all processes of a terminal, and one that has not come to :mod:`~napari_unet.cluster.preload` yet would
    die of it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # What Python begins with its first process takes Ctrl-C up again, so it comes before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of distributed off the terminal: what matters is said in an error or an event."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


__all__ = ["ANSWER_WITHIN", "MOST_UNDERWAY", "Pool", "Task", "answered"]
