"""Are the verdicts right, and how near are the thresholds?"""
