"""Many evaluations in parallel: on this machine's cores, or on a Dask cluster that exists already.

Both are the same call; only the scheduler's address differs. What is evaluated must be a function
of a module, for workers import it by name, and they must have the same version of this project.
"""

import contextlib
import hashlib
import logging
import os
from importlib import resources
from pathlib import Path

from tamale_model.explore.quantity import DataError

__all__ = ["pool"]

#: Seconds to wait for a scheduler.
_PATIENCE = 10


def _version():
    """Digest of the packages that evaluations use."""
    digest = hashlib.sha256()
    for package in ("tamale", "tamale_model", "tamale_fpga"):
        root = Path(str(resources.files(package)))
        for file in sorted((*root.rglob("*.py"), *root.rglob("*.toml"))):
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def pool(scheduler=None, workers=None):
    """Give a function that maps another one over arguments, in parallel and in order.

    Parameters
    ----------
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://10.0.0.5:8786``. Without it a cluster of
        processes is started here and stopped at the end.
    workers : int, optional
        Processes of the local cluster; all cores when left out. With 1 nothing is started: the
        evaluations run in this process.

    Yields
    ------
    callable
        ``run(function, arguments, done=None)`` returns the list of results; ``done`` is called
        with the number of finished evaluations.

    Raises
    ------
    DataError
        If the scheduler does not answer, has no workers, or these have another version.
    """
    if workers is not None and workers < 1:
        raise DataError(f"--workers must be 1 or more, not {workers}")
    if scheduler is None and (workers or os.cpu_count() or 1) == 1:
        yield _serial
        return
    # Imported here: a second that only parallel sweeps are worth.
    from distributed import Client, LocalCluster, as_completed

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            target = stack.enter_context(
                LocalCluster(
                    n_workers=workers or os.cpu_count(),
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            )
        else:
            target = scheduler
        try:
            client = stack.enter_context(Client(target, timeout=_PATIENCE, set_as_default=False))
        except (OSError, ValueError) as error:
            raise DataError(
                f"no Dask scheduler answers at {scheduler}: {error}; start one with `dask "
                "scheduler` "
                "and workers with `dask worker`, or leave --scheduler out"
            ) from error
        if scheduler is not None:
            _check(client, scheduler)

        def run(function, arguments, done=None):
            arguments = list(arguments)
            futures = [client.submit(function, argument, pure=False) for argument in arguments]
            try:
                for count, _ in enumerate(as_completed(futures, loop=client.loop), 1):
                    if done:
                        done(count)
                return client.gather(futures)
            except BaseException:
                client.cancel(futures)
                raise

        yield run


def _check(client, scheduler):
    versions = client.run(_version)
    if not versions:
        raise DataError(f"the Dask scheduler at {scheduler} has no workers; start `dask worker`")
    mine = _version()
    for worker, version in versions.items():
        if version != mine:
            raise DataError(
                f"worker {worker} has version {version} of tamale, this is {mine}; install the same"
            )


def _serial(function, arguments, done=None):
    results = []
    for argument in arguments:
        results.append(function(argument))
        if done:
            done(len(results))
    return results
