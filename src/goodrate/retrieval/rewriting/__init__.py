"""What a query says beside its words, and in which other words it can be asked: no index is needed for it."""
