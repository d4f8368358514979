"""Where rows come from: one protocol (`base`), one file for each kind of source."""
