"""What the experiments share: queue, statistics, tables, arms, judges' measures, timing, pictures."""
