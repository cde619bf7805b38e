"""Prefect flows: which steps run, over what; `python -m flows` starts them."""
