"""What a notebook and the command line call: reading, indexes, judges, training, evaluation, serving."""
