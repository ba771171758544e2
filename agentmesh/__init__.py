"""Many LLM agents as one asynchronous task graph, as fast as the endpoints' rate limits allow."""

__version__ = "0.1.0"
