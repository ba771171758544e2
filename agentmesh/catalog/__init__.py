"""The catalogue: provider files, found, read and checked; and what the name of a model stands for."""

from .catalog import Catalog, user_folder
from .environment import Secret
from .prices import Price, Prices
from .resolve import RateOverride, ResolvedModel, override_rate
from .source import ProviderFile
from .spec import AuthHeader, AuthQuery, Failure, Latency, ProviderSpec, Simulate, Supports, json_schema

__all__ = [
    "AuthHeader", "AuthQuery", "Catalog", "Failure", "Latency", "Price", "Prices", "ProviderFile",
    "ProviderSpec", "RateOverride", "ResolvedModel", "Secret", "Simulate", "Supports", "json_schema", "override_rate",
    "user_folder",
]  # fmt: skip
