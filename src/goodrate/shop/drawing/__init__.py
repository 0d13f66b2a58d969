"""How the embedded shop's items look: solids, the shapes of the categories, surfaces, and marks in the picture."""
