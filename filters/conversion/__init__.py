"""Networks that are published in a format that no runtime here loads, or that runs slowly, and the same as ONNX.

`ncnn` reads, `network` translates layer by layer, `yolov5_face` adds what that detector decodes outside its network.
`graph` holds an ONNX network while `folding` rewrites it to cost less.
"""
