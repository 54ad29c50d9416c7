"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("layerclock")
except PackageNotFoundError:  # used from a checkout that was never installed
    VERSION = "0+unknown"
