def ensure_demo_set(path): pass
