"""A whole version as one ONNX graph: raw columns in, labels and probabilities out; one file for each stage of it."""
