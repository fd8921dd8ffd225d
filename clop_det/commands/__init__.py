"""The commands: parse arguments, call one function, print where the results are."""
