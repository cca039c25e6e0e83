"""A site's side."""

from federated.client_app import site_app

app = site_app()
