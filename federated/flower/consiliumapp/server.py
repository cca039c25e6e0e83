"""The hub's side."""

from federated.server_app import hub_app

app = hub_app()
