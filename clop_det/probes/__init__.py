"""What a representation is worth: functions on (features, labels), torch alone.

`probes.run_probes` is the one call the trainers make; everything else here is a measure that stands by itself.
"""
