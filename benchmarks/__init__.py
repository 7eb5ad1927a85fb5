"""How fast it is, against psql and other tools, in one run. See README.md."""
