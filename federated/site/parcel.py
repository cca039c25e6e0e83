"""What passes between the gate and the cage: Flower's own serialization, and no pickle."""

from dataclasses import dataclass

from flwr.app import Context, Message
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    fab_from_proto,
    fab_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.fab_pb2 import Fab as FabProto
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.fab import Fab
from flwr.supercore.task_identity import TaskIdentity

_LENGTH = 8  # bytes that say how long the next part is
NO_APP = Fab("", b"", {})


@dataclass(frozen=True)
class Parcel:
    """A message with its node's context, and the app where it goes into the cage."""

    message: Message
    context: Context
    fab: Fab | None = None
    task_id: int = 0

    def pack(self) -> bytes:
        """All parts, each after its length."""
        parts = (
            message_to_proto(self.message).SerializeToString(),
            context_to_proto(self.context).SerializeToString(),
            fab_to_proto(self.fab or NO_APP).SerializeToString(),
            self.task_id.to_bytes(_LENGTH, "big"),
        )
        return b"".join(len(part).to_bytes(_LENGTH, "big") + part for part in parts)

    @classmethod
    def unpack(cls, raw: bytes) -> "Parcel":
        """Read what `pack` wrote, and be the node that it is about: Flower signs replies so.

        Raises:
            ValueError: It is not.
        """
        parts, start = [], 0
        while start < len(raw):
            size = int.from_bytes(raw[start : start + _LENGTH], "big")
            start += _LENGTH
            parts.append(raw[start : start + size])
            start += size
        if len(parts) != 4 or start != len(raw):
            raise ValueError("not a parcel")
        message, context, fab, task = parts
        here = context_from_proto(ContextProto.FromString(context))
        number = int.from_bytes(task, "big")
        return cls(
            message_from_proto(MessageProto.FromString(message)),
            here,
            fab_from_proto(FabProto.FromString(fab)),
            number,
        )

    def take_identity(self) -> None:
        """Be the node that the parcel is for: Flower writes it into every reply."""
        TaskIdentity.task_id = self.task_id
        TaskIdentity.run_id = self.context.run_id
        TaskIdentity.node_id = self.context.node_id
