"""TextING (Zhang et al. 2020, ACL): every document is a graph of its own words."""
