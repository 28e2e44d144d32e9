"""tiepoints: the same physical points found in different photographs."""

__version__ = "0.1.0.dev0"
