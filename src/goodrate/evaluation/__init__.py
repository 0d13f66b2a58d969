"""Evidence: ranking and classification metrics, significance, reports."""
