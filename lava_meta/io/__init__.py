"""Files that are whole or not there, sealed with a checksum, and read within the memory at hand."""
