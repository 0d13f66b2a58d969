"""Candidates from elsewhere: a search engine that a shop runs already retrieves, goodrate judges, tiers and orders."""
