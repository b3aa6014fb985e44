"""The errors that this project raises on purpose.

Each is a `PGPOError` and also a built-in error, so that `except ValueError` still works. An error
that is not a `PGPOError` is a bug, or comes from a library underneath.
"""


class PGPOError(Exception):
    """Base of every error that is raised on purpose.

    The message names the rule that was broken and the value that broke it.

    >>> import pgpo_jax as pgpo
    >>> try:
    ...     pgpo.scale_by_information(rho_max=0.5)
    ... except pgpo.PGPOError as error:
    ...     print(type(error).__name__)
    PGPOValueError

    Added in version 0.2.0.
    """


class PGPOValueError(PGPOError, ValueError):
    """A value that breaks a rule.

    Added in version 0.2.0.
    """


class PGPOTypeError(PGPOError, TypeError):
    """A value of the wrong type, or an argument that is missing.

    Added in version 0.2.0.
    """


class PGPORuntimeError(PGPOError, RuntimeError):
    """A request that the current state does not allow.

    Added in version 0.2.0.
    """


class PGPOFloatingPointError(PGPOError, FloatingPointError):
    """A number that must be finite is not.

    Added in version 0.2.0.
    """


class PGPOFileNotFoundError(PGPOError, FileNotFoundError):
    """A file or folder that should be there is missing.

    Added in version 0.2.0.
    """


class PGPOFileExistsError(PGPOError, FileExistsError):
    """A file or folder exists already and must not be overwritten.

    Added in version 0.2.0.
    """


class PGPOImportError(PGPOError, ImportError):
    """A package of an extra is not installed; the message says which to install.

    Added in version 0.2.0.
    """
