"""Networks that are published in a format that no runtime here loads, and the same networks as ONNX.

`ncnn` reads, `network` translates layer by layer, `yolov5_face` adds what that detector decodes outside its network.
"""
