"""The commands: parse arguments, call one function, print where the results are."""

import warnings

# Detectron2 and fvcore compile functions with torch.jit.script as they are imported, which nobody who runs a command
# can change; every command would begin with the deprecation.
warnings.filterwarnings("ignore", message="`torch.jit.script` is", category=FutureWarning)
