"""Does the runtime compute on Arm what it computes here: the same programs under an emulator, stage by stage."""
