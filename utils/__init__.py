"""Basics that every other module may import: errors, files, memory, segments, grids, tables."""
