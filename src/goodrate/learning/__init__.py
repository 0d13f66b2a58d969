"""The learning core: examples -> rollout -> reward -> advantage -> loss -> update. Recipes assemble it."""
