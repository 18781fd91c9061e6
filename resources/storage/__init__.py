"""The tables of the registry as a whole: their versions, and bringing them from one database to another."""
