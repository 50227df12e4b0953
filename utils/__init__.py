"""Ground that everything may stand on: errors, flags, files, console, memory, prefetching, segments, grids, tables."""
