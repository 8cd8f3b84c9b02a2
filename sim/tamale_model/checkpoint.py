"""Old name of `tamale_model.readers`; goes when nothing imports it."""

from tamale_model.readers import CheckpointError, quantise_master, read, unpack

__all__ = ["CheckpointError", "quantise_master", "read", "unpack"]
