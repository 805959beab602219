"""The package's own errors: every mistake a user can make or mend is one of these.

No error here derives from :class:`RuntimeError`, because napari's thread workers swallow those.
Messages say what is wrong, with the values, and what to do about it.
"""

from __future__ import annotations


class UNetError(Exception):
    """Base of all errors that are meant to be read by the user."""


class DataError(UNetError):
    """An image, an annotation or their combination cannot be used."""


class SettingsError(UNetError):
    """A setting has an unknown name or a value outside its bounds."""


class ModelError(UNetError):
    """A model is damaged, foreign, or does not fit the image."""


class StoreError(UNetError):
    """A file or folder cannot be read or written."""


class MissingLibraryError(UNetError):
    """An optional library is not installed."""


class DeviceError(UNetError):
    """A device is missing or failed."""


class OutOfMemoryError(DeviceError):
    """The device has too little memory, also after every step of the ladder."""


class ClusterError(UNetError):
    """A scheduler cannot be reached, or a worker cannot take part."""


class EngineError(UNetError):
    """The child process that computes for the viewer failed or died."""
