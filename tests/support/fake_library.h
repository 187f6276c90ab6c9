// A library of products for the GPU without a GPU (emulated_gpu.h): plain loops, over memory that is the
// host's. It multiplies where it is called, so a graph cannot have it.
#pragma once

#include "backend/cuda/product_library.h"

extern const ProductLibrary fake_library;

// Rows of the products that it was asked for since the process began: the fewest and the most.
extern uint32_t fake_library_rows_least, fake_library_rows_most;
