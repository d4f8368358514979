"""Answering requests over HTTP with the newest good version: no torch, no pandas, no Arrow, and never a restart."""
