"""Bulk work on many processes or machines, by Ray Data: blocks of rows go out, results come back in any order."""
