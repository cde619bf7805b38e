"""What can go wrong between us and an S3 server: in words, and without secrets."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from fsspec.exceptions import FSTimeoutError

_REFUSALS = {
    "AccessDenied": "the credentials have no permission for that",
    "ExpiredToken": "the session token has expired; renew AWS_SESSION_TOKEN",
    "InvalidAccessKeyId": (
        "the server does not know the access key; "
        "check AWS_ACCESS_KEY_ID or AWS_PROFILE"
    ),
    "InvalidToken": "the session token is not valid; check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SignatureDoesNotMatch": (
        "the secret does not belong to the access key; "
        "check AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
    ),
}
_ELSEWHERE = "the bucket is in another region; set AWS_DEFAULT_REGION"
_REGION = {
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
}
_TAKEN = {"412", "PreconditionFailed"}
_UNKNOWN = {"501", "NotImplemented"}


@contextmanager
def plain_errors() -> Generator[None]:
    """Turn whatever a client raises into an OSError whose text is fit for people.

    Botocore's errors are no OSErrors, and their texts may hold a URL with a password.

    Yields:
        Nothing.

    Raises:
        FileExistsError: if a name was to be new and is not.
        PermissionError: if the credentials are missing, wrong or not enough.
        ConnectionError: if there is no connection to the server.
        TimeoutError: if the server does not answer.
        NotImplementedError: if the server does not know what it is asked for.
        OSError: for everything else.
    """
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise PermissionError(
            errno.EACCES,
            "there are no credentials; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        ) from error
    except ProfileNotFound as error:
        profile = error.kwargs.get("profile")
        words = f"the AWS files have no profile {profile!r}; check AWS_PROFILE"
        raise PermissionError(errno.EACCES, words) from error
    except (HTTPClientError, NoConnectionError) as error:
        raise ConnectionError(errno.ECONNABORTED, _no_connection(error)) from error
    except FSTimeoutError as error:
        raise TimeoutError(errno.ETIMEDOUT, "the server does not answer") from error
    except IncompleteReadError as error:
        words = "the connection was lost in the middle of an answer"
        raise ConnectionError(errno.ECONNABORTED, words) from error
    except BotoCoreError as error:
        words = f"the AWS settings cannot be used ({type(error).__name__})"
        raise OSError(errno.EINVAL, words) from error
    except OSError as error:
        _raise_by_code(error)
        raise
    except ValueError as error:  # botocore's word for a malformed endpoint
        raise OSError(errno.EINVAL, "the endpoint's URL is malformed") from error


def _no_connection(error: HTTPClientError | NoConnectionError) -> str:
    url = urlsplit(str(error.kwargs.get("endpoint_url") or ""))
    name = url.hostname or "the server"
    server = f"{name}:{url.port}" if url.port else name
    if type(error) is HTTPClientError:  # none of the known causes
        return f"the connection to {server} failed"
    return f"{server} does not answer"


def _raise_by_code(error: OSError) -> None:
    code = _code(error)
    if code in _TAKEN:
        raise FileExistsError(errno.EEXIST, "it exists already") from error
    if code in _UNKNOWN:
        raise NotImplementedError from error
    if code in _REGION:
        raise OSError(errno.EINVAL, _ELSEWHERE) from error
    if isinstance(error, PermissionError):
        # A server that is asked for headers alone gives no code but a status.
        words = _REFUSALS.get(code, _REFUSALS["AccessDenied"])
        raise PermissionError(errno.EACCES, words) from error


def _code(error: OSError) -> str:
    cause = error.__cause__
    if isinstance(cause, ClientError):
        return str(cause.response.get("Error", {}).get("Code", ""))
    return ""
