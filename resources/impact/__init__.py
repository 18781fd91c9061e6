"""Which payloads, cDST files and simulated samples were made from which: derived tables, and the book of samples."""
