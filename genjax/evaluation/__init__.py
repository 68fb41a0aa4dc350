"""How good pictures are: figures of arrays on the host, which no training depends on."""
