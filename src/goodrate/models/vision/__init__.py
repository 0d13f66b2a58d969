"""Networks that turn pictures into tokens, behind one protocol."""
