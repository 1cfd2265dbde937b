"""Why a message was not handled."""


class Error(Exception):
    """What the SDK raises, and what a handler may let pass: it settles the message.

    From `start`, `save` and `restore` the text alone counts.
    """

    @property
    def retry(self) -> bool:
        """Whether the message is to be delivered again."""
        return False


class Retry(Error):
    """Deliver the message again, up to the service's `max_deliveries`."""

    @property
    def retry(self) -> bool:
        return True


class Reject(Error):
    """Do not deliver the message again: it goes to the service's dead letters."""
