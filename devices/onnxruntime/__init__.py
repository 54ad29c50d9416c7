"""ONNX Runtime: every execution provider that it reports, with kernel times from its profile. Needs onnxruntime and onnx."""
