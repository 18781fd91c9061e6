"""A mail server of the tests: as much of SMTP as a client needs to hand mail over. It keeps what it gets."""

import email.policy
import socketserver
import threading
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser


@dataclass(frozen=True)
class Mail:
    """One mail: who it was handed over for, and what it says."""

    to: tuple[str, ...]
    message: EmailMessage

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        body = self.message.get_body(("html", "plain"))
        assert body is not None
        return str(body.get_content())


class _Session(socketserver.StreamRequestHandler):
    server: "_Listener"

    def handle(self) -> None:
        self._say("220 tests")
        to: list[str] = []
        for line in self.rfile:
            verb = line.decode().strip().upper()
            if verb.startswith("RCPT"):
                to.append(line.decode().partition("<")[2].partition(">")[0])
                self._say("550 nobody here" if self.server.refuses else "250 ok")
            elif verb == "DATA":
                self._say("354 go on")
                self.server.mails.append(Mail(tuple(to), self._message()))
                to.clear()
                self._say("250 ok")
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _message(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b"."))
        message = BytesParser(policy=email.policy.default).parsebytes(b"".join(lines))
        assert isinstance(message, EmailMessage)
        return message

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    refuses = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[Mail] = []


class MailServer:
    """Listens on a free port of this machine."""

    def __init__(self) -> None:
        self._listener = _Listener()
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.server_address[1])

    @property
    def mails(self) -> list[Mail]:
        return self._listener.mails

    def refuse_everybody(self) -> None:
        self._listener.refuses = True

    def stop(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()
