"""OpenVINO: every device that it lists, with kernel times from its performance counters. Needs openvino and onnx."""
