"""Where predictions go: standard output, a file, or a table of a database."""
