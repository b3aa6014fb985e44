"""JSON over HTTP with the standard library; each error is one line."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from pgpo_jax.errors import PGPORuntimeError, PGPOValueError

_SHOWN = 300


class JSONClient:
    """Sends requests to a server.

    Args:
        url: address of the server, `http://...` or `https://...`.
        timeout: time limit for an answer, in seconds.

    Raises:
        ValueError: the address has another form.
    """

    def __init__(self, url: str, timeout: float):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PGPOValueError(f"the URL of a server must be like http://host:8000, got {url!r}")
        self.url, self._timeout = url.rstrip("/"), timeout

    def ask(self, path: str, body: dict[str, Any] | None = None, *, advice: str = "") -> Any:
        """The decoded answer to a request; None if it is empty.

        Args:
            path: path of the request, which begins with a slash.
            body: JSON value to post; None posts nothing.
            advice: advice for the message if the server does not know the path.

        Raises:
            RuntimeError: there is no answer, or it is an error or no JSON.
        """
        where = self.url + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(where, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            # An error status is also an answer.
            with error:
                told = _told(error.read())
            unknown = f" {advice}" if advice and error.code == 404 else ""
            raise PGPORuntimeError(f"{where} answered {error.code}: {told}.{unknown}") from None
        except TimeoutError:
            raise PGPORuntimeError(
                f"{where} gave no answer within {self._timeout:g} seconds (engine.timeout)"
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                reason = f"no connection within {self._timeout:g} seconds (engine.timeout)"
            raise PGPORuntimeError(f"{where} cannot be reached: {reason}") from None
        if not text:
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise PGPORuntimeError(f"{where} did not answer with JSON: {_told(text)}") from None


def _told(text: bytes) -> str:
    """The text of an error's body, shortened to one line."""
    said: Any = text.decode(errors="replace")
    try:
        values = json.loads(said)
    except ValueError:
        values = None
    if isinstance(values, dict):
        # The current and the former format of vLLM.
        error = values.get("error", values)
        said = error.get("message", values) if isinstance(error, dict) else error
    return " ".join(str(said).split())[:_SHOWN]
