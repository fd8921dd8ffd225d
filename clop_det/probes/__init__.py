"""What a representation is worth: tasks on a frozen backbone.

The trainers build the tasks that PROBE.TASKS names and run them (`running`). A task (`base`, `tasks`) computes its
figures with the functions of `measures`, which take features and labels and need torch alone.
"""
