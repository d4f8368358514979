"""What is wrong with a request, in one sentence and with the status that says whose fault it is."""

from __future__ import annotations


class RequestError(Exception):
    """A request that gets no answer: an HTTP status (4xx, or 503), the rule and the fact, and headers that help."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


def unusable(rule: str, fact: str) -> RequestError:
    """Return the error for a request that was understood but whose values cannot be used (422)."""
    return RequestError(422, f"{rule}, however {fact}")
