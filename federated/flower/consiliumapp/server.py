"""The hub's side."""

from federated.hub.server_app import hub_app

app = hub_app()
