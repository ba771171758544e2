"""Providers without a network: simulated and recorded ones, the in-process way to them, and the virtual clock."""
