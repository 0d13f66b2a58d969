"""Entities: typed phrases found in texts without an annotator (STREAM, arXiv 2210.02768, and what is ours in it)."""
