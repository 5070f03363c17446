"""Parts of another package, one file each, as `test_plugins.py` installs them."""
