"""ALBERT (Lan et al. 2020, ICLR) for reading comprehension: the answer is a span of the passage."""
