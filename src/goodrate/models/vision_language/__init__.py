"""Layer-wise adapters that let a frozen causal LM see (PUMGPT v1, arXiv 2308.09568v1; the equations are our design)."""
