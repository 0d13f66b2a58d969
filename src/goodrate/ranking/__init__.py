"""The order of results after the judge: tier and gain."""
