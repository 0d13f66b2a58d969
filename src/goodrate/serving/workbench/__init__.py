"""The workbench: where people compare, grade and overrule what the search does, and what they said is kept."""
