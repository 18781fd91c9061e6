"""Processes that do a piece of work, and are killed in the middle of it."""

import os
import signal
import time
import traceback
from collections.abc import Callable

import sqlalchemy as sa

from b2cal_core.errors import BackendError, ConflictError
from resources.conditions.embedded import EmbeddedConditionsDB

DONE, BROKEN, CONFLICT, BACKEND_FAILED = 0, 1, 3, 4
LOOK_SECONDS = 0.03


class KillAt:
    """Kills its own process at the given point, counted from 0."""

    def __init__(self, point: int) -> None:
        self.left = point

    def __call__(self, _point: str) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


class StopAt:
    """Makes its process wait at the given point, counted from 0; its parent may do something meanwhile."""

    def __init__(self, point: int) -> None:
        self.left = point
        self._arrived, self._arriving = os.pipe()
        self._freed, self._freeing = os.pipe()

    def __call__(self, _point: str) -> None:
        if self.left == 0:
            os.write(self._arriving, b"x")
            os.read(self._freed, 1)
        self.left -= 1

    def wait(self) -> None:
        """Wait, in the parent, until the process is at the point."""
        os.read(self._arrived, 1)

    def free(self) -> None:
        """Let the process go on."""
        os.write(self._freeing, b"x")
        for end in (self._arrived, self._arriving, self._freed, self._freeing):
            os.close(end)


def in_child(work: Callable[[], object]) -> int:
    """Start ``work`` in a forked process and return its id."""
    child = os.fork()
    if child:
        return child
    code = BROKEN
    try:
        work()
        code = DONE
    except ConflictError:
        code = CONFLICT
    except BackendError as error:
        code = BACKEND_FAILED if error.transient else BROKEN
    except BaseException:  # noqa: BLE001 (a forked test must not go on as a second test run)
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait for the process; one of the constants above, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watched(child: int, look: Callable[[], None]) -> int:
    """Like ``ended``, calling ``look`` again and again until then, and once after."""
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        look()
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(LOOK_SECONDS)


def tell_requests(conditions: EmbeddedConditionsDB, tell: Callable[[str], None]) -> EmbeddedConditionsDB:
    """Have ``tell`` called before every statement that goes to the database, and before every commit of a change.

    Where a transaction only reads, its beginning and its end are left out; nothing happens there.
    """

    def statement(_connection: object, _cursor: object, text: str, *_more: object) -> None:
        if text != "BEGIN":
            tell(" ".join(text.split()[:3]))

    sa.event.listen(conditions.engine, "before_cursor_execute", statement)
    tell_commits(conditions.engine, tell)
    return conditions


def tell_commits(engine: sa.Engine, tell: Callable[[str], None]) -> None:
    """Have ``tell`` called before every commit of a change."""

    def commit(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            tell("COMMIT")

    sa.event.listen(engine, "commit", commit)
