"""Evaluation over plain records: detection mAP, classification accuracy, the printed table."""
