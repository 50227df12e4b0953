"""What several test modules need: sets on disk, damage to them, small networks. Fixtures are in conftest.py."""
