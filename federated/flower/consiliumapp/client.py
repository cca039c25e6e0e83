"""A site's side."""

from federated.site.client_app import site_app

app = site_app()
