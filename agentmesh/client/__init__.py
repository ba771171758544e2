"""Calls to endpoints: routes and budgets, how a call is sent, tried again and settled, and the only HTTP."""
