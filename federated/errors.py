"""The one error of this package that is not about a policy."""


class FederationError(ValueError):
    """A site, a message or a round that cannot be used; says what to do, and nothing personal."""
