"""Errors that the user can correct; the command line prints them without a traceback and exits with code 2."""


class IpglError(Exception):
    """An error that the user can correct; the message names the rule, the value, the place and the next step."""


class DataError(IpglError):
    """Data are missing, damaged, or not in the expected format."""


class StudyStateError(IpglError):
    """A study cannot be started, resumed or read in its present state on storage."""


class ResourceError(IpglError):
    """The cluster, or this machine, lacks resources that were requested, or cannot be reached."""


class TrackingError(IpglError):
    """The tracking server cannot be reached, or refuses a request."""
