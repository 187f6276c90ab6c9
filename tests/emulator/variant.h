// What a kernel variant begins with. variants/NAME.cpp includes this file, defines VARIANT (its name) and
// what its kernel is specialised by, and includes run_PART.h, which makes an EmulatedStage of it and
// registers it.
// So a variant is one file, and listed nowhere.
//
// SM_ARCH: the GPU generation that it is compiled for; 90 where it is not defined before.
// variants/NAME_sm75.cpp is the same variant for another one.
#pragma once

#include "emulator/prelude.h"
#include "emulator/stages.h"
