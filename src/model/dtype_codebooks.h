// Dequantisers of the formats whose codes are entries of codebooks (IQ1, IQ2, IQ3), for the table of dtype.h.
#pragma once

#include "model/dtype.h"

DequantizeFn dequantize_iq1_s, dequantize_iq1_m, dequantize_iq2_xxs, dequantize_iq2_xs, dequantize_iq2_s,
    dequantize_iq3_xxs, dequantize_iq3_s;
