"""ncnn: networks converted by pnnx, timed layer by layer through its extractor. Needs ncnn, pnnx and onnx."""
