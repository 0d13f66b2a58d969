"""Reasons for labelled pairs: a protocol of teachers, templates, chat endpoints, and the files they write."""
