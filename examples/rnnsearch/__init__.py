"""RNNSearch (Bahdanau et al. 2015): translation with a bidirectional GRU, additive attention and a maxout output."""
