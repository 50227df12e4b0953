"""What an evaluation is made of, over plain records: matching and mAP, accuracy, summaries and tables. Knows no torch."""
