"""Prefect tasks: load, call one function of the library, store."""
