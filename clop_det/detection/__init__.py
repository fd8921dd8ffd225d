"""Fine-tuning and evaluating detectors: data sets from YAML, the trainer, both AP families beside probes."""
