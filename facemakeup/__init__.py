"""The Face-MakeUp trainer and pipeline: meets the rest of the house through packed tars and detectors only.

A straight line: `index`, `order` and `data` read tars into batches; `model` (`projector`, `attention`, `posenet`) and
`loss` say what is learned; `trainer`, `train`, `checkpoint` and `validate` learn it; `export`, `pipeline` and
`generate` use it.
"""
