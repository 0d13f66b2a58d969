"""From judgements and items to what is learned from or judged: judged pairs, and prompts."""
