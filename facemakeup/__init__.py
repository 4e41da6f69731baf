"""The Face-MakeUp trainer's place in the house: it meets the pipeline through packed tars and detectors only.

Nothing is here yet; the README says what is and is not built.
"""
