"""One file for each contestant; each is a program that trains one way, in a process of its own (see `protocol`)."""
