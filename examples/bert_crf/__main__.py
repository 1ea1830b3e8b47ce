"""``python -m examples.bert_crf``: BERT-CRF as a newcomer to MindSpore writes it, then with the fixes."""

from examples.common.command_line import main

raise SystemExit(main("bert_crf"))
