"""What the scripts share; no part of the library."""
