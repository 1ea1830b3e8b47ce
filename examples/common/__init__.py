"""What every example shares: command line, variants in processes of their own, checkpoints, seeds, table and figure."""
