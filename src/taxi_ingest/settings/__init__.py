"""Everything that can be set, with its default: for one load in `job`, once for all in `environment`."""
