// How many columns of a terminal a character takes.
#pragma once

#include "base/base.h"

// 0 for combining marks, joiners and other characters that show nothing by themselves, 2 for those that are
// wide or full-width (Unicode standard annex 11), 1 for all others. Control characters are 0.
uint32_t display_width(uint32_t codepoint);
// Of a whole text; a byte that belongs to no character counts 1.
size_t display_width_of(Str text);
