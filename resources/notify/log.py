"""Notices in the log of whoever tells them: what an installation has without setting anything up."""

import logging

from b2cal_core.notices import Notice
from b2cal_core.ports import Notifier

LOGGER = "b2cal.notices"


class LogNotifier(Notifier):
    """Writes notices into the log ``b2cal.notices``, urgent ones as warnings."""

    def tell(self, notice: Notice) -> None:
        """Write the notice; its text follows the line of the title, indented."""
        level = logging.WARNING if notice.kind.is_urgent else logging.INFO
        to = ", ".join(notice.to) or "everybody"
        text = notice.text.replace("\n", "\n    ")
        logging.getLogger(LOGGER).log(level, "%s (to %s)\n    %s", notice.title, to, text)
