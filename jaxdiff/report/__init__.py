"""The report of a run: figures, image grids, a self-contained HTML page, a closing table."""
