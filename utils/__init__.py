"""Ground that everything may stand on: errors, files, memory, segments, grids, tables."""
