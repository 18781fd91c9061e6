"""The server that lets basf2 and Belle II's own command-line client work on an embedded conditions database."""
