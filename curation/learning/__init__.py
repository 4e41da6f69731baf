"""What labels teach: limits and heads, with evidence; pure functions of scores, features, labels and seeds."""
