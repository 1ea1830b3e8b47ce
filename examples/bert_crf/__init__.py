"""BERT-CRF: names in sentences, by a BERT encoder and a conditional random field over the tags of words."""
