"""What is learned from and judged: judgements and items as prompts."""
