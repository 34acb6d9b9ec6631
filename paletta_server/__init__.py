"""The Paletta service: API, workers and the one-machine stack."""

from importlib.metadata import version

__version__ = version("paletta")
