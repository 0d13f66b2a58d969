"""Weights that follow a drift: online convex optimisation without projections (arXiv 2305.11726)."""
