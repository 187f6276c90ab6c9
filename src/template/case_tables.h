// How characters beyond ASCII change case: to one character, or to several. Sorted by character. Generated.
#pragma once

#include "base/base.h"

typedef struct {
    uint32_t from, to;
} CasePair;

typedef struct {
    uint32_t from, to[3]; // ended by 0 where there are fewer
} CaseString;

extern const CasePair case_lower[], case_upper[], case_title[];
extern const uint32_t case_lower_count, case_upper_count, case_title_count;
extern const CaseString case_lower_several[], case_upper_several[], case_title_several[];
extern const uint32_t case_lower_several_count, case_upper_several_count, case_title_several_count;
