"""What one would use without a platform to do nothing N times: sub-processes, and Python's own pool of processes."""

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor


def sub_processes(jobs: int, places: int) -> None:
    """A new interpreter for each job, so many at a time."""
    with ThreadPoolExecutor(places) as threads:
        for done in threads.map(lambda _: subprocess.run([sys.executable, "-c", "pass"], check=True), range(jobs)):
            assert done.returncode == 0


def process_pool(jobs: int, places: int) -> None:
    """Jobs handed one by one to processes that stay; nothing is written anywhere."""
    with ProcessPoolExecutor(places) as pool:
        for future in [pool.submit(_nothing) for _ in range(jobs)]:
            future.result()


def _nothing() -> None:
    pass
