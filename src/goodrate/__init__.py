"""goodrate: relevant product search, trained by reinforcement learning."""

__version__ = "0.1.0"
