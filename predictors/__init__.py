"""From latency tables to predictors, each one ONNX file."""
