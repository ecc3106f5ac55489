"""Numbers only, one map or one tile at a time: no Dask, no labels, no files."""
