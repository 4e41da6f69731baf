"""`fairness`: whom a run turns away more often than others, and which filter does."""
