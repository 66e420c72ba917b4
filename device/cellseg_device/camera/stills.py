"""Cameras that answer each request over HTTP with one image, as many offer beside their stream."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from cellseg_device.camera.source import CameraFault, Pixels
from cellseg_device.image.decode import decode
from cellseg_device.image.headers import JPEG, PNG

_MOST_BYTES = 256 << 20
_CHUNK_BYTES = 1 << 16
_UNREACHABLE = "cannot be reached: check the address, the network and the sender"
_IN_A_PATH = "/%:;=&?@!$'()*+,~"  # what is left as it is, since addresses are written as browsers take them
_HEADERS = {"User-Agent": "cellseg", "Accept": "image/*,*/*", "Cache-Control": "no-cache", "Pragma": "no-cache"}


class Stills:
    """The images at an address, each by a request of its own.

    Parameters
    ----------
    url : str
        Of http or https; a name and password in it are given when the camera asks for them. A certificate is not
        checked, nor is it for a stream: cameras have their own.
    timeout_s : float
        How long an image may take.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        try:
            self._url, self._opener = _opener(url)
        except ValueError:
            raise CameraFault("has an address that cannot be read: write it as a browser shows it") from None
        self._timeout_s = timeout_s

    def is_one(self) -> bool:
        """Return whether a request is answered with one image, and not with a stream or a video.

        Raises
        ------
        CameraFault
            If it is refused, or not answered.
        """
        with self._answer() as answer:
            kind = answer.headers.get_content_type()
            if kind.startswith("image/"):
                return True
            return answer.headers.get("Content-Length") is not None and answer.read(len(PNG)).startswith((JPEG, PNG))

    def read(self) -> Pixels:
        """Return a new image.

        Raises
        ------
        CameraFault
            If none came.
        ImageError
            If what came is damaged, or no image.
        """
        end = time.monotonic() + self._timeout_s
        data = bytearray()
        with self._answer() as answer:
            while chunk := answer.read1(_CHUNK_BYTES):
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise CameraFault(f"sends more than {_MOST_BYTES >> 20} MB for one image: check the address")
                if time.monotonic() > end:
                    raise CameraFault(f"takes more than {self._timeout_s:g} s to send an image")
        return decode(bytes(data)).pixels

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    @contextlib.contextmanager
    def _answer(self) -> Iterator[Any]:
        """Give the answer to a request; raise CameraFault, without the address, if it fails here or in the body."""
        try:
            with self._opener.open(
                urllib.request.Request(self._url, headers=_HEADERS), timeout=self._timeout_s
            ) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403):
                raise CameraFault(
                    f"refuses access (HTTP {error.code}): check name and password in the address"
                ) from None
            raise CameraFault(f"gives no image (HTTP {error.code}): check the address") from None
        except urllib.error.URLError:
            raise CameraFault(_UNREACHABLE) from None
        except (OSError, http.client.HTTPException):
            raise CameraFault("gave no image") from None
        except ValueError:  # of a kind of password that is not known, or an address after a redirection
            raise CameraFault("asks for what cellseg cannot give: check the address in a browser") from None


class _Refused(urllib.request.BaseHandler):
    """Closes the answer that asks for a password, which those that then give it leave open."""

    handler_order = 100  # before them

    def http_error_401(self, _request: object, answer: Any, *_: object) -> None:
        answer.close()


def _opener(url: str) -> tuple[str, urllib.request.OpenerDirector]:
    """Return an address without its name and password, and what opens it with them; ValueError if it is none."""
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # a port that is none is a ValueError of its own
        raise ValueError("no host")
    path = quote(parts.path or "/", safe=_IN_A_PATH)
    plain = parts._replace(
        netloc=parts.netloc.rpartition("@")[2], path=path, query=quote(parts.query, safe=_IN_A_PATH), fragment=""
    ).geturl()
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=unchecked),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ]
    if parts.username is not None:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        host = urlsplit(plain)._replace(path="/", query="").geturl()  # which may send one on to another of its paths
        passwords.add_password(None, host, unquote(parts.username), unquote(parts.password or ""))
        handlers += [
            _Refused(),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
        ]
    opener = urllib.request.OpenerDirector()  # `build_opener` would also follow to ftp and to files
    for handler in handlers:
        opener.add_handler(handler)
    return plain, opener
