"""A federation inside one process, for tests and benchmarks.

Every message passes Flower's own serialization both ways, so what could not travel fails here too,
and its bytes are counted. A site may have its policy, and then its guard stands between app and
hub as in a real node. What happens on the way can be spoilt: see `Way`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from federated.site import secure
from federated.site.ledger import Ledger
from federated.site.policy import SitePolicy

log = logging.getLogger(__name__)

HUB, RUN = 1, 1  # node of the hub, and its run

App = Callable[[Message, Context], Message]
Way = Callable[[Message, Message], Sequence[Message]]
"""What becomes of a reply, given request and reply: none (lost), itself, several, another."""


@dataclass
class Node:
    """A site as the grid knows it.

    Attributes:
        app: The Flower app that runs there.
        config: The node's configuration, such as ``site``.
        policy: What may leave; None for a site without a guard.
        ledger_folder: Where the guard keeps its ledger; needed with a policy.
        way: What becomes of its replies.
        state: What the app keeps between messages.
        seed: Of the guard's noise; a real node is seeded by its operating system.
    """

    app: App
    config: Mapping[str, str | int | float | bool]
    policy: SitePolicy | None = None
    ledger_folder: Path | None = None
    way: Way = lambda _, reply: (reply,)
    state: RecordDict = field(default_factory=RecordDict)
    seed: int = 0


@dataclass(frozen=True)
class Traffic:
    """One request and its replies.

    Attributes:
        node_id: Of the site.
        group: Round, where the hub says it.
        down: Bytes to the site.
        up: Bytes to the hub.
    """

    node_id: int
    group: str
    down: int
    up: int


def travel(message: Message) -> tuple[Message, int]:
    """What arrives of a message, and how many bytes that took."""
    message.metadata.__dict__["_message_id"] = message.object_id
    head = message_to_proto(remove_content_from_message(message)).SerializeToString()
    contents = {n: item.deflate() for n, item in get_all_nested_objects(message).items()}
    size = len(head) + sum(map(len, contents.values()))
    arrived = inflate_object_from_contents(message.object_id, contents)
    assert isinstance(arrived, Message)
    arrived.metadata.__dict__["_message_id"] = message.metadata.message_id
    return arrived, size


class InProcessGrid(Grid):
    """Flower's grid, without a network.

    Args:
        nodes: The sites by node id.
    """

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self.nodes = dict(nodes)
        self.traffic: list[Traffic] = []
        self._replies: dict[str, list[Message]] = {}
        self._noise = {n: np.random.default_rng((node.seed, n)) for n, node in nodes.items()}
        TaskIdentity.run_id = TaskIdentity.task_id = RUN
        TaskIdentity.node_id = HUB

    def set_run(self, run: Run) -> None:
        """Nothing to set: there is one run."""

    @property
    def run(self) -> Run:
        """The only run."""
        return Run.create_empty(RUN)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a site."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> list[int]:
        """The sites."""
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Have each message answered at once."""
        asked = []
        for message in messages:
            request, down = travel(message)
            node = self.nodes[request.metadata.dst_node_id]
            replies = [travel(reply) for reply in node.way(request, self._answer(request, node))]
            asked.append(request.metadata.message_id)
            self._replies[asked[-1]] = [reply for reply, _ in replies]
            self.traffic.append(
                Traffic(
                    node_id=request.metadata.dst_node_id,
                    group=request.metadata.group_id,
                    down=down,
                    up=sum(size for _, size in replies),
                )
            )
        return asked

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that arrived; each is given once."""
        return [reply for asked in message_ids for reply in self._replies.pop(asked, ())]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """The replies to some messages; nothing is waited for."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, request: Message, node: Node) -> Message:
        """A site's reply, by way of its guard where it has one."""
        context = Context(
            run_id=RUN,
            node_id=request.metadata.dst_node_id,
            node_config=dict(node.config),
            state=node.state,
            run_config={},
        )
        if node.policy is None:
            return secure.masked(request, context, _running(node.app))
        assert node.ledger_folder is not None
        return secure.answer(
            request,
            context,
            node.policy,
            Ledger(node.ledger_folder),
            self._noise[request.metadata.dst_node_id],
            _running(node.app),
        )


def _running(app: App) -> App:
    """An app whose exceptions become errors, as in Flower's own node."""

    def run(message: Message, context: Context) -> Message:
        try:
            return app(message, context)
        except Exception as error:  # whatever an app does wrong
            log.info("the app failed: %s", error)
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    return run
