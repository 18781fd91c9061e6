"""A client of servers that speak version 2 of the Belle II conditions database's REST interface."""
