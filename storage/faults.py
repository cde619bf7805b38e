"""What can go wrong with bytes, in one line each, and which of it can pass."""

import errno
import os

_MAY_PASS = {
    errno.EAGAIN,
    errno.EBUSY,  # an S3 server says SlowDown or 503
    errno.EREMOTEIO,  # an S3 server says InternalError or 500
    errno.ESTALE,  # a network file system lost its handle
    errno.ETIMEDOUT,
}

_REASONS = {
    errno.EACCES: "permission denied",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than is allowed",
    errno.ENOENT: "it does not exist",
    errno.ENOSPC: "the disk is full",
    errno.ENOTDIR: "a part of the path is a file, not a directory",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
}

_LONGEST_REASON = 200  # characters: a server's own words may be a whole page


def may_pass(error: OSError) -> bool:
    """Say whether the same operation may succeed when it is tried again.

    Args:
        error: what the operation raised.

    Returns:
        True for time-outs, lost connections and servers that are busy.
    """
    return isinstance(error, (ConnectionError, TimeoutError)) or (
        error.errno in _MAY_PASS
    )


def reason(error: OSError) -> str:
    """Say in a few words why an operation failed.

    Args:
        error: what the operation raised.

    Returns:
        One line without a full stop.
    """
    words = error.strerror or str(error) or type(error).__name__
    if error.errno is not None and words == os.strerror(error.errno):
        words = _REASONS.get(error.errno, words)
    return " ".join(words.split()).rstrip(".")[:_LONGEST_REASON]
