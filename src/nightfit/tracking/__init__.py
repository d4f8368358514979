"""Telling MLflow of every version: parameters, scores, rows, verdict, and the model as its ONNX flavour."""
