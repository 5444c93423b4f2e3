"""Every error that this package raises on purpose, so that a caller can catch them all as one.

    JanusError
    ├── ConfigError(ValueError)        a configuration file states something impossible or unsupported
    ├── CheckpointError(OSError)       a model folder cannot be used: files, tensors, tokenizer
    ├── PromptError(ValueError)        a question, prompt or conversation cannot be turned into tokens
    │   └── PromptTooLongError         it does not fit into the model's context
    ├── ImageError(ValueError)         a picture or a set of image tokens cannot be used
    ├── SamplingError(ValueError)      an option is out of its range, or a model's scores are no numbers
    ├── DownloadError(OSError)         a published model cannot be fetched, or its files are not as they came
    └── OutputError(OSError)           a result cannot be written where it was asked for

Each message says what happened, where, and what to do. `shown` puts a value into one, whatever it is.
"""

import reprlib

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 3, 80, 80


def shown(value: object) -> str:
    """Return a value for a message, shortened where it is long or deeply nested."""
    try:
        return _short.repr(value)
    except Exception:  # noqa: BLE001 - an object's own repr, or an integer of too many digits
        return f"a value of the type {type(value).__name__}"


class JanusError(Exception):
    """Base of all errors that come from Janus itself.

    A host may import the package under another name: ComfyUI's begins with the folder's path, and its page
    shows people the module of an error. So every error names the package as published.
    """

    __module__ = "janus_core.errors"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _, here, file = cls.__module__.rpartition("janus_core.")
        if here:
            cls.__module__ = f"janus_core.{file}"


class ConfigError(JanusError, ValueError):
    """A configuration file states something impossible or unsupported."""


class CheckpointError(JanusError, OSError):
    """A model folder cannot be used: its files, tensors or tokenizer."""


class PromptError(JanusError, ValueError):
    """A question, prompt or conversation cannot be turned into tokens."""


class PromptTooLongError(PromptError):
    """A prompt does not fit into the model's context, with its pictures and what is to be generated."""


class ImageError(JanusError, ValueError):
    """A picture or a set of image tokens cannot be used."""


class SamplingError(JanusError, ValueError):
    """An option for drawing or answering is out of its range, or a model's scores are no numbers.

    Attributes:
        rows: which pictures or answers have logits that are not finite, counted from 0; empty for other
            errors.
    """

    def __init__(self, message: str, rows: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.rows = rows

    @property
    def reason(self) -> str:
        """What a message about rows says behind their numbers, which are those of a batch."""
        return str(self).partition(" cannot be made: ")[2] or str(self)


class DownloadError(JanusError, OSError):
    """A published model cannot be fetched, or its files are no longer as they came."""


class OutputError(JanusError, OSError):
    """A result cannot be written where it was asked for."""
