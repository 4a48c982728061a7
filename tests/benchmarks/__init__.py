"""How fast the simplex and the l1 ball are beside their peers: run by `make bench`, shown on the page "Benchmarks"."""
