"""LiteRT (once TensorFlow Lite): networks of a space converted by litert-torch, run by XNNPACK. Needs ai-edge-litert and litert-torch."""
