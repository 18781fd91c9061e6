"""The calls of the interface, one method each; what they are used for together is elsewhere.

Absent is ``None`` or empty only where the server says so in its own words. Changes are sent once; ``OutcomeUnknown``
tells that whether one was made must be looked up.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from b2cal_core.payloads import TagState
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.rest import shapes
from resources.conditions.rest.replies import NotThere
from resources.conditions.rest.shapes import LinkRecord, PayloadRecord, TagRecord
from resources.conditions.rest.transport import Transport

_MOST_CHECKED = 1000


class Calls:
    """What can be asked of a server."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    # Tags

    def tag_states(self) -> tuple[str, ...]:
        """The states tags can have."""
        step = "listing the states of global tags"
        return shapes.names(self.transport.read(step, "globalTagStatus"), step)

    def tag_types(self) -> tuple[str, ...]:
        """The types tags can have."""
        step = "listing the types of global tags"
        return shapes.names(self.transport.read(step, "globalTagType"), step)

    def tags(self) -> tuple[TagRecord, ...]:
        """All tags."""
        step = "listing the global tags"
        return shapes.tags(self.transport.read(step, "globalTags"), step)

    def tag(self, name: str) -> TagRecord | None:
        """One tag, or ``None`` when the server says that there is none."""
        step = f"looking up global tag {name}"
        try:
            return shapes.tag(self.transport.read(step, f"globalTag/{_quoted(name)}"), step)
        except NotThere:
            return None

    def create_tag(self, name: str, *, type: str, description: str, user: str) -> TagRecord:  # noqa: A002
        """Make a tag."""
        step = f"creating global tag {name}"
        body = {"name": name, "description": description, "modifiedBy": user, "isDefault": False}
        return shapes.tag(self.transport.write(step, "POST", f"globalTag/{_quoted(type)}", body=body), step)

    def change_tag(self, record: TagRecord, changes: Mapping[str, Any]) -> None:
        """Give a tag another name, description or type."""
        body = {**record.raw, **changes}
        self.transport.write(f"changing global tag {record.name}", "PUT", "globalTag", body=body)

    def clone_tag(self, record: TagRecord) -> TagRecord:
        """Copy a tag; the copy is called ``<id>_copy_of_<name>``."""
        step = f"cloning global tag {record.name}"
        return shapes.tag(self.transport.write(step, "POST", f"globalTags/{record.id}"), step)

    def set_state(self, name: str, state: TagState) -> None:
        """Bring a tag to another state."""
        path = f"globalTag/{_quoted(name)}/updateGlobalTagStatus/{state.value}"
        self.transport.write(f"bringing global tag {name} to {state}", "PUT", path)

    # Payloads

    def payloads(self) -> tuple[PayloadRecord, ...]:
        """All payloads there are; on a real server very many."""
        step = "listing all payloads"
        return shapes.payloads(self.transport.read(step, "payloads"), step)

    def payload(self, number: int) -> PayloadRecord | None:
        """The payload with this id of the server."""
        step = f"looking up payload {number}"
        try:
            return shapes.payload(self.transport.read(step, f"payload/{number}"), step)
        except NotThere:
            return None

    def payloads_named(self, name: str) -> tuple[PayloadRecord, ...]:
        """All revisions of a name; none when the server does not know the name."""
        step = f"listing the revisions of {name}"
        try:
            return shapes.payloads(self.transport.read(step, f"module/{_quoted(name)}/payloads"), step)
        except NotThere:
            return ()

    def payloads_of_tag(self, tag: str) -> tuple[PayloadRecord, ...]:
        """The payloads that a tag links."""
        step = f"listing the payloads of global tag {tag}"
        return shapes.payloads(self.transport.read(step, f"globalTag/{_quoted(tag)}/payloads"), step)

    def check_payloads(self, wanted: Iterable[tuple[str, str]]) -> tuple[PayloadRecord, ...]:
        """Those of the (name, MD5) pairs that exist, each as often as it exists, lowest id first."""
        pairs = sorted(set(wanted))
        found: list[PayloadRecord] = []
        for i in range(0, len(pairs), _MOST_CHECKED):
            part = [{"name": name, "checksum": md5} for name, md5 in pairs[i : i + _MOST_CHECKED]]
            step = f"looking up {len(part)} payloads"
            found += shapes.payloads(self.transport.ask(step, "checkPayloads", part), step)
        return tuple(sorted(found, key=lambda record: record.id))

    def create_payload(self, name: str, file_name: str, *, content: bytes, md5: str) -> int:
        """Upload a payload and return its id; its revision is given by the server."""
        step = f"uploading payload {name} (MD5 {md5})"
        about = json.dumps({"checksum": md5, "isDefault": False}).encode()
        parts = [(file_name, content, "application/x-root"), ("json", about, "application/json")]
        path = f"package/dbstore/module/{_quoted(name)}/payload"
        return shapes.new_payload(self.transport.write(step, "POST", path, content=_mixed(parts)), step)

    # IoVs

    def links(self, tag: str) -> tuple[LinkRecord, ...] | None:
        """All links of a tag; ``None`` when the server says that there is no such tag."""
        step = f"listing global tag {tag}"
        try:
            return shapes.links(self.transport.read(step, f"globalTag/{_quoted(tag)}/globalTagPayloads"), step)
        except NotThere:
            return None

    def valid(self, tag: str, run: ExpRun) -> tuple[LinkRecord, ...]:
        """The links of a tag that hold a run; none also when there is no such tag."""
        step = f"looking up {run} in global tag {tag}"
        answer = self.transport.read(step, "iovPayloads", gtName=tag, expNumber=run.exp, runNumber=run.run)
        return shapes.valid(answer, step)

    def create_iov(self, tag: TagRecord, payload: int, iov: IoV) -> int:
        """Link a payload, by its id, to a tag and return the id of the link."""
        step = f"linking payload {payload} in {iov} to global tag {tag.name}"
        path = f"globalTagPayload/{tag.id},{payload}/payloadIov/{iov}"
        return shapes.new_iov(self.transport.write(step, "POST", path), step)

    def change_iov(self, link: int, iov: IoV) -> None:
        """Give a link other runs."""
        ends = {"expStart": iov.exp_low, "runStart": iov.run_low, "expEnd": iov.exp_high, "runEnd": iov.run_high}
        self.transport.write(f"changing link {link} to {iov}", "PUT", f"payloadIov/{link}", params=ends)

    def delete_iov(self, link: int) -> None:
        """Remove a link; one that is gone already is passed over."""
        try:
            self.transport.write(f"removing link {link}", "DELETE", f"payloadIov/{link}")
        except NotThere:
            return

    def update_running(self, tag: str, operations: Sequence[Mapping[str, Any]]) -> None:
        """Change a RUNNING tag, all operations or none."""
        path = f"globalTagPayload/{_quoted(tag)}/updateRunningPayloads"
        self.transport.write(f"updating running global tag {tag}", "POST", path, body=list(operations))


def closing(link: int, iov: IoV) -> dict[str, Any]:
    """The operation of a running update that ends a link where ``iov`` ends."""
    return {"operation": "MODIFY", "data": [link, iov.exp_high, iov.run_high]}


def creating(payload: int, iov: IoV) -> dict[str, Any]:
    """The operation of a running update that links a payload, by its id."""
    return {"operation": "CREATE", "data": [payload, *iov]}


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _mixed(parts: Iterable[tuple[str, bytes, str]]) -> tuple[bytes, str]:
    """A multipart body in the order given, and its type: mixed, since the server takes no form."""
    fields = []
    for name, content, kind in parts:
        field = RequestField(name, content)
        field.make_multipart(content_type=kind)
        fields.append(field)
    body, form = encode_multipart_formdata(fields)
    return body, form.replace("multipart/form-data", "multipart/mixed", 1)
