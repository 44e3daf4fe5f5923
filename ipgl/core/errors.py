"""Errors that are the user's to mend: the command line prints them without a traceback and exits with 2."""


class IpglError(Exception):
    """Something the caller can put right; the message names the rule, the value, the place and the next step."""


class DataError(IpglError):
    """Data that is missing, damaged, or not what its format promises."""


class StudyStateError(IpglError):
    """A study on storage that cannot be started, resumed or shown as it stands."""


class ResourceError(IpglError):
    """The cluster or this machine cannot give what the study file asks for."""


class TrackingError(IpglError):
    """The tracking server cannot be reached or refuses what it is asked."""
